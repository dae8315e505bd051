"""Who gets a line, who keeps it, and how it ends."""

import asyncio
import time
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from nonebot import get_driver
from structlog.testing import capture_logs

from adapters.onebot import build
from gateway.bots import BotBridge
from gateway.clock import ManualClock
from gateway.errors import SettingsError
from tests.labs.onebot_host import NOW, context, running, settings
from tests.labs.onebot_peer import BOT, TOKEN, OneBotPeer, until


async def handshake(url: str, headers: dict[str, str]) -> int:
    """The status with which a handshake ends; 101 if it stands."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(url, headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


BEARER = {"Authorization": f"Bearer {TOKEN}"}
SELF = {"X-Self-ID": BOT}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SELF, 401),
        (SELF | {"Authorization": "Bearer wrong-token-of-enough-length"}, 401),
        (SELF | {"Authorization": TOKEN}, 401),
        ({}, 401),
        (BEARER, 403),
        (BEARER | {"X-Self-ID": "1000101"}, 403),
        (BEARER | SELF | {"X-Client-Role": "Event"}, 400),
        (BEARER | SELF | {"X-Client-Role": "API"}, 400),
        (BEARER | SELF, 101),
        (BEARER | SELF | {"X-Client-Role": "Universal"}, 101),
    ],
)
async def test_only_the_configured_account_with_its_token_connects(
    headers: dict[str, str], status: int
) -> None:
    async with running() as host:
        assert await handshake(host.url, headers) == status


async def test_a_token_in_the_address_counts_for_nothing() -> None:
    async with running() as host:
        assert await handshake(f"{host.url}?access_token={TOKEN}", SELF) == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/onebot/v11/http", 404),
        ("/onebot/v11/http/", 404),
        ("/onebot/v11/", 404),
        ("/onebot/v11/ws", 405),
        ("/onebot/v12/http", 404),
        ("/onebot/", 404),
    ],
)
@pytest.mark.parametrize("headers", [SELF, SELF | BEARER])
async def test_there_is_no_http_entry(
    path: str, status: int, headers: dict[str, str]
) -> None:
    event = OneBotPeer().private("forged")
    async with running() as host, aiohttp.ClientSession() as session:
        async with session.post(host.http(path), json=event, headers=headers) as got:
            assert got.status == status
        assert host.inbox.events == []
        assert not host.connected


async def test_nothing_outside_the_prefix_is_taken() -> None:
    async with (
        running() as host,
        aiohttp.ClientSession() as session,
        session.get(host.http("/elsewhere")) as got,
    ):
        assert got.status == 404


async def test_nobody_connects_while_nobody_stores() -> None:
    async with running(listen=False) as host:
        assert await handshake(host.url, BEARER | SELF) == 503


async def test_a_squatter_is_refused_and_the_bot_goes_on() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await until(lambda: host.connected)
        assert await handshake(host.url, SELF) == 401
        await peer.send(peer.private("还在"))
        await until(lambda: host.inbox.texts == ["还在"])
        assert host.inbox.troubles == []


async def test_a_second_client_is_refused_while_the_first_lives() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await until(lambda: host.connected)
        assert await handshake(host.url, BEARER | SELF) == 409
        assert host.inbox.troubles == ["second_connection"]
        await peer.send(peer.private("还在"))
        await until(lambda: host.inbox.texts == ["还在"])


async def test_a_second_client_takes_over_from_a_dead_one() -> None:
    async with running() as host, OneBotPeer(mute=True).dialled(host.url):
        await until(lambda: host.connected)
        async with OneBotPeer().dialled(host.url) as new:
            await until(lambda: host.connected)
            assert host.inbox.troubles == ["connection_replaced"]
            await new.send(new.private("新的"))
            await until(lambda: host.inbox.texts == ["新的"])


async def test_a_bot_comes_back_after_its_line_broke() -> None:
    async with running() as host:
        for text in ("一", "二", "三"):
            async with OneBotPeer().dialled(host.url) as peer:
                await until(lambda: host.connected)
                await peer.send(peer.private(text))
                await until(partial(host.inbox.has, text))
                await peer.cut()
                await until(lambda: not host.connected)
        assert host.inbox.texts == ["一", "二", "三"]
        assert host.inbox.troubles == []


async def test_forward_dials_and_dials_again() -> None:
    peer = OneBotPeer()
    async with peer.served() as url, running(mode="forward", ws_url=url) as host:
        await until(lambda: host.connected)
        await peer.send(peer.private("一"))
        await until(lambda: host.inbox.texts == ["一"])
        await peer.cut()
        await until(lambda: peer.connections == 2 and host.connected)
        await peer.send(peer.private("二"))
        await until(lambda: host.inbox.texts == ["一", "二"])


async def test_an_account_that_we_dial_does_not_dial_us() -> None:
    peer = OneBotPeer()
    async with peer.served() as url, running(mode="forward", ws_url=url) as host:
        await until(lambda: host.connected)
        assert await handshake(host.url, BEARER | SELF) == 403
        assert host.connected


async def test_forward_waits_for_a_peer_that_is_not_up_yet(
    unused_tcp_port: int,
) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/"
    with capture_logs() as logged:
        async with running(mode="forward", ws_url=url) as host:
            await until(lambda: any(e["event"] == "bot.dial_failed" for e in logged))
            async with OneBotPeer().served(unused_tcp_port):
                await until(lambda: host.connected)


async def test_forward_with_a_wrong_token_says_so() -> None:
    async with OneBotPeer(token="another-token-of-length").served() as url:
        with capture_logs() as logged:
            async with running(mode="forward", ws_url=url) as host:
                await until(lambda: any(e.get("reason") == 403 for e in logged))
                assert not host.connected


async def test_forward_sends_nothing_over_another_accounts_line() -> None:
    peer = OneBotPeer(self_id="1000999")
    async with peer.served() as url, running(mode="forward", ws_url=url) as host:
        await until(lambda: "wrong_account" in host.inbox.troubles)
        assert not host.connected


async def test_shutdown_is_quick_and_clean() -> None:
    with capture_logs() as logged:
        async with running() as host, OneBotPeer().dialled(host.url) as peer:
            await until(lambda: host.connected)
            await peer.send(peer.private("最后"))
            await until(lambda: host.inbox.texts == ["最后"])
            started = time.perf_counter()
            await host.runner.cleanup()
            assert time.perf_counter() - started < 1
    assert [e for e in logged if e["log_level"] == "error"] == []


async def test_shutdown_is_quick_though_the_peer_never_says_goodbye() -> None:
    async with running() as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        lines = [
            "GET /onebot/v11/ws HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"X-Self-ID: {BOT}",
            f"Authorization: Bearer {TOKEN}",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: host.connected)
        started = time.perf_counter()
        await host.runner.cleanup()
        assert time.perf_counter() - started < 1
        writer.close()


async def test_the_database_outlives_the_bots() -> None:
    order: list[str] = []

    async def database(app: web.Application) -> Any:
        yield
        order.append("database closed")

    app = web.Application()
    app.cleanup_ctx.append(database)
    bridge = BotBridge(clock=ManualClock(NOW), plugins=())
    bridge.attach(app)

    async def stopped() -> None:
        order.append("bots stopped")

    get_driver().on_shutdown(stopped)
    runner = web.AppRunner(app)
    await runner.setup()
    await runner.cleanup()
    assert order == ["bots stopped", "database closed"]


async def test_a_failing_start_surfaces() -> None:
    app = web.Application()
    bridge = BotBridge(clock=ManualClock(NOW), plugins=())
    bridge.attach(app)

    async def broken() -> None:
        raise OSError("no such thing")

    get_driver().on_startup(broken)
    runner = web.AppRunner(app)
    with pytest.raises(OSError, match="no such thing"):
        await runner.setup()
    await runner.cleanup()


async def test_nonebots_own_environment_variables_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PORT", "HOST", "LOG_LEVEL", "DRIVER", "API_TIMEOUT", "ENVIRONMENT"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("ONEBOT_ACCESS_TOKEN", "another-token-altogether")
    monkeypatch.setenv("NICKNAME", '["党费"]')
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await until(lambda: host.connected)
        await peer.send(peer.group("党费怎么交"), peer.private("完"))
        await until(lambda: host.inbox.texts == ["完"])


def test_a_plugin_that_does_not_load_surfaces() -> None:
    bridge = BotBridge(clock=ManualClock(NOW), plugins=["bot_plugins.absent"])
    with pytest.raises(ModuleNotFoundError, match="absent"):
        bridge.attach(web.Application())


def test_an_account_serves_one_channel() -> None:
    bridge = BotBridge(clock=ManualClock(NOW), plugins=())
    build(settings(), context(bridge, "qq"))
    with pytest.raises(SettingsError, match=r"channels\.qq2\.self_id.*channels\.qq "):
        build(settings(), context(bridge, "qq2"))
    with pytest.raises(SettingsError, match="not running"):
        build(settings(), context(None))
