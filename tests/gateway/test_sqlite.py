"""One writer, readers beside it, and what happens when the lock is somebody else's."""

import asyncio
import contextvars
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tortoise.exceptions import IntegrityError, OperationalError

from gateway import database as db
from gateway.errors import ReadTooSlow, StorageUnavailable
from gateway.space import MIB, Space
from gateway.sqlite import _COMMITS, READERS
from gateway.tables import Counter
from tests.labs.locking import locked

INSERT = "INSERT INTO counters (name, value) VALUES (?, ?)"
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT count(*) AS n FROM n"
)


async def names() -> list[str]:
    found = await db.rows("SELECT name FROM counters ORDER BY name")
    return [row["name"] for row in found]


async def test_reads_never_wait_for_the_writer(sqlite_url: str) -> None:
    async with db.opened(sqlite_url):
        async with db.transaction():
            await db.execute(INSERT, "a", 1)
            outside = contextvars.Context()
            seen = await asyncio.create_task(names(), context=outside)
            models = asyncio.create_task(_models(), context=outside)
            assert (seen, await models, await names()) == ([], 0, ["a"])
        assert await names() == ["a"]


async def _models() -> int:
    return await Counter.all().count()


async def test_what_is_committed_is_read_at_once(sqlite_url: str) -> None:
    async with db.opened(sqlite_url):
        for n in range(200):
            await db.execute(INSERT, f"n{n:03}", n)
            assert len(await names()) == n + 1
            await Counter.create(name=f"o{n:03}", value=n)
            assert await Counter.filter(name=f"o{n:03}").exists()
            await Counter.filter(name=f"o{n:03}").delete()


async def test_a_read_has_its_time(sqlite_url: str) -> None:
    """D-5; and the others are answered meanwhile, and after it."""
    async with db.opened(sqlite_url, read_seconds=0.2):
        slow = asyncio.create_task(db.rows(ENDLESS))
        await asyncio.sleep(0.01)
        assert await names() == []
        with pytest.raises(ReadTooSlow):
            await slow
        for _ in range(READERS * 2):
            assert await names() == []


