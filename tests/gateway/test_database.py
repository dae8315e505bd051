"""The models and the migrations say the same; instants and locks hold."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tortoise import Tortoise
from tortoise.migrations.autodetector import MigrationAutodetector

from gateway import database as db
from gateway.errors import SettingsError
from gateway.tables import Counter


def test_instants_come_back_as_they_were() -> None:
    at = datetime(2026, 11, 21, 23, 59, 59, 999_999, tzinfo=UTC)
    assert db.from_micros(db.to_micros(at)) == at
    assert db.to_micros(db.EPOCH - timedelta(days=1)) < 0


async def test_no_change_of_a_model_lacks_its_migration(database: None) -> None:
    detector = MigrationAutodetector(Tortoise.apps, db.MODULES)
    assert await detector.changes() == []


async def test_what_is_unique_in_a_model_is_unique_in_the_table(
    sqlite_url: str,
) -> None:
    """A changed column makes SQLite's table anew, and that forgets what was unique."""
    async with db.opened(sqlite_url):
        for models in Tortoise.apps.values():
            for model in models.values():
                meta = model._meta
                wanted = {frozenset(one) for one in meta.unique_together}
                wanted |= {
                    frozenset([name])
                    for name, field in meta.fields_map.items()
                    if field.unique and not field.pk
                }
                found = await _unique(meta.db_table)
                assert wanted <= found, meta.db_table


async def _unique(table: str) -> set[frozenset[str]]:
    return {
        frozenset(
            column["name"]
            for column in await db.rows(f"PRAGMA index_info({index['name']})")
        )
        for index in await db.rows(f"PRAGMA index_list({table})")
        if index["unique"]
    }


async def test_a_failed_transaction_leaves_nothing(database: None) -> None:
    async def half_done() -> None:
        async with db.transaction():
            await db.execute("INSERT INTO counters (name, value) VALUES (?, ?)", "a", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await half_done()
    assert await Counter.all().count() == 0


async def test_question_marks_become_what_the_engine_wants(database: None) -> None:
    await db.execute_many(
        "INSERT INTO counters (name, value) VALUES (?, ?)", [("a", 1), ("b", 2)]
    )
    found = await db.rows(
        f"SELECT value FROM counters WHERE name IN ({db.marks(2)}) ORDER BY name",
        "a",
        "b",
    )
    assert [row["value"] for row in found] == [1, 2]


ODD = (
    *("", "null", "NULL", "{}", "{a,b}", ",", " ", "a,b", "\\", "\\n", '"', "'", '\\"'),
    *("a\nb", "a\tb", "\x01", "\x7f", "党员", "😀", "\u2028", "true", "1", None),
)


@pytest.mark.parametrize("texts", [ODD, tuple(t for t in ODD if t and t.isalnum())])
async def test_any_cell_comes_through(
    database: None, texts: tuple[str | None, ...]
) -> None:
    columns = {"n": "BIGINT", "t": "TEXT", "b": "BYTEA", "yes": "BOOLEAN"}
    cells = [
        (n - 5, text, (text or "").encode(), None if n == 3 else n % 2 == 0)
        for n, text in enumerate(texts)
    ]
    given, values = db.table(columns, cells)
    found = await db.rows(f"SELECT * FROM {given} AS g ORDER BY n", *values)
    assert [tuple(row.values()) for row in found] == cells


async def test_rows_of_ours_are_a_table_of_a_statement(database: None) -> None:
    columns = {"name": "TEXT", "value": "BIGINT"}
    given, values = db.table(columns, [("a", 1), ("b", 2), ("c", 3)])
    await db.execute(
        f"INSERT INTO counters (name, value) SELECT g.name, g.value FROM {given} AS g",
        *values,
    )
    given, values = db.table(columns, [("a", 10), ("c", 30)])
    changed = await db.execute(
        f"UPDATE counters SET value = g.value FROM {given} AS g "
        "WHERE counters.name = g.name AND counters.value < ?",
        *values,
        20,
    )
    found = await db.rows("SELECT name, value FROM counters ORDER BY name")
    assert changed == 2
    assert [(r["name"], r["value"]) for r in found] == [("a", 10), ("b", 2), ("c", 30)]


def test_a_second_owner_of_the_data_is_refused(tmp_path: Path) -> None:
    with db.sole_owner(tmp_path):
        with pytest.raises(SettingsError) as caught, db.sole_owner(tmp_path):
            pass
        assert "another gateway" in caught.value.faults[0]
    with db.sole_owner(tmp_path):
        pass


async def test_a_cancelled_transaction_leaves_no_lock(database: None) -> None:
    """Cancelled after any number of steps of the loop, also while it begins. And it is
    cancelled: whoever waits for the end of the task does not wait for ever (I-1)."""

    async def work(done: asyncio.Event) -> None:
        async with db.transaction():
            await db.execute("INSERT INTO counters (name, value) VALUES (?, ?)", "c", 1)
        done.set()

    for steps in range(60):
        done = asyncio.Event()
        task = asyncio.create_task(work(done))
        for _ in range(steps):
            await asyncio.sleep(0)
        if steps % 3 == 0:  # let the database's own thread get on
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or done.is_set(), task.exception()
        async with asyncio.timeout(5), db.transaction():
            await db.execute("DELETE FROM counters")


async def test_a_cut_network_is_noticed_within_seconds(postgres_url: str) -> None:
    """F-3: else a statement waits for a quarter of an hour, or for ever."""
    async with db.opened(postgres_url):
        client: Any = db.connection()
        async with client.acquire_connection() as raw:
            wire = raw._transport.get_extra_info("socket")
            assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            found = wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert found == 20_000
