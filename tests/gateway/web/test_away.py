"""What people, programs and monitors are told while PostgreSQL is away or stands still;
afterwards everything works again by itself."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.api import members
from gateway.api.operations import mount
from gateway.core import Core
from gateway.settings import Settings, Storage
from gateway.web.app import build_app
from tests.console import Console
from tests.labs.process import until
from tests.labs.wire import Wire, wired

PATIENCE_SECONDS = 60.0


@pytest.fixture
async def way(postgres_url: str) -> AsyncIterator[tuple[str, Wire]]:
    async with wired(postgres_url) as found:
        yield found


@pytest.fixture
def database_url(way: tuple[str, Wire]) -> str:
    return way[0]


@pytest.fixture
def wire(way: tuple[str, Wire]) -> Wire:
    return way[1]


@pytest.fixture
def settings(tmp_path: object, database_url: str) -> Settings:
    return Settings(storage=Storage(data_dir=tmp_path, database_url=database_url))


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    mount(app, members.OPERATIONS)
    return app


async def test_a_lost_database_is_told_in_words(console: Console, wire: Wire) -> None:
    """No fault of the page: 503, with what to do; nobody is sure what was saved."""
    clerk = await console.browser("clerk_a")
    assert (await clerk.get("/members")).status == 200
    async with wire.away():
        page = await clerk.get("/members")
        assert (page.status, page.headers["Retry-After"]) == (503, "5")
        assert "数据库暂时连不上" in (text := await page.text())
        assert "未必已保存" not in text  # nothing was
        written = await clerk.post("/password")
        assert (written.status, "未必已保存" in await written.text()) == (503, True)
        bearer = {"Authorization": "Bearer lx_nobody"}
        answer = await clerk.get("/api/v1/members", headers=bearer)
        assert answer.status == 503
        said = await answer.json(content_type=None)
        assert said["code"] == "database_away"
        health = await clerk.get("/healthz")
        assert (health.status, health.content_type) == (503, "application/json")
        assert not (await health.json())["parts"]["database"]

    async def is_back() -> bool:
        return (await clerk.get("/members")).status == 200

    await until(is_back, PATIENCE_SECONDS)


async def test_health_answers_while_the_database_stands_still(
    console: Console, wire: Wire
) -> None:
    """F-3: and what was asked meanwhile ends when it goes on."""
    assert (await console.client.get("/healthz")).status == 200
    before = asyncio.all_tasks()
    wire.cut()
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await console.client.get("/healthz")
    assert answer.status == 503
    assert (await answer.json())["channels"] is None
    wire.mend()

    async def is_quiet() -> bool:
        left = asyncio.all_tasks() - before
        return not any(
            "_in_time" in repr(one) or "reports" in repr(one) for one in left
        )

    await until(is_quiet, PATIENCE_SECONDS)
    assert (await console.client.get("/healthz")).status == 200
