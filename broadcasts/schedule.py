"""The only apscheduler import: it ticks, tables decide what is due.

A tick late, doubled or lost changes nothing but the moment of the work.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from broadcasts import daily, running
from gateway.core import Core

log = structlog.get_logger()

SECONDS = 5
_WORK: tuple[tuple[str, Callable[[Core], Awaitable[None]]], ...] = (
    ("notices", running.start_due),
    ("daily", daily.fire_due),
    ("settle", running.settle),
)


async def tick(core: Core) -> None:
    """Do what is due now. One part's fault doesn't keep the others from working."""
    for part, work in _WORK:
        try:
            await work(core)
        except Exception:
            log.exception("tick.failed", part=part)


@asynccontextmanager
async def ticking(core: Core) -> AsyncIterator[None]:
    """Tick every few seconds while the context is open."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    scheduler.add_job(
        tick,
        "interval",
        args=[core],
        seconds=SECONDS,
        misfire_grace_time=None,
        coalesce=True,
        max_instances=1,
    )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)
