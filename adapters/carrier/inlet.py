"""What a connection brings in: stored first, acknowledged then, many at once.

Whatever arrives while one commit runs goes into the next; all of a commit is
acknowledged with one write.
"""

import asyncio
from collections.abc import Sequence

import structlog

from adapters.carrier.codec import Codec, Delivery, Segment
from adapters.carrier.link import Link
from gateway.contract import Accept, Event
from gateway.errors import StorageUnavailable

COMMIT_AT_MOST = 2000  # deliveries in one commit
STOP_READING_AT = 10_000  # deliveries that wait; the peer then waits too
log = structlog.get_logger()


class Inlet:
    """The way in of one link."""

    def __init__(self, link: Link, codec: Codec, accept: Accept) -> None:
        self._link = link
        self._codec = codec
        self._accept = accept
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
                stored = await self._store(batch)
                acknowledge = self._codec.acknowledge
                self._link.write([acknowledge(d, stored=stored) for d in batch])
                if self._full and len(self._waiting) < STOP_READING_AT // 2:
                    self._full = False
                    self._link.pause_reading(False)
        finally:
            self._work = None

    async def _store(self, batch: Sequence[Delivery]) -> bool:
        """Whether the peer may forget these."""
        try:
            await self._accept(_events(batch))
        except StorageUnavailable:
            log.warning("session.not_stored", link=self._link.name, count=len(batch))
            return False
        except Exception:
            log.exception("session.not_stored", link=self._link.name, count=len(batch))
            return False
        return True


def _events(batch: Sequence[Delivery]) -> list[Event]:
    contents = [d.content for d in batch if d.content is not None]
    return [c.message if isinstance(c, Segment) else c for c in contents]
