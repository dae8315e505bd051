"""Providers are asked what became of messages of unknown outcome."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from gateway.channels import Channel
from gateway.contract import (
    Accepted,
    DeliveryReceipt,
    DoubtfulMessage,
    Event,
    Found,
    NotTaken,
    ReceiptState,
)
from gateway.errors import NotFound, OutcomeUnknown, RequestError, TransientFailure
from gateway.inquiries import work
from gateway.outbox import moves, queries, unknown
from gateway.outbox.queries import FIRST, LAG, LAST
from gateway.tables import Attempt, Audit, InquiryEvent, Outbound, QueryRow
from tests.labs.centre import Centre, named
from tests.labs.recording import Provider, Recorder, queried

SMS = "短信"


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
    async def accept(events: Sequence[Event]) -> None:
        await centre.takes(channel.name, events)

    assert not await queries.step(centre.core, channel, accept)


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
async def test_an_end_is_a_receipt(
    centre: Centre, channel: Channel, provider: Provider, told: ReceiptState
) -> None:
    """A-1, A-4: unknown leaves by evidence."""
    message = await lost(centre, provider)
    provider.tells(told, message)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert await state(message) == told
    assert (await QueryRow.get(outbound_id=message.id)).answer == "told"
    centre.later(hours=1)
    await step(centre, channel)
    assert len(provider.asked) == 1


async def test_a_word_that_nobody_knows_ends_no_doubt(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.tells(ReceiptState.UNKNOWN, message)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert await state(message) == "unknown"


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
    provider.tells(ReceiptState.DELIVERED, message)
    assert isinstance(provider.found, DeliveryReceipt)
    await centre.takes(SMS, [provider.found])
    assert await state(message) == "delivered"


async def test_a_denial_counts_late_and_again(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    """Records lag: what they deny at once may be there a little later."""
    message = await lost(centre, provider)
    provider.found = NotTaken()
    while centre.clock.now() - message.changed_at < LAG:
        assert await state(message) == "unknown"
        centre.clock.advance(timedelta(minutes=1))
        await step(centre, channel)
    early = len(provider.asked)
    while await state(message) == "unknown":
        centre.clock.advance(timedelta(minutes=1))
        await step(centre, channel)
    assert len(provider.asked) == early + 2
    found = await Outbound.get(id=message.id)
    assert (found.state, found.reason) == ("failed", "query_denied")
    assert await InquiryEvent.filter(kind="undelivered", outbound_id=found.id).exists()
    assert await Attempt.filter(outbound_id=message.id).count() == 1


async def test_denials_within_minutes_are_one(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    provider.found = NotTaken()
    centre.clock.advance(LAG)
    for _ in range(3):
        await queries.hurry(centre.core, centre.clerk, message.id)
        await step(centre, channel)
    assert (len(provider.asked), await state(message)) == (3, "unknown")


async def test_a_failure_of_the_asking_is_no_evidence(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)
    other = await lost(centre, provider)
    pause = timedelta(hours=3)
    provider.found = TransientFailure("Throttling.User", retry_after=pause)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert len(provider.asked) == 1  # the account is in trouble: not one by one
    row = await QueryRow.get(outbound_id=message.id)
    assert (row.answer, row.next_at - centre.clock.now()) == ("Throttling.User", pause)
    provider.found = ValueError("of ours")
    await step(centre, channel)
    assert (await QueryRow.get(outbound_id=other.id)).answer == "ValueError"
    assert (await state(message), await state(other)) == ("unknown", "unknown")


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
    assert (row.attempt, row.asked, row.denials) == (2, 1, 0)


async def test_a_person_who_was_faster_is_heeded(
    centre: Centre, channel: Channel, provider: Provider
) -> None:
    message = await lost(centre, provider)

    class Slow(Provider):
        async def query(self, one: DoubtfulMessage) -> Found:
            give_up = (centre.clerk, message.id, "give_up", "本人已到窗口")
            await unknown.decide(centre.core, *give_up)
            return Accepted(())

    channel.adapter = Slow(provider.capabilities)
    centre.clock.advance(FIRST)
    await step(centre, channel)
    assert await state(message) == "dead"
    assert not await Audit.filter(action="message.queried").exists()


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
