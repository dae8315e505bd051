"""The background of one process: inbox, router, and what it owns by lease: a sender and
a listener for each channel, the schedule. Others know by its heartbeat that it lives.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from gateway import database as db
from gateway import leases, nodes
from gateway.channels import Channel
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.hub import Change
from gateway.inbox import Inbox
from gateway.inbox.router import Router, Today
from gateway.leases import Ask, Lease
from gateway.nodes import LeaseView, NodeView
from gateway.outbox import receipts, recovery
from gateway.outbox.report import Reports
from gateway.outbox.sender import Sender
from gateway.posts import Post
from gateway.roles import EVERY, Role
from gateway.signals import Signals
from gateway.space import Storage
from gateway.supervisor import Part, Supervisor, beat
from gateway.tenure import Duty, Peer, Tenure
from gateway.watchdog import Watchdog
from gateway.workdays import corrections

log = structlog.get_logger()
HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 30.0  # for a sign of life of what looks every few seconds
BACK_OFF_SECONDS = 30.0  # after a crash loop; doubled with each further end
LONGEST_BACK_OFF_SECONDS = 300.0
REACH_TRIES = 5
CRASHES = 3  # within nodes.LOOPS
BOTS = "onebot"  # the adapter whose clients dial in
SCHEDULER = "scheduler"
CALENDAR = "calendar"
CALENDAR_SECONDS = 60.0  # how long another process's correction may go unheard
Work = Callable[[], Awaitable[None]]


async def _rows(sql: str, /, *values: object) -> list[db.Row]:
    return await db.rows(sql, *values)


def role_of(channel: Channel) -> Role:
    """Which processes may own this channel's account."""
    return Role.BOTS if channel.common.adapter == BOTS else Role.SENDER


def missing(core: Core, found: Sequence[NodeView]) -> list[Role]:
    """What is needed, for the channels that there are, and no process does now."""
    needed = {Role.WEB, Role.SCHEDULER, *map(role_of, core.channels)}
    done = {role for one in found if one.alive for role in one.roles}
    return [role for role in Role if role in needed - done]


