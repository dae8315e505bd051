"""A message of many parts has one outcome: A-17."""

import itertools

import pytest

from adapters.carrier.waiting import PartOutcome, Waiting, joined
from gateway.contract import Accepted
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure

TAKEN = "id"
AGAIN = TransientFailure("ESME_RTHROTTLED", throttled=True)
REFUSED = PermanentFailure("ESME_RINVDSTADR")
UNKNOWN = OutcomeUnknown("no_answer")


@pytest.mark.parametrize(
    "parts", list(itertools.product([TAKEN, AGAIN, REFUSED, UNKNOWN], repeat=3))
)
def test_no_message_of_which_a_part_was_taken_is_sent_again(
    parts: tuple[PartOutcome, ...],
) -> None:
    """A-17: over every mixture of three answers."""
    outcome = joined(parts)
    perhaps = TAKEN in parts or UNKNOWN in parts
    assert not (perhaps and isinstance(outcome, TransientFailure))
    if set(parts) == {TAKEN}:
        assert outcome == Accepted((TAKEN,) * 3)
    elif UNKNOWN in parts:
        assert isinstance(outcome, OutcomeUnknown)
    elif TAKEN in parts or REFUSED in parts:
        assert isinstance(outcome, PermanentFailure)
    else:
        assert outcome is AGAIN


def test_a_partly_refused_message_says_which_part_has_which_id() -> None:
    outcome = joined(["77", REFUSED, "79"])
    assert isinstance(outcome, PermanentFailure)
    assert outcome.code == "partly_refused"
    assert outcome.detail == "1:77 2:ESME_RINVDSTADR 3:79"


def test_parts_answered_in_any_order_keep_their_ids_in_theirs() -> None:
    waiting = Waiting("m", 3, numbers={7: 0, 8: 1, 9: 2})
    assert waiting.settle(9, "c") is None
    assert waiting.settle(7, "a") is None
    assert waiting.settle(8, "b") == Accepted(("a", "b", "c"))


def test_a_doubt_is_told_once_and_ends_with_its_last_part() -> None:
    """A-5: who is told of it would forget the message at the second time."""
    waiting = Waiting("m", 3, numbers={1: 0, 2: 1, 3: 2})
    assert waiting.settle(1, "a") is None
    assert waiting.settle(2, UNKNOWN) is None
    assert isinstance(waiting.settle(3, UNKNOWN), OutcomeUnknown)
    assert waiting.settle(2, "b") is None
    assert waiting.settle(3, "c") == Accepted(("a", "b", "c"))
