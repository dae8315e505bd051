"""A-9: a message that should have left long ago is an alarm, until it left."""

from datetime import timedelta

import pytest

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Connection
from gateway.core import Core
from gateway.outbox.report import Reports, reports
from gateway.outbox.sender import Sender
from gateway.outbox.waiting import LONGEST, stuck_since
from gateway.tables import Hold, Outbound
from tests.console import Console
from tests.gateway.outbox.test_chunks import broadcast
from tests.labs.outgoing import queued
from tests.labs.streams import Carrier, channel, new_sender

NAME = "短信"
TOO_LONG = LONGEST + timedelta(minutes=1)
NIGHT = timedelta(hours=12)  # from ten in the morning


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


async def due(
    core: Core, kind: str = "answer", priority: int = 0, **different: object
) -> Outbound:
    """To somebody who has nothing else waiting."""
    return await queued(
        core.clock.now(),
        message_kind=kind,
        priority=priority,
        channel=NAME,
        value=f"+8613300{await Outbound.all().count():06d}",
        **different,
    )


async def stuck(core: Core, last_success: timedelta | None = None) -> timedelta | None:
    """For how long the oldest waits; None: nothing waits too long."""
    now = core.clock.now()
    success = None if last_success is None else now - last_success
    since = await stuck_since(core, NAME, now, success)
    return None if since is None else now - since


async def test_what_should_have_left_is_too_old_after_a_while(
    core: Core, clock: ManualClock
) -> None:
    await due(core)
    clock.advance(LONGEST - timedelta(seconds=1))
    assert await stuck(core) is None
    clock.advance(timedelta(seconds=1))
    assert await stuck(core) == LONGEST
    # That others get through doesn't help this one.
    assert await stuck(core, last_success=timedelta(0)) == LONGEST


async def test_what_is_to_wait_is_no_alarm(core: Core, clock: ManualClock) -> None:
    await due(core, due_at=core.clock.now() + timedelta(hours=1))
    await due(core, "notice", 10, broadcast_id=1)
    await broadcast(core, 5)
    await Hold.create(broadcast_id=1, at=clock.now())
    clock.advance(TOO_LONG)
    assert await stuck(core) is None
    await Hold.all().delete()
    assert await stuck(core) == TOO_LONG


async def test_at_night_only_what_was_asked_for_counts(
    core: Core, clock: ManualClock
) -> None:
    await due(core, "callback", 5)
    await due(core, "notice", 10, broadcast_id=1)
    await broadcast(core, 5)
    clock.advance(NIGHT)
    assert await stuck(core) is None
    await due(core)
    clock.advance(TOO_LONG)
    assert await stuck(core) == TOO_LONG


async def test_a_long_broadcast_is_no_alarm_while_it_moves(
    core: Core, clock: ManualClock, carrier: Carrier
) -> None:
    sender = await new_sender(core)
    await broadcast(core, 25)
    await due(core, "notice", 10, broadcast_id=2)  # one sent again, say
    clock.advance(timedelta(hours=1))
    assert await stuck(core, last_success=timedelta(0)) == timedelta(hours=1)
    await sender.step()
    assert await stuck(core, last_success=timedelta(0)) is None
    clock.advance(TOO_LONG)
    assert await stuck(core, last_success=timedelta(0)) == TOO_LONG


async def test_staff_and_whoever_watches_are_told(
    console: Console, core: Core, clock: ManualClock, carrier: Carrier
) -> None:
    sender = await new_sender(core)
    writing = Reports(core, lambda: [sender])
    row = await due(core)
    await writing.step()
    assert (await _health(console))["status"] == "ok"
    clock.advance(TOO_LONG)
    await writing.step()
    clerk = await console.browser("clerk_a")
    page = await (await clerk.get(f"/channels/{NAME}")).text()
    assert "有消息等得太久" in page
    assert "最早的一条 11-20 10:00 就该发出" in page
    assert 'data-count="channels">1<' in page
    assert "有异常" in await (await clerk.get("/channels/cards")).text()
    health = await _health(console)
    assert (health["status"], health["channels"]) == ("degraded", {NAME: ["waiting"]})
    assert _metric(core) == 1
    await Outbound.filter(id=row.id).update(state="accepted")
    clock.advance(timedelta(minutes=1))
    await writing.step()
    found = await db.rows("SELECT code FROM channel_events ORDER BY id")
    assert [one["code"] for one in found] == ["waiting", "moving"]
    assert (await _health(console))["status"] == "ok"
    assert _metric(core) == 0


async def test_a_channel_that_is_unreachable_is_no_dead_process(
    console: Console, core: Core, clock: ManualClock, carrier: Carrier
) -> None:
    """Another process could do no better: a load balancer leaves it in its round."""
    sender = Sender(core, next(iter(core.channels)))
    carrier.is_away = True
    carrier.shown = (
        Connection(name="1", state="closed", since=clock.now(), window=10, awaited=0),
    )
    for _ in range(3):
        await sender.step()
        clock.advance(timedelta(seconds=5))
    await Reports(core, lambda: [sender]).step()
    assert (await reports())[NAME]["open_since"]
    health = await _health(console)
    assert health["status"] == "degraded"
    assert health["channels"] == {NAME: ["unreachable"]}
    assert all(health["parts"].values())


async def _health(console: Console) -> dict[str, object]:
    answer = await console.client.get("/healthz")
    assert answer.status == 200
    return dict(await answer.json())


def _metric(core: Core) -> float | None:
    name = "lianxin_channel_waiting_too_long"
    return core.metrics._registry.get_sample_value(name, {"channel": NAME})
