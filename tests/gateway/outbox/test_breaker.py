"""The breaker: opens on failures in a row or without a session, probes, closes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.outbox.breaker import (
    ABSENT,
    FAILURES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Breaker,
)


def made() -> tuple[Breaker, ManualClock]:
    clock = ManualClock(datetime(2026, 11, 20, tzinfo=UTC))
    return Breaker(clock), clock


def later(clock: ManualClock, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))


def opened() -> tuple[Breaker, ManualClock]:
    breaker, clock = made()
    for _ in range(FAILURES):
        later(clock, 1)
        breaker.failed()
    assert breaker.is_open
    return breaker, clock


def test_failures_in_a_row_open_it_and_an_answer_closes_it() -> None:
    breaker, clock = made()
    for _ in range(FAILURES - 1):
        later(clock, 1)
        assert not breaker.failed()
    assert breaker.allowed(100) == 100
    later(clock, 1)
    assert breaker.failed()
    assert breaker.allowed(100) == 0
    assert breaker.answered()
    assert breaker.allowed(100) == 100


def test_what_fails_together_fails_once() -> None:
    """A connection that breaks with a full window is one failure."""
    breaker, _ = made()
    assert not any(breaker.failed() for _ in range(100))


def test_one_message_probes_at_growing_distances() -> None:
    breaker, clock = opened()
    pause = FIRST_PAUSE
    for _ in range(10):
        assert breaker.allowed(100) == 0
        later(clock, pause - 0.001)
        assert breaker.allowed(100) == 0
        later(clock, 0.002)
        assert breaker.allowed(100) == 1
        breaker.left(1)
        assert breaker.allowed(100) == 0
        breaker.failed()  # also: its answer never came
        pause = min(pause * 2, LONGEST_PAUSE)


def test_without_a_session_it_opens_and_tries_as_soon_as_one_is_back() -> None:
    breaker, clock = made()
    assert not breaker.looked(False)
    later(clock, ABSENT / 2)
    assert not breaker.looked(False)
    later(clock, ABSENT / 2)
    assert breaker.looked(False)
    assert not breaker.looked(False)
    assert breaker.allowed(10) == 0
    breaker.looked(True)
    assert breaker.allowed(10) == 1
    breaker.left(1)
    assert breaker.answered()


ACTS = st.lists(
    st.one_of(
        st.sampled_from(["send", "fail", "answer", "session", "no_session"]),
        st.floats(0, 400),
    ),
    max_size=60,
)


@given(acts=ACTS)
def test_it_never_lets_a_flood_through_and_never_sticks(
    acts: Sequence[str | float],
) -> None:
    breaker, clock = made()
    for act in acts:
        match act:
            case "send":
                allowed = breaker.allowed(50)
                assert allowed in ((0, 1) if breaker.is_open else (50,))
                breaker.left(allowed)
                if breaker.is_open:
                    assert breaker.allowed(50) == 0 or allowed == 0
            case "fail":
                breaker.failed()
            case "answer":
                breaker.answered()
            case "session" | "no_session":
                breaker.looked(act == "session")
            case seconds:
                later(clock, float(seconds))
        assert breaker.is_open == (breaker.opened_at is not None)
        assert 0 <= breaker.seconds_to_probe() <= LONGEST_PAUSE
    if breaker.is_probing:
        breaker.failed()
    later(clock, LONGEST_PAUSE)
    assert breaker.allowed(50) >= 1
    breaker.answered()
    assert breaker.allowed(50) == 50
