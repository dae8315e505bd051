"""What the cards of the channels say of one that is in trouble."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.actors import GATEWAY
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.nodes import ALIVE
from gateway.outbox.account import seen
from gateway.outbox.overview import cards
from gateway.outbox.pages import count
from gateway.outbox.report import MOVING, REACHED, STUCK, Reports
from gateway.outbox.sender import Sender
from gateway.tables import ChannelEvent, ChannelReport, LeaseRow, Node
from tests.labs.recorder import as_channel, recorder


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([as_channel("sms", recorder(AddressKind.PHONE))])


@pytest.fixture
def sender(core: Core) -> Sender:
    return Sender(core, next(iter(core.channels)))


async def happened(core: Core, *codes: str) -> None:
    for n, code in enumerate(codes):
        await ChannelEvent.create(
            channel="sms", key=f"{n}:{code}", code=code, at=core.clock.now()
        )


async def card_of(core: Core, sender: Sender) -> dict[str, Any]:
    await Reports(core, lambda: [sender]).step()
    [card] = await cards(core, GATEWAY, lambda text, **values: text)
    return card


async def test_one_wrong_number_is_no_trouble_of_the_account(
    core: Core, sender: Sender
) -> None:
    """What ails it is told, not what came last."""
    await happened(core, "connection_lost", "ESME_RINVDSTADR", REACHED)
    card = await card_of(core, sender)
    assert (card["state"], card["last_error"]) == ("ok", None)
    sender.channel.trouble = "connection_lost"
    card = await card_of(core, sender)
    assert card["state"] == "trouble"
    assert card["last_error"]["text"] == "发送途中连接断了"
    assert "下一条发成后自动变回正常" in card["last_error"]["mend"]


async def test_who_was_only_too_fast_has_nothing_to_mend(
    core: Core, sender: Sender
) -> None:
    await happened(core, "ESME_RTHROTTLED", "ESME_RINVDSTADR")
    sender.channel.trouble = "ESME_RTHROTTLED"
    sender.pace.throttled(None)
    told = (await card_of(core, sender))["last_error"]
    assert told["text"] == "对方要求放慢，已自动降低发送速度，之后逐步恢复。"
    assert told["mend"] == ""


async def test_good_news_is_not_shown_as_an_error(core: Core) -> None:
    """A provider that comes and goes: its card doesn't jump to and fro."""
    told = {"self_test": {"verdict": "failed"}}  # in trouble, and no code says why
    await ChannelReport.create(channel="sms", node_id=1, at=core.clock.now(), data=told)
    await happened(core, "timeout", STUCK, MOVING, REACHED)
    [card] = await cards(core, GATEWAY, lambda text, **values: text)
    assert card["state"] == "trouble"
    assert card["last_error"]["text"] == "有消息等得太久"


async def test_what_no_process_serves_does_not_look_well(
    core: Core, sender: Sender, clock: ManualClock
) -> None:
    """Its owner was killed: what it said last was that all is well."""
    now = clock.now()
    node = await Node.create(name="a:1", started_at=now, seen_at=now)
    await LeaseRow.create(name="channel:sms", node_id=node.id, epoch=1)
    card = await card_of(core, sender)
    assert (card["state"], card["last_error"]) == ("ok", None)
    assert (await seen(core, sender.channel))["state"] == "ok"
    assert await count(core, GATEWAY) == {"channels": 0}
    clock.advance(ALIVE + timedelta(seconds=1))
    [card] = await cards(core, GATEWAY, lambda text, **values: text)
    assert card["state"] == "down"
    assert await count(core, GATEWAY) == {"channels": 1}
    assert "没有进程负责" in card["last_error"]["text"]
    shown = await seen(core, sender.channel)
    assert (shown["state"], shown["owner"]) == ("down", "")
