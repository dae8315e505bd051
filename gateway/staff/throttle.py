"""Slows guessing down: by account (in the database) and by network (in memory)."""

from collections import OrderedDict
from datetime import datetime, timedelta

from gateway.clock import Clock

FREE_TRIES = 5
LONGEST = timedelta(minutes=15)
_NETWORK_TRIES = 30
_NETWORK_WINDOW = timedelta(minutes=10)
_NETWORKS = 10_000


def delay(failures: int) -> timedelta:
    """How long an account rests after its n-th failure in a row: it doubles, and ends
    at a quarter of an hour, so that nobody is locked out for ever."""
    if failures < FREE_TRIES:
        return timedelta(0)
    doublings = min(failures - FREE_TRIES, 20)
    return min(timedelta(seconds=2 << doublings), LONGEST)


class Throttle:
    """Failures of each network address in the last ten minutes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[datetime, int]] = OrderedDict()

    def blocked(self, remote: str) -> bool:
        since, failures = self._failures.get(remote, (self._clock.now(), 0))
        fresh = self._clock.now() - since < _NETWORK_WINDOW
        return fresh and failures >= _NETWORK_TRIES

    def failed(self, remote: str) -> None:
        now = self._clock.now()
        since, failures = self._failures.pop(remote, (now, 0))
        if now - since >= _NETWORK_WINDOW:
            since, failures = now, 0
        self._failures[remote] = (since, failures + 1)
        if len(self._failures) > _NETWORKS:
            self._failures.popitem(last=False)
