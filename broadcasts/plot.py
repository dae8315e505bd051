"""The course of a run, as numbers and as the points of a picture. Pure.

Built from the tallies: how many came into a state, in slots of ten seconds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, pairwise

from gateway.database import EPOCH
from gateway.outbox.moves import SLOT_SECONDS

WIDTH, HEIGHT = 640, 160  # of the picture, in its own units
POINTS = 120  # at most
ROWS = 12  # of the table that says the same
PARTS = 7  # at most, between the marks of the axis of people
SHORT = timedelta(hours=1)  # a course within it is told with seconds
RATE_OVER = timedelta(seconds=60)
RATE_FROM = timedelta(seconds=2)  # less of a run tells no rate
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


def totals(changes: Iterable[Change]) -> dict[str, int]:
    """How many are in each state now."""
    found: Counter[str] = Counter()
    for one in changes:
        found[one.state] += one.n
    return {state: n for state, n in found.items() if n}


def course(changes: Iterable[Change]) -> list[Moment]:
    """From the first message on, at both ends of every time in which some were sent or
    told of, at most POINTS of them. What has no instant is of before there were any."""
    slots: dict[datetime, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in changes:
        for line, states in _LINES.items():
            if one.state in states and one.at > EPOCH:
                slots[one.at][line] += one.n
    moments: list[Moment] = []
    totals = dict.fromkeys(_LINES, 0)
    for at in sorted(slots):
        # Where nothing happened for a while the lines are level, not slowly rising.
        if not moments or moments[-1].at < at:
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


def marks(whole: int) -> list[int]:
    """Of the axis of people, from its top down: round numbers, as far from each other
    as from 0, up to `whole` (1 or more) or just above."""
    step = next(one for one in _round_numbers() if one * PARTS >= whole)
    return [step * number for number in range(-(-whole // step), -1, -1)]


def _round_numbers() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50 and so on."""
    for power in count():
        yield from (digit * 10**power for digit in (1, 2, 5))


def scale(moments: Sequence[Moment], planned: int) -> int:
    """How many people the picture is made for: all, once a quarter has been sent.
    Before, and where a run ended so early, what was sent: else every line is flat."""
    sent = max((one.sent for one in moments), default=0)
    return planned if sent * 4 >= planned else sent


def height(people: int, whole: int) -> float:
    """Where so many are in a picture made for `whole` people, from its top."""
    return HEIGHT * (1 - min(1.0, people / marks(whole)[0]))


def lines(moments: Sequence[Moment], whole: int) -> dict[str, str]:
    """By name the points of each line, as an SVG polyline takes them, in a picture made
    for `whole` people."""
    if len(moments) < 2 or whole <= 0:
        return {}
    begin = moments[0].at
    span = (moments[-1].at - begin) / timedelta(seconds=1)
    found = {}
    for name in _LINES:
        points = (
            (
                WIDTH * ((one.at - begin) / timedelta(seconds=1)) / span,
                height(getattr(one, name), whole),
            )
            for one in moments
        )
        found[name] = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return found


def rate(changes: Iterable[Change], now: datetime, started: datetime) -> float:
    """Messages a second that were sent during the last minute, or since it went on; 0
    as long as that is too short to tell."""
    slots: Counter[datetime] = Counter()
    for one in changes:
        if one.state in _LINES["sent"] and one.at + SLOT > started:
            slots[one.at] += one.n
    busy = sorted(at for at, n in slots.items() if n > 0)
    if not busy:
        return 0.0
    # Whole slots: one that is counted for a part of its time makes the rate jump.
    since = max(_went_on(busy, started), _slot(now - RATE_OVER))
    if now - since < RATE_FROM:
        return 0.0
    sent = sum(n for at, n in slots.items() if at + SLOT > since)
    return max(0.0, sent / ((now - since) / timedelta(seconds=1)))


def _went_on(busy: Sequence[datetime], started: datetime) -> datetime:
    """Since when messages leave without a pause. Within the slot of the start that is
    the start; of a pause the end is not known so well: from the next slot on."""
    first = busy[0]
    for before, after in pairwise(busy):
        if after - before > PAUSE:
            first = after
    return started if first <= started else first + SLOT


def _slot(at: datetime) -> datetime:
    """The first that begins then or later."""
    whole = -(-(at - EPOCH) // SLOT)
    return EPOCH + whole * SLOT