class Runtime:
    """Started once per process, after the database is open.

    `alone`: no other process can be there (SQLite). `schedule` ticks while it runs.
    """

    def __init__(
        self,
        core: Core,
        today: Today,
        *,
        alone: bool,
        roles: frozenset[Role] = EVERY,
        schedule: Work | None = None,
        give_up: Callable[[], None] = lambda: None,
        supervise: Callable[[Callable[[Part], None]], Supervisor] = Supervisor,
    ) -> None:
        self.core = core
        self.roles = roles
        self.inbox = Inbox(core)
        self.supervisor = supervise(self._given_up)
        self.ended = ""  # the part that kept dying, where one did
        self._give_up = give_up
        self._alone = alone
        self._router = Router(core, today, self.inbox.is_pressed)
        self._signals = None if alone else Signals(core, core.settings.database_url)
        self._ask: Ask = self._signals.line.rows if self._signals else _rows
        mine = [one for one in core.channels if role_of(one) in roles]
        self._posts = {one.name: self._post(one) for one in mine}
        self._schedule = schedule if Role.SCHEDULER in roles else None
        peers = None if alone else self._peers
        self._tenure = Tenure(core, self._ask, list(self._duties()), peers)
        self._crash_loop = False
        self._elsewhere: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Recover what a dead process left, then open for work."""
        await self._reach()
        now = await nodes.now(self._ask, self.core.clock)
        await self.recover(now)
        self.core.node_id = await nodes.begin(self._ask, self.roles, now)
        names = [f"channel:{one.name}" for one in self.core.channels]
        await leases.register(self._ask, [*names, SCHEDULER])
        await self._heed_crashes()
        self._start_parts()
        await self._tenure.step()

    async def _reach(self) -> None:
        """The line is impatient; a start on a busy machine need not be."""
        for left in reversed(range(REACH_TRIES if self._signals else 0)):
            try:
                await self._ask("SELECT 1 AS one")
                return
            except StorageUnavailable:
                if not left:
                    raise

    async def drain(self) -> None:
        """Send nothing new, settle what is answered, leave the rest to the others.
        Before the web server closes: some answers come in through it."""
        await self.supervisor.stop("leases")
        await self._tenure.give_back()

    async def stop(self) -> None:
        """Let go of everything; after `drain`."""
        await self.supervisor.stop()
        for channel in self.core.channels:
            await channel.adapter.close()
        with suppress(StorageUnavailable):
            now = await nodes.now(self._ask, self.core.clock)
            await nodes.end(self._ask, self.core.node_id, now, self.ended)
        if self._signals is not None:
            await self._signals.line.close()

    async def recover(self, now: datetime) -> None:
        """Sends of dead processes are unknown; receipts that wait may settle them."""
        async with db.transaction():
            found = await recovery.recover(now, self._alone)
            for channel in self.core.channels:
                await receipts.apply_waiting(self.core, channel.name)
        if found:
            log.warning("outbox.unknown_after_crash", messages=found)

    def holds(self, name: str) -> bool:
        return name in self._tenure.held()

    def _owned(self) -> list[Sender]:
        """The senders that are at work here."""
        held = self._tenure.held()
        return [p.sender for n, p in self._posts.items() if f"channel:{n}" in held]

    def parts(self) -> Mapping[str, bool]:
        """Which background parts are well now, for /healthz."""
        well = {name: p.is_well() for name, p in self.supervisor.parts().items()}
        return {**well, "crash_loop": False} if self._crash_loop else well

    def report(self) -> dict[str, dict[str, Any]]:
        """What is known of each part, for people."""
        return {n: _told(part) for n, part in self.supervisor.parts().items()}

    def storage(self) -> Storage:
        return self.core.space.storage(self.inbox.spooled)

    def troubles(self) -> frozenset[str]:
        """What any process lacks room for: `Storage.troubles`."""
        return self.storage().troubles | self._elsewhere

    async def cluster(self) -> tuple[list[NodeView], list[LeaseView]]:
        """All processes and leases. Raises StorageUnavailable."""
        now = await nodes.now(self._ask, self.core.clock)
        found = await nodes.every(self._ask, now)
        return found, await nodes.leases(self._ask, found)

    def _post(self, channel: Channel) -> Post:
        accept = partial(self.inbox.accept, channel.name)
        return Post(self.core, channel, self.supervisor, accept)

    def _duties(self) -> list[Duty]:
        found = [
            Duty(
                name=f"channel:{name}",
                begin=post.begin,
                end=post.end,
                shared=role_of(post.channel) is Role.SENDER,
            )
            for name, post in self._posts.items()
        ]
        if self._schedule is not None:
            begin, end = self._begin_schedule, self._end_schedule
            found.append(Duty(name=SCHEDULER, begin=begin, end=end))
        return found

    def _start_parts(self) -> None:
        start = self.supervisor.start
        start("heartbeat", self._beat, PATIENCE_SECONDS)
        start("watchdog", Watchdog(self.core.metrics.stalled).run)
        start("inbox", self.inbox.run, PATIENCE_SECONDS)
        start("leases", self._tenure.run, PATIENCE_SECONDS)
        if self._posts:
            start("reports", Reports(self.core, self._owned).run, PATIENCE_SECONDS)
        if Role.WEB in self.roles:
            start("router", self._router.run)
            self.inbox.routed_by(self._router)
        if self._signals is not None:
            self._signals.attach()
            self._signals.on_change(self._changed)
            start("signals", self._signals.run, PATIENCE_SECONDS)
            start(CALENDAR, self._follow_calendar)

    async def _begin_schedule(self, _: Lease) -> None:
        assert self._schedule is not None
        self.supervisor.start(SCHEDULER, self._schedule)

    async def _end_schedule(self, _: bool) -> None:
        await self.supervisor.stop(SCHEDULER)

    def _given_up(self, part: Part) -> None:
        self.ended = part.name
        self._give_up()

    async def _heed_crashes(self) -> None:
        """F-7: a process that keeps ending itself leaves the work to others first."""
        now = await nodes.now(self._ask, self.core.clock)
        crashes = await nodes.crashes(self._ask, self.roles, now)
        self._crash_loop = crashes >= CRASHES
        if self._crash_loop:
            seconds = BACK_OFF_SECONDS * 2 ** (crashes - CRASHES)
            seconds = min(seconds, LONGEST_BACK_OFF_SECONDS)
            log.critical("process.crash_loop", ends=crashes, waits=seconds)
            self._tenure.back_off(seconds)

    async def _peers(self) -> list[Peer]:
        now = await nodes.now(self._ask, self.core.clock)
        return await nodes.peers(self._ask, Role.SENDER, now)

    async def _beat(self) -> None:
        beats = 0
        shown: frozenset[str] = frozenset()
        while True:
            now = await nodes.now(self._ask, self.core.clock)
            await nodes.seen(self._ask, self.core.node_id, now, self._said())
            if not self._alone:
                await self._hear_of_storage(now)
            if shown != (shown := self.troubles()):
                self.core.hub.publish("node", "")
            beats += 1
            if not self._alone and beats % 3 == 0:
                await self.recover(now)
            beat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _said(self) -> dict[str, Any]:
        return {
            "parts": self.report(),
            "storage": asdict(self.storage()),
            "takes": sorted(self._tenure.takes()),
        }

    async def _hear_of_storage(self, now: datetime) -> None:
        found = await nodes.every(self._ask, now)
        others = (n for n in found if n.alive and n.id != self.core.node_id)
        self._elsewhere = frozenset(what for n in others for what in n.storage.troubles)

    def _changed(self, change: Change) -> None:
        """Another process said so; what is kept in memory here may be old."""
        if change.topic in (CALENDAR, "refresh"):
            self.core.wakeups.wake_here(CALENDAR)

    async def _follow_calendar(self) -> None:
        while True:
            await self.core.wakeups.wait(CALENDAR, CALENDAR_SECONDS)
            overrides = await corrections.overrides()
            self.core.calendar = replace(self.core.calendar, overrides=overrides)


def _told(part: Part) -> dict[str, Any]:
    return {
        "well": part.is_well(),
        "deaths": part.deaths,
        "error": part.last_error,
        "silent": round(part.silent(), 1),
        "steady": None if (since := part.steady()) is None else round(since, 1),
    }
