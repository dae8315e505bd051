"""Stores events durably before anybody says "accepted" to a provider.

Whatever gathered while the last commit ran goes into the next one, as one set. Where
the database can't commit in time, events wait in the spool, in order, and drain from
there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

import structlog
from tortoise.exceptions import BaseORMException

from gateway import database as db
from gateway.contract import Event
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.inbox.bulk.world import Message
from gateway.inbox.routed import Route, Routed
from gateway.inbox.spool import Record, Spool, encode
from gateway.inbox.store import Stored, store
from gateway.late import Late
from gateway.outbox import follow
from gateway.postgres import AWAY

log = structlog.get_logger()
TURNS = 8  # of the event loop, from a socket with bytes to a delivery and to spare
CROWD = 8  # deliveries that wait at once
PRESSED_SECONDS = 0.2  # since a crowd was last seen
GATHER_SECONDS = 0.005  # for a crowd to come back, at most
PATIENCE_SECONDS = 2.0  # for a commit; providers wait about five for their answer
MOST_ROUTED = 64  # events at once; more are cheaper for the router, by the thousand
DRAIN_BYTES = 1024 * 1024  # of the spool, in one commit
LOOK_SECONDS = 60.0  # between two looks at the reserve


class Routing(Protocol):
    """The router, for messages that are not stored yet."""

    async def route(self, messages: Sequence[Message]) -> Routed:
        """Inside a transaction that has the only writer."""

    async def tell(self, routed: Routed) -> None:
        """After it was committed."""


Told = Callable[[Exception | None], None]
"""Called once, in the event loop: None when the events are durable. Never raises."""


class _Delivery(NamedTuple):
    channel: str
    events: Sequence[Event]
    told: Told

    def fail(self, why: str) -> None:
        self.told(StorageUnavailable("not_stored", why))


class _Batch(Late[_Delivery]):
    @property
    def events(self) -> list[tuple[str, Event]]:
        return [(one.channel, event) for one in self.items for event in one.events]


class Inbox:
    """One committer for all channels of this process."""

    def __init__(self, core: Core, patience: float = PATIENCE_SECONDS) -> None:
        storage = core.settings.storage
        self._core = core
        self._router: Routing | None = None
        self._patience = patience
        self._waiting: deque[_Delivery] = deque()
        self._pressed_until = -1.0
        self._crowd = 0  # deliveries in the last commit, where they were many ...
        self._took = 0.0  # ... and the seconds it took
        self._back = asyncio.Event()  # as many wait again
        self._attempts: set[asyncio.Future[Stored]] = set()
        self._late: asyncio.Future[Stored] | None = None  # that was given up last
        self._spool = Spool(storage.data_dir / "spool", storage.spool_mib * 1024 * 1024)

    def routed_by(self, router: Routing) -> None:
        """From now on messages are decided on in the transaction that stores them,
        where there is time for it: on SQLite, with no crowd waiting."""
        self._router = router

    @property
    def spooled(self) -> int:
        """Bytes that were acknowledged and are not in the database yet."""
        return self._spool.waiting

    def is_pressed(self) -> bool:
        """Whether so many wait to be acknowledged that all else had better wait."""
        crowd = len(self._waiting) >= CROWD
        return crowd or self._core.clock.monotonic() < self._pressed_until

    async def accept(self, channel: str, events: Sequence[Event]) -> None:
        """Return once all events are committed; a known key changes nothing.

        Where the database is away: once they are synced to the spool. Raises
        StorageUnavailable where neither took them: nothing was stored.
        """
        # The future is the caller's alone: one that goes away stops nothing.
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.take(channel, events, partial(_settle, stored))
        await stored

    def take(self, channel: str, events: Sequence[Event], told: Told) -> None:
        """The same for one who has better things to do than wait."""
        if not events:
            asyncio.get_running_loop().call_soon(told, None)
            return
        self._waiting.append(_Delivery(channel, events, told))
        if len(self._waiting) == 1:
            self._core.wakeups.wake("inbox")
        if len(self._waiting) == self._crowd:
            self._back.set()

    async def run(self) -> None:
        """Commit for ever. Deliveries that wait when this ends were never stored."""
        loop = asyncio.get_running_loop()
        await self._open()
        looked_at = -LOOK_SECONDS
        try:
            while True:
                if loop.time() - looked_at > LOOK_SECONDS:
                    looked_at = loop.time()
                    await self._look()
                await self._core.wakeups.wait("inbox", 1.0)
                await self.drain()
                while self._waiting:
                    await self._gather()
                    began = loop.time()
                    await self.commit()
                    self._took = loop.time() - began
        finally:
            self._close()

    async def _open(self) -> None:
        try:
            await asyncio.to_thread(self._spool.open)
        except OSError as error:  # a full disk: it is tried again when it is needed
            log.warning("spool.not_opened", errno=error.errno)

    def _close(self) -> None:
        for attempt in self._attempts:
            attempt.cancel()
        while self._waiting:
            self._waiting.popleft().fail("stopping")
        self._spool.close()

    async def _look(self) -> None:
        space = self._core.space
        await asyncio.to_thread(space.keep_reserve)
        if space.log_long:
            log.error("database.log_long")

    async def _gather(self) -> None:
        """What has arrived gets as far as here, and shares the commit.

        A crowd that was served comes back at once, most of it. It is waited for as
        long as its last commit took, as one commit costs little more than half of one.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if len(self._waiting) >= self._crowd:
            return
        self._back.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._took, GATHER_SECONDS)):
                await self._back.wait()

    def _routes(self) -> bool:
        """Whether there may be time to route what comes before it is acknowledged."""
        if self._router is None or db.is_postgres():
            return False
        return not (self.is_pressed() or self._spool.waiting)

    async def commit(self) -> None:
        """One transaction for all that waits once it begins; after a failure, one for
        each."""
        batch, routes = _Batch(self._waiting), self._routes()
        if self._spool.waiting:
            await self._set_by(batch.items)  # behind what came before
        else:
            await self._commit_batch(batch, routes=routes)
        many = len(batch.items)
        self._crowd = many if many >= CROWD else 0
        if self._crowd:  # and most will come back once they are served
            self._pressed_until = self._core.clock.monotonic() + PRESSED_SECONDS

    async def _commit_batch(self, batch: _Batch, *, routes: bool) -> None:
        try:
            await self._store(batch, routes=routes)
        except StorageUnavailable as error:
            await self._rescue(batch.items, error)
        except (BaseORMException, OSError):
            log.exception("inbox.commit_failed", deliveries=len(batch.items))
            for delivery in batch.items:
                await self._store_alone(delivery)

    async def _store_alone(self, delivery: _Delivery) -> None:
        try:
            await self._store(_Batch(deque([delivery])))
        except StorageUnavailable as error:
            await self._rescue([delivery], error)
        except (BaseORMException, OSError) as error:
            delivery.fail(type(error).__name__)

    async def _rescue(
        self, batch: Sequence[_Delivery], error: StorageUnavailable
    ) -> None:
        """A full disk gets the reserve; all else waits in the spool."""
        log.warning("inbox.not_committed", why=error.code, deliveries=len(batch))
        if error.code == "full" and self._core.space.release():
            with suppress(StorageUnavailable, BaseORMException):
                await self._store(_Batch(deque(batch)))
                return
        await self._set_by(batch)

    async def _store(self, batch: _Batch, *, routes: bool = False) -> None:
        stored = await self._in_time(self._in_one(batch, routes))
        for delivery in batch.items:
            delivery.told(None)
        await self._follow(stored)

    async def _in_one(self, batch: _Batch, routes: bool) -> Stored:
        """Routed at once if there is time, else stored for the router."""
        if routes and self._router is not None:
            try:
                return await self._core.commits.run(
                    partial(self._routed, batch, self._router.route)
                )
            except StorageUnavailable:
                raise
            except Exception:
                log.exception("inbox.not_routed", deliveries=len(batch.items))
        return await self._core.commits.run(lambda: store(self._core, batch.events))

    async def _routed(self, batch: _Batch, route: Route) -> Stored:
        """In the writer's thread: what waits by now."""
        events = batch.events
        at_once = len(events) <= MOST_ROUTED
        return await store(self._core, events, route if at_once else None)

    async def _in_time(self, attempt: Coroutine[Any, Any, Stored]) -> Stored:
        """What is late may be committed all the same: keys are unique."""
        if self._late is not None and not self._late.done():
            attempt.close()
            raise StorageUnavailable("late")
        trial = asyncio.ensure_future(attempt)
        self._attempts.add(trial)
        trial.add_done_callback(self._heed)
        done, _ = await asyncio.wait({trial}, timeout=self._patience)
        if not done:
            self._late = trial
            raise StorageUnavailable("late")
        if isinstance(away := trial.exception(), AWAY):
            raise StorageUnavailable("unreachable", type(away).__name__) from away
        return trial.result()

    def _heed(self, attempt: asyncio.Future[Stored]) -> None:
        """Nobody may be left to hear the error of a late one."""
        self._attempts.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()

    async def _follow(self, stored: Stored) -> None:
        """What can't fail any more is done; who looks on hears of it."""
        for channel, count in stored.new.items():
            self._core.metrics.inbound.labels(channel).inc(count)
        if stored.new and stored.routed is None:
            self._core.wakeups.wake("router")
        try:
            if stored.routed is not None and self._router is not None:
                await self._router.tell(stored.routed)
            await follow.announce_moved(self._core, stored.moved)
        except StorageUnavailable as error:
            log.warning("inbox.not_announced", why=error.code)

    async def _set_by(self, batch: Sequence[_Delivery]) -> None:
        records = [encode(one.channel, one.events) for one in batch]
        try:
            await self._append(records)
        except (StorageUnavailable, OSError) as error:
            log.error("inbox.refused", deliveries=len(batch))
            for delivery in batch:
                delivery.fail(type(error).__name__)
            return
        log.warning("inbox.spooled", deliveries=len(batch), bytes=self._spool.waiting)
        for delivery in batch:
            delivery.told(None)

    async def _append(self, records: Sequence[bytes]) -> None:
        try:
            await asyncio.to_thread(self._spool.append, records)
        except (StorageUnavailable, OSError):
            if not self._core.space.release():
                raise
            await asyncio.to_thread(self._spool.append, records)

    async def drain(self) -> None:
        """Bring what waits in the spool into the database, as far as it takes it."""
        while self._spool.waiting:
            records, end = await asyncio.to_thread(self._spool.take, DRAIN_BYTES)
            try:
                await self._commit_records(records)
            except StorageUnavailable as error:
                log.info("spool.waits", why=error.code, bytes=self._spool.waiting)
                return
            await asyncio.to_thread(self._spool.done, end)
            log.info("spool.drained", deliveries=len(records))
            if self._waiting:
                await self.commit()

    async def _commit_records(self, records: Sequence[Record]) -> None:
        try:
            given = [(c, event) for c, events in records for event in events]
            run = self._core.commits.run(lambda: store(self._core, given))
            await self._follow(await self._in_time(run))
        except BaseORMException as error:
            if len(records) == 1:
                log.error("spool.refused", error=type(error).__name__)
                await asyncio.to_thread(self._spool.set_aside, [encode(*records[0])])
                return
            for record in records:
                await self._commit_records([record])


def _settle(stored: asyncio.Future[None], fault: Exception | None) -> None:
    if stored.done():
        return
    if fault is None:
        stored.set_result(None)
    else:
        stored.set_exception(fault)
