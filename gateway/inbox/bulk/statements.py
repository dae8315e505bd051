"""Statements over many rows of ours: a few of one size each, however many rows there
are, so that SQLite finds them prepared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway import batch
from gateway import database as db

Statement = tuple[str, Sequence[Any]]

# Rows in one statement. SQLite takes far longer to prepare one of thousands, and gains
# nothing more by it when it runs.
_ROWS = 256


def tables(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, list[Any]]]:
    """`db.table` for any number of rows, in as many pieces as they need."""
    size = len(rows) if db.is_postgres() else _ROWS
    for start in range(0, len(rows), size or 1):
        yield batch.table(columns, rows[start : start + size])


async def select(
    names: Sequence[str],
    columns: Mapping[str, str],
    keys: Sequence[Sequence[Any]],
    sql: str,
    *values: Any,
) -> list[Sequence[Any]]:
    """What `sql` finds for `keys`, which it knows as the table `k`; `values` are for
    its own placeholders. Rows are cells in the order of `names`; they are in order for
    each piece of `keys` only."""
    found: list[Sequence[Any]] = []
    for given, cells in tables(columns, keys):
        asked = f"WITH k AS {given} {sql}"
        found += await db.cells_at_once(names, asked, *cells, *values)
    return found


async def next_ids(table: str, count: int) -> Sequence[int]:
    """Ids for rows that name each other before they are stored, ascending.

    On SQLite the transaction has the only writer; on PostgreSQL ids that stay unused
    are lost, which harms nobody.
    """
    if db.is_postgres():
        found = await db.rows(
            f"SELECT nextval(pg_get_serial_sequence('{table}', 'id')) AS id "
            f"FROM generate_series(1, {count})"
        )
        return sorted(row["id"] for row in found)
    found = await db.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
    first = (found[0]["seq"] if found else 0) + 1
    return range(first, first + count)


def insert(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    *,
    constants: Mapping[str, Any] | None = None,
    as_: Mapping[str, str] | None = None,
    conflict: str = "",
) -> list[Statement]:
    """`columns` maps a column to BIGINT or TEXT, `as_` one to another expression;
    `constants` are what all rows have in common."""
    fixed = constants or {}
    names = ", ".join([*fixed, *columns])
    given = ((as_ or {}).get(name, f"g.{name}") for name in columns)
    values = ", ".join(["?"] * len(fixed) + [*given])
    return [
        (
            f"INSERT INTO {table} ({names}) SELECT {values} FROM {source} g "
            f"WHERE TRUE {conflict}",
            [*fixed.values(), *cells],
        )
        for source, cells in tables(columns, rows)
    ]


def update(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    *,
    as_: Mapping[str, str] | None = None,
) -> list[Statement]:
    """Set these columns of the rows that the first one, `id`, names."""
    sets = ", ".join(
        f"{name} = {(as_ or {}).get(name, f'g.{name}')}" for name in list(columns)[1:]
    )
    return [
        (f"UPDATE {table} SET {sets} FROM {source} g WHERE {table}.id = g.id", cells)
        for source, cells in tables(columns, rows)
    ]
