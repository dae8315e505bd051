"""How fast one channel account may send, on the monotonic clock.

A token bucket under the account's own rate. A refusal for the rate halves it; it comes
back soon to just below where it was refused, and from there by small steps. After a
pause, and at the start, it begins slowly (A-7, A-9).
"""

from datetime import timedelta

from gateway.clock import Clock

SLOWEST = 0.1  # messages a second, however often the provider complains
START = 50.0  # messages a second before the first success, doubled each DOUBLING
DOUBLING = 0.25  # seconds
REGAIN = 1.0  # seconds from half of the refused rate back to nearly all of it
NEARLY = 0.95
GROWTH = 0.01  # a second, above what was refused last
BOLD_AFTER = 30.0  # seconds without a refusal, after which growth is BOLD_GROWTH
BOLD_GROWTH = 0.1
WARY_SECONDS = 0.1  # permits at once where the provider refused lately
PAUSE = 60.0  # seconds without a success after which the start is slow again


class Pace:
    """Gives out permits, at most one second's worth at once; where the provider refused
    for the rate lately, a tenth."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock = clock
        self._most = rate
        self._least = min(SLOWEST, rate)
        self._allowed = rate  # what throttling left of it
        self._refused = rate  # the rate at which it was refused last
        self._permits = max(1.0, min(rate, START))
        self._at = clock.monotonic()
        self._blocked_until = self._at
        self._started_at = self._at
        self._success_at = float("-inf")
        self._halved_at = float("-inf")
        self._throttled_at: float | None = None

    @property
    def most(self) -> float:
        """Messages a second, as the account's settings allow."""
        return self._most

    @property
    def rate(self) -> float:
        """Messages a second allowed at this moment."""
        self._fill()
        return self._rate(self._at)

    @property
    def is_throttled(self) -> bool:
        self._fill()
        return self._allowed < self._most or self.seconds_blocked > 0

    @property
    def _is_wary(self) -> bool:
        """Whether the provider refused for the rate lately: it may count by less than a
        second, so permits come evenly."""
        at = self._throttled_at
        return at is not None and self._at - at <= BOLD_AFTER

    @property
    def throttled_at(self) -> float | None:
        """When the provider last refused for the rate."""
        return self._throttled_at

    @property
    def blocked_until(self) -> float | None:
        """Until when the provider wants to hear nothing, where it said so."""
        return self._blocked_until if self.seconds_blocked else None

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

    def may_gather(self, wanted: int) -> bool:
        """Whether there are fewer permits than are wanted, and no harm in waiting until
        several have gathered."""
        return self.available() < wanted and not self._is_wary

    def use(self, count: int) -> None:
        self._permits -= count

    def succeeded(self) -> None:
        now = self._clock.monotonic()
        if now - self._success_at > PAUSE:
            self._fill()
            self._started_at = now
        self._success_at = now

    def throttled(self, retry_after: timedelta | None = None) -> None:
        """The provider refused for the rate. Once a second it counts, not once a
        message: a window of refusals is one complaint."""
        self._fill()
        self._throttled_at = self._at
        if retry_after is not None:
            wish = self._at + retry_after.total_seconds()
            self._blocked_until = max(self._blocked_until, wish)
        if self._at - self._halved_at >= 1.0:
            self._halved_at = self._at
            self._refused = self._rate(self._at)
            self._allowed = max(self._refused / 2, self._least)
            self._permits = min(self._permits, 0.0)

    def seconds_to_next(self) -> float:
        self._fill()
        wait = max(0.0, (1.0 - self._permits) / self._rate(self._at))
        return max(wait, self.seconds_blocked)

    def _rate(self, now: float) -> float:
        if now - self._success_at > PAUSE:
            slow_start = START
        else:
            doublings = min((now - self._started_at) / DOUBLING, 40.0)
            slow_start = START * 2.0**doublings
        return max(self._least, min(self._allowed, slow_start))

    def _fill(self) -> None:
        now = self._clock.monotonic()
        passed = now - self._at
        if passed <= 0:
            return
        if self._allowed < self._most:
            self._allowed = min(self._most, self._recovered(now, passed))
        self._at = now
        rate = self._rate(now)
        burst = rate * (WARY_SECONDS if self._is_wary else 1.0)
        self._permits = min(max(1.0, burst), self._permits + passed * rate)

    def _recovered(self, now: float, passed: float) -> float:
        """What is allowed after `passed` seconds more without a complaint."""
        allowed, near = self._allowed, self._refused * NEARLY
        if allowed < near:
            step = (near - self._refused / 2) / REGAIN
            regained = min(near, allowed + passed * step)
            passed -= (regained - allowed) / step
            allowed = regained
        is_bold = now - self._halved_at > BOLD_AFTER
        growth = BOLD_GROWTH if is_bold else GROWTH
        return allowed + passed * growth * allowed
