"""One channel's sender, its listener and who asks its provider about what is in doubt:
at work only while its lease is held here."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from gateway.channels import Channel
from gateway.contract import Accept, DeliveryReceipt, Event, Listens, Queries
from gateway.core import Core
from gateway.inbox.rows import key_of
from gateway.leases import Lease, LeaseLost
from gateway.outbox import queries, self_test
from gateway.outbox.sender import Sender
from gateway.supervisor import Supervisor, is_storage_trouble
from gateway.tenure import WORKER

log = structlog.get_logger()
STOP_SECONDS = 2.0  # how long answers are waited for; the process ends within 5
AGAIN_SECONDS = 1.0  # between two tries to settle what was answered
PATIENCE_SECONDS = 120.0  # for a sign of life of who asks: an answer takes its time


class Post:
    """Opened and closed in order, however fast leases come and go."""

    def __init__(
        self, core: Core, channel: Channel, supervisor: Supervisor, accept: Accept
    ) -> None:
        self.channel = channel
        self.sender = Sender(core, channel)
        self._core = core
        self.supervisor = supervisor
        self._accept = accept
        self._last: asyncio.Task[None] | None = None

    @property
    def _sending(self) -> str:
        return f"sender:{self.channel.name}"

    @property
    def _listening(self) -> str:
        return f"listener:{self.channel.name}"

    @property
    def _asking(self) -> str:
        return queries.asking(self.channel.name)

    async def begin(self, lease: Lease) -> None:
        """Start as soon as what went before has been closed."""
        self._next(self._open(lease))

    async def end(self, holds: bool) -> None:
        """Stop. Where the lease still `holds`, return when everything is settled."""
        if holds:
            await self._next(self._close())
        else:
            self._next(self._leave())

    def _next(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def after(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await asyncio.gather(before, return_exceptions=True)
            await work

        self._last = asyncio.create_task(after(self._last))
        return self._last

    async def _open(self, lease: Lease) -> None:
        self.sender.lease = lease
        self.supervisor.start(self._sending, self._send)
        if isinstance(self.channel.adapter, Listens):
            self.supervisor.start(self._listening, self._listen)
        if isinstance(self.channel.adapter, Queries):
            self.supervisor.start(self._asking, self._ask, PATIENCE_SECONDS)

    async def _close(self) -> None:
        """First the sender: answers come in through the listener."""
        await self._settle(once=True)
        await self._stop(self._asking, self._sending, self._listening)

    async def _leave(self) -> None:
        """The account may be somebody else's by now: first the sessions. What was
        answered is still told, as evidence, as soon as the database can be reached."""
        settling = asyncio.create_task(self._settle(once=False))
        await self._stop(self._asking, self._listening, self._sending)
        await settling

    async def _stop(self, *parts: str) -> None:
        await self.supervisor.stop(*parts)
        for part in (self._sending, self._asking):
            self._core.wakeups.gone(part)

    async def _settle(self, *, once: bool) -> None:
        while True:
            try:
                await self.sender.stop(STOP_SECONDS)
                return
            except Exception as error:
                log.warning("sender.unsettled", channel=self.channel.name)
                if once or not is_storage_trouble(error):
                    return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _send(self) -> None:
        try:
            await self_test.begin(self._core, self.channel)
            await self.sender.run()
        except LeaseLost as error:
            log.warning("sender.fenced", channel=self.channel.name, why=error.detail)
            self._core.wakeups.wake_here(WORKER)

    async def _listen(self) -> None:
        adapter = self.channel.adapter
        assert isinstance(adapter, Listens)
        try:
            async with adapter.listen(self._take_in):
                self.channel.listening = True
                await asyncio.Event().wait()
        finally:
            self.channel.listening = False

    async def _ask(self) -> None:
        await queries.run(self._core, self.channel)

    async def _take_in(self, events: Sequence[Event]) -> None:
        """Receipts go to the sender, which settles the answers that they follow. One
        that says that somebody refuses us is stored by itself: it closes the gate."""
        told = [
            (key_of(one), one)
            for one in events
            if isinstance(one, DeliveryReceipt) and not one.opted_out
        ]
        if len(told) < len(events) or not await self.sender.arrivals.put(told):
            await self._accept(events)
