"""How a simulated centre refuses for the rate."""

from gateway.clock import Clock


class Throttle:
    """Lets through so many messages a second, at most a tenth of a second's at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens, self._at = 0.0, 0.0

    def passes(self, rate: float) -> bool:
        """Whether one more does; `rate` may change from one to the next."""
        now = self._clock.monotonic()
        if not self._at:
            self._at, self._tokens = now, 1.0
        self._tokens += (now - self._at) * rate
        self._tokens = min(self._tokens, max(1.0, rate / 10))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
