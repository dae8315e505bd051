"""Wakes waiting workers after a commit; each also polls, so a lost wake-up is late,
never fatal."""

import asyncio
from collections import defaultdict


class Wakeups:
    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def wake(self, worker: str) -> None:
        self._events[worker].set()

    def wake_all(self) -> None:
        for event in self._events.values():
            event.set()

    async def wait(self, worker: str, seconds: float) -> None:
        """Return when woken, at the latest after `seconds`."""
        event = self._events[worker]
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()
