"""What this process owns by lease: takes it, keeps it, shares it out, lets it go."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway import leases
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.leases import LASTS, MARGIN, Ask, Lease

log = structlog.get_logger()
WORKER = "leases"
LOOK_SECONDS = 0.5
RENEW_SECONDS = 2.0
BACK_OFF_SECONDS = 30.0  # who lost to another leaves it alone so long (F-4)
SHARE_SECONDS = 5.0  # between two pieces given away to whoever has less
MODEST_SECONDS = 3.0  # a free one is left to whoever has less for so long
HELD_SECONDS = (LASTS - MARGIN).total_seconds()
# For whom it was given away may have died meanwhile: then it was free no longer than
# that of a dead process is.
GIVEN_SECONDS = LASTS.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What may run only while its lease is held.

    `begin` starts it. `end` stops it: told True while the lease still holds, so that
    work can be finished, False where it is over. Neither raises.
    """

    name: str  # of the lease
    begin: Callable[[Lease], Awaitable[None]]
    end: Callable[[bool], Awaitable[None]]
    shared: bool = False  # counts when pieces are shared out evenly


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that could have shared duties and lives, as its heartbeat said."""

    node_id: int
    takes: frozenset[str]  # the leases that it would take if they were free


@dataclass(slots=True)
class _Held:
    duty: Duty
    lease: Lease
    until: float  # monotonic seconds


class Tenure:
    """`peers` tells of those that live; where nobody else can be there (SQLite) it is
    None."""

    def __init__(
        self,
        core: Core,
        ask: Ask,
        duties: Sequence[Duty],
        peers: Callable[[], Awaitable[Sequence[Peer]]] | None,
    ) -> None:
        self._core = core
        self._ask = ask
        self._duties = {duty.name: duty for duty in duties}
        self._peers = peers
        self._held: dict[str, _Held] = {}
        self._not_before: dict[str, float] = {}  # this process backs off
        self._free_since: dict[str, float] = {}
        self._lost: set[str] = set()  # and nobody was seen with it yet
        self._given: set[str] = set()  # likewise
        self._renew_at = 0.0
        self._share_at = core.clock.monotonic() + SHARE_SECONDS
        self._stepping = asyncio.Lock()

    def held(self) -> Mapping[str, Lease]:
        """What holds now by this process's own count, in no particular order."""
        now = self._core.clock.monotonic()
        return {n: one.lease for n, one in self._held.items() if now < one.until}

    def takes(self) -> frozenset[str]:
        """What others may give to this process: for its heartbeat."""
        now = self._core.clock.monotonic()
        return frozenset(
            name
            for name, duty in self._duties.items()
            if duty.shared
            and name not in self._held
            and now >= self._not_before.get(name, 0.0)
        )

    async def run(self) -> None:
        while True:
            await self._core.wakeups.wait(WORKER, LOOK_SECONDS)
            with suppress(StorageUnavailable):
                await self.step()

    async def step(self) -> None:
        """Renew, let go, take, share out. StorageUnavailable: nothing was asked."""
        async with self._stepping:
            try:
                await self._renew()
            finally:
                await self._drop_expired()
            await self._take()
            await self._share()

    async def give_back(self) -> None:
        """Stopping: finish what is held, then let the others have it at once."""
        async with self._stepping:
            held = list(self._held.values())
            await asyncio.gather(*(self._give(one) for one in held))

    def back_off(self, seconds: float) -> None:
        """Take nothing for a while: another process may fare better (F-7)."""
        at = self._core.clock.monotonic() + seconds
        self._not_before = dict.fromkeys(self._duties, at)

    async def _renew(self) -> None:
        asked = self._core.clock.monotonic()
        if asked < self._renew_at or not self._held:
            return
        left = min(one.until for one in self._held.values()) - asked
        held = [one.lease for one in self._held.values()]
        try:
            async with asyncio.timeout(max(left, 0.1)):
                kept = await leases.renew(self._ask, held)
        except TimeoutError:
            raise StorageUnavailable("leases", "not renewed in time") from None
        self._renew_at = asked + RENEW_SECONDS
        for one in list(self._held.values()):
            if one.lease in kept:
                one.until = asked + HELD_SECONDS
            else:
                await self._lose(one, "taken")

    async def _drop_expired(self) -> None:
        now = self._core.clock.monotonic()
        for one in list(self._held.values()):
            if self._peers is not None and now >= one.until:
                await self._lose(one, "expired")

    async def _lose(self, one: _Held, why: str) -> None:
        """Somebody else has it, or may soon."""
        del self._held[one.duty.name]
        self._lost.add(one.duty.name)
        log.warning("lease.lost", lease=one.lease.name, epoch=one.lease.epoch, why=why)
        await one.duty.end(False)
        self._core.hub.publish("node", "")

    async def _take(self) -> None:
        if not (missing := [n for n in self._duties if n not in self._held]):
            return
        # Where nobody else can be there, an owner that is named is dead.
        alone = self._peers is None
        owners = {} if alone else await leases.owners(self._ask)
        fair = self._fair_share(await self._others())
        for name in missing:
            if owners.get(name) not in (None, self._core.node_id):
                self._has_owner(name)
            elif self._may_take(self._duties[name], fair):
                await self._take_one(self._duties[name])

    def _has_owner(self, name: str) -> None:
        self._free_since.pop(name, None)
        self._given.discard(name)
        if name in self._lost:
            self._lost.discard(name)
            self._not_before[name] = self._core.clock.monotonic() + BACK_OFF_SECONDS

    def _may_take(self, duty: Duty, fair: int) -> bool:
        now = self._core.clock.monotonic()
        since = self._free_since.setdefault(duty.name, now)
        if now < self._not_before.get(duty.name, 0.0):
            return False
        modest = duty.shared and len(self._pieces()) >= fair
        return not modest or now - since >= MODEST_SECONDS

    async def _take_one(self, duty: Duty) -> None:
        core = self._core
        asked = core.clock.monotonic()
        found = await leases.take(self._ask, duty.name, core.node_id, core.clock.now())
        if found is None:
            return
        if duty.name in self._given:  # nobody wanted it after all
            self._given.discard(duty.name)
            self._share_at = asked + BACK_OFF_SECONDS
        self._lost.discard(duty.name)
        self._free_since.pop(duty.name, None)
        self._held[duty.name] = _Held(duty, found, asked + HELD_SECONDS)
        log.info("lease.taken", lease=found.name, epoch=found.epoch)
        await duty.begin(found)
        self._core.hub.publish("node", "")

    async def _share(self) -> None:
        """Give one away where others have less; they take it within the moment."""
        now = self._core.clock.monotonic()
        if self._peers is None or now < self._share_at:
            return
        self._share_at = now + SHARE_SECONDS
        if (gift := await self._gift()) is not None:
            await self._give(gift)
            self._given.add(gift.duty.name)
            self._not_before[gift.duty.name] = now + GIVEN_SECONDS

    async def _gift(self) -> _Held | None:
        """What is too much here, and would be taken at once by one who has less; only
        after the last one was."""
        others = await self._others()
        fair = self._fair_share(others)
        pieces = self._pieces()
        if self._given or len(pieces) <= fair:
            return None
        poor = await self._with_less_than(fair, others)
        wanted = {name for one in poor for name in one.takes}
        return next((p for p in reversed(pieces) if p.duty.name in wanted), None)

    def _pieces(self) -> list[_Held]:
        return [one for one in self._held.values() if one.duty.shared]

    async def _others(self) -> Sequence[Peer]:
        found = () if self._peers is None else await self._peers()
        return [one for one in found if one.node_id != self._core.node_id]

    def _fair_share(self, others: Sequence[Peer]) -> int:
        total = sum(duty.shared for duty in self._duties.values())
        return math.ceil(total / (1 + len(others)))

    async def _with_less_than(self, fair: int, others: Sequence[Peer]) -> list[Peer]:
        shared = {name for name, duty in self._duties.items() if duty.shared}
        owners = await leases.owners(self._ask)
        had = Counter(node for name, node in owners.items() if name in shared)
        return [one for one in others if had[one.node_id] < fair]

    async def _give(self, one: _Held) -> None:
        await one.duty.end(True)
        self._held.pop(one.duty.name, None)
        with suppress(StorageUnavailable):
            await leases.release(self._ask, one.lease)
        log.info("lease.given", lease=one.lease.name, epoch=one.lease.epoch)
        self._core.wakeups.tell_others(WORKER)
        self._core.hub.publish("node", "")
