"""Nothing is acknowledged that is not on the disk, whatever the database does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from gateway import database as db
from gateway import keys, texts
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, InboundMessage
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.inbox import Inbox
from gateway.inbox.intake import CROWD, DRAIN_BYTES
from gateway.settings import Settings, Storage
from gateway.sla import Calendar
from gateway.tables import Inbound
from tests.labs.locking import locked
from tests.labs.process import until
from tests.labs.wire import wired

WANG = Address(AddressKind.PHONE, "+8619900000001")


def message(key: str) -> InboundMessage:
    return InboundMessage(key=key, sender=WANG, text="您好", raw=b"{}")


def core_in(folder: Path, clock: ManualClock, spool_mib: int = 1) -> Core:
    storage = Storage(data_dir=folder, reserve_mib=0, spool_mib=spool_mib)
    return Core(
        settings=Settings(storage=storage),
        clock=clock,
        keys=keys.load(folder),
        channels=ChannelSet(),
        texts=texts.load(),
        calendar=Calendar(),
    )


@asynccontextmanager
async def running(inbox: Inbox) -> AsyncIterator[Inbox]:
    task = asyncio.create_task(inbox.run())
    try:
        yield inbox
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def stored() -> list[str]:
    found = await db.rows("SELECT key FROM inbound ORDER BY id")
    return [row["key"] for row in found]


async def test_a_locked_database_spools_in_order(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5 and D-4: acknowledged from the spool, drained in order, each once."""
    core = core_in(tmp_path, clock)
    async with db.opened(sqlite_url, busy_seconds=0.3):
        async with running(Inbox(core, patience=0.1)) as inbox:
            await inbox.accept("短信", [message("before")])
            with locked(sqlite_url):
                async with asyncio.timeout(10):
                    for n in range(20):
                        await inbox.accept("短信", [message(f"k{n:02}"), message("x")])
                assert await stored() == ["before"]
                assert inbox.spooled > 0
            await inbox.accept("短信", [message("after")])
            await until(lambda: _drained(inbox), 20)
        expected = ["before", "k00", "x", *(f"k{n:02}" for n in range(1, 20)), "after"]
        assert await stored() == expected


