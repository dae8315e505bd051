"""What one channel account did in the last minutes, measured by the batch: how fast
messages left, how long answers took, how often the rate was refused."""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from gateway.clock import Clock

SLOT = 10.0  # seconds that are counted together
SLOTS = 30  # five minutes
MINUTE = 6  # slots
RATE_SECONDS = 5  # over which the rate is measured
# Upper ends of what is counted together, in seconds: a fifth more each time.
BOUNDS = tuple(0.001 * 1.2**n for n in range(80))


@dataclass(slots=True)
class _Slot:
    number: int
    answered: int = 0
    slow: int = 0
    throttled: bool = False
    took: dict[int, int] = field(default_factory=dict)  # by the index of its bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds and messages, `rate` as the carrier counts them; `slow` and `throttled`
    are shares of the last minutes."""

    rate: float
    answered: int  # in the last minutes
    answers: int  # in the last minute
    median: float  # of that minute's answers
    p95: float
    slow: float
    throttled: float


class Measure:
    """`slow_after`: an answer that took longer, in seconds, counts as slow."""

    def __init__(self, clock: Clock, slow_after: float) -> None:
        self._clock = clock
        self._slow_after = slow_after
        self._slots: deque[_Slot] = deque(maxlen=SLOTS)
        self._sent: deque[tuple[int, int]] = deque(maxlen=RATE_SECONDS + 1)

    def sent(self, count: int) -> None:
        second = int(self._clock.monotonic())
        before = self._sent.pop()[1] if self._second() == second else 0
        self._sent.append((second, before + count))

    def answered(self, sent_at: Mapping[int, int], now: int) -> None:
        """Answers that came now, by the microsecond at which they were sent."""
        slot = self._slot()
        for at, count in sent_at.items():
            seconds = (now - at) / 1e6
            bound = bisect_left(BOUNDS, seconds)
            slot.took[bound] = slot.took.get(bound, 0) + count
            slot.answered += count
            if seconds > self._slow_after:
                slot.slow += count

    def throttled(self) -> None:
        self._slot().throttled = True

    def seen(self) -> Measured:
        """The figures now."""
        number = self._number()
        recent = [one for one in self._slots if number - one.number < SLOTS]
        took: dict[int, int] = {}
        for slot in recent:
            if number - slot.number < MINUTE:
                for bound, count in slot.took.items():
                    took[bound] = took.get(bound, 0) + count
        answered = sum(slot.answered for slot in recent)
        slow = sum(slot.slow for slot in recent)
        return Measured(
            rate=self._rate(),
            answered=answered,
            answers=sum(took.values()),
            median=_quantile(took, 0.5),
            p95=_quantile(took, 0.95),
            slow=slow / answered if answered else 0.0,
            throttled=sum(slot.throttled for slot in recent) / SLOTS,
        )

    def _rate(self) -> float:
        """Over the last whole seconds."""
        now = int(self._clock.monotonic())
        sent = sum(n for second, n in self._sent if now - RATE_SECONDS <= second < now)
        return sent / RATE_SECONDS

    def _second(self) -> int:
        return self._sent[-1][0] if self._sent else -1

    def _number(self) -> int:
        return int(self._clock.monotonic() / SLOT)

    def _slot(self) -> _Slot:
        number = self._number()
        if not self._slots or self._slots[-1].number != number:
            self._slots.append(_Slot(number))
        return self._slots[-1]


def _quantile(took: Mapping[int, int], share: float) -> float:
    """In seconds, by the upper end of what is counted together; 0 without answers."""
    wanted = share * sum(took.values())
    for bound in sorted(took):
        wanted -= took[bound]
        if wanted <= 0:
            return BOUNDS[min(bound, len(BOUNDS) - 1)]
    return 0.0


class Today:
    """What is counted from midnight on, and goes on with the next owner."""

    def __init__(self, clock: Clock, zone: ZoneInfo) -> None:
        self._clock, self._zone = clock, zone
        self._day = ""
        self._sent = self._failed = 0
        self._written = (0, 0)  # what of them others can read
        self._success_at = 0  # microseconds

    def go_on(self, told: Mapping[str, Any]) -> None:
        """With what the last owner told, who may have been this process, and with what
        was counted here since and nobody was told."""
        self._turn()
        if told.get("day") == self._day:
            sent, failed = self._written
            self._sent += int(told["sent"]) - sent
            self._failed += int(told["failed"]) - failed
            self.written(told)
        self._success_at = max(self._success_at, int(told.get("last_success", 0)))

    def written(self, told: Mapping[str, Any]) -> None:
        """This much others can read now."""
        if told["day"] == self._day:
            self._written = (int(told["sent"]), int(told["failed"]))

    def settled(self, states: Mapping[str, int]) -> None:
        self._turn()
        accepted = states.get("accepted", 0)
        self._sent += accepted
        self._failed += states.get("failed", 0) + states.get("dead", 0)
        if accepted:
            self._success_at = int(self._clock.now().timestamp()) * 1_000_000

    def told(self) -> Mapping[str, Any]:
        self._turn()
        return {
            "day": self._day,
            "sent": self._sent,
            "failed": self._failed,
            "last_success": self._success_at,
        }

    def _turn(self) -> None:
        day = self._clock.now().astimezone(self._zone).date().isoformat()
        if day != self._day:
            self._day, self._sent, self._failed = day, 0, 0
            self._written = (0, 0)
