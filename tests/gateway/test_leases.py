"""Leases and their fence, on both engines; F-2 in small."""

import asyncio

import asyncpg
import pytest

from gateway import database as db
from gateway import leases
from gateway.clock import ManualClock
from gateway.leases import Lease, LeaseLost

NAME = "channel:sms"


async def taken(clock: ManualClock, node: int = 1, name: str = NAME) -> Lease:
    found = await leases.take(db.rows, name, node, clock.now())
    assert found is not None
    return found


@pytest.fixture
async def registered(database: None) -> None:
    await leases.register(db.rows, [NAME, "scheduler"])
    await leases.register(db.rows, [NAME, "scheduler"])  # a second process


async def run_out(lease: Lease) -> None:
    await db.execute("UPDATE leases SET until = 1 WHERE name = ?", lease.name)


async def test_each_owner_has_a_newer_epoch(
    registered: None, clock: ManualClock
) -> None:
    first = await taken(clock)
    assert await leases.release(db.rows, first)
    second = await taken(clock, 2)
    assert second.epoch > first.epoch
    assert not await leases.release(db.rows, first)
    async with db.transaction():
        await leases.fence(second)
    with pytest.raises(LeaseLost):
        async with db.transaction():
            await leases.fence(first)


async def test_nothing_is_written_after_giving_back(
    registered: None, clock: ManualClock
) -> None:
    lease = await taken(clock)
    await leases.release(db.rows, lease)
    with pytest.raises(LeaseLost, match="channel:sms"):
        await leases.fence(lease)
    assert (await leases.owners(db.rows))[NAME] is None


async def test_renewing_tells_what_is_still_held(
    registered: None, clock: ManualClock
) -> None:
    mine, lost = await taken(clock), await taken(clock, 1, "scheduler")
    await run_out(lost)
    theirs = await taken(clock, 2, "scheduler")
    assert await leases.renew(db.rows, [mine, lost]) == {mine}
    assert await leases.renew(db.rows, []) == frozenset()
    assert await leases.owners(db.rows) == {NAME: 1, "scheduler": 2}
    assert theirs.epoch == lost.epoch + 1


class TestOnPostgres:
    """Where others are there."""

    @pytest.fixture
    def database_url(self, postgres_url: str) -> str:
        return postgres_url

    async def test_one_has_it_until_it_ends(
        self, registered: None, clock: ManualClock
    ) -> None:
        lease = await taken(clock)
        assert await leases.take(db.rows, NAME, 2, clock.now()) is None
        await run_out(lease)
        assert (await leases.owners(db.rows))[NAME] is None
        assert (await taken(clock, 2)).epoch == lease.epoch + 1

    async def test_a_clock_that_jumped_back_keeps_nobody_out(
        self, registered: None, clock: ManualClock
    ) -> None:
        """E-1: else a dead owner would keep it for an hour."""
        lease = await taken(clock)
        hour = 3600 * 1_000_000
        await db.execute("UPDATE leases SET until = until + ?", hour)
        assert (await taken(clock, 2)).epoch == lease.epoch + 1

    async def test_no_owner_comes_into_a_fenced_transaction(
        self, registered: None, clock: ManualClock, postgres_url: str
    ) -> None:
        lease = await taken(clock)
        await run_out(lease)
        other = await asyncpg.connect(postgres_url)
        try:
            async with db.transaction():
                await leases.fence(lease)
                found = await other.fetch(
                    "SELECT 1 FROM leases WHERE name = $1 FOR UPDATE SKIP LOCKED", NAME
                )
                assert found == []
                # A renewal doesn't wait for the sender, nor the sender for it.
                await other.execute("UPDATE leases SET until = until WHERE epoch > 0")
        finally:
            await other.close()
        assert await leases.take(db.rows, NAME, 2, clock.now()) is not None

    async def test_of_many_takers_one_wins(
        self, registered: None, clock: ManualClock
    ) -> None:
        """F-4."""
        asked = [leases.take(db.rows, NAME, n, clock.now()) for n in range(1, 20)]
        won = [one for one in await asyncio.gather(*asked) if one is not None]
        assert len(won) == 1

    async def test_a_transaction_that_stands_still_is_ended(
        self, registered: None, clock: ManualClock
    ) -> None:
        lease = await taken(clock)
        async with db.transaction():
            await leases.fence(lease)
            shown = await db.rows("SHOW idle_in_transaction_session_timeout")
            assert shown[0]["idle_in_transaction_session_timeout"] == "5s"
        shown = await db.rows("SHOW idle_in_transaction_session_timeout")
        assert shown[0]["idle_in_transaction_session_timeout"] == "0"
