"""Provider pushes, the opt-out page, and whose address a request comes from."""

from collections.abc import AsyncIterator
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.channels import ChannelSet, channel
from gateway.contract import InboundMessage
from gateway.core import Core
from gateway.members.consent import opt_out_path
from gateway.settings import ChannelCommon, Server, Settings, Storage
from gateway.tables import AddressRow, OptOutRow
from gateway.web import front
from gateway.web.app import build_app
from gateway.web.hooks import hook_path, hook_token
from gateway.web.keys import CORE, INBOX
from tests.console import Console
from tests.labs.pushing import Inbox, LastSite, Pushing

Client = TestClient[web.Request, None]


@pytest.fixture
def adapter() -> Pushing:
    return Pushing()


@pytest.fixture
def channels(adapter: Pushing) -> ChannelSet:
    return ChannelSet([channel("sms", adapter, ChannelCommon(adapter="pushing"))])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        server=Server(trusted_proxies=(ip_network("127.0.0.0/8"),)),
        storage=Storage(data_dir=tmp_path),
    )


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def app(core: Core, inbox: Inbox) -> web.Application:
    app = build_app(core)
    app[INBOX] = inbox
    return app


@pytest.fixture(params=["application", "front"])
async def client(request: pytest.FixtureRequest, console: Console) -> Client:
    """A provider; pushes end below the application, or go all its way."""
    server = LastSite(console.app)
    await server.start_server()
    if request.param == "front":
        assert isinstance(server.runner, web.AppRunner)
        await front.Site(server.runner, "127.0.0.1", 0).start()
    return await console.aiohttp_client(server)


async def test_a_push_is_stored_before_it_is_acknowledged(
    console: Console, client: Client, inbox: Inbox, adapter: Pushing
) -> None:
    path = hook_path(console.app[CORE], "sms", "reply/1?x=2")
    headers = {"Signature": "good", "X-Forwarded-For": "198.51.100.7"}
    answer = await client.post(path, data=b"hello", headers=headers)
    assert (answer.status, await answer.read()) == (200, b'{"code":0}')
    ((name, event),) = inbox.accepted
    assert name == "sms"
    assert isinstance(event, InboundMessage)
    assert event.text == "hello"
    (request,) = adapter.requests
    assert (request.path, request.query, request.remote) == (
        "reply/1",
        {"x": "2"},
        "198.51.100.7",
    )


async def test_the_provider_tries_again_when_nothing_was_stored(
    console: Console, client: Client, inbox: Inbox
) -> None:
    inbox.broken = True
    answer = await client.post(
        hook_path(console.app[CORE], "sms"), headers={"Signature": "good"}
    )
    assert answer.status == 503
    assert answer.headers["Retry-After"]


async def test_a_forged_push_reaches_nobody(
    console: Console, client: Client, inbox: Inbox, adapter: Pushing
) -> None:
    core = console.app[CORE]
    token = hook_token(core, "sms")
    for path in (
        "/hooks/sms/wrong/x",
        f"/hooks/sms/{token[:-1]}/x",
        f"/hooks/other/{token}/x",
        f"/hooks/other/{hook_token(core, 'other')}/x",
    ):
        answer = await client.post(path, headers={"Signature": "good"})
        assert answer.status == 404
    assert adapter.requests == []
    answer = await client.post(hook_path(core, "sms"))
    assert answer.status == 401
    assert inbox.accepted == []


async def test_a_chain_of_proxies_is_read_from_its_near_end(
    console: Console, client: Client, inbox: Inbox, adapter: Pushing
) -> None:
    for forwarded, expected in (
        ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 127.0.0.2", "198.51.100.7"),
        ("not an address", "127.0.0.1"),
        ("", "127.0.0.1"),
    ):
        await client.post(
            hook_path(console.app[CORE], "sms"),
            headers={"Signature": "good", "X-Forwarded-For": forwarded},
        )
        assert adapter.requests[-1].remote == expected


