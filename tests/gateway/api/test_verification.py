"""The recount over the API: who may ask, and what is answered."""

from pathlib import Path

import pytest
from aiohttp import web

from gateway.actors import Role
from gateway.api import verification
from gateway.api.operations import mount
from gateway.core import Core
from gateway.database import execute
from gateway.settings import Settings, Storage
from gateway.web.app import build_app
from tests.gateway.api.callers import Callers
from tests.gateway.test_verify import BROADCAST, planned, recipient, sent


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(storage=Storage(data_dir=tmp_path, database_url=database_url))


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    mount(app, verification.OPERATIONS)
    return app


async def a_run(callers: Callers, where: str) -> None:
    await planned(callers.core, 2)
    place = getattr(callers.console, f"centre_{where}").id
    await execute("UPDATE broadcasts SET organisation_id = ?", place)
    await sent(callers.core, 1, "accepted")


async def test_the_sum_of_a_broadcast_is_told(callers: Callers) -> None:
    await a_run(callers, "a")
    clerk = await callers.caller(Role.CLERK, "a")
    found = (await clerk.get(f"/broadcasts/{BROADCAST}/balance")).body
    assert (found["planned"], found["sum"], found["holds"]) == (2, 1, False)
    assert [one["code"] for one in found["deviations"]] == ["sum"]
    await recipient(callers.core, 2, "planned")
    found = (await clerk.get(f"/broadcasts/{BROADCAST}/balance")).body
    assert found["holds"]
    assert found["states"] == {"planned": 1, "accepted": 1}
    assert (found["buckets"]["waiting"], found["buckets"]["accepted"]) == (1, 1)


async def test_a_foreign_broadcast_is_not_found(callers: Callers) -> None:
    await a_run(callers, "a")
    other = await callers.caller(Role.CLERK, "b")
    assert (await other.get(f"/broadcasts/{BROADCAST}/balance")).status == 404
    assert (await other.get("/broadcasts/999/balance")).status == 404


async def test_everything_is_for_auditors_of_the_top(callers: Callers) -> None:
    await a_run(callers, "a")
    top = await callers.caller(Role.ADMINISTRATOR, "county")
    found = await top.get("/verification")
    assert found.status == 200
    assert not found.body["holds"]
    assert (
        await (await callers.caller(Role.CLERK, "county")).get("/verification")
    ).status == 403
    below = await callers.caller(Role.ADMINISTRATOR, "a")
    assert (await below.get("/verification")).status == 404
