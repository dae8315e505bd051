"""The page 运行状态 and what /healthz tells of the cluster."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web

from gateway import VERSION, leases, nodes
from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.roles import EVERY, Role
from gateway.runtime import Runtime
from gateway.settings import Settings, Storage
from gateway.web.app import build_app
from gateway.web.keys import BACKGROUND
from tests.console import Browser, Console
from tests.labs.process import until
from tests.labs.recorder import as_channel, recorder


async def nothing_today() -> None:
    return None


@pytest.fixture
def settings(tmp_path: object, database_url: str) -> Settings:
    storage = Storage(data_dir=tmp_path, database_url=database_url, reserve_mib=1)
    return Settings(storage=storage)


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([as_channel("sms", recorder(AddressKind.PHONE))])


@pytest.fixture
async def runtime(core: Core) -> AsyncIterator[Runtime]:
    made = Runtime(core, nothing_today, alone=not db.is_postgres(), roles=EVERY)
    await made.start()
    yield made
    await made.drain()
    await made.stop()


@pytest.fixture
async def app(core: Core, runtime: Runtime) -> web.Application:
    app = build_app(core)
    app[BACKGROUND] = runtime
    return app


async def shown(browser: Browser, path: str = "/system") -> str:
    answer = await browser.get(path)
    assert answer.status == 200
    return await answer.text()


async def test_one_process_reads_well(console: Console) -> None:
    browser = await console.browser("administrator_county")
    text = await shown(browser)
    assert nodes.own_name() in text
    assert f">{VERSION}<" in text
    assert "现在由一个进程承担全部工作" in text
    assert "正常" in text
    assert "sms" in text  # who has the channel
    assert text.count(nodes.own_name()) >= 2
    assert 'href="/system"' in text


async def test_a_second_process_and_its_trouble_are_seen(
    console: Console, core: Core, clock: ManualClock
) -> None:
    at = await nodes.now(db.rows, clock)
    other = await nodes.begin(db.rows, frozenset({Role.SENDER}), at)
    part = {"well": False, "deaths": 2, "error": "ValueError", "silent": 1.0}
    await nodes.seen(db.rows, other, at, {"parts": {"sender:sms": part}})
    await db.execute("UPDATE nodes SET name = 'beta:77' WHERE id = ?", other)
    ended = await nodes.begin(db.rows, EVERY, at - timedelta(minutes=1))
    await nodes.end(db.rows, ended, at, "router")
    text = await shown(await console.browser("administrator_county"), "/system/state")
    assert "现在由一个进程" not in text
    assert "beta:77" in text
    assert "发送：sms：出错 2 次" in text
    assert "ValueError" in text
    assert "“消息分派”反复出错" in text


async def test_of_a_lost_process_nothing_looks_well(
    console: Console, clock: ManualClock
) -> None:
    """Its parts were well when it was heard of last; now nobody knows."""
    at = await nodes.now(db.rows, clock)
    part = {"well": True, "deaths": 0, "error": "", "silent": 0.1}
    other = await nodes.begin(db.rows, frozenset({Role.SENDER}), at)
    chief = await console.browser("administrator_county")
    for ago, shown_of_it in ((timedelta(0), True), (nodes.ALIVE, False)):
        seen = at - ago - timedelta(seconds=1)
        await nodes.seen(db.rows, other, seen, {"parts": {"sender:far": part}})
        text = await shown(chief, "/system/state")
        assert ("发送：far" in text) is shown_of_it
        assert ("失去联系" in text) is not shown_of_it
        assert ("2 个在运行" in text) is shown_of_it


async def test_a_process_whose_heartbeat_is_late_does_not_look_well(
    console: Console, clock: ManualClock
) -> None:
    """It may have been killed; only a little later is it known to be lost."""
    at = await nodes.now(db.rows, clock)
    other = await nodes.begin(db.rows, frozenset({Role.SENDER}), at)
    chief = await console.browser("administrator_county")
    assert "心跳迟到" not in await shown(chief, "/system/state")
    await nodes.seen(db.rows, other, at - nodes.LATE - timedelta(seconds=1), {})
    text = await shown(chief, "/system/state")
    assert "心跳迟到" in text
    assert "失去联系" not in text


async def test_what_failed_long_ago_is_history(
    console: Console, clock: ManualClock
) -> None:
    at = await nodes.now(db.rows, clock)
    other = await nodes.begin(db.rows, frozenset({Role.SENDER}), at)
    chief = await console.browser("administrator_county")
    part = {"well": True, "deaths": 2, "error": "ValueError", "silent": 1.0}
    for steady, is_history in ((30.0, False), (3600.0, True)):
        told = {"sender:sms": {**part, "steady": steady}}
        await nodes.seen(db.rows, other, at, {"parts": told})
        text = await shown(chief, "/system/state")
        assert ("曾出错 2 次" in text) is is_history
        assert ("ValueError" in text) is not is_history


async def test_what_no_process_does_is_said(
    console: Console, runtime: Runtime, clock: ManualClock
) -> None:
    """Else messages wait, and every process there is looks well."""
    chief = await console.browser("administrator_county")
    assert "没有进程负责" not in await shown(chief, "/system/state")
    await db.execute("UPDATE nodes SET roles = 'web,bots'")
    text = await shown(chief, "/system/state")
    assert "现在没有进程负责：发送、定时任务。" in text
    assert "承担全部工作" not in text
    said = await (await console.client.get("/healthz")).json()
    assert (said["status"], said["missing"]) == ("degraded", ["sender", "scheduler"])
    at = await nodes.now(db.rows, clock)
    await nodes.begin(db.rows, frozenset({Role.SENDER, Role.SCHEDULER}), at)
    assert "没有进程负责" not in await shown(chief, "/system/state")
    said = await (await console.client.get("/healthz")).json()
    assert (said["status"], said["missing"]) == ("ok", [])


async def _is_there(core: Core) -> bool:
    return not core.space.reserve_gone


async def test_everybody_is_warned_that_there_is_no_room(
    console: Console, core: Core
) -> None:
    """D-2: on every page; administrators are led to what to do."""
    reserve = core.settings.storage.data_dir / "reserve"
    await until(lambda: _is_there(core), 10)
    clerk = await console.browser("clerk_a")
    chief = await console.browser("administrator_county")
    assert "备用空间" not in await shown(clerk, "/account")
    assert (await (await clerk.get("/storage")).text()).strip() == ""
    reserve.unlink()
    for path in ("/account", "/storage", "/members"):
        text = await shown(clerk, path)
        assert "备用空间用掉了" in text
        assert "请告诉管理员" in text
        assert "对外发送已暂停" not in text
    assert 'href="/system">查看详情' in await shown(chief, "/account")


async def test_another_process_without_room_is_heard_of(
    console: Console, core: Core, runtime: Runtime, clock: ManualClock
) -> None:
    at = await nodes.now(db.rows, clock)
    other = await nodes.begin(db.rows, frozenset({Role.SENDER}), at)
    storage = {"tight": True, "spooled": 3 << 20, "free": 7 << 20, "later": 1}
    await nodes.seen(db.rows, other, at, {"parts": {}, "storage": storage})
    chief = await console.browser("administrator_county")
    text = await shown(chief)
    assert "磁盘只剩 7 MiB" in text
    assert "有 3.0 MiB 来信" in text
    if db.is_postgres():  # on SQLite there is no other process
        await runtime.supervisor.stop("heartbeat")
        beating = asyncio.create_task(runtime._beat())
        async with asyncio.timeout(10), core.hub.subscribed() as pages:
            while (await pages.get()).topic != "node":
                pass
        beating.cancel()
        text = await shown(await console.browser("clerk_a"), "/account")
        assert "对外发送已暂停" in text
        assert "数据库暂时写不进去" in text


async def test_it_is_for_administrators(console: Console) -> None:
    for username in ("clerk_a", "director_a", "approver_a"):
        browser = await console.browser(username)
        assert (await browser.get("/system")).status == 403
        assert 'href="/system"' not in await (await browser.get("/account")).text()


async def test_it_speaks_english(console: Console) -> None:
    browser = await console.browser("administrator_county")
    await browser.post("/language", {"lang": "en", "next": "/system"})
    text = await shown(browser)
    assert "One process does all the work" in text
    assert "Who does what" in text
    assert "Watch over the main loop" in text


async def test_health_tells_of_nodes_and_leases(
    console: Console, runtime: Runtime
) -> None:
    answer = await console.client.get("/healthz")
    said = await answer.json()
    assert (answer.status, said["status"]) == (200, "ok")
    assert said["roles"] == ["bots", "scheduler", "sender", "web"]
    assert said["tasks"]["router"]["well"]
    assert [one["name"] for one in said["nodes"]] == [nodes.own_name()]
    assert [one["version"] for one in said["nodes"]] == [VERSION]
    owners = {one["name"]: one["node"] for one in said["leases"]}
    assert owners["channel:sms"] == nodes.own_name()
    assert owners["scheduler"] == ""  # this runtime was given none
    assert runtime.holds("channel:sms")
    assert said["channels"] == {"sms": []}
    await db.execute("UPDATE leases SET node_id = NULL WHERE name = 'channel:sms'")
    answer = await console.client.get("/healthz")
    said = await answer.json()
    assert (answer.status, said["status"]) == (200, "degraded")
    assert said["channels"] == {"sms": ["no_owner"]}


async def test_health_answers_where_the_cluster_can_not_be_asked(
    console: Console, core: Core
) -> None:
    """F-3."""
    await db.execute("ALTER TABLE leases RENAME TO away")
    try:
        said = await (await console.client.get("/healthz")).json()
        assert said["nodes"] is None
        assert said["parts"]["database"]
    finally:
        await db.execute("ALTER TABLE away RENAME TO leases")


async def test_ends_of_a_moment_ago_count_as_a_crash_loop(
    core: Core, clock: ManualClock
) -> None:
    """F-7: only those on its own account, of this host, with these roles."""
    at = await nodes.now(db.rows, clock)
    for ended, roles in (("router", EVERY), ("", EVERY), ("x", frozenset({Role.WEB}))):
        await nodes.end(db.rows, await nodes.begin(db.rows, roles, at), at, ended)
    assert await nodes.crashes(db.rows, EVERY, at) == 1
    assert await nodes.crashes(db.rows, EVERY, at + timedelta(minutes=6)) == 0
    assert await leases.owners(db.rows) == {}
