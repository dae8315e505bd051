"""A circuit breaker of one channel account. Pure but for the clock.

Several failures in a row that are not about the message (nobody there, refused login)
open it: then one message at a time probes, at growing distances, until one gets
through. What waits stays where it is or moves to another account of its kind.
"""

from gateway.clock import Clock

FAILURES = 8  # in a row, without any answer between
FIRST_PAUSE = 5.0  # seconds
LONGEST_PAUSE = 300.0


class Breaker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._probe_at: float | None = None  # open until a probe at this moment
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._probe_at is not None

    def allowed(self, wanted: int) -> int:
        """How many of `wanted` messages may leave now: all, one probe or none."""
        if self._probe_at is None:
            return wanted
        if self._probing or self._clock.monotonic() < self._probe_at:
            return 0
        return min(wanted, 1)

    def left(self, count: int) -> None:
        """So many did leave."""
        self._probing = self.is_open and count > 0

    def answered(self) -> bool:
        """The provider answered, with whatever; whether that closed the breaker."""
        was_open = self.is_open
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._probe_at = None
        self._probing = False
        return was_open

    def failed(self) -> bool:
        """Nobody answered; whether that opened the breaker."""
        self._failures += 1
        if self._failures < FAILURES:
            return False
        was_open = self.is_open
        if not was_open or self._probing:
            self._probe_at = self._clock.monotonic() + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._probing = False
        return not was_open

    def seconds_to_probe(self) -> float:
        if self._probe_at is None or self._probing:
            return 0.0
        return max(0.0, self._probe_at - self._clock.monotonic())
