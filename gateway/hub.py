"""Tells open pages what changed, at once. Nothing here is durable: pages re-read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """`topic` names what changed, `path` the organisation that may hear of it."""

    topic: str  # inquiry, review, broadcast, channel, node, ...
    id: str
    path: str = "/"


class Subscriber:
    """One open page. A page too slow to read loses its backlog and is told so."""

    def __init__(self, limit: int = 500) -> None:
        self._queue: asyncio.Queue[Change] = asyncio.Queue(limit)

    def put(self, change: Change) -> None:
        if self._queue.full():
            while not self._queue.empty():
                self._queue.get_nowait()
            change = Change("refresh", "")
        self._queue.put_nowait(change)

    async def get(self) -> Change:
        return await self._queue.get()


class Hub:
    """`outside` hears what pages that other processes serve should be told."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self.outside: Callable[[Change], None] | None = None

    def publish(self, topic: str, id: object, path: str = "/") -> None:
        change = Change(topic, str(id), path)
        self.tell(change)
        if self.outside is not None:
            self.outside(change)

    def tell(self, change: Change) -> None:
        """Only the pages of this process; what another one said comes in here."""
        for subscriber in self._subscribers:
            subscriber.put(change)

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Subscriber]:
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)
