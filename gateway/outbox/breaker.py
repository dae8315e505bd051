"""A circuit breaker of one channel account. Pure but for the clock.

Failures in a row that are not about the message (nobody there, refused login, no
answer), or a session that stays away, open it: then one message at a time probes, at
growing distances, until one gets through. What waits may leave by another account of
its kind: see shares.py.
"""

from gateway.clock import Clock

FAILURES = 8  # in a row, without any answer between
TOGETHER = 0.05  # seconds: what fails at once, as with a connection, fails once
ABSENT = 5.0  # seconds without a session
FIRST_PAUSE = 5.0  # seconds
LONGEST_PAUSE = 300.0


class Breaker:
    """Instants are seconds of the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self.opened_at: float | None = None
        self.probe_at: float | None = None  # open until a probe at this moment
        self._clock = clock
        self._failures = 0
        self._failed_at = float("-inf")
        self._absent_since: float | None = None
        self._pause = FIRST_PAUSE
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self.probe_at is not None

    @property
    def is_probing(self) -> bool:
        """A probe is on its way."""
        return self._probing

    @property
    def is_away(self) -> bool:
        """There is no session with which to probe."""
        return self._absent_since is not None

    def allowed(self, wanted: int) -> int:
        """How many of `wanted` messages may leave now: all, one probe or none."""
        if self.probe_at is None:
            return wanted
        if self._probing or self._clock.monotonic() < self.probe_at:
            return 0
        return min(wanted, 1)

    def left(self, count: int) -> None:
        """So many did leave."""
        if self.is_open and count > 0:
            self._probing = True

    def answered(self) -> bool:
        """The provider answered, with whatever; whether that closed the breaker."""
        was_open = self.is_open
        self._failures = 0
        self._pause = FIRST_PAUSE
        self.opened_at = self.probe_at = None
        self._probing = False
        return was_open

    def failed(self) -> bool:
        """Nobody answered; whether that opened the breaker."""
        now = self._clock.monotonic()
        if self.is_open:
            if self._probing:
                self._wait(now)
            return False
        if now - self._failed_at >= TOGETHER:
            self._failed_at = now
            self._failures += 1
        if self._failures < FAILURES:
            return False
        self._open(now)
        return True

    def looked(self, has_session: bool) -> bool:
        """Whether a session is there, seen now and then; whether that opened the
        breaker. One that is back may be tried at once."""
        now = self._clock.monotonic()
        if has_session:
            if self._absent_since is not None and self.probe_at is not None:
                self.probe_at = min(self.probe_at, now)
                self._probing = False
            self._absent_since = None
            return False
        if self._absent_since is None:
            self._absent_since = now
        if self.is_open or now - self._absent_since < ABSENT:
            return False
        self._open(now)
        return True

    def seconds_to_probe(self) -> float:
        if self.probe_at is None or self._probing:
            return 0.0
        return max(0.0, self.probe_at - self._clock.monotonic())

    def _open(self, now: float) -> None:
        self.opened_at = now
        self._wait(now)

    def _wait(self, now: float) -> None:
        """A probe after the pause; the next pause is longer."""
        self.probe_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._probing = False
