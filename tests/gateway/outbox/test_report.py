"""What a channel's owner tells by the second: connections, rate, breaker."""

from datetime import timedelta

import pytest

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Connection
from gateway.core import Core
from gateway.errors import TransientFailure
from gateway.outbox.measure import Measure
from gateway.outbox.report import Reports, reports
from gateway.outbox.sender import Sender
from tests.gateway.outbox.test_chunks import broadcast
from tests.labs.streams import Carrier, channel, new_sender


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


@pytest.fixture
def writing(core: Core, sender: Sender) -> Reports:
    return Reports(core, lambda: [sender])


async def events() -> list[tuple[str, str]]:
    found = await db.rows("SELECT code, key FROM channel_events ORDER BY id")
    return [(e["code"], e["key"]) for e in found if e["key"].startswith("breaker:")]


async def test_it_tells_what_happens_and_only_then_writes(
    core: Core,
    sender: Sender,
    carrier: Carrier,
    writing: Reports,
    clock: ManualClock,
) -> None:
    carrier.shown = (
        Connection(name="1", state="open", since=clock.now(), window=10, awaited=0),
    )
    await writing.step()
    before = (await reports())["短信"]
    assert before["connections"][0]["state"] == "open"
    assert (before["in_flight"], before["window"]) == (0, 10)
    clock.advance(timedelta(minutes=10))
    await writing.step()
    assert (await reports())["短信"]["at"] == before["at"]
    await broadcast(core, 25)
    await sender.step()
    await writing.step()
    assert (await reports())["短信"]["in_flight"] == 10
    clock.advance(timedelta(seconds=2))
    carrier.answer_all()
    await sender.step()
    await writing.step()
    told = (await reports())["短信"]
    assert told["median"] == pytest.approx(2.0, rel=0.2)
    assert (told["answers"], told["sent"], told["failed"]) == (10, 10, 0)
    assert told["rate"] == 2.0


async def test_the_breaker_tells_of_itself(
    core: Core,
    sender: Sender,
    carrier: Carrier,
    writing: Reports,
    clock: ManualClock,
) -> None:
    await broadcast(core, 40)
    await writing.step()
    for _ in range(8):
        await sender.step()
        clock.advance(timedelta(seconds=1))
        for id in list(carrier.waiting):
            carrier.answer(id, TransientFailure("not_connected"))
    await writing.step()
    told = (await reports())["短信"]
    assert told["probe_at"] > told["open_since"] > 0
    assert told["trouble"] == "not_connected"
    assert [code for code, _ in await events()] == ["unreachable"]
    assert "lianxin_channel_unreachable" in core.metrics.exposition().decode()
    clock.advance(timedelta(minutes=20))
    await sender.step()  # lets go of the chunk that it was at, if of one
    await sender.step()
    assert len(carrier.waiting) == 1  # the probe
    carrier.answer_all()
    await sender.step()
    await writing.step()
    assert [code for code, _ in await events()] == ["unreachable", "reached"]
    assert not (await reports())["短信"]["open_since"]


async def test_the_next_owner_goes_on_with_the_day(
    core: Core, sender: Sender, carrier: Carrier, writing: Reports, clock: ManualClock
) -> None:
    await broadcast(core, 5)
    await sender.step()
    carrier.answer_all()
    await sender.step()
    await writing.step()
    again = await new_sender(core)
    writing = Reports(core, lambda: [again])
    await writing.step()
    assert (await reports())["短信"]["sent"] == 5
    clock.advance(timedelta(days=1))
    await writing.step()
    assert (await reports())["短信"]["sent"] == 0


async def test_an_owner_that_comes_back_counts_nothing_twice(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """F-3: it lost its account, and the database, for a while; what it settled before
    it could tell counts once as well."""
    owned = [sender]
    writing = Reports(core, lambda: owned)
    await broadcast(core, 15)
    await sender.step()
    await writing.step()
    for _ in range(3):
        carrier.answer_all()
        await sender.step()
        owned.clear()
        await writing.step()
        owned.append(sender)
        await writing.step()
    assert (await reports())["短信"]["sent"] == 15


def test_slow_answers_and_refusals_are_shares_of_minutes(clock: ManualClock) -> None:
    measure = Measure(clock, slow_after=10)
    now = int(clock.now().timestamp() * 1e6)
    measure.answered({now - 1_000_000: 80, now - 20_000_000: 20}, now)
    measure.throttled()
    seen = measure.seen()
    assert (seen.slow, seen.answered, seen.throttled) == (0.2, 100, 1 / 30)
    assert seen.p95 == pytest.approx(20, rel=0.2)
    clock.advance(timedelta(minutes=6))
    assert measure.seen().answered == 0
