"""Providers are asked what became of messages of unknown outcome."""

import asyncio
from datetime import timedelta

import pytest

from gateway import database as db
from gateway.addresses import ERASED
from gateway.channels import Channel
from gateway.contract import (
    Accepted,
    DeliveryReceipt,
    DoubtfulMessage,
    Ended,
    Found,
    NotTaken,
    ReceiptState,
)
from gateway.errors import (
    NotFound,
    OutcomeUnknown,
    PermanentFailure,
    RequestError,
    TransientFailure,
)
from gateway.inquiries import work
from gateway.outbox import moves, queries, unknown
from gateway.outbox.queries import FIRST, LAG, LAST
from gateway.tables import (
    Attempt,
    Audit,
    InquiryEvent,
    OptOutRow,
    Outbound,
    QueryRow,
)
from tests.labs.centre import Centre, named
from tests.labs.recording import Provider, Recorder, queried

SMS = "短信"
PATIENCE = 30.0


@pytest.fixture
def channel(centre: Centre) -> Channel:
    return named(centre.core, SMS)


@pytest.fixture
def provider(channel: Channel) -> Provider:
    return queried(channel)


async def lost(centre: Centre, provider: Provider) -> Outbound:
    """An answer whose outcome is unknown."""
    await centre.arrives("请问党费怎么交？")
    await centre.sends(SMS)
    provider.outcome = OutcomeUnknown("no_answer")
    number = (await centre.inquiry()).number
    sent = await work.answer(centre.core, centre.clerk, number, "每月交")
    await centre.sends(SMS)
    provider.outcome = None
    message = await Outbound.get(id=sent.id)
    assert message.state == "unknown"
    return message


async def step(centre: Centre, channel: Channel) -> None:
    await queries.step(centre.core, channel)


async def state(message: Outbound) -> str:
    return (await Outbound.get(id=message.id)).state


