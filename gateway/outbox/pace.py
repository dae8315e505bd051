"""How fast one channel account may send: a token bucket on the monotonic clock."""

from gateway.clock import Clock


class Pace:
    """Gives out permits at `rate` a second, at most one second's worth at once."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._most = max(1.0, rate)
        self._permits = self._most
        self._at = clock.monotonic()

    def available(self) -> int:
        """Whole permits to be had now."""
        now = self._clock.monotonic()
        self._permits = min(self._most, self._permits + (now - self._at) * self._rate)
        self._at = now
        return int(self._permits)

    def use(self, count: int) -> None:
        self._permits -= count

    def seconds_to_next(self) -> float:
        return max(0.0, (1.0 - self._permits) / self._rate)
