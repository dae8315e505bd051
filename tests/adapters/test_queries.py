"""Both SMS providers are asked what became of a message whose answer was lost."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from adapters import aliyun as aliyun_adapter
from gateway.contract import (
    Accepted,
    DoubtfulMessage,
    Ended,
    Found,
    NotTaken,
    OutboundMessage,
    Queries,
    ReceiptState,
)
from gateway.errors import DeliveryError, OutcomeUnknown, TransientFailure
from tests.contract.labs import Case
from tests.labs import aliyun_lab, tencent_lab
from tests.labs.aliyun_lab import AliyunDialect
from tests.labs.sms import NOW, Dialect, Play, SmsLab, context
from tests.labs.tencent_lab import TencentDialect

DELIVERED = {AliyunDialect: "3", TencentDialect: "SUCCESS"}
DELIVERED_THERE = Ended(state=ReceiptState.DELIVERED, code="DELIVERED")
FAILED = {AliyunDialect: "2", TencentDialect: "FAIL"}


@pytest.fixture(params=[AliyunDialect, TencentDialect])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[SmsLab]:
    secret = {AliyunDialect: aliyun_lab.SECRET, TencentDialect: tencent_lab.SECRET}
    async with SmsLab(request.param(), [secret[request.param]]) as opened:
        yield opened


@pytest.fixture
async def aliyun() -> AsyncIterator[SmsLab]:
    async with SmsLab(AliyunDialect(), [aliyun_lab.SECRET]) as opened:
        yield opened


def word(words: dict[type[Dialect], str], lab: SmsLab) -> str:
    return words[type(lab.dialect)]


async def lost(lab: SmsLab, *indices: int) -> Sequence[OutboundMessage]:
    """Messages that were taken, and whose answers never came."""
    messages = [lab.message(index) for index in indices]
    async with lab.adapter(Case.REPLY_LOST) as adapter:
        for one in messages:
            found = (await adapter.send([one]))[one.id]
            assert isinstance(found, OutcomeUnknown)
    return messages


async def asked(
    lab: SmsLab,
    message: OutboundMessage,
    play: Play = Play.ACCEPT,
    at: datetime = NOW,
) -> Found:
    async with lab.adapter(Case.ACCEPTED) as adapter:
        assert isinstance(adapter, Queries)
        lab.play = play
        doubt = DoubtfulMessage(id=message.id, to=message.to, journalled_at=at)
        return await adapter.query(doubt)


async def test_its_end_is_told_by_our_own_id(lab: SmsLab) -> None:
    message, other = await lost(lab, 1, 11)
    lab.knows(message.id, word(DELIVERED, lab))
    lab.knows(other.id, word(FAILED, lab))
    found = await asked(lab, message)
    assert isinstance(found, Ended)
    assert found.state is ReceiptState.DELIVERED
    failed = await asked(lab, other)
    assert isinstance(failed, Ended)
    assert failed.state is ReceiptState.FAILED


async def test_one_without_an_end_is_taken_or_nothing_is_said(lab: SmsLab) -> None:
    [message] = await lost(lab, 1)
    told = isinstance(lab.dialect, AliyunDialect)  # of all that it took
    assert await asked(lab, message) == (Accepted(()) if told else None)


async def test_one_that_never_arrived(lab: SmsLab) -> None:
    """Only who tells of all that it took can deny one."""
    [other] = await lost(lab, 1)
    lab.knows(other.id, word(DELIVERED, lab))
    never = replace(lab.message(1), id="never")
    told = isinstance(lab.dialect, AliyunDialect)
    assert await asked(lab, never) == (NotTaken() if told else None)


@pytest.mark.parametrize(
    ("play", "error"),
    [
        (Play.REFUSE, DeliveryError),
        (Play.THROTTLE, TransientFailure),
        (Play.BROKEN_DOWN, OutcomeUnknown),
        (Play.HANG_UP, OutcomeUnknown),
        (Play.NONSENSE, OutcomeUnknown),
    ],
)
async def test_no_answer_is_no_evidence(
    lab: SmsLab, play: Play, error: type[DeliveryError]
) -> None:
    [message] = await lost(lab, 1)
    with pytest.raises(error):
        await asked(lab, message, play)
    assert lab.questions == 1


async def test_what_was_sent_long_before_is_not_this_attempt(aliyun: SmsLab) -> None:
    """But something of the message is there: that is no denial."""
    [message] = await lost(aliyun, 1)
    aliyun.knows(message.id, "2")
    later = NOW + timedelta(hours=1)
    assert await asked(aliyun, message, at=later) is None
    [first] = aliyun.records
    aliyun.records.append(replace(first, at=later, end="3"))
    assert await asked(aliyun, message, at=later) == DELIVERED_THERE


@pytest.mark.parametrize("minutes", [-14, 14])
async def test_clocks_may_differ(aliyun: SmsLab, minutes: int) -> None:
    """As much as calls may that are signed with a time."""
    [message] = await lost(aliyun, 1)
    aliyun.knows(message.id, "3")
    at = NOW + timedelta(minutes=minutes)
    assert await asked(aliyun, message, at=at) == DELIVERED_THERE


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Asia/Urumqi"])
async def test_their_clock_is_that_of_beijing(aliyun: SmsLab, zone: str) -> None:
    [message] = await lost(aliyun, 1)
    night = NOW.replace(hour=17)  # one in the morning there
    aliyun.records = [replace(one, at=night, end="3") for one in aliyun.records]
    where = replace(context(), timezone=ZoneInfo(zone))
    adapter = aliyun_adapter.build(aliyun_lab.settings(aliyun.endpoint), where)
    aliyun.play = Play.ACCEPT
    doubt = DoubtfulMessage(id=message.id, to=message.to, journalled_at=night)
    try:
        assert await adapter.query(doubt) == DELIVERED_THERE
    finally:
        await adapter.close()


async def test_both_days_are_looked_at_around_midnight(aliyun: SmsLab) -> None:
    [message] = await lost(aliyun, 1)
    midnight = NOW.replace(hour=16, minute=0)  # in Beijing
    [record] = aliyun.records
    for minutes in (-2, 2):
        at = midnight + timedelta(minutes=minutes)
        aliyun.records = [replace(record, at=at, end="3")]
        at = midnight - timedelta(minutes=1)
        assert await asked(aliyun, message, at=at) == DELIVERED_THERE
    assert aliyun.questions == 4


@pytest.mark.parametrize(
    "odd",
    [
        {"TotalCount": 2},  # and one is shown
        {"TotalCount": None},
        {"TotalCount": "many"},
        {"SmsSendDetailDTOs": {"SmsSendDetailDTO": [7]}},
        {"SmsSendDetailDTOs": []},
    ],
)
async def test_half_an_answer_denies_nothing(
    aliyun: SmsLab, odd: dict[str, object]
) -> None:
    [message] = await lost(aliyun, 1)
    aliyun.odd = odd
    never = replace(message, id="never")
    with pytest.raises(OutcomeUnknown):
        await asked(aliyun, never)


async def test_all_pages_are_read(aliyun: SmsLab) -> None:
    """To a number that gets more messages a day than one page holds."""
    [message] = await lost(aliyun, 1)
    [record] = aliyun.records
    other = replace(record, call=replace(record.call, id="other"))
    aliyun.records = [*[other] * 120, replace(record, end="3")]
    assert await asked(aliyun, message) == DELIVERED_THERE
    assert aliyun.questions == 3


async def test_a_blacklist_in_the_records_is_an_opt_out(aliyun: SmsLab) -> None:
    [message] = await lost(aliyun, 1)
    aliyun.knows(message.id, "2")
    found = await asked(aliyun, message)
    assert isinstance(found, Ended)
    assert (found.code, found.opted_out) == ("MOBILE_IN_BLACK", True)
