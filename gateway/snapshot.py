"""Reading the whole database at one instant, beside a gateway that goes on working.

A connection of its own that can't write, and one read transaction: what is counted
belongs together, and nothing that counts makes a sender wait.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from gateway.database import Row
from gateway.errors import StorageUnavailable

APPLICATION = "lianxin snapshot"  # as PostgreSQL lists these connections
Read = Callable[..., Awaitable[list[Row]]]
"""`await read(sql, *values)`: the rows of one statement with `?` as placeholders."""


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Read]:
    """The database at `url` as it is now, for as long as the context is open."""
    opened = _sqlite(url) if url.startswith("sqlite://") else _postgres(url)
    async with opened as read:
        yield read


@asynccontextmanager
async def _sqlite(url: str) -> AsyncIterator[Read]:
    path = url.removeprefix("sqlite://").partition("?")[0]
    base = await asyncio.to_thread(_open, path)

    async def read(sql: str, *values: Any) -> list[Row]:
        found = await asyncio.to_thread(lambda: base.execute(sql, values).fetchall())
        return [dict(row) for row in found]

    try:
        yield read
    finally:
        await asyncio.to_thread(base.close)


def _open(path: str) -> sqlite3.Connection:
    try:
        base = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=5,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.OperationalError as error:
        raise StorageUnavailable("unreachable", f"{path}: {error}") from error
    base.row_factory = sqlite3.Row
    base.execute("BEGIN")
    return base


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[Read]:
    told = {"application_name": APPLICATION}
    base = await asyncpg.connect(url, server_settings=told)

    async def read(sql: str, *values: Any) -> list[Row]:
        numbers = count(1)
        numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
        return [dict(row) for row in await base.fetch(numbered, *values)]

    try:
        async with base.transaction(isolation="repeatable_read", readonly=True):
            yield read
    finally:
        await base.close()
