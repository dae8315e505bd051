"""Tells a delivery brought again from the same words said twice, where the protocol
gives messages no id."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from adapters.carrier.link import Link, State
from gateway.clock import Clock

WITHIN = timedelta(minutes=10)
_WINDOW = WITHIN.total_seconds() / 2
CERTAIN_SECONDS = 5.0  # a peer heard so long after an answer has had that answer
KEPT = 100_000


class Keys(NamedTuple):
    """Of one message; `earlier` is what a process before this one may have taken."""

    key: str
    earlier: str = ""


@dataclass(slots=True)
class _Known:
    keys: Keys
    link: Link
    named_at: float
    answered_at: float | None = None


class Repeats:
    """Keys of nameless messages.

    A peer brings again what it has no answer to: so the same words are a repetition
    until they were answered on a connection that lived on. What a process before this
    one may have stored without answering is recognised for five to ten minutes: a key
    names a window of five, and the one before it is looked for too.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        # Ordered: the oldest of a plain dict lies behind all that were deleted.
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def keys(self, content: str, link: Link) -> Keys:
        now = self._clock.monotonic()
        known = self._known.pop(content, None)
        if known and now - known.named_at < WITHIN.total_seconds():
            if not _is_certain(known):
                self._known[content] = known
                return known.keys
            at = self._clock.now().timestamp()
            keys = Keys(f"{_window(at)}:{content}:{at:.6f}")
        else:
            keys = self._first(content, now)
        self._known[content] = _Known(keys, link, now)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return keys

    def _first(self, content: str, now: float) -> Keys:
        """Of words that were not brought to this process before."""
        window = _window(self._clock.now().timestamp())
        is_young = now - self._since < WITHIN.total_seconds()
        earlier = f"{window - 1}:{content}" if is_young else ""
        return Keys(f"{window}:{content}", earlier)

    def answered(self, content: str, link: Link) -> None:
        if known := self._known.get(content):
            known.link, known.answered_at = link, self._clock.monotonic()


def _window(at: float) -> int:
    """Keys begin with it, so that new ones lie side by side in an index of years."""
    return int(at // _WINDOW)


def _is_certain(known: _Known) -> bool:
    if known.answered_at is None:
        return False
    if known.link.state is State.OPEN:
        return True
    return known.link.heard_at - known.answered_at >= CERTAIN_SECONDS
