"""The database: opening, migrating, transactions, and plain statements.

The desk uses the Tortoise models of `gateway.tables`; the flow of messages uses the
statements here, written once with `?` and run on SQLite and PostgreSQL alike.
"""

import asyncio
import fcntl
import json
import re
import socket
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeVar

from tortoise import Tortoise, connections, fields
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionContext
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.migrations.executor import MigrationExecutor
from tortoise.models import Model as TortoiseModel
from tortoise.signals import Signals
from tortoise.transactions import in_transaction

from gateway.errors import SettingsError
from gateway.sqlite import Inside, Sqlite

T = TypeVar("T")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MOST_CELLS = 32_766  # in one statement of SQLite
Row = dict[str, Any]


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 UTC: one type for instants on both engines."""
    return (at - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


class InstantField(fields.BigIntField):
    """An aware UTC datetime kept as microseconds since 1970.

    SQLite has no datetime type and PostgreSQL's is another; an integer compares,
    sorts and adds alike on both, also in plain statements.
    """

    skip_to_python_if_native = False

    def to_db_value(self, value: Any, instance: Any) -> Any:
        return to_micros(value) if isinstance(value, datetime) else value

    def to_python_value(self, value: Any) -> Any:
        return from_micros(value) if isinstance(value, int) else value


class JsonField(fields.Field[Any], dict, list):  # type: ignore[type-arg,misc]
    """JSON kept as text, read the same way on both engines."""

    SQL_TYPE = "TEXT"
    indexable = False
    skip_to_python_if_native = False

    def to_db_value(self, value: Any, instance: Any) -> Any:
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def to_python_value(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class Model(TortoiseModel):
    """A table. Tortoise would ask listeners before and after each change, through the
    event loop; there are none, and the writer's thread (`atomic`) has no loop."""

    async def _wait_for_listeners(self, signal: Signals, *values: Any) -> None:
        """Nobody listens."""

    class Meta:
        abstract = True


MODULES = {
    "gateway": {
        "models": ["gateway.tables"],
        "migrations": "gateway.migrations",
        "default_connection": "default",
    },
    "broadcasts": {
        "models": ["broadcasts.tables"],
        "migrations": "broadcasts.migrations",
        "default_connection": "default",
    },
}


def config(url: str, **sqlite: float) -> dict[str, Any]:
    """Tortoise configuration for one database URL; `sqlite` as `gateway.sqlite`."""
    return {"connections": {"default": _engine(url, sqlite)}, "apps": MODULES}


async def _nothing_to_reset(connection: object) -> None:
    """Nobody leaves a setting or a lock behind: asyncpg need not ask the server to
    forget them after each transaction."""


async def _heed_the_network(connection: Any) -> None:
    """Where the network is cut, Linux keeps trying for a quarter of an hour, and one
    that only waits for an answer waits for ever."""
    wire = connection._transport.get_extra_info("socket")
    if wire is None or wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _NETWORK.items():
        if (option := getattr(socket, name, None)) is not None:
            wire.setsockopt(socket.IPPROTO_TCP, option, value)


_NETWORK = {  # options of TCP, as far as the system has them (tcp(7))
    "TCP_KEEPIDLE": 5,  # seconds of silence until the other side is asked ...
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 20_000,  # milliseconds that anything may go unacknowledged
}
_POOL = {
    "maxsize": 10,  # connections of a process; PostgreSQL allows 100 in all by default
    "statement_cache_size": 500,
    "reset": _nothing_to_reset,
    "init": _heed_the_network,
    "timeout": 20,  # seconds for a new connection
}


def _engine(url: str, sqlite: Mapping[str, float]) -> dict[str, Any]:
    if not url.startswith("sqlite://"):
        engine = expand_db_url(re.sub(r"^postgres(ql)?://", "asyncpg://", url))
        engine["credentials"] = {**_POOL, **engine["credentials"]}
        return engine
    path = url.removeprefix("sqlite://").partition("?")[0]
    return {"engine": "gateway.sqlite", "credentials": {"file_path": path, **sqlite}}


DEVELOPMENT = config("sqlite://data/migrations.sqlite3")
"""For `make migration`: the tool compares the models with the migrations' files."""


