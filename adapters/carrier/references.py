"""Reference numbers of long messages, counted for each destination by itself."""

from collections import OrderedDict

DESTINATIONS_KEPT = 65_536


class References:
    """Two long messages to one destination have different numbers until all numbers
    were used. Destinations not written to for long are forgotten; they go on from a
    number that moves with every message."""

    def __init__(self, *, wide: bool, start: int = 0) -> None:
        self._mask = 0xFFFF if wide else 0xFF
        self._moving = start
        self._last: OrderedDict[str, int] = OrderedDict()

    def next(self, destination: str) -> int:
        last = self._last.pop(destination, None)
        self._moving += 1
        number = (self._moving if last is None else last + 1) & self._mask
        self._last[destination] = number
        if len(self._last) > DESTINATIONS_KEPT:
            self._last.popitem(last=False)
        return number
