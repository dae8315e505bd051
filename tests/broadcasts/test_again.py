"""Sent again to the failed only; to the unknown where a named person says why."""

import asyncio
from contextvars import copy_context
from datetime import timedelta

import pytest

from broadcasts import again, recipients, running, view
from broadcasts.schedule import tick
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.clock import ManualClock
from gateway.contract import Accepted, DeliveryReceipt, ReceiptState
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, RequestError
from gateway.outbox import moves, receipts, unknown
from gateway.outbox.moves import Move
from gateway.status import Bucket
from gateway.tables import Audit, Outbound, Part
from tests.broadcasts.county import County, phone
from tests.gateway.outbox.test_chunks import waits_for_us
from tests.labs.recorder import Recorder, drain

DELIVERED = ReceiptState.DELIVERED


async def ended(core: Core, county: County, sms: Recorder) -> int:
    """Five people: one refused, one unknown, three reached."""
    await county.crowd(5)
    sms.answers[phone(1)] = PermanentFailure("refused")
    sms.answers[phone(2)] = OutcomeUnknown("timeout")
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    await tick(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "finished"
    sms.answers.clear()
    sms.sent.clear()
    return int(broadcast.id)


async def counts(id: int) -> dict[Bucket, int]:
    broadcast = await Broadcast.get(id=id)
    found = {bucket: n for bucket, n in (await recipients.counts(id)).items() if n}
    assert sum(found.values()) == broadcast.planned
    return found


async def test_only_the_failed_get_it_again(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    clock.advance(timedelta(minutes=1))
    broadcast, people = await running.resend(core, county.clerk, id)
    assert (broadcast.state, people) == ("running", 1)
    await drain(core)
    assert sms.to == [phone(1)]
    assert await counts(id) == {Bucket.ACCEPTED: 4, Bucket.UNKNOWN: 1}
    await tick(core)
    assert (await Broadcast.get(id=id)).state == "finished"
    [line] = await Audit.filter(action="broadcast.again")
    assert (line.detail["people"], line.detail["unknown"]) == (1, False)
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id)
    assert refused.value.code == "nobody"


async def test_the_unknown_only_with_a_reason(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    clock.advance(timedelta(minutes=1))
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id, unknown=True, reason="  ")
    assert refused.value.fields.keys() == {"reason"}
    _, people = await running.resend(
        core, county.clerk, id, unknown=True, reason="运营商确认没有下发"
    )
    assert people == 2
    await drain(core)
    assert sorted(sms.to) == [phone(1), phone(2)]
    assert await counts(id) == {Bucket.ACCEPTED: 5}
    [line] = await Audit.filter(action="broadcast.again")
    assert (line.actor, line.detail["reason"]) == ("楚经办", "运营商确认没有下发")


async def test_who_got_a_part_gets_it_again_only_with_a_reason(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    """A-17: partial is reported, not sent again whole."""
    id = await ended(core, county, sms)
    one = {row.value: row for row in await Outbound.filter(broadcast_id=id)}
    # The carrier refused a part of the third's; a phone took one part of the fourth's.
    for n, reason in ((3, "partly_refused"), (4, "expired")):
        await moves.advance([Move(one[phone(n)].id, "failed", reason)], clock.now())
    for number, state in ((1, "delivered"), (2, "failed")):
        await Part.create(
            channel="sms",
            provider_id=f"x{number}",
            outbound_id=one[phone(4)].id,
            number=number,
            of_all=2,
            state=state,
        )
    clock.advance(timedelta(minutes=1))
    found = await recipients.overview(county.clerk, id)
    assert await view.again(found, county.clerk) == {
        "failed": 1,
        "in_part": 2,
        "unknown": 1,
    }
    _, people = await running.resend(core, county.clerk, id)
    assert people == 1
    await drain(core)
    assert sms.to == [phone(1)]
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id)
    assert refused.value.code == "nobody"
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id, in_part=True)
    assert refused.value.fields.keys() == {"reason"}
    clock.advance(timedelta(minutes=1))
    sms.answers[phone(4)] = Accepted(("y1", "y2"))
    _, people = await running.resend(
        core, county.clerk, id, in_part=True, reason="两人都说只看到半句"
    )
    assert people == 2
    await drain(core)
    assert sorted(sms.to) == [phone(1), phone(3), phone(4)]
    told = [
        DeliveryReceipt(key=f"r{y}", provider_id=y, state=DELIVERED, raw=b"")
        for y in ("y1", "y2")
    ]
    await core.commits.run(
        lambda: receipts.store(core, "sms", [(one.key, one) for one in told])
    )
    await one[phone(4)].refresh_from_db()
    assert one[phone(4)].state == "delivered"
    lines = await Audit.filter(action="broadcast.again").order_by("id")
    assert [line.detail["in_part"] for line in lines] == [False, True]


