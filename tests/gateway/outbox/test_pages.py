"""The page of one channel, whoever owns it."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Connection, Role
from gateway.core import Core
from gateway.outbox.account import masked, said
from gateway.outbox.report import Reports
from gateway.outbox.sender import Sender
from gateway.tables import ChannelEvent, LeaseRow, Node
from tests.console import Browser, Console
from tests.labs.streams import Carrier, channel


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier, "sms")])


@pytest.fixture
async def browser(console: Console) -> Browser:
    return await console.browser("clerk_a")


async def shown(browser: Browser, path: str = "/channels/sms/now") -> str:
    answer = await browser.get(path)
    assert answer.status == 200
    return await answer.text()


async def owned(core: Core, clock: ManualClock) -> Sender:
    """By a process of another machine."""
    now = clock.now()
    node = await Node.create(name="elsewhere:7", started_at=now, seen_at=now)
    core.node_id = node.id
    await LeaseRow.create(name="channel:sms", node_id=node.id, epoch=1)
    return Sender(core, next(iter(core.channels)))


async def test_before_anything_was_told(browser: Browser) -> None:
    text = await shown(browser, "/channels/sms")
    assert "还没有消息" in text
    assert "没有消息在等" in text
    assert "没有错误" in text
    assert (await browser.get("/channels/nobody")).status == 404


async def test_it_shows_what_the_owner_tells(
    browser: Browser, core: Core, carrier: Carrier, clock: ManualClock
) -> None:
    sender = await owned(core, clock)
    carrier.shown = (
        Connection(
            name="1",
            state="open",
            since=clock.now(),
            window=10,
            awaited=4,
            last_error="login of +8613800138000 refused",
        ),
    )
    await ChannelEvent.create(
        channel="sms", key="1", code="E1", detail="to 13800138000", at=clock.now()
    )
    reports = Reports(core, lambda: [sender])
    await reports.step()
    text = await shown(browser)
    assert "elsewhere:7" in text
    assert "4 / 10" in text
    assert "已连接" in text
    assert "E1" in text
    assert "13800138000" not in text
    carrier.is_away, carrier.shown = True, (_closed(_part(clock)),)
    for _ in range(3):
        await sender.step()
        clock.advance(timedelta(seconds=5))
    await reports.step()
    text = await shown(browser)
    assert "联系不上对方，已暂停发送" in text
    assert "已断开" in text
    assert "已中断" in await shown(browser, "/channels")
    assert 'data-count="channels">1<' in await shown(browser, "/channels")
    clock.advance(timedelta(minutes=5))
    assert "暂时没有进程负责这个渠道" in await shown(browser)


async def test_a_receiver_that_is_away_is_named(
    browser: Browser, core: Core, carrier: Carrier, clock: ManualClock
) -> None:
    """Messages leave all the same; without a sender that is the greater trouble."""
    sender = await owned(core, clock)
    reports = Reports(core, lambda: [sender])
    out, into = _part(clock, Role.SENDER), _part(clock, Role.RECEIVER)
    carrier.shown = (out, into)
    await reports.step()
    page = await shown(browser)
    assert "只发送" in page
    assert "只接收" in page
    assert "收不到回执和来信" not in page
    assert "正常" in await shown(browser, "/channels/cards")
    carrier.shown = (out, _closed(into, "ESME_RALYBND"))
    await reports.step()
    page = await shown(browser)
    assert "接收连接断开，收不到回执和来信" in page
    assert "已有同名账号登录着" in page
    assert "有异常" in await shown(browser, "/channels/cards")
    assert 'data-count="channels">1<' in await shown(browser, "/channels")
    health = await (await browser.get("/healthz")).json()
    assert health["channels"] == {"sms": ["no_receiver"]}
    carrier.is_away, carrier.shown = True, (_closed(out, "ESME_RALYBND"), into)
    for _ in range(3):
        await sender.step()
        clock.advance(timedelta(seconds=5))
    await reports.step()
    page = await shown(browser)
    assert "联系不上对方，已暂停发送" in page
    assert "收不到回执和来信" not in page


def _part(clock: ManualClock, role: Role = Role.BOTH) -> Connection:
    window = 0 if role is Role.RECEIVER else 10
    return Connection(
        name=role, state="open", since=clock.now(), window=window, awaited=0, role=role
    )


def _closed(connection: Connection, why: str = "") -> Connection:
    return replace(connection, state="closed", last_error=why)


async def test_why_nobody_is_reached_is_said_with_what_to_do(
    browser: Browser, core: Core, carrier: Carrier, clock: ManualClock
) -> None:
    """Who refuses the login did answer: another thing to mend than the network. How
    the last message ended says nothing of it."""
    sender = await owned(core, clock)
    sender.channel.trouble = "no_answer"
    told = Reports(core, lambda: [sender])
    await ChannelEvent.create(
        channel="sms", key="1", code="login_refused:ESME_RINVPASWD", at=clock.now()
    )
    carrier.is_away = True
    for why, heading, words in (
        ("ESME_RINVPASWD", "对方拒绝登录", "登录密码不对 (ESME_RINVPASWD)"),
        ("ConnectionRefusedError", "联系不上对方", "对方拒绝连接 (Conn"),
    ):
        carrier.shown = (_closed(_part(clock), why),)
        for _ in range(3):
            await sender.step()
            clock.advance(timedelta(seconds=5))
        await Node.all().update(seen_at=clock.now())  # its owner lives
        await told.step()
        page, cards = await shown(browser), await shown(browser, "/channels/cards")
        assert f"{heading}，已暂停发送" in page
        assert words in page
        assert f"{heading}：{words}" in cards
        is_login = heading == "对方拒绝登录"
        assert ("账号和密码，改好后重新启动" in page) is is_login
        assert ("账号和密码，改好后重新启动" in cards) is is_login
        assert "渠道没有回话" not in page + cards


async def test_a_channel_in_trouble_says_so(browser: Browser, core: Core) -> None:
    sender = Sender(core, next(iter(core.channels)))
    await Reports(core, lambda: [sender]).step()
    assert "正常" in await shown(browser, "/channels/cards")
    sender.channel.trouble = "timeout"
    assert "出了问题" not in await shown(browser, "/channels/sms")
    await Reports(core, lambda: [sender]).step()
    assert "有异常" in await shown(browser, "/channels/cards")
    page = await shown(browser, "/channels/sms")
    assert re.search(
        r"上一次发送出了问题：</b> [^<]*没有.*下一条发成后自动变回正常", page, re.S
    )


def test_a_code_behind_a_code_is_said_in_words() -> None:
    assert said("no_answer") == "渠道没有回话"
    assert said("result_8") == "发送过快，对方限流 (result_8)"
    assert said("unmapped:result_150").startswith("运营商自己的代码")
    assert said("login of 13800138000 refused") == "login of 138****8000 refused"


def test_a_providers_words_are_shown_without_addresses() -> None:
    assert masked("550 a.person@example.org +8613800138000 unknown") == (
        "550 a***@example.org 138****8000 unknown"
    )
