"""The contract, run over every adapter that has a lab.

`send`: what may be repeated and what may not. Inbound: nothing twice, nothing forged,
nothing that stops the loop. No secret anywhere.
"""

import importlib
import logging
import pkgutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import adapters
from gateway.contract import (
    Accepted,
    Adapter,
    DeliveryReceipt,
    Event,
    OutboundMessage,
    Outcome,
    ReceiptState,
    TextEncoding,
)
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    RequestError,
    TransientFailure,
)
from tests.contract.labs import OUTBOUND, Case, Lab
from tests.contract.registry import LABS


def playing(case: Case) -> pytest.MarkDecorator:
    """Runs a test over the labs that can play `case`."""
    names = [name for name, entry in LABS.items() if entry.plays(case)]
    return pytest.mark.parametrize("name", names)


@pytest.fixture
async def lab(name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[name].open(tmp_path) as opened:
        yield opened


async def send(
    adapter: Adapter, messages: Sequence[OutboundMessage]
) -> dict[str, Outcome]:
    """What the sender does: batches of the declared size; a raised DeliveryError
    stands for its whole batch."""
    outcomes: dict[str, Outcome] = {}
    size = adapter.capabilities.batch_size
    for start in range(0, len(messages), size):
        batch = messages[start : start + size]
        try:
            outcomes.update(await adapter.send(batch))
        except DeliveryError as error:
            outcomes.update(dict.fromkeys((m.id for m in batch), error))
    return outcomes


async def send_one(lab: Lab, case: Case, text: str = "") -> Outcome:
    message = lab.message(0, text)
    async with lab.adapter(case) as adapter:
        outcomes = await send(adapter, [message])
    assert list(outcomes) == [message.id]
    return outcomes[message.id]


def limit_text(adapter: Adapter) -> str:
    """Chinese text of exactly the declared length, marked at its end."""
    capabilities = adapter.capabilities
    width = {TextEncoding.UCS2: 1, TextEncoding.UTF8: 3}[capabilities.encoding]
    count, rest = divmod(capabilities.max_length - 1, width)
    return "党" * count + "." * rest + "!"


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, entry in LABS.items() for case in entry.without],
)
def test_a_case_left_out_says_why(name: str, case: Case) -> None:
    assert len(LABS[name].without[case].split()) >= 4


@playing(Case.ACCEPTED)
async def test_accepted(lab: Lab) -> None:
    outcome = await send_one(lab, Case.ACCEPTED, "您好")
    assert isinstance(outcome, Accepted)
    assert [(t.id, t.text) for t in lab.taken()] == [(lab.message(0).id, "您好")]


@playing(Case.REFUSED)
async def test_refused_is_permanent(lab: Lab) -> None:
    outcome = await send_one(lab, Case.REFUSED)
    assert isinstance(outcome, PermanentFailure)
    assert outcome.code
    assert lab.taken() == []


@playing(Case.THROTTLED)
async def test_throttled_is_transient_and_keeps_the_delay(lab: Lab) -> None:
    outcome = await send_one(lab, Case.THROTTLED)
    assert isinstance(outcome, TransientFailure)
    assert outcome.throttled
    assert outcome.retry_after == lab.retry_after
    assert lab.taken() == []


@playing(Case.UNREACHABLE)
async def test_nobody_listening_is_transient(lab: Lab) -> None:
    outcome = await send_one(lab, Case.UNREACHABLE)
    assert isinstance(outcome, TransientFailure)
    assert not outcome.throttled


@playing(Case.REPLY_LOST)
async def test_a_lost_reply_is_unknown(lab: Lab) -> None:
    assert isinstance(await send_one(lab, Case.REPLY_LOST), OutcomeUnknown)
    assert len(lab.taken()) == 1, "sent once, and not again on our own account"


@playing(Case.NONSENSE)
async def test_a_nonsense_success_is_unknown(lab: Lab) -> None:
    assert isinstance(await send_one(lab, Case.NONSENSE), OutcomeUnknown)


