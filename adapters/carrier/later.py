"""Work for later, kept in one heap with one timer: a simulated centre delays single
answers among tens of thousands a second."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

TICK_SECONDS = 0.002


class Later:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    def call(self, seconds: float, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        heapq.heappush(self._heap, (loop.time() + seconds, next(self._order), work))
        if self._timer is None:
            self._timer = loop.call_later(min(seconds, TICK_SECONDS), self._run)

    def close(self) -> None:
        self._heap.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        if self._heap and self._timer is None:
            wait = max(TICK_SECONDS, self._heap[0][0] - loop.time())
            self._timer = loop.call_later(wait, self._run)
