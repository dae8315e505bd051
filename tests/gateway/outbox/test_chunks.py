"""Recipients in chunks: journalled by windows, settled once, never sent twice."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations, product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import keys, texts
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    DeliveryReceipt,
    ReceiptState,
)
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.members import consent
from gateway.outbox import moves, receipts, recovery
from gateway.outbox.sender import Sender
from gateway.settings import Settings, Storage
from gateway.sla import Calendar
from gateway.tables import Chunk, Content, Hold, Outbound
from tests.labs.outgoing import queued
from tests.labs.streams import CARRIER, Carrier, channel, new_sender

SIZE = 20  # recipients of a chunk
BROADCAST = 1


def number(n: int) -> str:
    return f"+861990000{n:04d}"


async def broadcast(core: Core, people: int, id: int = BROADCAST) -> None:
    """Frozen: planned recipients in chunks that are ready."""
    now = core.clock.now()
    await Broadcast.create(
        id=id,
        kind="notice",
        title="通知",
        organisation_id=1,
        state="running",
        planned=people,
        created_by="",
        created_at=now,
        changed_at=now,
    )
    if not await Content.exists():
        await Content.create(
            id=1, texts={"sms": "您好"}, hash="", created_at=core.clock.now()
        )
    rows = [
        await queued(
            now,
            message_kind="notice",
            priority=10,
            broadcast_id=id,
            channel="短信",
            value=number(n),
            text=None,
            content_id=1,
            state="planned",
            expires_at=now + timedelta(days=1),
        )
        for n in range(people)
    ]
    for first in range(0, people, SIZE):
        part = rows[first : first + SIZE]
        await Chunk.create(
            broadcast_id=id,
            channel="短信",
            priority=10,
            first_id=part[0].id,
            last_id=part[-1].id,
            people=len(part),
            state="ready",
            due_at=now,
            journalled_to=part[0].id - 1,
        )
    await moves.tally({(id, "planned"): people}, now)


async def states(id: int = BROADCAST) -> dict[str, int]:
    """By state; counted, and the same by the tallies."""
    found = await Outbound.filter(broadcast_id=id).values_list("state", flat=True)
    counted = dict(Counter(map(str, found)))
    assert dict(await moves.counts(id)) == counted
    return counted


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


async def finish(sender: Sender, carrier: Carrier) -> None:
    carrier.answer_all()
    while await sender.step():
        carrier.answer_all()


async def test_everybody_gets_it_once(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 50)
    await finish(sender, carrier)
    assert sorted(a.value for a in carrier.numbers()) == [number(n) for n in range(50)]
    assert await states() == {"accepted": 50}
    assert {chunk.state for chunk in await Chunk.all()} == {"done"}
    assert (await db.rows("SELECT COUNT(*) AS n FROM attempts"))[0]["n"] == 50


async def test_no_more_than_a_window_is_journalled(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 50)
    while await sender.step():
        journalled = sum(c.journalled_to - c.first_id + 1 for c in await Chunk.all())
        assert journalled == len(carrier.submitted)
        settled = 50 - (await states()).get("planned", 0)
        assert journalled - settled <= carrier.capabilities.window
        for id in list(carrier.waiting)[:3]:
            carrier.answer(id)


async def test_what_was_on_its_way_when_the_process_ended_is_unknown(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """A-1, A-2: named, and never sent again by itself."""
    await broadcast(core, 50)
    await sender.step()
    flying = sorted(carrier.waiting, key=int)
    carrier.waiting.clear()
    again = await new_sender(core)
    await core.commits.run(lambda: recovery.recover(core.clock.now(), alone=True))
    unknown = await Outbound.filter(state="unknown").order_by("id")
    assert [str(row.id) for row in unknown] == flying
    assert {row.reason for row in unknown} == {"process_ended"}
    await finish(again, carrier)
    assert await states() == {"accepted": 40, "unknown": 10}
    assert max(Counter(m.id for m in carrier.submitted).values()) == 1


async def test_a_late_answer_ends_the_doubt(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """A-5"""
    await broadcast(core, 1)
    await sender.step()
    [id] = carrier.waiting
    carrier.answer(id, OutcomeUnknown("timeout"))
    await sender.step()
    assert await states() == {"unknown": 1}
    carrier.answer(id, Accepted(("late",)))
    await sender.step()
    assert await states() == {"accepted": 1}
    attempts = await db.rows("SELECT number, outcome FROM attempts")
    assert [(a["number"], a["outcome"]) for a in attempts] == [(1, "accepted")]


@pytest.mark.parametrize("tries", [1, 2])
async def test_a_doubt_that_ends_before_it_was_written_is_none(
    core: Core, sender: Sender, carrier: Carrier, tries: int
) -> None:
    """A-5: one commit settles both answers, of a window and of what is sent alone, and
    the live numbers stay those of the rows."""
    await broadcast(core, 3)
    await sender.step()
    for _ in range(1, tries):
        for id in list(carrier.waiting):
            carrier.answer(id, TransientFailure("nobody"))
        await sender.step()
        core.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        await sender.step()
    [id, *_] = carrier.waiting
    carrier.answer(id, OutcomeUnknown("timeout"))
    carrier.answer(id, Accepted(("late",)))
    carrier.answer_all()
    await sender.step()
    assert await states() == {"accepted": 3}


async def test_a_pause_holds_at_once(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """A-13: the next commit journals nothing more."""
    await broadcast(core, 50)
    await sender.step()
    await Hold.create(broadcast_id=BROADCAST, at=core.clock.now())
    await finish(sender, carrier)
    assert await states() == {"accepted": 10, "planned": 40}
    await Hold.all().delete()
    await finish(sender, carrier)
    assert await states() == {"accepted": 50}


async def test_recipients_that_are_taken_away_are_waited_for(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, SIZE)
    await sender.step()
    carrier.answer_all()
    outside = copy_context()
    async with db.transaction():
        is_postgres = db.is_postgres()
        await db.rows("SELECT id FROM chunks" + " FOR UPDATE" * is_postgres)
        step = asyncio.create_task(sender.step(), context=outside)
        await (waits_for_us() if is_postgres else asyncio.sleep(0))
        n = await db.execute(
            "UPDATE outbox SET state = 'cancelled' "
            "WHERE id > (SELECT journalled_to FROM chunks)"
        )
        await db.execute("UPDATE chunks SET journalled_to = last_id")
        now = core.clock.now()
        await moves.tally({(1, "planned"): -n, (1, "cancelled"): n}, now)
    await step
    assert len(carrier.submitted) == 10
    assert await states() == {"accepted": 10, "cancelled": 10}
    assert [chunk.state for chunk in await Chunk.all()] == ["done"]


async def waits_for_us() -> None:
    """Until another transaction waits for a lock of ours."""
    waiting = (
        "SELECT pid FROM pg_locks WHERE NOT granted "
        "AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    )
    async with asyncio.timeout(60):
        while not await db.rows(waiting):
            pass


async def test_a_refusal_before_the_journal_is_honoured(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """A-16"""
    await broadcast(core, 30)
    await sender.step()
    for n in (3, 15, 29):  # the first is on its way already
        address = Address(AddressKind.PHONE, number(n))
        async with db.transaction():
            await consent.opt_out(core, address, how="word", evidence="R")
    await finish(sender, carrier)
    assert await states() == {"accepted": 28, "suppressed": 2}
    assert {number(15), number(29)}.isdisjoint(a.value for a in carrier.numbers())


@pytest.mark.parametrize(
    "refusal",
    [
        TransientFailure("ESME_RTHROTTLED", throttled=True),
        TransientFailure("ESME_RINVBNDSTS", free=True),
    ],
    ids=str,
)
async def test_what_is_no_fault_of_the_message_costs_no_attempt(
    core: Core,
    sender: Sender,
    carrier: Carrier,
    clock: ManualClock,
    refusal: TransientFailure,
) -> None:
    """A-7"""
    await broadcast(core, 1)
    await sender.step()
    for _ in range(20):
        [id] = carrier.waiting
        carrier.answer(id, refusal)
        await sender.step()
        clock.advance(timedelta(minutes=20))
        await sender.step()
    carrier.answer_all()
    await sender.step()
    assert await states() == {"accepted": 1}


async def test_each_part_of_a_long_message_counts_for_the_rate(
    core: Core, clock: ManualClock
) -> None:
    """A-7: a carrier that is told 20 a second counts what it is handed."""
    rate, seconds = 20.0, 30
    wide = Carrier(replace(CARRIER, window=1000, rate_per_second=rate), parts=2)
    core.channels = ChannelSet([channel(wide)])
    sender = await new_sender(core)
    await broadcast(core, 400)
    parts = []
    for _ in range(seconds):
        before = len(wide.submitted)
        while await sender.step():
            wide.answer_all()
        parts.append(wide.parts * (len(wide.submitted) - before))
        clock.advance(timedelta(seconds=1))
    assert max(parts[1:]) <= rate
    assert sum(parts) >= 0.9 * rate * seconds
    assert sender.measure.seen().rate == rate


async def test_an_answer_overtakes_a_broadcast(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 50)
    await sender.step()
    await queued(core.clock.now(), channel="短信", value="+8619911110000")
    carrier.answer_all()
    await sender.step()
    assert carrier.submitted[10].to.value == "+8619911110000"


async def test_an_answer_overtakes_what_waits_for_another_try(
    core: Core, sender: Sender, carrier: Carrier, clock: ManualClock
) -> None:
    """More of it is due than there is room for, all of it longer than the answer."""
    await broadcast(core, 30)
    while await sender.step():
        for id in list(carrier.waiting):
            carrier.answer(id, TransientFailure("busy"))
    assert await states() == {"queued": 30}
    clock.advance(timedelta(hours=1))
    await queued(core.clock.now(), channel="短信", value="+8619911110000")
    await sender.step()
    left = carrier.submitted[30:]
    assert len(left) < 30
    assert left[0].to.value == "+8619911110000"


async def test_messages_to_one_person_leave_in_their_order(
    core: Core, sender: Sender, carrier: Carrier, clock: ManualClock
) -> None:
    """The first is tried again later: what was said after it waits, but nobody else."""
    now = core.clock.now()
    for text in ("一", "二", "三"):
        await queued(now, channel="短信", text=text)
    await queued(now, channel="短信", text="旁人", value="+8619911110000")
    await sender.step()
    [first, other] = carrier.waiting.values()
    assert (first.text, other.text) == ("一", "旁人")
    carrier.answer(first.id, TransientFailure("busy"))
    carrier.answer(other.id)
    while await sender.step():
        pass
    assert len(carrier.submitted) == 2
    clock.advance(timedelta(hours=1))
    await finish(sender, carrier)
    assert [one.text for one in carrier.submitted[2:]] == ["一", "二", "三"]


async def test_quiet_hours_put_the_rest_off(
    core: Core, sender: Sender, carrier: Carrier, clock: ManualClock
) -> None:
    """A-19"""
    await broadcast(core, 30)
    await sender.step()
    clock.advance(timedelta(hours=11, minutes=30))  # half past nine in the evening
    carrier.answer_all()
    await finish(sender, carrier)
    assert await states() == {"accepted": 10, "planned": 20}
    due = {chunk.due_at for chunk in await Chunk.filter(state__not="done")}
    assert due == {datetime(2026, 11, 21, 0, tzinfo=UTC)}
    clock.advance(timedelta(hours=10, minutes=30))  # eight in the morning
    await finish(sender, carrier)
    assert await states() == {"accepted": 30}


async def test_nobody_gets_more_broadcasts_a_day_than_allowed(
    core: Core, sender: Sender, carrier: Carrier, clock: ManualClock
) -> None:
    most = core.settings.policy.broadcasts_per_day
    for id in range(1, most + 2):
        await broadcast(core, 3 if id <= most else 5, id)
        await finish(sender, carrier)
        await Broadcast.filter(id=id).update(state="finished", changed_at=clock.now())
        clock.advance(timedelta(minutes=10))
    assert await states(most) == {"accepted": 3}
    assert await states(most + 1) == {"suppressed": 3, "accepted": 2}
    clock.advance(timedelta(days=1))
    await broadcast(core, 5, most + 2)
    await finish(sender, carrier)
    assert await states(most + 2) == {"accepted": 5}


async def test_those_that_leave_together_count_for_each_other(core: Core) -> None:
    """The first of them has no answer yet when the others come to the gate."""
    carrier = Carrier(replace(CARRIER, window=100))
    core.channels = ChannelSet([channel(carrier)])
    sender = await new_sender(core)
    most = core.settings.policy.broadcasts_per_day
    for id in range(1, most + 3):
        await broadcast(core, 5, id)
    while await sender.step():
        pass
    assert len(carrier.submitted) == 5 * most
    await finish(sender, carrier)
    for id in range(1, most + 1):
        assert await states(id) == {"accepted": 5}
    for id in (most + 1, most + 2):
        assert await states(id) == {"suppressed": 5}


async def test_those_that_wait_alone_count_for_each_other(
    core: Core, sender: Sender, carrier: Carrier, clock: ManualClock
) -> None:
    """All were refused for now, and are due again in one commit."""
    most = core.settings.policy.broadcasts_per_day
    for id in range(1, most + 3):
        await broadcast(core, 1, id)
        await sender.step()
        for waiting in list(carrier.waiting):
            carrier.answer(waiting, TransientFailure("nobody"))
        await sender.step()
    before = len(carrier.submitted)
    clock.advance(timedelta(hours=1))
    await finish(sender, carrier)
    assert len(carrier.submitted) - before == most
    ended = [await states(id) for id in range(1, most + 3)]
    assert ended.count({"accepted": 1}) == most
    assert ended.count({"suppressed": 1}) == 2


def receipt_of(
    id: str, state: ReceiptState, n: int = 0, to: str = ""
) -> DeliveryReceipt:
    return DeliveryReceipt(
        key=f"{id}:{state}:{n}",
        provider_id=id,
        state=state,
        raw=b"raw",
        address=Address(AddressKind.PHONE, to) if to else None,
    )


async def receipt(
    core: Core, id: str, state: ReceiptState, n: int = 0, to: str = ""
) -> None:
    told = receipt_of(id, state, n, to)
    await core.commits.run(lambda: receipts.store(core, "短信", [(told.key, told)]))


async def test_the_receipts_of_all_parts_make_one_state(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 2)
    await sender.step()
    first, second = sorted(carrier.waiting, key=int)
    await receipt(core, "b2", ReceiptState.DELIVERED)  # before the answer
    carrier.answer(first, Accepted(("a1", "a2", "a3")))
    carrier.answer(second, Accepted(("b1", "b2")))
    await sender.step()
    for part in ("a3", "a1", "b1"):
        await receipt(core, part, ReceiptState.DELIVERED)
    assert await states() == {"accepted": 1, "delivered": 1}
    await receipt(core, "a2", ReceiptState.FAILED)
    await receipt(core, "a2", ReceiptState.DELIVERED)
    assert await states() == {"failed": 1, "delivered": 1}


async def test_in_whatever_order_they_come_parts_make_one_state(
    core: Core, clock: ManualClock
) -> None:
    """C-1, C-2: the answer and the receipts of three parts, of which none or one
    failed."""
    wide = Carrier(replace(CARRIER, window=200))
    core.channels = ChannelSet([channel(wide)])
    sender = await new_sender(core)
    lives = list(product(permutations(("answer", "a", "b", "c")), ("", "a", "c")))
    await broadcast(core, len(lives))
    while len(wide.submitted) < len(lives):
        await sender.step()
        clock.advance(timedelta(seconds=1))
    for id, (order, broken) in zip(list(wide.waiting), lives, strict=True):
        for what in order:
            if what == "answer":
                wide.answer(id, Accepted((f"{id}a", f"{id}b", f"{id}c")))
                await sender.step()
            else:
                failed = what == broken
                state = ReceiptState.FAILED if failed else ReceiptState.DELIVERED
                await receipt(core, f"{id}{what}", state)
    found = {str(row.id): row.state for row in await Outbound.all()}
    expected = ["failed" if broken else "delivered" for _, broken in lives]
    assert [found[message.id] for message in wide.submitted] == expected
    assert not await db.rows("SELECT id FROM receipts WHERE effect = ''")


async def test_parts_sent_before_say_nothing_of_those_sent_again(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 1)
    await sender.step()
    [id] = carrier.waiting
    carrier.answer(id, Accepted(("a1", "a2")))
    await sender.step()
    await receipt(core, "a1", ReceiptState.DELIVERED)
    await receipt(core, "a2", ReceiptState.FAILED)
    assert await states() == {"failed": 1}
    now = core.clock.now()
    again = moves.Move(int(id), "queued", "sent_again", due_at=db.to_micros(now))
    await moves.advance([again], now)
    await sender.step()
    carrier.answer(id, Accepted(("b1", "b2")))
    await sender.step()
    await receipt(core, "b1", ReceiptState.DELIVERED)
    await receipt(core, "b2", ReceiptState.DELIVERED)
    assert await states() == {"delivered": 1}


ACTS = (
    "step",
    "accept",
    "refuse",
    "later",
    "lose",
    "receipt",
    "arrival",
    "late",
    "crash",
    "pause",
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 30)), max_size=60))
def test_whatever_happens_nobody_is_lost_or_doubled(
    database_url: str, tmp_path: Path, acts: Sequence[tuple[str, int]]
) -> None:
    async def example() -> None:
        async with db.opened(database_url):
            for table in ("outbox", "chunks", "tallies", "attempts", "receipts"):
                await db.execute(f"DELETE FROM {table}")
            await db.execute("DELETE FROM holds")
            await db.execute("DELETE FROM broadcasts")
            await live(_core(tmp_path), acts)

    asyncio.run(example())


def _core(data_dir: Path) -> Core:
    clock = ManualClock(datetime(2026, 11, 20, 10, tzinfo=ZoneInfo("Asia/Shanghai")))
    return Core(
        settings=Settings(storage=Storage(data_dir=data_dir)),
        clock=clock,
        keys=keys.load(data_dir),
        channels=ChannelSet(),
        texts=texts.load(),
        calendar=Calendar(),
    )


async def live(core: Core, acts: Sequence[tuple[str, int]]) -> None:
    """One random life; at every moment everybody is counted once."""
    carrier = Carrier()
    core.channels = ChannelSet([channel(carrier)])
    sender = await new_sender(core)
    people = 45
    await broadcast(core, people)
    repeatable: set[str] = set()  # certainly not sent, so it may be sent again
    lost: list[str] = []
    sent: Counter[str] = Counter()
    arriving: list[asyncio.Task[bool]] = []
    sender.arrivals.open()
    seen = 0
    for n, (act, which) in enumerate(acts):
        waiting = list(carrier.waiting)
        one = waiting[which % len(waiting)] if waiting else None
        match act:
            case "step":
                await sender.step()
            case "accept" if one:
                carrier.answer(one)
            case "refuse" if one:
                carrier.answer(one, PermanentFailure("refused"))
            case "later" if one:
                repeatable.add(one)
                carrier.answer(one, TransientFailure("busy", throttled=True))
            case "lose" if one:
                lost.append(one)
                carrier.answer(one, OutcomeUnknown("timeout"))
            case "late" if lost:
                carrier.answer(lost.pop())
            case "receipt":
                id = which % people
                row = (await Outbound.filter(broadcast_id=1).order_by("id"))[id]
                await receipt(core, f"c{row.id}", ReceiptState.DELIVERED, n)
            case "arrival" if carrier.submitted:
                which_one = carrier.submitted[which % len(carrier.submitted)]
                told = receipt_of(f"c{which_one.id}", ReceiptState.DELIVERED, n)
                arriving.append(
                    asyncio.create_task(sender.arrivals.put([(told.key, told)]))
                )
                await asyncio.sleep(0)
            case "pause":
                if await Hold.exists():
                    await Hold.all().delete()
                else:
                    await Hold.create(broadcast_id=1, at=core.clock.now())
            case "crash":
                carrier.waiting.clear()
                lost.clear()
                sender.arrivals.close()
                sender = await new_sender(core)
                sender.arrivals.open()
                await core.commits.run(
                    lambda: recovery.recover(core.clock.now(), alone=True)
                )
        core.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
        for message in carrier.submitted[seen:]:
            sent[message.id] += 1
            assert sent[message.id] == 1 or message.id in repeatable
            repeatable.discard(message.id)
        seen = len(carrier.submitted)
        assert sum((await states()).values()) == people
    await Hold.all().delete()
    await journal_all(core, sender, carrier)
    found = await states()
    assert sum(found.values()) == people
    assert found.get("planned", 0) + found.get("queued", 0) == 0
    assert len({m.id for m in carrier.submitted}) == people
    sender.arrivals.close()
    for one_arrived in arriving:
        await one_arrived


async def journal_all(core: Core, sender: Sender, carrier: Carrier) -> None:
    for _ in range(100):
        core.clock.advance(timedelta(minutes=2))  # type: ignore[attr-defined]
        await sender.step()
        carrier.answer_all()
        left = await states()
        if not left.get("planned") and not left.get("queued") and not carrier.waiting:
            await sender.step()
            return
