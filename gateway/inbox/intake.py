"""Stores events durably before anybody says "accepted" to a provider.

Whatever gathered while the last commit ran goes into the next one, as one set.
There is no waiting for a batch to fill.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from tortoise.exceptions import BaseORMException

from gateway.contract import Event
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.inbox.store import store

log = structlog.get_logger()


@dataclass(slots=True)
class _Delivery:
    channel: str
    events: Sequence[Event]
    stored: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Inbox:
    """One committer for all channels of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: list[_Delivery] = []

    async def accept(self, channel: str, events: Sequence[Event]) -> None:
        """Return once all events are committed; a known key changes nothing.

        Raises StorageUnavailable where the commit failed: nothing was stored.
        """
        if not events:
            return
        delivery = _Delivery(channel, events)
        self._waiting.append(delivery)
        self._core.wakeups.wake("inbox")
        await asyncio.shield(delivery.stored)

    async def run(self) -> None:
        """Commit for ever. Deliveries that wait when this ends were never stored."""
        try:
            while True:
                await self._core.wakeups.wait("inbox", 1.0)
                while self._waiting:
                    await self.commit()
        finally:
            self._fail(self._waiting, "stopping")
            self._waiting = []

    async def commit(self) -> None:
        """One transaction for all that waits; after a failure, one for each."""
        batch, self._waiting = self._waiting, []
        try:
            await self._store(batch)
        except (BaseORMException, OSError):
            log.exception("inbox.commit_failed", deliveries=len(batch))
            for delivery in batch:
                await self._store_alone(delivery)
        self._core.wakeups.wake("router")

    async def _store_alone(self, delivery: _Delivery) -> None:
        try:
            await self._store([delivery])
        except (BaseORMException, OSError) as error:
            self._fail([delivery], type(error).__name__)

    async def _store(self, batch: Sequence[_Delivery]) -> None:
        given = [(one.channel, event) for one in batch for event in one.events]
        new = await self._core.commits.run(lambda: store(self._core, given))
        for channel, count in new.items():
            self._core.metrics.inbound.labels(channel).inc(count)
        for delivery in batch:
            if not delivery.stored.done():
                delivery.stored.set_result(None)

    def _fail(self, batch: Sequence[_Delivery], why: str) -> None:
        for delivery in batch:
            if not delivery.stored.done():
                delivery.stored.set_exception(StorageUnavailable("not_stored", why))
