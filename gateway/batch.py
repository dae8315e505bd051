"""Many rows of ours as a table in one statement, as cheaply as SQLite can take them."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from gateway import database as db

_FEW = 16  # rows below which it is not worth while to look for what is alike


def table(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """As `database.table`. On SQLite a column that says the same in all rows is bound
    once: half of what a batch costs there is binding its cells and copying them."""
    if db.is_postgres() or len(rows) < _FEW:
        return db.table(columns, rows)
    cells = dict(zip(columns, zip(*rows, strict=True), strict=True))
    alike = [name for name, column in cells.items() if _is_alike(column)]
    # What is bound first must never be null: it tells the rows from what fills them up.
    differ = [name for name in cells if name not in alike]
    sure = (name for name in (*differ, *columns) if None not in cells[name])
    teller = next(sure)
    alike = [name for name in alike if name != teller]
    order = (teller, *[name for name in differ if name != teller])
    size = padded(len(rows), len(order))
    filling = [None] * ((size - len(rows)) * len(order))
    given = chain.from_iterable(zip(*[cells[name] for name in order], strict=True))
    once = [cells[name][0] for name in alike]
    return db.values_of(order, size, tuple(alike)), [*once, *given, *filling]


def _is_alike(column: Sequence[Any]) -> bool:
    first = column[0]
    return bool(first == column[-1] and column.count(first) == len(column))


def padded(rows: int, columns: int) -> int:
    """Four sizes between a power of two and the next: few texts serve all batches, so
    none is parsed twice, and little is bound for nothing."""
    step = 1 << max(0, (rows - 1).bit_length() - 3)
    return max(rows, min(-(-rows // step) * step, db.MOST_CELLS // columns))
