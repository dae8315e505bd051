"""The course of a run, as numbers and as the points of a picture. Pure.

Built from the tallies: how many came into a state, in slots of ten seconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from gateway.database import EPOCH
from gateway.outbox.moves import SLOT_SECONDS

WIDTH, HEIGHT = 640, 160  # of the picture, in its own units
POINTS = 120  # at most
ROWS = 12  # of the table that says the same
SHORT = timedelta(hours=1)  # a course within it is told with seconds
RATE_OVER = timedelta(seconds=60)
SLOT = timedelta(seconds=SLOT_SECONDS)
PAUSE = 2 * SLOT  # in which nothing leaves: then it stood still
_LINES: Mapping[str, frozenset[str]] = {
    "sent": frozenset(
        {"accepted", "delivered", "read", "failed", "dead", "unknown", "sending"}
    ),
    "delivered": frozenset({"delivered", "read"}),
    "refused": frozenset({"failed", "dead"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """In the slot that begins at `at`, `n` more (or fewer) were in `state`."""

    at: datetime
    state: str
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How many had been sent, delivered and refused by then."""

    at: datetime
    sent: int
    delivered: int
    refused: int


def change(slot: int, state: str, n: int) -> Change:
    return Change(at=EPOCH + timedelta(seconds=slot), state=state, n=n)


def course(changes: Iterable[Change]) -> list[Moment]:
    """From the first message on, at the end of every slot in which one was sent or
    told of, at most POINTS of them."""
    slots: dict[datetime, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in changes:
        for line, states in _LINES.items():
            if one.state in states:
                slots[one.at][line] += one.n
    moments: list[Moment] = []
    totals = dict.fromkeys(_LINES, 0)
    for at in sorted(slots):
        if not moments:
            moments.append(Moment(at=at, **totals))
        for line in _LINES:
            totals[line] += slots[at][line]
        moments.append(Moment(at=at + timedelta(seconds=SLOT_SECONDS), **totals))
    return _thinned(moments, POINTS)


def _thinned(moments: Sequence[Moment], most: int) -> list[Moment]:
    """So many of them, the first and the last among them."""
    if len(moments) <= most:
        return list(moments)
    step = (len(moments) - 1) / (most - 1)
    return [moments[round(number * step)] for number in range(most)]


def table(moments: Sequence[Moment]) -> list[Moment]:
    return _thinned(moments, ROWS)


def lines(moments: Sequence[Moment], planned: int) -> dict[str, str]:
    """By name the points of each line, as an SVG polyline takes them."""
    if len(moments) < 2 or planned <= 0:
        return {}
    begin = moments[0].at
    whole = (moments[-1].at - begin) / timedelta(seconds=1)
    found = {}
    for name in _LINES:
        points = (
            (
                WIDTH * ((one.at - begin) / timedelta(seconds=1)) / whole,
                HEIGHT * (1 - min(1.0, getattr(one, name) / planned)),
            )
            for one in moments
        )
        found[name] = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return found


def rate(changes: Iterable[Change], now: datetime, started: datetime) -> float:
    """Messages a second that were sent during the last minute, or since it went on."""
    since = max(started, now - RATE_OVER)
    slots: dict[datetime, int] = defaultdict(int)
    for one in changes:
        if one.state in _LINES["sent"] and one.at + SLOT > since:
            slots[one.at] += one.n
    busy = sorted(at for at, n in slots.items() if n > 0)
    for before, after in pairwise([since, *busy]):
        if after - before > PAUSE:
            since = max(since, after)
    sent = sum(n for at, n in slots.items() if at + SLOT > since)
    seconds = max((now - since) / timedelta(seconds=1), 1.0)
    return max(0.0, sent / seconds)