@asynccontextmanager
async def opened(url: str, **sqlite: float) -> AsyncIterator[None]:
    """Connect, migrate, and keep the database open while the context lasts.

    `busy_seconds` and `read_seconds` bound what SQLite waits for.
    """
    # Tortoise keeps statements by connection name, in the dialect of the first engine.
    EXECUTOR_CACHE.clear()
    await Tortoise.init(config=config(url, **sqlite), _enable_global_fallback=True)
    try:
        await migrate()
        yield
    finally:
        await Tortoise.close_connections()


async def migrate() -> None:
    """All or nothing: Tortoise notes a migration after it committed it, and a process
    that dies in between could never start again."""
    executor = MigrationExecutor(connections.get("default"), MODULES)
    # Where the list is missing Tortoise finds out by an error, and in PostgreSQL that
    # would end the transaction.
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))
    async with transaction():
        await MigrationExecutor(connections.get("default"), MODULES).migrate()


@contextmanager
def sole_owner(data_dir: Path) -> Iterator[None]:
    """Hold the lock that keeps a second process off the same SQLite file."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lianxin.lock").open("w") as lock:
        _lock(lock, data_dir)
        yield


def _lock(lock: IO[str], data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsError(
            [
                f"{data_dir}: another gateway runs on this data; stop it, or use "
                "PostgreSQL (DATABASE_URL) for several processes"
            ]
        ) from None


def connection() -> BaseDBAsyncClient:
    """The connection of the transaction this task is in, else the shared one."""
    found: BaseDBAsyncClient = connections.get("default")
    return found


def is_postgres() -> bool:
    return bool(connection().capabilities.dialect == "postgres")


_PLACEHOLDER = re.compile(r"\?")


def _for_engine(sql: str) -> str:
    return _numbered(sql) if is_postgres() else sql


@lru_cache(maxsize=1000)
def _numbered(sql: str) -> str:
    number = iter(range(1, 100_000))
    return _PLACEHOLDER.sub(lambda _: f"${next(number)}", sql)


async def rows(sql: str, *values: Any) -> list[Row]:
    """Run one statement, return its rows. `sql` holds `?` only as placeholders."""
    return await connection().execute_query_dict(_for_engine(sql), list(values))


async def rows_at_once(names: Sequence[str], sql: str, *values: Any) -> list[Row]:
    """As `rows`, for many rows (numbers, texts). `names` are the columns of `sql`."""
    found = await cells_at_once(names, sql, *values)
    return [dict(zip(names, row, strict=True)) for row in found]


async def cells_at_once(
    names: Sequence[str], sql: str, *values: Any
) -> list[Sequence[Any]]:
    """As `rows_at_once`, each row as its cells in the order of `names`.

    On SQLite each row that is fetched makes its thread ask for the interpreter again,
    beside a busy loop. So all of them come as one.
    """
    if is_postgres():
        return [tuple(row.values()) for row in await rows(sql, *values)]
    columns = ", ".join(names)
    [found] = await rows(
        f"SELECT json_group_array(json_array({columns})) AS found FROM ({sql})", *values
    )
    cells: list[Sequence[Any]] = json.loads(found["found"])
    return cells


async def execute(sql: str, *values: Any) -> int:
    """Run one statement, return how many rows it changed."""
    current: Any = connection()
    if is_postgres():
        changed = await current._translate_exceptions(_changed, sql, values)
    else:
        changed, _ = await current.execute_query(sql, list(values))
    return int(changed)


async def _changed(client: Any, sql: str, values: Sequence[Any]) -> int:
    """Tortoise reads the object id, always 0, from the status of an INSERT."""
    async with client.acquire_connection() as raw:
        status: str = await raw.execute(_numbered(sql), *values)
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


async def execute_many(sql: str, values: Sequence[Sequence[Any]]) -> None:
    if values:
        await connection().execute_many(_for_engine(sql), [list(v) for v in values])


async def run_all(statements: Sequence[tuple[str, Sequence[Any]]]) -> list[int]:
    """Run several statements all or none, return how many rows each changed.

    One step on SQLite, where every step costs two turns of the interpreter lock.
    """
    current = connection()
    if isinstance(current, Sqlite | Inside):
        return await current.run_all(statements)
    async with transaction():
        return [await execute(sql, *values) for sql, values in statements]


def table(
    columns: Mapping[str, str], values: Sequence[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """Rows of ours as a table in a statement, and its values: one statement a batch.

    `columns` maps a name to its type on PostgreSQL; the first is never null. Put the
    text after FROM, with an alias. SQLite takes 32,766 cells in a statement.
    """
    if is_postgres():
        kinds = columns.values()
        casts = ", ".join(_CAST.get(kind, _AS_TEXT).format(kind) for kind in kinds)
        names = ", ".join(columns)
        text = f"(SELECT * FROM unnest({casts}) AS given({names}))"
        given = zip(kinds, zip(*values, strict=True), strict=True)
        return text, [_array(kind, column) for kind, column in given]
    cells = list(chain.from_iterable(values))
    rows = _padded(len(values), len(columns))
    cells += [None] * (rows * len(columns) - len(cells))
    return values_of(tuple(columns), rows), cells


_AS_TEXT = "CAST(CAST(? AS TEXT) AS {}[])"
_CAST = {"BYTEA": "CAST(? AS {}[])"}


def _array(kind: str, column: Sequence[Any]) -> Any:
    """As PostgreSQL reads an array: asyncpg would look at each cell several times in
    turn, and that is half of what a row costs. Bytes it writes best itself."""
    if kind in _CAST:
        return list(column)
    text = json.dumps(column, ensure_ascii=False)[1:-1]
    if "\\" in text:  # JSON has more to escape, and other ways
        text = ",".join(map(_cell, column))
    return f"{{{text}}}"


def _cell(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _padded(rows: int, columns: int) -> int:
    """A power of two, as long as SQLite takes it: then a few texts of statements serve
    all batches, and none is parsed twice."""
    return max(rows, min(1 << max(0, rows - 1).bit_length(), MOST_CELLS // columns))


@lru_cache(maxsize=1000)
def values_of(columns: tuple[str, ...], rows: int, once: tuple[str, ...] = ()) -> str:
    """The text of a table on SQLite. `once` are columns alike in all rows, bound
    before the others; a row that is null in the first of `columns` only fills up."""
    alike = [f"? AS {name}" for name in once]
    each = [f"column{n} AS {name}" for n, name in enumerate(columns, start=1)]
    row = f"({marks(len(columns))})"
    return (
        f"(SELECT {', '.join([*alike, *each])} FROM (VALUES "
        f"{', '.join([row] * rows)}) WHERE column1 IS NOT NULL)"
    )


def marks(count: int) -> str:
    """`?, ?, ?` for an IN list."""
    return ", ".join("?" * count)


@asynccontextmanager
async def transaction() -> AsyncIterator[None]:
    """All or nothing. No network call and no new task inside."""
    context = in_transaction("default")
    await _enter(context)
    try:
        yield
    except BaseException as error:
        await _roll_back(context, error)
        raise
    await context.__aexit__(None, None, None)


async def atomic(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in a transaction. It awaits the database and nothing else: on SQLite
    all of it runs in the writer's thread, where statements cost no steps between."""
    current = connection()
    if isinstance(current, Sqlite):
        return await current.run(work)
    async with transaction():
        return await work()


async def _enter(context: TransactionContext) -> None:
    """Tortoise takes a connection before BEGIN, and keeps it for ever where the task
    is cancelled in between (seen in 1.1.9)."""
    try:
        await context.__aenter__()
    except asyncio.CancelledError as error:
        if hasattr(context, "token"):  # it has the connection
            await _roll_back(context, error)
        raise


async def _roll_back(context: TransactionContext, error: BaseException) -> None:
    """What goes wrong here must not take the place of a cancellation: who cancelled
    would wait for ever for a task that goes on."""
    try:
        await context.__aexit__(type(error), error, error.__traceback__)
    except Exception:
        if not isinstance(error, asyncio.CancelledError):
            raise


def for_update() -> str:
    """Row locks that other processes step over; SQLite has one writer anyway."""
    return " FOR UPDATE SKIP LOCKED" if is_postgres() else ""