async def test_what_comes_while_the_spool_drains_is_behind_it(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5 and D-4: also where the spool takes several commits."""
    core = core_in(tmp_path, clock, spool_mib=16)
    many = [f"k{n}" for n in range(4)]
    async with db.opened(sqlite_url, busy_seconds=0.3):
        async with running(Inbox(core, patience=0.1)) as inbox:
            with locked(sqlite_url):
                async with asyncio.timeout(30):
                    for key in many:
                        big = replace(message(key), raw=bytes(DRAIN_BYTES * 2 // 3))
                        await inbox.accept("短信", [big])
                full = inbox.spooled
                assert full > 2 * DRAIN_BYTES
            async with asyncio.timeout(20):
                while inbox.spooled == full:  # noqa: ASYNC110 - between two commits
                    await asyncio.sleep(0)
            inbox.take("短信", [message("after")], lambda _: None)
            await until(lambda: _count(5), 30)
            await until(lambda: _drained(inbox), 20)
        assert await stored() == [*many, "after"]


async def _drained(inbox: Inbox) -> bool:
    return inbox.spooled == 0


async def test_what_was_spooled_survives_the_process(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5: the next process brings it in."""
    async with db.opened(sqlite_url, busy_seconds=0.2):
        with locked(sqlite_url):
            async with running(Inbox(core_in(tmp_path, clock), patience=0.1)) as inbox:
                await inbox.accept("短信", [message("a"), message("b")])
        assert await stored() == []
    heir = Inbox(core_in(tmp_path, clock))
    async with db.opened(sqlite_url), running(heir):
        await until(lambda: _count(2), 30)
        await until(lambda: _drained(heir), 30)


async def _count(n: int) -> bool:
    return await Inbound.all().count() == n


async def test_a_full_spool_acknowledges_nothing(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """2.3: the provider has to push again."""
    big = InboundMessage(key="big", sender=WANG, text="", raw=bytes(2 * 1024 * 1024))
    inbox = Inbox(core_in(tmp_path, clock), patience=0.1)
    async with db.opened(sqlite_url, busy_seconds=0.2), running(inbox):
        with locked(sqlite_url):
            with pytest.raises(StorageUnavailable):
                await inbox.accept("短信", [big])
            await inbox.accept("短信", [message("small")])
        await until(lambda: _count(1), 10)


async def test_a_spool_that_can_not_be_made_stops_nothing(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    async with db.opened(sqlite_url, busy_seconds=0.2):
        async with running(Inbox(core_in(tmp_path, clock), patience=0.1)) as inbox:
            await inbox.accept("短信", [message("a")])
            with locked(sqlite_url), pytest.raises(StorageUnavailable):
                await inbox.accept("短信", [message("b")])
        assert await stored() == ["a"]


async def test_a_stopped_server_spools(
    postgres_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5 on PostgreSQL: the server stands still, nobody waits for it."""
    core = core_in(tmp_path, clock)
    async with db.opened(postgres_url), asyncio.timeout(60):
        async with running(Inbox(core, patience=0.3)) as inbox:
            await inbox.accept("短信", [message("before")])
            async with held(postgres_url):
                for n in range(20):
                    await inbox.accept("短信", [message(f"k{n:02}")])
                assert inbox.spooled > 0
            await until(lambda: _drained(inbox), 30)
            await inbox.accept("短信", [message("after")])
        keys = ["before", *(f"k{n:02}" for n in range(20)), "after"]
        assert await stored() == keys


async def test_a_server_that_is_down_spools(
    postgres_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5 on PostgreSQL: connections break, new ones are refused."""
    server, _, name = postgres_url.rpartition("/")
    other = await asyncpg.connect(f"{server}/postgres")
    inbox = Inbox(core_in(tmp_path, clock))
    async with db.opened(postgres_url), asyncio.timeout(60), running(inbox):
        await inbox.accept("短信", [message("before")])
        await other.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            name,
        )
        await inbox.accept("短信", [message("during")])
        assert inbox.spooled > 0
        await other.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await until(lambda: _drained(inbox), 30)
        assert await stored() == ["before", "during"]
    await other.close()


def _goodbye() -> bytes:
    """ErrorResponse: the administrator ends this connection (PostgreSQL protocol 3.0,
    message formats)."""
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


async def test_a_server_that_said_goodbye_and_is_not_gone_yet_spools(
    postgres_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """B-5: between its last word and the end of the connection, asyncpg knows no
    error of the server's."""
    inbox = Inbox(core_in(tmp_path, clock))
    async with (
        wired(postgres_url) as (url, wire),
        db.opened(url),
        asyncio.timeout(60),
        running(inbox),
    ):
        await inbox.accept("短信", [message("before")])
        wire.say(_goodbye())
        for _ in range(20):  # turns of the loop, and it is read: loopback has no way
            await asyncio.sleep(0)
        await inbox.accept("短信", [message("during")])
        assert inbox.spooled > 0
        wire.hang_up()
        await until(lambda: _drained(inbox), 30)
        assert await stored() == ["before", "during"]


@asynccontextmanager
async def held(url: str) -> AsyncIterator[None]:
    """Nothing can be written: as where the server stands still, but it can be undone
    without touching the server that other tests use."""
    other = await asyncpg.connect(url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE inbound IN EXCLUSIVE MODE")
            yield
    finally:
        await other.close()


async def test_nobody_waits_for_a_crowd_that_stays_away(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    async with db.opened(sqlite_url), running(Inbox(core_in(tmp_path, clock))) as inbox:
        many = [inbox.accept("短信", [message(f"k{n}")]) for n in range(CROWD * 4)]
        await asyncio.gather(*many)
        async with asyncio.timeout(60):
            for n in range(3):
                await inbox.accept("短信", [message(f"alone{n}")])
        assert len(await stored()) == CROWD * 4 + 3


async def test_who_only_asks_to_be_told_is_told_once(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Also where there is nothing to store, and where it can't be stored."""
    told: list[Exception | None] = []
    async with db.opened(sqlite_url, busy_seconds=0.2):
        async with running(Inbox(core_in(tmp_path, clock), patience=0.1)) as inbox:
            inbox.take("短信", [], told.append)
            assert told == []
            inbox.take("短信", [message("a")], told.append)
            await until(lambda: _told(told, 2), 20)
            assert told == [None, None]
            big = bytes(2 * 1024 * 1024)
            with locked(sqlite_url):
                event = InboundMessage(key="b", sender=WANG, text="", raw=big)
                inbox.take("短信", [event], told.append)
                await until(lambda: _told(told, 3), 20)
        assert isinstance(told[2], StorageUnavailable)
        assert await stored() == ["a"]


async def _told(told: list[Exception | None], n: int) -> bool:
    return len(told) == n


async def test_a_crowd_presses_until_it_is_served(
    sqlite_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    """And who went away meanwhile stops nobody; what it brought is kept."""
    inbox = Inbox(core_in(tmp_path, clock))
    async with db.opened(sqlite_url):
        crowd = [
            asyncio.create_task(inbox.accept("短信", [message(f"k{n}")]))
            for n in range(CROWD)
        ]
        assert not inbox.is_pressed()
        await asyncio.sleep(0)
        assert inbox.is_pressed()
        crowd[0].cancel()
        async with running(inbox):
            await asyncio.gather(*crowd[1:])
            await until(lambda: _count(CROWD), 10)
        assert inbox.is_pressed()
        clock.advance(timedelta(seconds=1))
        assert not inbox.is_pressed()
        with pytest.raises(asyncio.CancelledError):
            await crowd[0]
