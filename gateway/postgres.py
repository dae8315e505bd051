"""One connection to PostgreSQL beside the pool: leases, heartbeat and notifications
never queue behind work, and a dead network is noticed within seconds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from socket import gaierror
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
from tortoise.backends.base.config_generator import expand_db_url

from gateway.database import Row
from gateway.errors import StorageUnavailable

SECONDS = 2.0  # for one statement, connecting included
START_SECONDS = 120.0  # that another process may take to migrate
START_LOCK = 0x6C69616E78696E  # "lianxin": a number of our own
_CUT_SECONDS = 0.05
# What Tortoise leaves as it is tells of the server or the way there, not of the rows.
# The last: the server ended this connection, and its end has not been seen yet.
_SAID = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
AWAY = (OSError, *_SAID)  # and TimeoutError with the first
# While nothing but the database has been asked for anything yet.
UNUSABLE = (*_SAID, ConnectionError, TimeoutError, gaierror)
T = TypeVar("T")
_LOGIN = ("host", "port", "user", "password", "database", "ssl")


class Line:
    """Made when first used, and made anew whenever it broke or was too slow.

    `hear` is told each payload notified on `channel`, and None after a new connection:
    what was said in between is lost.
    """

    def __init__(self, url: str, channel: str, hear: Callable[[str | None], None]):
        self._login = _login(url)
        self._channel = channel
        self._hear = hear
        self._connection: Any = None
        self._one = asyncio.Lock()  # a connection does one thing at a time

    async def rows(self, sql: str, /, *values: object) -> list[Row]:
        """Run one statement with `?` for its values, as `gateway.database.rows` does.

        Raises StorageUnavailable where it did not answer in time.
        """
        async with self._one:
            return await self._in_time(self._ask(numbered(sql), values))

    async def listen(self) -> None:
        """Make the connection where there is none, and see that it still answers."""
        await self.rows("SELECT 1 AS one")

    async def close(self) -> None:
        """A second call is harmless; using it opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _ask(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        if self._connection is None or self._connection.is_closed():
            await self._connect()
        return [dict(row) for row in await self._connection.fetch(sql, *values)]

    async def _connect(self) -> None:
        connection = await asyncpg.connect(**self._login, timeout=SECONDS)
        try:
            await connection.add_listener(self._channel, self._heard)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._hear(None)

    def _heard(self, _: object, __: int, ___: str, payload: str) -> None:
        self._hear(payload)

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=SECONDS)
            if not task.done():
                raise TimeoutError
            return task.result()
        except AWAY as error:
            await self.close()
            raise StorageUnavailable("line", type(error).__name__) from error
        finally:
            if not task.done():
                await self._cut(task)

    async def _cut(self, task: asyncio.Task[Any]) -> None:
        """Cancelling a query would ask the server first; cutting the wire does not."""
        await self.close()
        await asyncio.wait({task}, timeout=_CUT_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def starting(url: str) -> AsyncIterator[None]:
    """Hold what only one process of the cluster does at a time while it starts."""
    connection = await asyncpg.connect(
        **_login(url), timeout=SECONDS, command_timeout=START_SECONDS
    )
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", START_LOCK)
        yield
    finally:
        await connection.close()


def _login(url: str) -> dict[str, Any]:
    found = expand_db_url(url.replace("postgresql:", "postgres:", 1))["credentials"]
    return {key: found[key] for key in _LOGIN if found.get(key) is not None}


def numbered(sql: str) -> str:
    """`?` as PostgreSQL wants it: `$1`, `$2`, ..."""
    first, *rest = sql.split("?")
    return first + "".join(
        f"${n}{text}" for n, text in zip(count(1), rest, strict=False)
    )
