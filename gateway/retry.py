"""When a transient failure is tried again: exponential backoff, full jitter, capped."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts` counts all sends, the first included."""

    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=15)
    attempts: int = 8
    longest_wish: timedelta = timedelta(days=1)  # a provider may not ask for more


DEFAULT_POLICY = RetryPolicy()


def backoff(
    attempt: int,
    random: Callable[[], float],
    *,
    policy: RetryPolicy = DEFAULT_POLICY,
    retry_after: timedelta | None = None,
) -> timedelta:
    """How long to wait after failed send number `attempt` (from 1).

    `random` gives a float in [0, 1). A provider's `retry_after` is kept, with up to
    one `base` added so that those who were sent off together don't return together.
    """
    if retry_after is not None:
        wish = min(max(retry_after, timedelta(0)), policy.longest_wish)
        return wish + policy.base * random()
    return ceiling(attempt, policy) * random()


def ceiling(attempt: int, policy: RetryPolicy = DEFAULT_POLICY) -> timedelta:
    """The longest wait after send number `attempt`: base doubled each time, capped."""
    doublings = max(attempt, 1) - 1
    # Beyond 40 doublings every sensible cap is reached; timedelta would overflow.
    return min(policy.base * (1 << min(doublings, 40)), policy.cap)


def is_exhausted(attempt: int, policy: RetryPolicy = DEFAULT_POLICY) -> bool:
    """Whether send number `attempt` was the last one allowed."""
    return attempt >= policy.attempts
