"""Rows of ours as a table in a statement, whatever is alike in them."""

from typing import Any

import pytest

from gateway import batch
from gateway import database as db

COLUMNS = {"n": "BIGINT", "t": "TEXT", "b": "BYTEA", "yes": "BOOLEAN", "at": "BIGINT"}


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 33, 129, 1000, 6553])
async def test_rows_come_through(database: None, count: int) -> None:
    """Of one that differs, all alike, nothing at all, and so on."""
    given = [(n, "等", b"\0", n % 3 == 0, None) for n in range(count)]
    assert await _through(given) == given


@pytest.mark.parametrize(
    "odd", [(99, "", b"", True, 5), (-3, "等", b"\0", False, 0), (-1,) + (None,) * 4]
)
async def test_one_row_may_differ(database: None, odd: tuple[Any, ...]) -> None:
    given = [(n, "等", b"\0", False, None) for n in range(40)]
    given.insert(20, odd)
    assert await _through(given) == sorted(given, key=lambda row: row[0])


async def test_rows_may_be_wholly_alike(database: None) -> None:
    given = [(7, "等", None, True, 7)] * 50
    assert await _through(given) == given


@pytest.mark.parametrize("differs", ["t", "b", "at"])
async def test_the_first_column_may_be_alike(database: None, differs: str) -> None:
    """Then another tells the rows from what fills them up: one that is never null."""
    given = [
        (
            7,
            f"{n:03d}" if differs == "t" else "等",
            None if n % 2 else b"%03d" % n,
            True,
            n if differs == "at" else None,
        )
        for n in range(40)
    ]
    found = await _through(given)
    assert len(found) == 40
    assert set(found) == set(given)


async def test_other_values_stand_before_and_behind(database: None) -> None:
    given, values = batch.table(COLUMNS, [(n, "a", None, True, 9) for n in range(20)])
    found = await db.rows(
        f"SELECT CAST(? AS TEXT) AS first, g.n, g.t, g.at FROM {given} AS g "
        "WHERE g.n >= ?",
        *("x", *values, 19),
    )
    assert found == [{"first": "x", "n": 19, "t": "a", "at": 9}]


def test_sizes_are_few_and_no_larger_than_needed() -> None:
    sizes = {batch.padded(rows, 4) for rows in range(1, 2001)}
    assert len(sizes) <= 40
    assert all(rows <= batch.padded(rows, 4) for rows in range(1, 2001))
    assert all(batch.padded(n, 4) <= n * 1.25 + 1 for n in range(1, 2001))
    assert batch.padded(30_000, 1) <= 32_766


async def _through(given: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    text, values = batch.table(COLUMNS, given)
    found = await db.rows(f"SELECT * FROM {text} AS g ORDER BY n", *values)
    return [
        tuple(
            bool(row[name]) if name == "yes" and row[name] is not None else row[name]
            for name in COLUMNS
        )
        for row in found
    ]