async def test_soon_then_ever_more_rarely_for_a_week(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    await step(centre, channel)
    assert provider.asked == []
    for times in range(1, 6):
        centre.later(seconds=FIRST.total_seconds() * 2 ** max(0, times - 2))
        await step(centre, channel)
        await step(centre, channel)
        assert len(provider.asked) == times
    [asked] = set(provider.asked)
    assert (asked.id, asked.to.value) == (str(message.id), message.value)
    attempt = await Attempt.get(outbound_id=message.id)
    assert asked.journalled_at == attempt.journalled_at
    centre.clock.advance(LAST)
    await step(centre, channel)
    assert len(provider.asked) == 5
    assert await state(message) == "unknown"


@pytest.mark.parametrize("told", [ReceiptState.DELIVERED, ReceiptState.FAILED])
async def test_an_end_counts_like_a_receipt(
    centre: Centre, channel: Channel, provider: Provider, told: ReceiptState
) -> None:
    """A-1, A-4: unknown leaves by evidence."""
    message = await lost(centre, provider)
    provider.found = Ended(state=told, code="MK:0012")
    centre.clock.advance(FIRST)
    await step(centre, channel)
    found = await Outbound.get(id=message.id)
    assert (found.state, found.reason) == (told, "MK:0012")
    audited = (await Audit.get(action="message.queried")).detail
    assert audited == {"state": told, "answer": "MK:0012", "asked": 1}
    undelivered = InquiryEvent.filter(kind="undelivered", outbound_id=found.id)
    assert await undelivered.count() == 1 + (told is ReceiptState.FAILED)
    centre.later(hours=1)
    await step(centre, channel)
    assert len(provider.asked) == 1


async def test_a_blacklist_is_an_opt_out(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.found = Ended(state=ReceiptState.FAILED, code="BLACK", opted_out=True)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    refusal = await OptOutRow.get(value=message.value)
    assert (refusal.how, refusal.evidence) == ("provider", "BLACK")


async def test_a_word_that_nobody_knows_ends_no_doubt(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.found = Ended(state=ReceiptState.UNKNOWN, code="PERHAPS")
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert await state(message) == "unknown"
    assert (await QueryRow.get(outbound_id=message.id)).answer == "ended"


async def test_what_they_have_is_accepted_and_its_receipt_may_follow(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.found = Accepted(())
    centre.clock.advance(FIRST)
    await step(centre, channel)
    found = await Outbound.get(id=message.id)
    assert (found.state, found.reason) == ("accepted", "query_taken")
    assert (await Audit.get(action="message.queried")).detail["asked"] == 1
    receipt = DeliveryReceipt(
        key="pushed",
        provider_id="",
        reference=str(message.id),
        state=ReceiptState.DELIVERED,
        raw=b"{}",
    )
    await centre.takes(SMS, [receipt])
    assert await state(message) == "delivered"


async def test_a_denial_is_shown_and_moves_nothing(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    """Records lag, and accounts change: whoever decides weighs it."""
    message = await lost(centre, provider)
    provider.found = NotTaken()
    told = set()
    for minutes in (1, 10, 60, 60 * 24):
        centre.later(minutes=minutes)
        await step(centre, channel)
        [row] = await unknown.unknown(centre.clerk)
        seen = queries.shown(centre.core, row, str)
        assert seen is not None
        told.add((minutes >= 60, seen["answer"]))
    assert told == {(False, queries.EARLY), (True, queries.ANSWERS["denied"])}
    assert await state(message) == "unknown"


async def test_the_accounts_trouble_holds_up_all_and_a_messages_none(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    other = await lost(centre, provider)
    pause = timedelta(hours=3)
    provider.found = TransientFailure("Throttling.User", retry_after=pause)
    centre.clock.advance(FIRST)
    assert await queries.step(centre.core, channel) == pause
    assert len(provider.asked) == 1
    provider.found = OutcomeUnknown("no_answer")
    await step(centre, channel)
    assert len(provider.asked) == 2
    centre.later(minutes=5)
    provider.found = PermanentFailure("isp.RAM_PERMISSION_DENY")
    await step(centre, channel)
    assert len(provider.asked) == 4
    centre.later(minutes=10)
    provider.found = ValueError("of ours")
    await step(centre, channel)
    assert len(provider.asked) == 6
    codes = {row.answer for row in await QueryRow.all()}
    assert codes == {"ValueError"}
    assert (await state(message), await state(other)) == ("unknown", "unknown")


async def test_who_was_asked_least_comes_first(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    old = await lost(centre, provider)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    new = await lost(centre, provider)
    other = await lost(centre, provider)
    centre.later(minutes=2)
    await queries.hurry(centre.core, centre.clerk, other.id)
    found = [one.id for one in await queries.due(centre.core, SMS)]
    assert found == [other.id, new.id, old.id]


async def test_another_attempt_is_another_doubt(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.found = NotTaken()
    centre.clock.advance(LAG)
    await step(centre, channel)
    provider.outcome = OutcomeUnknown("no_answer")
    await unknown.decide(centre.core, centre.clerk, message.id, "again", "没有收到")
    await centre.sends(SMS)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    row = await QueryRow.get(outbound_id=message.id)
    assert (row.attempt, row.asked) == (2, 1)
    # A failure in the records may be that of the first attempt.
    provider.found = Ended(state=ReceiptState.FAILED, code="UNDELIV")
    centre.clock.advance(LAG)
    await step(centre, channel)
    assert await state(message) == "unknown"
    provider.found = Ended(state=ReceiptState.DELIVERED, code="DELIVRD")
    centre.clock.advance(timedelta(hours=2))
    await step(centre, channel)
    assert await state(message) == "delivered"


@pytest.mark.parametrize("decision", ["give_up", "again", "sent"])
async def test_a_person_who_was_faster_is_heeded(
    centre: Centre, channel: Channel, provider: Provider, decision: str
) -> None:
    message = await lost(centre, provider)

    class Slow(Provider):
        async def query(self, one: DoubtfulMessage) -> Found:
            said = (centre.clerk, message.id, decision, "本人已到窗口")
            await unknown.decide(centre.core, *said)
            await centre.sends(SMS)
            return Ended(state=ReceiptState.FAILED, code="UNDELIV")

    channel.adapter = Slow(provider.capabilities)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    ends = {"give_up": "dead", "again": "accepted", "sent": "accepted"}
    assert await state(message) == ends[decision]
    assert not await Audit.filter(action="message.queried").exists()
    assert not await QueryRow.all().exists()


async def test_what_was_settled_since_the_look_is_not_asked_about(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    first, second = await lost(centre, provider), await lost(centre, provider)

    class Telling(Provider):
        async def query(self, one: DoubtfulMessage) -> Found:
            self.asked.append(one)
            await unknown.decide(centre.core, centre.clerk, second.id, "sent", "问过")
            return None

    channel.adapter = telling = Telling(provider.capabilities)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert [one.id for one in telling.asked] == [str(first.id)]


async def test_the_erased_are_not_asked_about(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    await Outbound.filter(id=message.id).update(value=f"{ERASED}7")
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert provider.asked == []
    [row] = await unknown.unknown(centre.clerk)
    assert queries.shown(centre.core, row, str) is None
    with pytest.raises(RequestError, match="mute"):
        await queries.hurry(centre.core, centre.clerk, message.id)


async def test_of_a_notice_it_is_counted(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    await Outbound.filter(id=message.id).update(broadcast_id=1)
    await moves.tally({(1, "unknown"): 1}, centre.core.clock.now())
    provider.found = Accepted(())
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert await moves.counts(1) == {"accepted": 1}


async def test_somebody_may_ask_now(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    with pytest.raises(NotFound):
        await queries.hurry(centre.core, centre.other, message.id)
    await queries.hurry(centre.core, centre.clerk, message.id)
    provider.found = Accepted(())
    await step(centre, channel)
    assert await state(message) == "accepted"
    with pytest.raises(NotFound):
        await queries.hurry(centre.core, centre.clerk, message.id)


async def test_who_cannot_be_asked_is_not(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    channel.adapter = Recorder(provider.capabilities)
    with pytest.raises(RequestError, match="mute"):
        await queries.hurry(centre.core, centre.clerk, message.id)


async def test_after_a_week_nobody_is_told_that_it_is_asked(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    centre.clock.advance(LAST + FIRST)
    with pytest.raises(RequestError, match="over"):
        await queries.hurry(centre.core, centre.clerk, message.id)


async def test_it_waits_for_nobody_who_works_on_the_inquiry(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    """Both want the inquiry and the audit: in one order, or they wait for ever."""
    message = await lost(centre, provider)
    number = (await centre.inquiry()).number
    provider.found = Ended(state=ReceiptState.FAILED, code="UNDELIV")
    centre.clock.advance(FIRST)
    acting, asked = asyncio.Event(), asyncio.Event()

    async def works() -> None:
        async with work.acting(centre.core, centre.clerk, number, "seen"):
            acting.set()
            if db.is_postgres():
                async with asyncio.timeout(PATIENCE):
                    await asked.wait()
                    await waits()

    async def asks() -> None:
        await acting.wait()
        asked.set()
        await step(centre, channel)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(works(), asks())
    assert await state(message) == "failed"


async def waits() -> None:
    """Until somebody waits for a lock."""
    while True:
        [found] = await db.rows("SELECT COUNT(*) AS n FROM pg_locks WHERE NOT granted")
        if found["n"]:
            return
        await asyncio.sleep(0.01)
