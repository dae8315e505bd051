"""G-5: the first go ahead; what a provider refuses stops the run, and asks."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broadcasts import canary, recipients, running, view
from broadcasts.schedule import tick
from broadcasts.tables import Broadcast
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.status import Bucket, OutboundState
from gateway.tables import Audit, Outbound
from tests.broadcasts.county import County
from tests.labs.recorder import Recorder, as_channel, drain, recorder

AHEAD, ALL = 20, 60


@pytest.fixture
def core(core: Core) -> Core:
    policy = core.settings.policy.model_copy(update={"canary": AHEAD})
    core.settings = core.settings.model_copy(update={"policy": policy})
    return core


async def started(core: Core, county: County) -> int:
    await county.crowd(ALL)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    return int(broadcast.id)


async def canary_of(id: int) -> tuple[str, str]:
    broadcast = await Broadcast.get(id=id)
    return broadcast.state, broadcast.canary


async def progress_of(core: Core, county: County, id: int) -> dict[str, Any]:
    return await view.progress(core, await recipients.overview(county.clerk, id))


async def first_values(count: int) -> list[str]:
    rows = await Outbound.all().order_by("id").limit(count)
    return [row.value for row in rows]


async def test_the_others_follow_once_the_first_came_through(
    core: Core, county: County, sms: Recorder, clock: ManualClock
) -> None:
    id = await started(core, county)
    assert await canary_of(id) == ("running", "waiting")
    await drain(core)
    assert len(sms.to) == AHEAD
    progress = await progress_of(core, county, id)
    assert (progress["rate"], progress["left"]) == (0, "")  # nobody can know yet
    await tick(core)
    assert await canary_of(id) == ("running", "passed")
    clock.advance(timedelta(seconds=5))
    assert (await progress_of(core, county, id))["rate"] > 0
    await drain(core)
    assert len(set(sms.to)) == len(sms.to) == ALL
    await tick(core)
    assert await canary_of(id) == ("finished", "passed")


@pytest.mark.parametrize(
    "outcome", [PermanentFailure("sensitive_word"), OutcomeUnknown("timeout")]
)
async def test_a_run_that_is_refused_stops_itself_and_asks(
    core: Core, county: County, sms: Recorder, outcome: Exception
) -> None:
    id = await started(core, county)
    for value in await first_values(2):
        sms.answers[value] = outcome  # type: ignore[assignment]
    await drain(core)
    await tick(core)
    assert await canary_of(id) == ("paused", "stopped")
    assert (await Broadcast.get(id=id)).note == canary.NOTE
    assert (await view.head(core, await recipients.overview(county.clerk, id)))[
        "note"
    ] == canary.NOTE
    await drain(core)
    assert len(sms.to) == AHEAD  # nobody else got it
    assert (await recipients.counts(id))[Bucket.WAITING] == ALL - AHEAD
    [line] = await Audit.filter(action="broadcast.canary_stopped")
    assert line.actor
    # A person looks at it, and goes on all the same.
    await running.resume(core, county.clerk, id)
    assert (await view.head(core, await recipients.overview(county.clerk, id)))[
        "note"
    ] == ""
    await drain(core)
    await tick(core)
    assert len(set(sms.to)) == len(sms.to) == ALL
    assert await canary_of(id) == ("finished", "stopped")


async def test_one_refusal_in_twenty_is_no_reason_to_stop(
    core: Core, county: County, sms: Recorder
) -> None:
    id = await started(core, county)
    sms.answers[(await first_values(1))[0]] = PermanentFailure("no_such_number")
    await drain(core)
    await tick(core)
    assert await canary_of(id) == ("running", "passed")


async def test_receipts_are_waited_for_but_not_for_ever(
    core: Core, county: County, clock: ManualClock
) -> None:
    slow = recorder(AddressKind.PHONE, delivery_receipts=True)
    core.channels = ChannelSet([as_channel("sms", slow)])
    id = await started(core, county)
    await drain(core)
    await tick(core)
    assert await canary_of(id) == ("running", "waiting")
    rows = await Outbound.filter(state="accepted")
    done = [Move(row.id, "delivered") for row in rows[: AHEAD // 2]]
    await moves.advance(done, clock.now())
    await tick(core)
    assert await canary_of(id) == ("running", "waiting")
    clock.advance(timedelta(seconds=61))
    await tick(core)
    assert await canary_of(id) == ("running", "passed")


async def test_receipts_that_refuse_stop_it_too(
    core: Core, county: County, clock: ManualClock
) -> None:
    slow = recorder(AddressKind.PHONE, delivery_receipts=True)
    core.channels = ChannelSet([as_channel("sms", slow)])
    id = await started(core, county)
    await drain(core)
    rows = await Outbound.filter(state="accepted")
    await moves.advance([Move(row.id, "failed") for row in rows[:2]], clock.now())
    clock.advance(timedelta(seconds=61))
    await tick(core)
    assert await canary_of(id) == ("paused", "stopped")


async def test_of_a_cancelled_run_nothing_is_asked_any_more(
    core: Core, county: County, sms: Recorder
) -> None:
    """It says that it had stopped itself, but not to go on or to cancel."""
    id = await started(core, county)
    for value in await first_values(2):
        sms.answers[value] = PermanentFailure("sensitive_word")
    await drain(core)
    await tick(core)
    await running.cancel(core, county.clerk, id)
    shown = await view.head(core, await recipients.overview(county.clerk, id))
    assert shown["state"] == "cancelled"
    assert shown["note"] == canary.BEFORE


async def test_what_went_ahead_and_is_not_answered_is_told(
    core: Core, county: County
) -> None:
    """Else nobody knows why more time passes than receipts are waited for."""
    id = await started(core, county)
    found = await recipients.overview(county.clerk, id)
    waits = {**found.states, OutboundState.SENDING: 1}
    told = await view.progress(core, replace(found, states=waits))
    assert (told["canary"], told["unanswered"]) == ("waiting", 1)


async def test_a_small_audience_has_no_canary(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(AHEAD)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    assert await canary_of(broadcast.id) == ("running", "")
    await drain(core)
    assert len(sms.to) == AHEAD


async def test_paused_by_hand_it_is_judged_after_the_resume(
    core: Core, county: County, sms: Recorder
) -> None:
    id = await started(core, county)
    await drain(core)
    await running.pause(core, county.clerk, id)
    await tick(core)
    assert await canary_of(id) == ("paused", "waiting")
    await running.resume(core, county.clerk, id)
    await tick(core)
    assert await canary_of(id) == ("running", "passed")
