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


CALM_SECONDS = 0.5  # between two news of one thing that changes all the time


class Hub:
    """`outside` hears what pages that other processes serve should be told."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._calm: dict[Change, asyncio.TimerHandle] = {}
        self._again: set[Change] = set()
        self.outside: Callable[[Change], None] | None = None

    def publish_calmly(self, topic: str, id: object, path: str = "/") -> None:
        """At once, then at most twice a second: the last change is told in any case."""
        change = Change(topic, str(id), path)
        if change in self._calm:
            self._again.add(change)
            return
        self.publish(topic, id, path)
        loop = asyncio.get_running_loop()
        self._calm[change] = loop.call_later(CALM_SECONDS, self._rested, change)

    def _rested(self, change: Change) -> None:
        del self._calm[change]
        if change in self._again:
            self._again.discard(change)
            self.publish_calmly(change.topic, change.id, change.path)

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
