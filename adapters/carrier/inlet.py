"""What a connection brings in: stored first, acknowledged then, many at once.

Whatever arrives while one commit runs goes into the next; all of a commit is
acknowledged with one write.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from adapters.carrier.codec import Codec, Delivery, Segment
from adapters.carrier.link import Link
from adapters.carrier.repeats import Keys, Repeats
from adapters.carrier.shelf import Joined, Shelf
from gateway.contract import Accept, Event, InboundMessage
from gateway.errors import StorageUnavailable

COMMIT_AT_MOST = 2000  # deliveries in one commit
STOP_READING_AT = 10_000  # deliveries that wait; the peer then waits too
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where what comes in goes, for all connections of an account."""

    accept: Accept
    codec: Codec
    repeats: Repeats
    shelf: Shelf | None = None  # None: parts are handed on as they come

    async def put(self, events: list[Event], segments: Sequence[Segment]) -> None:
        """Returns after the commit. Raises StorageUnavailable."""
        joined: list[Joined] = []
        if segments and self.shelf:
            joined = await asyncio.to_thread(self.shelf.put, segments)
        else:
            events += [segment.message for segment in segments]
        await self._hand_on(events, joined)

    async def sweep(self) -> None:
        """Hand on what has waited long enough for its missing parts."""
        if self.shelf and (joined := await asyncio.to_thread(self.shelf.due)):
            await self._hand_on([], joined)

    async def _hand_on(self, events: list[Event], joined: list[Joined]) -> None:
        events += [one.event for one in joined]
        if events:
            await self.accept(events)
        if joined and self.shelf:
            await asyncio.to_thread(self.shelf.handed_on, joined)


class Inlet:
    """The way in of one link."""

    def __init__(self, link: Link, store: Store) -> None:
        self._link = link
        self._store = store
        self._waiting: list[Delivery] = []
        self._work: asyncio.Task[None] | None = None
        self._full = False

    def take(self, deliveries: Sequence[Delivery]) -> None:
        self._waiting += deliveries
        if len(self._waiting) >= STOP_READING_AT and not self._full:
            self._full = True
            self._link.pause_reading(True)
        if self._work is None:
            loop = asyncio.get_running_loop()
            self._work = loop.create_task(self._run(), name=f"inlet:{self._link.name}")

    async def finish(self) -> None:
        """Wait until what came is stored and answered."""
        if self._work:
            await asyncio.shield(self._work)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:COMMIT_AT_MOST]
                del self._waiting[:COMMIT_AT_MOST]
                stored = await self._stored(batch)
                self._answer(batch, stored)
                if self._full and len(self._waiting) < STOP_READING_AT // 2:
                    self._full = False
                    self._link.pause_reading(False)
        finally:
            self._work = None

    def _answer(self, batch: Sequence[Delivery], stored: bool) -> None:
        acknowledge = self._store.codec.acknowledge
        self._link.acknowledge([acknowledge(d, stored=stored) for d in batch])
        if stored:
            for content in _nameless(batch):
                self._store.repeats.answered(content.key, self._link)

    async def _stored(self, batch: Sequence[Delivery]) -> bool:
        """Whether the peer may forget these."""
        try:
            events = list(self._events(batch))
            await self._store.put(events, _segments(batch))
        except StorageUnavailable:
            log.warning("session.not_stored", link=self._link.name, count=len(batch))
            return False
        except Exception:  # what is wrong with one batch must not end the connection
            log.exception("session.not_stored", link=self._link.name, count=len(batch))
            return False
        return True

    def _events(self, batch: Sequence[Delivery]) -> Iterator[Event]:
        name = self._store.repeats.keys
        for delivery in batch:
            content = delivery.content
            if content is None or isinstance(content, Segment):
                continue
            if delivery.nameless and isinstance(content, InboundMessage):
                yield _named(content, name(content.key, self._link))
            else:
                yield content


def _named(said: InboundMessage, keys: Keys) -> InboundMessage:
    """As `dataclasses.replace` at half its price: what a carrier's text has at all."""
    return InboundMessage(
        key=keys.key,
        earlier_key=keys.earlier,
        sender=said.sender,
        text=said.text,
        raw=said.raw,
        sent_at=said.sent_at,
        to=said.to,
        notes=said.notes,
    )


def _segments(batch: Sequence[Delivery]) -> list[Segment]:
    return [d.content for d in batch if isinstance(d.content, Segment)]


def _nameless(batch: Sequence[Delivery]) -> Iterator[InboundMessage]:
    for delivery in batch:
        if delivery.nameless and isinstance(delivery.content, InboundMessage):
            yield delivery.content
