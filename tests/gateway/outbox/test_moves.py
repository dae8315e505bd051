"""The live numbers of a broadcast, however many write to them at once."""

import asyncio
from contextvars import copy_context
from datetime import timedelta

from gateway import database as db
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.outbox import moves
from tests.gateway.outbox.test_chunks import waits_for_us

QUIET = timedelta(minutes=5)


async def _compact(core: Core) -> None:
    async with db.transaction():
        await moves.compact(1, core.clock.now())


async def test_a_quiet_slot_becomes_one_row(core: Core, clock: ManualClock) -> None:
    for _ in range(3):
        await moves.tally({(1, "planned"): -1, (1, "accepted"): 1}, clock.now())
    clock.advance(QUIET)
    await _compact(core)
    assert await moves.counts(1) == {"planned": -3, "accepted": 3}
    assert (await db.rows("SELECT COUNT(*) AS n FROM tallies"))[0]["n"] == 2


async def test_what_a_slow_one_adds_meanwhile_is_kept(
    core: Core, clock: ManualClock
) -> None:
    """Its transaction lasted longer than a slot takes to become quiet."""
    began = clock.now()
    await moves.tally({(1, "failed"): 1}, began)
    await moves.tally({(1, "failed"): 1}, began)
    clock.advance(QUIET)
    outside = copy_context()
    async with db.transaction():
        is_postgres = db.is_postgres()
        if is_postgres:  # others read the table, and wait before they write
            await db.execute("LOCK TABLE tallies IN SHARE MODE")
        task = asyncio.create_task(_compact(core), context=outside)
        await (waits_for_us() if is_postgres else asyncio.sleep(0))
        await moves.tally({(1, "failed"): 5}, began)
    await task
    assert await moves.counts(1) == {"failed": 7}
