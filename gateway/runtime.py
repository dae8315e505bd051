"""The background of one process: inbox, router, one sender and one listener per
channel, and the heartbeat by which other processes know that it lives."""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from gateway import database as db
from gateway.channels import Channel
from gateway.contract import Event, Listens
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.inbox.router import Router, Today
from gateway.outbox import journal, receipts
from gateway.outbox.sender import Sender
from gateway.supervisor import Supervisor
from gateway.tables import Node

log = structlog.get_logger()
HEARTBEAT_SECONDS = 5.0
STOP_SECONDS = 2.0  # how long answers are waited for; the process ends within 5


class Runtime:
    """Started once per process, after the database is open."""

    def __init__(self, core: Core, today: Today, *, alone: bool) -> None:
        self.core = core
        self.inbox = Inbox(core)
        self.supervisor = Supervisor()
        self._router = Router(core, today)
        self._senders = {c.name: Sender(core, c) for c in core.channels}
        self._alone = alone

    async def start(self) -> None:
        """Recover what a dead process left, then open for work."""
        await self.recover()
        now = self.core.clock.now()
        node = await Node.create(started_at=now, seen_at=now)
        self.core.node_id = node.id
        start = self.supervisor.start
        start("heartbeat", self._beat)
        start("inbox", self.inbox.run)
        start("router", self._router.run)
        for channel in self.core.channels:
            start(f"sender:{channel.name}", self._senders[channel.name].run)
            if isinstance(channel.adapter, Listens):
                work = partial(self._listen, channel, channel.adapter)
                start(f"listener:{channel.name}", work)

    async def drain(self) -> None:
        """Send nothing new, settle what is answered. Before the web server closes:
        some answers come in through it."""
        await asyncio.gather(*(s.stop(STOP_SECONDS) for s in self._senders.values()))

    async def stop(self) -> None:
        """Close the entries and let go; after `drain`."""
        names = list(self.supervisor.parts())
        await self.supervisor.stop(*(n for n in names if n.startswith("listener:")))
        await self.supervisor.stop()
        for channel in self.core.channels:
            await channel.adapter.close()
        await Node.filter(id=self.core.node_id).update(stopped_at=self.core.clock.now())

    async def recover(self) -> None:
        """Sends of dead processes are unknown; receipts that wait may settle them."""
        async with db.transaction():
            found = await journal.recover(self.core.clock.now(), self._alone)
            for channel in self.core.channels:
                await receipts.apply_waiting(self.core, channel.name)
        if found:
            log.warning("outbox.unknown_after_crash", messages=found)

    async def _beat(self) -> None:
        beats = 0
        while True:
            await Node.filter(id=self.core.node_id).update(
                seen_at=self.core.clock.now()
            )
            beats += 1
            if not self._alone and beats % 3 == 0:
                await self.recover()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _listen(self, channel: Channel, adapter: Listens) -> None:
        async def accept(events: Sequence[Event]) -> None:
            await self.inbox.accept(channel.name, events)

        try:
            async with adapter.listen(accept):
                channel.listening = True
                await asyncio.Event().wait()
        finally:
            channel.listening = False
