"""The only apscheduler import: it ticks, tables decide what is due.

A tick late, doubled or lost changes nothing but the moment of the work.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from broadcasts import daily, running
from gateway.clock import SystemClock
from gateway.core import Core
from gateway.members import erasure
from gateway.outbox.shares import Balance

log = structlog.get_logger()

SECONDS = 5
WORK_SECONDS = 1  # how soon a large audience is begun with
BALANCE_SECONDS = 1  # how soon messages leave by another account
LATE_SECONDS = 60  # a tick may start a big notice
_WORK: tuple[tuple[str, Callable[[Core], Awaitable[None]]], ...] = (
    ("notices", running.start_due),
    ("daily", daily.fire_due),
    ("settle", running.settle),
    ("erasures", erasure.finish),
)


class Heartbeat:
    """When the last tick ended, for whoever watches."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._balance = Balance(core)
        self._working = asyncio.Lock()
        self._at = core.clock.monotonic()

    def begin(self) -> None:
        """Ticking starts now; before that nobody missed it."""
        self._at = self._core.clock.monotonic()

    async def beat(self) -> None:
        await tick(self._core)
        self._at = self._core.clock.monotonic()

    async def work(self) -> None:
        """Beside the ticks, which must not wait for it."""
        if self._working.locked():
            return
        async with self._working:
            await running.work_off(self._core)

    async def balance(self) -> None:
        """Between the accounts of a kind."""
        try:
            await self._balance.work()
        except Exception:
            log.exception("tick.failed", part="balance")

    async def is_alive(self) -> bool:
        return self._core.clock.monotonic() - self._at < LATE_SECONDS


async def tick(core: Core) -> None:
    """Do what is due now. One part's fault doesn't keep the others from working."""
    for part, work in _WORK:
        try:
            await work(core)
        except Exception:
            log.exception("tick.failed", part=part)


@asynccontextmanager
async def ticking(heartbeat: Heartbeat) -> AsyncIterator[None]:
    """Tick at once and every few seconds while the context is open."""
    heartbeat.begin()
    scheduler = AsyncIOScheduler(timezone=UTC)
    works = (
        (heartbeat.beat, SECONDS, 1),
        (heartbeat.work, WORK_SECONDS, 2),  # the second finds the first and goes
        (heartbeat.balance, BALANCE_SECONDS, 1),
    )
    for work, seconds, instances in works:
        scheduler.add_job(
            work,
            "interval",
            seconds=seconds,
            # What became due while nobody ticked has waited long enough. And where
            # each life is shorter than the interval nothing would ever be done.
            next_run_time=SystemClock().now(),
            misfire_grace_time=None,
            coalesce=True,
            max_instances=instances,
        )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)
