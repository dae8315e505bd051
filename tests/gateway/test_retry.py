from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retry import RetryPolicy, backoff, ceiling, is_exhausted

POLICY = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(seconds=60), attempts=5)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(0, 2), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60), (10**9, 60)],
)
def test_the_ceiling_doubles_up_to_the_cap(attempt: int, seconds: int) -> None:
    assert ceiling(attempt, POLICY) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(1, 0.0, 0), (1, 0.5, 1), (3, 0.25, 2), (3, 0.75, 6), (9, 0.5, 30)],
)
def test_the_wait_is_a_share_of_the_ceiling(
    attempt: int, chance: float, seconds: float
) -> None:
    wait = backoff(attempt, lambda: chance, policy=POLICY)
    assert wait == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("retry_after", "chance", "wait"),
    [
        (timedelta(minutes=5), 0.0, timedelta(minutes=5)),
        (timedelta(minutes=5), 0.5, timedelta(minutes=5, seconds=1)),
        (timedelta(0), 0.5, timedelta(seconds=1)),
        (timedelta(seconds=-9), 0.0, timedelta(0)),
        (timedelta(days=900), 0.0, timedelta(days=1)),
    ],
)
def test_the_wish_of_a_provider_is_kept(
    retry_after: timedelta, chance: float, wait: timedelta
) -> None:
    for attempt in (1, 9):
        assert wait == backoff(
            attempt, lambda: chance, policy=POLICY, retry_after=retry_after
        )


@given(st.integers(1, 10_000), chances)
def test_a_wait_is_never_negative_and_never_above_the_cap(
    attempt: int, chance: float
) -> None:
    assert timedelta(0) <= backoff(attempt, lambda: chance) <= RetryPolicy().cap


@pytest.mark.parametrize(
    ("attempt", "exhausted"), [(1, False), (4, False), (5, True), (6, True)]
)
def test_attempts_run_out(attempt: int, exhausted: bool) -> None:
    assert is_exhausted(attempt, POLICY) is exhausted