async def test_an_answer_from_below_is_like_one_of_the_application(
    console: Console, client: Client
) -> None:
    path = hook_path(console.app[CORE], "sms", "reply")
    good = {"Signature": "good"}
    plain = await client.post(path, data=b"two", headers=good)
    whole = await client.post(f"{path}?x=1", data=b"one", headers=good)
    assert plain.status == whole.status == 200
    assert set(plain.headers) == set(whole.headers)
    changing = {"date", "x-request-id"}
    assert {k: v for k, v in plain.headers.items() if k.lower() not in changing} == {
        k: v for k, v in whole.headers.items() if k.lower() not in changing
    }
    numbers = console.app[CORE].metrics.exposition().decode()
    label = 'method="POST",route="/hooks/{channel}/{token}/{path}",status="200"'
    assert f"lianxin_http_requests_total{{{label}}} 2.0" in numbers


async def test_one_connection_serves_pushes_and_faults_in_turn(
    console: Console, inbox: Inbox, client: Client
) -> None:
    core = console.app[CORE]
    path = hook_path(core, "sms", "x")
    good = {"Signature": "good"}
    for count, (status, way, headers) in enumerate(
        [
            (200, path, good),
            (401, path, {}),
            (200, f"{path}?more=1", good),
            (200, f"{path}%20y", good),
            (404, "/hooks/sms", good),
            (200, path, {**good, "Expect": "100-continue"}),
            (200, path, {**good, "Connection": "close"}),
            (404, "/hooks/sms/\u4e2d/x", good),
            (200, path, good),
        ]
    ):
        answer = await client.post(way, data=str(count).encode(), headers=headers)
        assert (count, answer.status) == (count, status)
        await answer.read()
    assert [event.raw for _, event in inbox.accepted] == [*map(str.encode, "023568")]


async def test_what_is_too_large_is_refused_however_it_comes(
    console: Console, inbox: Inbox, client: Client, settings: Settings
) -> None:
    path = hook_path(console.app[CORE], "sms", "x")
    large = b"x" * (settings.server.max_body_mib * 1024 * 1024 + 1)

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for body in (BytesIO(large), in_chunks()):
        answer = await client.post(path, data=body, headers={"Signature": "good"})
        assert answer.status == 413
    assert inbox.accepted == []
    answer = await client.post(path, data=b"fits", headers={"Signature": "good"})
    assert answer.status == 200


async def _known(console: Console) -> str:
    core = console.app[CORE]
    row = await AddressRow.create(
        kind="phone", value="+8613800138000", created_at=core.clock.now()
    )
    return opt_out_path(core, row.id)


async def test_opening_the_opt_out_page_changes_nothing(console: Console) -> None:
    path = await _known(console)
    text = await (await console.client.get(path)).text()
    assert "138****8000" in text
    assert "13800138000" not in text
    assert (await console.client.head(path)).status == 200
    assert await OptOutRow.all().count() == 0


async def test_one_click_opts_out_without_cookie_and_token(console: Console) -> None:
    path = await _known(console)
    for _ in range(2):
        answer = await console.client.post(
            path, data={"List-Unsubscribe": "One-Click"}, headers={"Origin": "null"}
        )
        assert answer.status == 200
        assert "已经退订" in await answer.text()
    refusal = await OptOutRow.get()
    assert (refusal.how, refusal.value) == ("page", "+8613800138000")
    again = await (await console.client.post(f"{path}/resume")).text()
    assert "已经恢复接收" in again
    assert "138****8000 又会收到" in again
    assert (await OptOutRow.get()).ended_at is not None


async def test_a_wrong_opt_out_token_is_not_found(console: Console) -> None:
    path = await _known(console)
    wrong = path[:-1] + ("a" if path[-1] != "a" else "b")
    for bad in (wrong, "/o/x", opt_out_path(console.app[CORE], 999_999), path + "a"):
        for answer in (
            await console.client.get(bad),
            await console.client.post(bad),
            await console.client.post(f"{bad}/resume"),
        ):
            text = await answer.text()
            assert answer.status == 404
            assert "请直接回复“退订”" in text
            assert "/inquiries" not in text  # that is for staff
    assert await OptOutRow.all().count() == 0