async def test_whom_somebody_gave_up_stays_given_up(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    clock.advance(timedelta(minutes=1))
    lost = await Outbound.get(broadcast_id=id, state="unknown")
    await unknown.decide(core, county.director, lost.id, "give_up", "本人出国了")
    found = await recipients.overview(county.clerk, id)
    expected = {"failed": 1, "in_part": 0, "unknown": 0}
    assert await view.again(found, county.clerk) == expected
    _, people = await running.resend(
        core, county.clerk, id, unknown=True, in_part=True, reason="都再发"
    )
    assert people == 1
    await drain(core)
    assert sms.to == [phone(1)]
    found = await recipients.overview(county.clerk, id)
    await Broadcast.filter(id=id).update(state="paused")
    assert await view.again(found, county.clerk) is None
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id)
    assert refused.value.code == "nobody"


async def test_a_run_does_not_end_under_those_who_send_again(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    await Broadcast.filter(id=id).update(state="running", finished_at=None)
    clock.advance(timedelta(minutes=1))
    outside = copy_context()
    async with db.transaction():
        await running.resend(core, county.clerk, id)
        task = asyncio.create_task(running.settle(core), context=outside)
        await (waits_for_us() if db.is_postgres() else asyncio.sleep(0))
    await task
    assert (await Broadcast.get(id=id)).state == "running"
    await drain(core)
    await tick(core)
    assert (await Broadcast.get(id=id)).state == "finished"


async def test_who_sends_again_finds_it_cancelled(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    await Broadcast.filter(id=id).update(state="paused")
    clock.advance(timedelta(minutes=1))
    seen = await Broadcast.get(id=id)
    await running.cancel(core, county.clerk, id)
    with pytest.raises(RequestError) as refused:
        await again.send(core, county.clerk, seen)
    assert refused.value.code == "wrong_state"
    assert (await counts(id))[Bucket.REFUSED] == 1


async def test_who_waits_for_a_paused_run_still_waits(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    await Broadcast.filter(id=id).update(state="running")
    await running.pause(core, county.clerk, id)
    clock.advance(timedelta(minutes=1))
    await running.resend(core, county.clerk, id)
    await drain(core)
    assert sms.to == []
    await running.resume(core, county.clerk, id)
    await drain(core)
    assert sms.to == [phone(1)]


async def test_it_is_late_after_the_end_that_was_approved(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.crowd(1)
    sms.answers[phone(0)] = PermanentFailure("refused")
    ends_at = clock.now() + timedelta(hours=2)
    broadcast = await county.approved(expires_at=ends_at)
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    await tick(core)
    clock.advance(timedelta(minutes=1))
    await running.resend(core, county.clerk, broadcast.id)
    assert (await Outbound.get()).expires_at == ends_at
    await drain(core)
    clock.advance(timedelta(hours=2))
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, broadcast.id)
    assert refused.value.code == "too_late"


async def test_one_of_whom_nobody_knew_leaves_as_if_it_were_new(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    """Decided days later; and its run is not over while it waits."""
    id = await ended(core, county, sms)
    clock.advance(timedelta(days=2))
    lost = await Outbound.get(broadcast_id=id, state="unknown")
    await unknown.decide(core, county.director, lost.id, "again", "本人说没收到")
    assert (await Broadcast.get(id=id)).state == "running"
    await drain(core)
    assert sms.to == [phone(2)]
    assert (await counts(id))[Bucket.ACCEPTED] == 4
    await tick(core)
    assert (await Broadcast.get(id=id)).state == "finished"


@pytest.mark.parametrize("code", ["wrong_state", "too_late"])
async def test_one_of_whom_nobody_knows_does_not_leave_after_the_end(
    core: Core, county: County, clock: ManualClock, sms: Recorder, code: str
) -> None:
    """It would count as if it had never been sent."""
    id = await ended(core, county, sms)
    if code == "wrong_state":
        await Broadcast.filter(id=id).update(state="paused")
        await running.cancel(core, county.clerk, id)
    else:
        clock.advance(timedelta(days=3))
    lost = await Outbound.get(broadcast_id=id, state="unknown")
    with pytest.raises(RequestError) as refused:
        await unknown.decide_all(
            core, county.director, id, [lost.id], "again", "本人说没收到"
        )
    assert (refused.value.code, refused.value.status) == (code, 409)
    assert (await counts(id))[Bucket.UNKNOWN] == 1
    await unknown.decide(core, county.director, lost.id, "sent", "本人说收到了")
    assert (await counts(id))[Bucket.ACCEPTED] == 4


async def test_it_is_late_for_an_activity_that_has_begun(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    id = await ended(core, county, sms)
    clock.advance(timedelta(days=3))
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, id)
    assert refused.value.code == "too_late"


async def test_a_cancelled_one_is_not_sent_again(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(1)
    broadcast = await county.approved()
    await running.cancel(core, county.clerk, broadcast.id)
    with pytest.raises(RequestError) as refused:
        await running.resend(core, county.clerk, broadcast.id)
    assert refused.value.code == "wrong_state"
