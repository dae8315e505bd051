"""Start, pause, cancel, finish; counts that add up at every step."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from broadcasts import notices, recipients, running, view
from broadcasts.schedule import tick
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, RequestError
from gateway.members import consent
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.outbox.sender import Sender
from gateway.status import Bucket
from gateway.tables import Audit, Chunk, Member, Outbound, PromptRow
from tests.broadcasts.county import TEXT, County, phone
from tests.labs.recorder import Recorder, drain


async def adds_up(id: int) -> dict[Bucket, int]:
    broadcast = await Broadcast.get(id=id)
    counts = await recipients.counts(id)
    assert sum(counts.values()) == broadcast.planned
    return {bucket: n for bucket, n in counts.items() if n}


async def test_a_notice_runs_from_approval_to_its_end(
    core: Core, county: County, sms: Recorder
) -> None:
    """A-8 and promise O: who is refused or in doubt holds up nobody else."""
    await county.crowd(7)
    sms.answers[phone(1)] = PermanentFailure("no_such_number")
    sms.answers[phone(2)] = OutcomeUnknown("timeout")
    await consent.opt_out(
        core, Address(AddressKind.PHONE, phone(3)), how="word", evidence="R"
    )
    broadcast = await county.approved()
    assert await adds_up(broadcast.id) == {}
    await running.start(core, county.clerk, broadcast.id)
    assert await adds_up(broadcast.id) == {Bucket.WAITING: 7}
    await tick(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "running"
    await drain(core)
    assert await adds_up(broadcast.id) == {
        Bucket.ACCEPTED: 4,
        Bucket.REFUSED: 1,
        Bucket.UNKNOWN: 1,
        Bucket.SUPPRESSED: 1,
    }
    await tick(core)
    overview = await recipients.overview(county.clerk, broadcast.id)
    assert overview.broadcast.state == "finished"
    assert overview.counts[Bucket.UNKNOWN] == 1
    assert sms.sent[0].text == "党员0同志，周五开会。参加回1，不参加回2。拒收请回复R"
    assert Counter(sms.to).most_common(1)[0][1] == 1


async def test_the_numbers_and_the_course_are_of_one_instant(
    core: Core, county: County, sms: Recorder
) -> None:
    """What happens between two looks is on neither of them."""
    await county.crowd(3)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    sms.answers[phone(1)] = PermanentFailure("no_such_number")
    await drain(core)
    found = await recipients.overview(county.clerk, broadcast.id)
    [reached] = await Outbound.filter(value=phone(0))
    async with db.transaction():
        await moves.advance([Move(reached.id, "delivered")], core.clock.now())
    shown = await view.progress(core, found)
    numbers = {one["state"]: one["number"] for one in shown["buckets"]}
    assert (numbers["accepted"], numbers["delivered"], numbers["refused"]) == (2, 0, 1)
    last = shown["plot"]["last"]
    assert (last.sent, last.delivered, last.refused) == (3, 0, 1)


async def test_fifty_starts_are_one(core: Core, county: County, sms: Recorder) -> None:
    """A-14"""
    await county.crowd(5)
    broadcast = await county.approved()
    found = await asyncio.gather(
        *(running.start(core, county.clerk, broadcast.id) for _ in range(50))
    )
    assert {one.id for one in found} == {broadcast.id}
    assert {one.state for one in found} <= {"planning", "running"}
    assert (await Broadcast.get(id=broadcast.id)).state == "running"
    await drain(core)
    assert sorted(sms.to) == [phone(n) for n in range(5)]
    assert await Audit.filter(action="broadcast.start").count() == 1


async def test_an_edit_during_the_run_changes_nothing(
    core: Core, county: County, sms: Recorder
) -> None:
    """A-12: everybody gets the text that was approved, with what was true then."""
    await county.crowd(60)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    sender = Sender(core, next(iter(core.channels)))
    await sender.step()
    await sender.answers()
    assert 0 < len(sms.sent) < 60
    other = county.draft(texts={"sms": "别的内容"}, audience={"type": "all"})
    with pytest.raises(RequestError):
        await notices.edit(core, county.clerk, broadcast.id, other)
    await Broadcast.filter(id=broadcast.id).update(
        texts=other.texts, audience=other.audience
    )
    await Member.all().update(name="改过的名字")
    await county.crowd(5, first=100)
    await sender.step()
    await drain(core)
    said = TEXT.partition("}}")[2]
    assert sorted(one.text for one in sms.sent) == sorted(
        f"党员{number}{said}" for number in range(60)
    )


async def test_a_paused_notice_waits_and_goes_on(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(4)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await running.pause(core, county.clerk, broadcast.id)
    await running.pause(core, county.clerk, broadcast.id)
    await drain(core)
    await tick(core)
    assert sms.sent == []
    assert await adds_up(broadcast.id) == {Bucket.WAITING: 4}
    await running.resume(core, county.clerk, broadcast.id)
    await drain(core)
    assert await adds_up(broadcast.id) == {Bucket.ACCEPTED: 4}


async def test_a_cancelled_notice_says_who_got_it(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(3)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    first = await Outbound.filter(broadcast_id=broadcast.id).order_by("id").first()
    assert first is not None
    await moves.advance([Move(first.id, "accepted", attempt=1)], core.clock.now())
    await Chunk.filter(broadcast_id=broadcast.id).update(journalled_to=first.id)
    await running.cancel(core, county.director, broadcast.id)
    await drain(core)
    assert sms.sent == []
    assert await adds_up(broadcast.id) == {Bucket.ACCEPTED: 1, Bucket.CANCELLED: 2}
    open_prompts = await PromptRow.filter(closed_at__isnull=True).values_list("value")
    assert open_prompts == [(phone(0),)]
    with pytest.raises(RequestError) as refused:
        await running.resume(core, county.clerk, broadcast.id)
    assert refused.value.code == "wrong_state"


async def test_a_row_that_comes_back_after_the_cancel_is_cancelled(
    core: Core, county: County
) -> None:
    await county.crowd(2)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    ids = [row.id for row in await Outbound.all()]
    now = core.clock.now()
    # Both are on their way when it is cancelled, and refused for the rate.
    await Chunk.all().update(journalled_to=max(ids), state="leased")
    await running.cancel(core, county.clerk, broadcast.id)
    assert await adds_up(broadcast.id) == {Bucket.WAITING: 2}
    await moves.advance([Move(id, "queued", "throttled", attempt=1) for id in ids], now)
    await Chunk.all().update(state="done")
    await running.work_off(core)
    assert await adds_up(broadcast.id) == {Bucket.CANCELLED: 2}


async def test_quiet_hours_wait_for_the_morning(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(2)
    broadcast = await county.approved()
    clock.advance(timedelta(hours=12))  # 22:00
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    await tick(core)
    assert sms.sent == []
    assert await adds_up(broadcast.id) == {Bucket.WAITING: 2}
    clock.advance(timedelta(hours=10, minutes=1))
    await drain(core)
    assert await adds_up(broadcast.id) == {Bucket.ACCEPTED: 2}


async def test_a_refusal_between_plan_and_send_is_honoured(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(2)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    address = Address(AddressKind.PHONE, phone(1))
    await consent.opt_out(core, address, how="word", evidence="R")
    await drain(core)
    assert sms.to == [phone(0)]
    assert await adds_up(broadcast.id) == {Bucket.ACCEPTED: 1, Bucket.SUPPRESSED: 1}


async def test_a_scheduled_notice_starts_at_its_time(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(2)
    send_at = clock.now() + timedelta(hours=2)
    broadcast = await county.approved(send_at=send_at)
    assert broadcast.state == "scheduled"
    await tick(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "scheduled"
    clock.advance(timedelta(hours=2))
    await asyncio.gather(tick(core), tick(core))
    await drain(core)
    assert len(sms.sent) == 2


async def test_what_was_slept_over_asks(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(2)
    broadcast = await county.approved(send_at=clock.now() + timedelta(hours=2))
    clock.advance(timedelta(hours=2) + running.GRACE + timedelta(minutes=1))
    await tick(core)
    found = await Broadcast.get(id=broadcast.id)
    assert found.state == "scheduled"
    assert "错过" in found.note
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    assert len(sms.sent) == 2


async def test_a_scheduled_notice_that_cannot_start_goes_back(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(2)
    broadcast = await county.approved(send_at=clock.now() + timedelta(hours=1))
    await county.crowd(20, first=10)
    clock.advance(timedelta(hours=1))
    await tick(core)
    found = await Broadcast.get(id=broadcast.id)
    assert found.state == "draft"
    assert "批准时是2人，现在是22人" in found.note
    assert await Outbound.filter(message_kind=MessageKind.NOTICE).count() == 0


async def test_a_notice_does_not_arrive_after_its_activity(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(2)
    broadcast = await county.approved(event_at=clock.now() + timedelta(hours=3))
    await running.start(core, county.clerk, broadcast.id)
    clock.advance(timedelta(hours=4))
    await drain(core)
    assert await adds_up(broadcast.id) == {Bucket.EXPIRED: 2}
    late = await county.approved(event_at=clock.now() + timedelta(hours=1))
    clock.advance(timedelta(hours=2))
    with pytest.raises(RequestError) as refused:
        await running.start(core, county.clerk, late.id)
    assert refused.value.code == "too_late"


async def test_an_unapproved_notice_does_not_start(core: Core, county: County) -> None:
    await county.crowd(1)
    broadcast = await notices.create(core, county.clerk, county.draft())
    with pytest.raises(RequestError) as refused:
        await running.start(core, county.clerk, broadcast.id)
    assert refused.value.status == 409
