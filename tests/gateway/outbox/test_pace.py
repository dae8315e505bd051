"""The pace: never faster than allowed, halved by complaints, slow at the start."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.outbox.pace import BOLD_AFTER, PAUSE, START, WARY_SECONDS, Pace


def made(rate: float) -> tuple[Pace, ManualClock]:
    clock = ManualClock(datetime(2026, 11, 20, tzinfo=UTC))
    return Pace(clock, rate), clock


def later(clock: ManualClock, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))


def warm(rate: float) -> tuple[Pace, ManualClock]:
    pace, clock = made(rate)
    pace.succeeded()
    later(clock, 10)
    assert pace.rate == rate
    return pace, clock


ACTS = st.lists(
    st.one_of(
        st.sampled_from(["send", "success", "throttle", "after"]), st.floats(0, 90)
    ),
    max_size=80,
)


@given(rate=st.floats(0.01, 100_000), acts=ACTS)
def test_it_never_gives_more_than_the_rate_allows(
    rate: float, acts: Sequence[str | float]
) -> None:
    pace, clock = made(rate)
    sent, begun = 0, clock.monotonic()
    for act in acts:
        match act:
            case "send":
                count = pace.available()
                assert count >= 0
                assert count == 0 or pace.seconds_blocked == 0
                pace.use(count)
                sent += count
            case "success":
                pace.succeeded()
            case "throttle":
                pace.throttled()
            case "after":
                pace.throttled(timedelta(seconds=7))
                assert pace.available() == 0
            case seconds:
                later(clock, float(seconds))
        assert 0 < pace.rate <= rate
        passed = clock.monotonic() - begun
        assert sent <= max(1.0, rate) + passed * rate * 1.000001
        assert pace.seconds_to_next() >= 0


@given(rate=st.floats(1, 10_000), complaints=st.integers(1, 12))
def test_each_complaint_halves_it_and_it_comes_back(
    rate: float, complaints: int
) -> None:
    pace, clock = warm(rate)
    for _ in range(complaints):
        before = pace.rate
        pace.throttled()
        pace.throttled()  # of the same window
        assert pace.rate == pytest.approx(max(before / 2, 0.1))
        assert pace.is_throttled
        later(clock, 1)
    for _ in range(300):
        later(clock, 1)
        pace.succeeded()
    assert pace.rate == rate
    assert not pace.is_throttled


def test_a_wish_of_the_provider_is_kept() -> None:
    """A-7"""
    pace, clock = warm(100)
    pace.throttled(timedelta(seconds=30))
    assert pace.seconds_to_next() == pytest.approx(30)
    later(clock, 29)
    assert pace.available() == 0
    later(clock, 1)
    assert pace.available() > 0


def test_after_a_complaint_permits_come_evenly() -> None:
    """A-7: a provider that counts by the tenth of a second is not met with bursts."""
    pace, clock = warm(40)
    assert pace.available() == 40
    pace.use(40)
    assert pace.may_gather(20)
    pace.throttled()
    for _ in range(int(BOLD_AFTER)):
        later(clock, 1)
        assert 1 <= pace.available() <= 40 * WARY_SECONDS
        assert not pace.may_gather(20)
        pace.use(pace.available())
    later(clock, 1)
    assert pace.available() > 40 * WARY_SECONDS
    pace.use(pace.available())
    assert pace.may_gather(20)
    assert not pace.may_gather(0)


def test_no_flood_at_the_return() -> None:
    """A-9: hours without a success; the rate curve afterwards."""
    pace, clock = warm(5000)
    later(clock, 7200)
    assert pace.available() <= START
    pace.use(1)  # the probe
    later(clock, 1)
    assert pace.rate == START
    pace.succeeded()
    curve = []
    for _ in range(8):
        curve.append(pace.available())
        pace.use(curve[-1])
        later(clock, 0.25)
        pace.succeeded()
    assert curve[0] <= START
    assert curve[1:] == sorted(curve[1:])
    assert all(b <= 2 * max(a, START / 2) for a, b in pairwise(curve))
    later(clock, 2)
    assert pace.rate == 5000


def test_a_short_silence_is_no_pause() -> None:
    pace, clock = warm(1000)
    later(clock, PAUSE - 11)
    pace.succeeded()
    assert pace.rate == 1000