@playing(Case.MIXED_BATCH)
async def test_a_mixed_batch_keeps_each_outcome_with_its_id(lab: Lab) -> None:
    messages = [lab.message(index) for index in range(5)]
    async with lab.adapter(Case.MIXED_BATCH) as adapter:
        outcomes = await send(adapter, messages)
    assert [type(outcomes[m.id]) for m in messages] == [
        Accepted,
        PermanentFailure,
        Accepted,
        PermanentFailure,
        Accepted,
    ]
    assert sorted(t.id for t in lab.taken()) == sorted(m.id for m in messages[::2])


@playing(Case.LIMIT_TEXT)
async def test_a_text_of_exactly_the_limit_arrives_whole(lab: Lab) -> None:
    async with lab.adapter(Case.LIMIT_TEXT) as adapter:
        message = lab.message(0, limit_text(adapter))
        outcomes = await send(adapter, [message])
    assert isinstance(outcomes[message.id], Accepted)
    assert [t.text for t in lab.taken()] == [message.text]


@playing(Case.REPEATED)
async def test_a_repeated_delivery_gives_equal_events(lab: Lab) -> None:
    async with lab.adapter(Case.REPEATED) as adapter:
        first = await lab.inbound(Case.REPEATED, adapter)
        again = await lab.inbound(Case.REPEATED, adapter)
    assert first
    assert list(first) == list(again)
    keys = [event.key for event in first]
    assert len(keys) == len(set(keys))
    assert all(event.raw for event in first)


@playing(Case.FORGED)
async def test_a_forged_delivery_is_turned_away(lab: Lab) -> None:
    await turned_away(lab, Case.FORGED, {401, 403})


@playing(Case.UNSIGNED)
async def test_an_unsigned_delivery_is_turned_away(lab: Lab) -> None:
    await turned_away(lab, Case.UNSIGNED, {401, 403})


@playing(Case.BROKEN)
async def test_a_broken_delivery_is_turned_away_with_a_reason(lab: Lab) -> None:
    error = await turned_away(lab, Case.BROKEN, {400})
    assert error.detail or error.fields


async def turned_away(lab: Lab, case: Case, statuses: set[int]) -> RequestError:
    async with lab.adapter(case) as adapter:
        with pytest.raises(RequestError) as caught:
            await lab.inbound(case, adapter)
    assert caught.value.status in statuses
    return caught.value


@playing(Case.UNMAPPED_STATUS)
async def test_an_unmapped_status_is_unknown_and_kept(lab: Lab) -> None:
    async with lab.adapter(Case.UNMAPPED_STATUS) as adapter:
        events: Sequence[Event] = await lab.inbound(Case.UNMAPPED_STATUS, adapter)
    [receipt] = events
    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.state is ReceiptState.UNKNOWN
    assert receipt.code


@pytest.mark.parametrize("name", LABS)
async def test_no_secret_shows(
    name: str, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG), capture_logs() as logged:
        for case in filter(LABS[name].plays, OUTBOUND):
            async with lab.adapter(case) as adapter:
                outcomes = await send(adapter, [lab.message(0)])
                shown += [repr(adapter), str(vars(adapter)), str(outcomes)]
                shown += [str(outcome) for outcome in outcomes.values()]
    shown += [caplog.text, str(logged)]
    assert lab.secrets
    assert [s for s in lab.secrets for text in shown if s in text] == []


@pytest.mark.parametrize("name", LABS)
async def test_a_second_close_is_harmless(lab: Lab) -> None:
    async with lab.adapter(Case.ACCEPTED) as adapter:
        await send(adapter, [lab.message(0)])
        await adapter.close()
        await adapter.close()


def test_every_adapter_has_a_lab() -> None:
    """A module or package of `adapters` that can be built is an adapter."""
    names = [m.name for m in pkgutil.iter_modules(adapters.__path__)]
    built = {
        name
        for name in names
        if not name.startswith("_")
        and hasattr(importlib.import_module(f"adapters.{name}"), "build")
    }
    assert built <= set(LABS), "add a line to tests/contract/registry.py"
