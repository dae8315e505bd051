"""Wakes waiting workers after a commit; each also polls, so a lost wake-up is late,
never fatal."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from gateway.supervisor import beat


class Wakeups:
    """`outside` hears of workers that may wait in other processes; "" means all."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._here: set[str] = set()  # workers that have waited in this process
        self.outside: Callable[[str], None] | None = None

    def wake(self, worker: str) -> None:
        self._events[worker].set()
        if worker not in self._here:
            self.tell_others(worker)

    def wake_all(self) -> None:
        self.wake_here("")
        self.tell_others("")

    def tell_others(self, worker: str) -> None:
        """Wake it in the other processes alone."""
        if self.outside is not None:
            self.outside(worker)

    def wake_here(self, worker: str) -> None:
        """What another process asks for: it is not passed on."""
        chosen = [self._events[worker]] if worker else list(self._events.values())
        for event in chosen:
            event.set()

    async def wait(self, worker: str, seconds: float) -> None:
        """Return when woken, at the latest after `seconds`. A sign of life, too."""
        beat()
        self._here.add(worker)
        event = self._events[worker]
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()

    def gone(self, worker: str) -> None:
        """It doesn't work here any more; whoever wakes it means another process."""
        self._here.discard(worker)
