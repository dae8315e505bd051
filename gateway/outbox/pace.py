"""How fast one channel account may send, on the monotonic clock.

A token bucket under the account's own rate. A refusal for the rate halves it and it
recovers step by step; after a pause it begins slowly (A-7, A-9).
"""

from datetime import timedelta

from gateway.clock import Clock

SLOWEST = 0.1  # messages a second, however often the provider complains
START = 50.0  # messages a second at the first moment, doubled each DOUBLING
DOUBLING = 0.25  # seconds
RECOVERY = 20.0  # seconds from half the rate back to all of it, and as long from none
PAUSE = 60.0  # seconds without a success after which the start is slow again


class Pace:
    """Gives out permits, at most one second's worth at once."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._most = rate
        self._allowed = rate  # what throttling left of it
        self._permits = max(1.0, min(rate, START))
        self._at = clock.monotonic()
        self._blocked_until = self._at
        self._started_at = self._at
        self._success_at = self._at
        self._halved_at = float("-inf")

    @property
    def rate(self) -> float:
        """Messages a second allowed at this moment."""
        return self._rate(self._clock.monotonic())

    @property
    def is_throttled(self) -> bool:
        return self._allowed < self._most or self.seconds_blocked > 0

    @property
    def seconds_blocked(self) -> float:
        """How long the provider wants to hear nothing."""
        return max(0.0, self._blocked_until - self._clock.monotonic())

    def available(self) -> int:
        """Whole permits to be had now."""
        self._fill()
        if self._at < self._blocked_until:
            return 0
        return max(0, int(self._permits))

    def use(self, count: int) -> None:
        self._permits -= count

    def succeeded(self) -> None:
        now = self._clock.monotonic()
        if now - self._success_at > PAUSE:
            self._started_at = now
        self._success_at = now

    def throttled(self, retry_after: timedelta | None = None) -> None:
        """The provider refused for the rate. Once a second it counts, not once a
        message: a window of refusals is one complaint."""
        self._fill()
        if retry_after is not None:
            wish = self._at + retry_after.total_seconds()
            self._blocked_until = max(self._blocked_until, wish)
        if self._at - self._halved_at >= 1.0:
            self._halved_at = self._at
            self._allowed = max(self._rate(self._at) / 2, SLOWEST)
            self._permits = 0.0

    def seconds_to_next(self) -> float:
        wait = max(0.0, (1.0 - self._permits) / self._rate(self._at))
        return max(wait, self.seconds_blocked)

    def _rate(self, now: float) -> float:
        doublings = min((now - self._started_at) / DOUBLING, 40.0)
        slow_start: float = START * 2.0**doublings
        return max(SLOWEST, min(self._allowed, slow_start))

    def _fill(self) -> None:
        now = self._clock.monotonic()
        passed = now - self._at
        step = self._most / (2 * RECOVERY)
        self._allowed = min(self._most, self._allowed + passed * step)
        self._at = now
        rate = self._rate(now)
        self._permits = min(max(1.0, rate), self._permits + passed * rate)