async def test_a_page_that_went_away_reads_no_further(sqlite_url: str) -> None:
    async with db.opened(sqlite_url), asyncio.timeout(4):
        for _ in range(READERS * 2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await db.rows(ENDLESS)
        assert await names() == []


async def test_a_reader_writes_nothing(sqlite_url: str) -> None:
    async with db.opened(sqlite_url):
        (written,) = await db.rows(
            "WITH given(n) AS (SELECT 'a') "
            "INSERT INTO counters (name, value) SELECT n, 1 FROM given RETURNING name"
        )
        assert written == {"name": "a"}
        assert await names() == ["a"]


async def test_several_statements_are_one_step(database: None) -> None:
    changed = await db.run_all(
        [
            (INSERT, ("a", 1)),
            (INSERT, ("b", 2)),
            ("UPDATE counters SET value = value + ?", (10,)),
        ]
    )
    assert changed == [1, 1, 2]
    with pytest.raises(IntegrityError):
        await db.run_all([(INSERT, ("c", 1)), (INSERT, ("a", 1))])
    assert await names() == ["a", "b"]
    async with db.transaction():
        assert await db.run_all([(INSERT, ("c", 1)), (INSERT, ("d", 1))]) == [1, 1]
    assert await names() == ["a", "b", "c", "d"]


async def test_a_transaction_inside_a_transaction(database: None) -> None:
    async with db.transaction():
        await db.execute(INSERT, "a", 1)
        with pytest.raises(ZeroDivisionError):
            await _half_done()
        async with db.transaction():
            await db.execute(INSERT, "c", 1)
    assert await names() == ["a", "c"]


async def _half_done() -> None:
    async with db.transaction():
        await db.execute(INSERT, "b", 1)
        raise ZeroDivisionError


async def test_a_wrong_statement_says_so_and_hurts_nobody(sqlite_url: str) -> None:
    async with db.opened(sqlite_url):
        with pytest.raises(OperationalError):
            await db.rows("SELECT nothing FROM nowhere")
        with pytest.raises(OperationalError):
            await db.execute("DELETE FROM nowhere")
        with pytest.raises(IntegrityError):
            await db.execute_many(INSERT, [("a", 1), ("a", 2)])
        assert await names() == []


async def test_a_lock_of_somebody_else_is_waited_for(sqlite_url: str) -> None:
    """D-4, when it is gone in time."""
    async with db.opened(sqlite_url, busy_seconds=20):
        with locked(sqlite_url):
            waiting = asyncio.create_task(db.execute(INSERT, "a", 1))
            await asyncio.sleep(0.05)
            assert await names() == []
            assert not waiting.done()
        assert await waiting == 1


async def test_a_lock_that_stays_is_told_in_time(sqlite_url: str) -> None:
    """D-4, when it stays: no transaction stays open, nobody waits in a queue."""
    async with db.opened(sqlite_url, busy_seconds=0.3):
        with locked(sqlite_url):
            began = time.monotonic()
            results = await asyncio.gather(
                *(db.execute(INSERT, f"n{n}", n) for n in range(5)),
                _in_a_transaction("x"),
                _in_a_transaction("y", tries=3),
                return_exceptions=True,
            )
            assert time.monotonic() - began < 3
        assert [type(one) for one in results] == [StorageUnavailable] * 7
        assert {one.code for one in results if isinstance(one, StorageUnavailable)} == {
            "busy"
        }
        assert await names() == []
        await _in_a_transaction("z")
        assert await names() == ["z"]


async def _in_a_transaction(name: str, tries: int = 1) -> None:
    """Also who goes on after an error gets nothing committed alone."""
    async with db.transaction():
        for n in range(tries - 1):
            with pytest.raises(StorageUnavailable):
                await db.execute(INSERT, f"{name}{n}", n)
        await db.execute(INSERT, name, 1)


async def test_the_log_starts_anew(sqlite_url: str) -> None:
    """D-5: it keeps near what is written between two checkpoints."""
    async with db.opened(sqlite_url):
        given = [(f"{n:05}" * 20, n) for n in range(5000)]
        for _ in range(60):
            await db.execute_many(INSERT, given)
            await db.execute("DELETE FROM counters")
        assert _log_mib(sqlite_url) < 64


async def test_a_log_left_by_a_crash_is_moved_at_the_start(
    sqlite_url: str, tmp_path: Path
) -> None:
    crashed = tmp_path / "crashed.sqlite3"
    async with db.opened(sqlite_url):
        await db.execute("CREATE TABLE ballast (data BLOB)")
        await db.execute("INSERT INTO ballast VALUES (zeroblob(1048576))")
        for end in ("", "-wal"):  # as a kill leaves them
            shutil.copy(f"{_path(sqlite_url)}{end}", f"{crashed}{end}")
    async with db.opened(f"sqlite://{crashed}"):
        await db.execute(INSERT, "any", 1)  # comes after what is done at the start
        with closing(sqlite3.connect(f"file:{crashed}?immutable=1", uri=True)) as file:
            ((found,),) = file.execute("SELECT LENGTH(data) FROM ballast").fetchall()
    assert found == MIB  # without the log


async def test_the_log_starts_anew_between_transactions_only(sqlite_url: str) -> None:
    """Its turn may come when somebody's transaction of several steps is open."""
    async with db.opened(sqlite_url):

        async def steps(name: str) -> None:
            async with db.transaction():
                await db.execute(INSERT, name, 1)
                await asyncio.sleep(0)
                await db.execute("DELETE FROM counters WHERE name = ?", name)

        with capture_logs() as logs:
            many = (db.execute(INSERT, f"n{n}", n) for n in range(_COMMITS + 10))
            await asyncio.gather(*many, *(steps(f"s{n}") for n in range(50)))
            await db.execute_many(INSERT, [(f"{n:0100}", n) for n in range(60_000)])
            await db.execute("DELETE FROM counters")
            await db.execute(INSERT, "last", 1)
        assert logs == []
        assert await names() == ["last"]


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Another program reads, and does not come to an end."""
    with closing(sqlite3.connect(_path(url), isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM counters").fetchall()
        yield


async def test_a_reader_that_stays_is_told_of_until_it_goes(sqlite_url: str) -> None:
    """D-5: the log can't start anew behind it; what is written is written."""
    space = Space(Path("/"), 0, _path(sqlite_url), log_bytes=66 * MIB)
    async with db.opened(sqlite_url):
        await db.execute("CREATE TABLE ballast (data BLOB)")
        with reading(sqlite_url):
            for _ in range(70):
                await db.execute("INSERT INTO ballast VALUES (zeroblob(1048576))")
            assert space.log_long
            assert "log_long" in space.storage(0).troubles
        await db.execute_many(INSERT, [(str(n), n) for n in range(50_001)])
        await db.execute(INSERT, "after the checkpoint", 1)
        assert not space.log_long
        assert len(await names()) == 50_002


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite://"))


def _log_mib(url: str) -> float:
    return Path(f"{_path(url)}-wal").stat().st_size / MIB
