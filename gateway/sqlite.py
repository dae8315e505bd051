"""SQLite as the gateway uses it: one writer, and readers that never wait for it.

Tortoise finds `client_class` here by the engine's name (see `gateway.database.config`).
Each connection has a thread. What has to be said to it is said in as few steps as
possible, because each needs the interpreter lock twice: BEGIN goes with the first
statement, a failed BEGIN is told by it.
"""

import asyncio
import random
import re
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import structlog
from tortoise.backends.base.client import (
    NestedTransactionContext,
    TransactionalDBClient,
    TransactionContext,
)
from tortoise.backends.sqlite.client import SqliteClient
from tortoise.connection import get_connections
from tortoise.exceptions import (
    IntegrityError,
    OperationalError,
    TransactionManagementError,
)

from gateway.errors import ReadTooSlow, StorageUnavailable
from gateway.fatal import disk_failed

T = TypeVar("T")
Base = sqlite3.Connection
Row = dict[str, Any]
Answer = tuple[int, list[Row]]
"""Rows changed, or else found; and the rows themselves."""

READERS = 3
READ_SECONDS = 5.0  # the longest read: a longer one keeps the log from being reused
BUSY_SECONDS = 5.0  # how long another process may hold the write lock
_CHANGES = 50_000  # rows changed between two checkpoints ...
_COMMITS = 2_000  # ... or commits
_LOG_PAGES = 16_384  # above it readers are waited for, so that the log starts anew
_WRITER = {
    "journal_mode": "WAL",
    "synchronous": "FULL",  # only this survives a power cut in WAL mode
    "foreign_keys": "ON",
    "cache_size": -64 * 1024,  # KiB
    "temp_store": "MEMORY",
    "wal_autocheckpoint": 0,  # SQLite's own would swallow an I/O error
    "journal_size_limit": 64 * 1024 * 1024,  # bytes kept for the next round
}
_READER = {
    "query_only": "ON",
    "cache_size": -16 * 1024,
    "temp_store": "MEMORY",
}
_READS = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_ALONE = re.compile(r"\s*(PRAGMA|VACUUM|ATTACH|DETACH)\b", re.IGNORECASE)

# Of SQLITE_IOERR those that tell of memory or locks, not of the disk.
_NOT_THE_DISK = frozenset(
    {
        *(sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_LOCK),
        *(sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_UNLOCK),
        *(sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK, sqlite3.SQLITE_IOERR_SHMLOCK),
        *(sqlite3.SQLITE_IOERR_BLOCKED, sqlite3.SQLITE_IOERR_GETTEMPPATH),
    }
)
log = structlog.get_logger()


def _told(error: sqlite3.Error) -> Exception:
    """What the caller hears; the process ends where the disk failed (D-3)."""
    code = getattr(error, "sqlite_errorcode", 0)
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageUnavailable("busy")
        case sqlite3.SQLITE_FULL:
            return StorageUnavailable("full")
        case sqlite3.SQLITE_IOERR if code == sqlite3.SQLITE_IOERR_SHMSIZE:
            return StorageUnavailable("full")
        case sqlite3.SQLITE_IOERR if code not in _NOT_THE_DISK:
            disk_failed("sqlite", sqlite=getattr(error, "sqlite_errorname", ""))
        case sqlite3.SQLITE_INTERRUPT:
            return ReadTooSlow()
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError(error)
    if isinstance(error, sqlite3.OperationalError):
        return OperationalError(error)
    return error


class Line:
    """One connection in its own thread; what is asked is answered in order."""

    def __init__(self, path: str, pragmas: dict[str, Any], timeout: float) -> None:
        self._path, self._pragmas, self._timeout = path, pragmas, timeout
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[
            tuple[asyncio.Future[Any] | None, Callable[[Base], Any]] | None
        ] = SimpleQueue()
        self._base: Base | None = None
        self._thread = threading.Thread(target=self._work, name="sqlite", daemon=True)

    async def open(self) -> None:
        self._thread.start()
        await self.call(lambda _: None)

    async def close(self) -> None:
        try:
            await self.call(lambda base: base.close())
        finally:
            self._asked.put(None)
            self._thread.join()

    def ask(self, function: Callable[[Base], T]) -> asyncio.Future[T]:
        """The result of `function`; it runs also where nobody waits for it any more."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._asked.put((future, function))
        return future

    async def call(self, function: Callable[[Base], T]) -> T:
        return await self.ask(function)

    def post(self, function: Callable[[Base], Any]) -> None:
        """Run `function` before what is asked later; nobody waits for it."""
        self._asked.put((None, function))

    def interrupt(self) -> None:
        """End the statement that runs now, if one does."""
        if self._base is not None:
            self._base.interrupt()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            future, function = asked
            result: Any = None
            error: BaseException | None = None
            try:
                result = function(self._connected())
            except sqlite3.Error as raised:
                error = _told(raised)
            except BaseException as raised:  # whatever it is, somebody waits for it
                error = raised
            self._answer(future, result, error)

    def _connected(self) -> Base:
        if self._base is None:
            base = sqlite3.connect(
                self._path,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=False,  # `interrupt` comes from the loop's thread
                cached_statements=512,
            )
            for name, value in self._pragmas.items():
                base.execute(f"PRAGMA {name}={value}").close()
            self._base = base
        return self._base

    def _answer(
        self,
        future: asyncio.Future[Any] | None,
        result: Any,
        error: BaseException | None,
    ) -> None:
        if future is None:
            if error is not None:
                log.warning("sqlite.failed", error=type(error).__name__)
            return
        try:
            self._loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            log.warning("sqlite.unheard")  # the loop is closed: nobody waits any more


def _settle(
    future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _statement(sql: str, values: Sequence[Any] | None) -> Callable[[Base], Answer]:
    def run(base: Base) -> Answer:
        before = base.total_changes
        rows = _rows(base.execute(sql, values or ()))
        return (base.total_changes - before) or len(rows), rows

    return run


def _rows(cursor: sqlite3.Cursor) -> list[Row]:
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _many(sql: str, values: Sequence[Sequence[Any]]) -> Callable[[Base], None]:
    return lambda base: base.executemany(sql, values).close()


def _insert(sql: str, values: Sequence[Any]) -> Callable[[Base], int]:
    return lambda base: base.execute(sql, values).lastrowid or 0


def _script(text: str) -> Callable[[Base], None]:
    """`executescript` would commit the transaction it runs in."""

    def run(base: Base) -> None:
        statement = ""
        for part in text.split(";"):
            statement += part + ";"
            if sqlite3.complete_statement(statement):
                base.execute(statement).close()
                statement = ""

    return run


class Sqlite(SqliteClient):
    """What Tortoise calls outside transactions: reads beside, writes in a queue."""

    def __init__(
        self,
        file_path: str,
        busy_seconds: float = BUSY_SECONDS,
        read_seconds: float = READ_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(file_path, **kwargs)
        self._busy_seconds, self._read_seconds = busy_seconds, read_seconds
        self._opening = asyncio.Lock()
        self._writer: Line | None = None
        self._readers: list[Line] = []
        self._idle: asyncio.LifoQueue[Line] = asyncio.LifoQueue()
        self._busy_until = 0.0  # known to be locked: nobody waits long before then
        self._changes = self._commits = 0  # at the last checkpoint; since it

    async def create_connection(self, with_db: bool) -> None:
        async with self._opening:
            if self._writer is not None:
                return
            # Who reads the log right after a crash, a recount say, mends it first and
            # holds it meanwhile: opening waits for that, later statements don't.
            writer = Line(self.filename, _WRITER, self._busy_seconds)
            await writer.open()
            writer.post(lambda base: base.execute("PRAGMA busy_timeout=0").close())
            # Each start after a crash reads all of the log; one that keeps crashing
            # would never come to a checkpoint.
            writer.post(self._checkpoint)
            for _ in range(READERS):
                reader = Line(self.filename, _READER, self._busy_seconds)
                await reader.open()
                self._readers.append(reader)
                self._idle.put_nowait(reader)
            self._writer = writer
            await self._post_connect()

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, []
        self._idle = asyncio.LifoQueue()
        for line in (*readers, *((writer,) if writer else ())):
            await line.close()

    async def writer(self) -> Line:
        if self._writer is None:
            await self.create_connection(with_db=True)
        assert self._writer is not None
        return self._writer

    def _in_transaction(self) -> TransactionContext:
        return _Outermost(self)

    async def read(self, sql: str, values: Sequence[Any] | None) -> Answer:
        """Raises ReadTooSlow where it takes longer than a reader may (D-5)."""
        await self.writer()
        line = await self._idle.get()
        loop = asyncio.get_running_loop()
        too_late = loop.call_later(self._read_seconds, line.interrupt)
        try:
            return await line.call(_statement(sql, values))
        except asyncio.CancelledError:
            line.interrupt()
            raise
        finally:
            too_late.cancel()
            self._idle.put_nowait(line)

    async def write(self, work: Callable[[Base], T]) -> T:
        """Run `work` in a transaction of its own, in one step."""

        def run(base: Base) -> T:
            self.begin(base)
            try:
                result = work(base)
                self.commit(base)
            except BaseException:
                _roll_back(base)
                raise
            return result

        return await self._next(run)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, which awaits this database and nothing else, in a transaction of
        its own and wholly in the writer's thread: one step, however many statements.

        Raises RuntimeError where it waits for anything else.
        """
        context, line = copy_context(), await self.writer()

        def run(base: Base) -> T:
            self.begin(base)
            try:
                result = context.run(_driven, _Here(self, line, base), work)
                self.commit(base)
            except BaseException:
                _roll_back(base)
                raise
            return result

        return await self._next(run)

    async def _next(self, run: Callable[[Base], T]) -> T:
        """Behind what was asked before, without a step of the loop in between.

        The lock keeps it out of a transaction of several steps, and is held no longer:
        whose BEGIN is asked for later comes later.
        """
        line = await self.writer()
        async with self._lock:
            answer = line.ask(run)
        return await answer

    def begin(self, base: Base) -> None:
        """Runs in the writer's thread. Another process may hold the lock (D-4)."""
        patience = self._busy_seconds if time.monotonic() > self._busy_until else 0.1
        deadline = time.monotonic() + patience
        while True:
            try:
                base.execute("BEGIN IMMEDIATE").close()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    self._busy_until = time.monotonic() + self._busy_seconds
                    raise
                time.sleep(random.uniform(0.002, 0.03))
            else:
                self._busy_until = 0.0
                return

    def commit(self, base: Base) -> None:
        """Runs in the writer's thread."""
        base.execute("COMMIT").close()
        self._commits += 1
        if (
            base.total_changes - self._changes > _CHANGES or self._commits > _COMMITS
        ) and self._writer is not None:
            self._writer.post(self._checkpoint)  # after the caller has its answer

    def _checkpoint(self, base: Base) -> None:
        if base.in_transaction:  # of somebody who was faster; its commit asks again
            return
        self._changes, self._commits = base.total_changes, 0
        _checkpoint(base)

    async def execute_query(
        self, query: str, values: list[Any] | None = None
    ) -> tuple[int, Sequence[Row]]:
        if _READS.match(query) and not _WRITES.search(query):
            return await self.read(query, values)
        if _ALONE.match(query):
            return await self._next(_statement(query, values))
        return await self.write(_statement(query, values))

    async def execute_query_dict(
        self, query: str, values: list[Any] | None = None
    ) -> list[Row]:
        return list((await self.execute_query(query, values))[1])

    async def execute_insert(self, query: str, values: list[Any]) -> int:
        return await self.write(_insert(query, values))

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        await self.write(_many(query, values))

    async def execute_script(self, query: str) -> None:
        await self.write(_script(query))

    async def run_all(
        self, statements: Sequence[tuple[str, Sequence[Any]]]
    ) -> list[int]:
        return await self.write(_each(statements))


def _each(
    statements: Sequence[tuple[str, Sequence[Any]]],
) -> Callable[[Base], list[int]]:
    return lambda base: [_statement(sql, values)(base)[0] for sql, values in statements]


def _roll_back(base: Base) -> None:
    if base.in_transaction:
        base.execute("ROLLBACK").close()


def _checkpoint(base: Base) -> None:
    """Move what is committed into the file, so that the log starts anew."""
    row = base.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if row[1] > _LOG_PAGES:
        # Readers come and go without a gap: hold new ones up until the last has left.
        base.execute("PRAGMA busy_timeout=200").close()
        row = base.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        base.execute("PRAGMA busy_timeout=0").close()
        log.info("sqlite.log_long", pages=row[1], moved=row[2], busy=row[0])


class Inside(SqliteClient, TransactionalDBClient):
    """What Tortoise calls inside a transaction: everything goes to the writer."""

    def __init__(self, parent: Sqlite, line: Line) -> None:
        self.connection_name = parent.connection_name
        self.capabilities = parent.capabilities
        self.fetch_inserted = parent.fetch_inserted
        self.log = parent.log
        self.filename = parent.filename
        self._client, self._line = parent, line
        self._refused: Exception | None = None
        self._finalized = False
        self._depth = 0

    def _in_transaction(self) -> TransactionContext:
        return NestedTransactionContext(_Savepoint(self))

    async def begin(self) -> None:
        """Doesn't wait: a BEGIN that failed is told by the first statement."""

        def run(base: Base) -> None:
            try:
                self._client.begin(base)
            except sqlite3.Error as error:
                self._refused = _told(error)

        self._line.post(run)

    async def commit(self) -> None:
        self._finalize()
        try:
            await self._line.call(self._within(self._client.commit))
        except Exception:
            self._line.post(_roll_back)
            raise

    async def rollback(self) -> None:
        """Doesn't wait either: whatever comes later comes after it."""
        self._finalize()
        self._line.post(_roll_back)

    def _finalize(self) -> None:
        if self._finalized:
            raise TransactionManagementError("the transaction has ended")
        self._finalized = True

    def _within(self, work: Callable[[Base], T]) -> Callable[[Base], T]:
        """SQLite may end a transaction by itself, on a full disk for one: what comes
        then must not be committed alone."""

        def run(base: Base) -> T:
            if not base.in_transaction:
                raise self._refused or StorageUnavailable("rolled_back")
            return work(base)

        return run

    async def ask(self, work: Callable[[Base], T]) -> T:
        return await self._line.call(self._within(work))

    async def execute_query(
        self, query: str, values: list[Any] | None = None
    ) -> tuple[int, Sequence[Row]]:
        return await self.ask(_statement(query, values))

    async def execute_query_dict(
        self, query: str, values: list[Any] | None = None
    ) -> list[Row]:
        return (await self.ask(_statement(query, values)))[1]

    async def execute_insert(self, query: str, values: list[Any]) -> int:
        return await self.ask(_insert(query, values))

    async def execute_many(self, query: str, values: list[list[Any]]) -> None:
        await self.ask(_many(query, values))

    async def execute_script(self, query: str) -> None:
        await self.ask(_script(query))

    async def run_all(
        self, statements: Sequence[tuple[str, Sequence[Any]]]
    ) -> list[int]:
        return await self.ask(_each(statements))

    async def savepoint(self) -> None:
        raise TransactionManagementError("not a savepoint")

    savepoint_rollback = release_savepoint = savepoint


class _Here(Inside):
    """Inside a transaction, in the writer's own thread: nobody waits for anything."""

    def __init__(self, parent: Sqlite, line: Line, base: Base) -> None:
        super().__init__(parent, line)
        self._base = base

    async def ask(self, work: Callable[[Base], T]) -> T:
        try:
            return self._within(work)(self._base)
        except sqlite3.Error as error:
            raise _told(error) from error


def _driven(here: _Here, work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine that never has to wait to its end."""
    get_connections().set(here.connection_name, here)
    running = work().__await__()
    try:
        next(running)
    except StopIteration as done:
        return cast(T, done.value)
    raise RuntimeError("a work in the writer's thread waited for something else")


class _Savepoint(Inside):
    """A transaction inside a transaction. Savepoints of one name nest by themselves."""

    def __init__(self, outer: Inside) -> None:
        super().__init__(outer._client, outer._line)
        self._outer = outer

    async def ask(self, work: Callable[[Base], T]) -> T:
        return await self._outer.ask(work)

    async def savepoint(self) -> None:
        await self._run("SAVEPOINT nested")

    async def savepoint_rollback(self) -> None:
        self._finalize()
        await self._run("ROLLBACK TO nested", "RELEASE nested")

    async def release_savepoint(self) -> None:
        self._finalize()
        await self._run("RELEASE nested")

    async def _run(self, *statements: str) -> None:
        await self.ask(_each([(one, ()) for one in statements]))


class _Outermost(TransactionContext):
    """Takes the one writer, and lets go of it whatever happens."""

    __slots__ = ("_client", "_inside", "_token")

    def __init__(self, client: Sqlite) -> None:
        self._client = client

    async def __aenter__(self) -> TransactionalDBClient:
        line = await self._client.writer()
        await self._client._lock.acquire()
        self._inside = Inside(self._client, line)
        self._token = get_connections().set(self._client.connection_name, self._inside)
        await self._inside.begin()
        return self._inside

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if not self._inside._finalized:
                if kind is None:
                    await self._inside.commit()
                else:
                    await self._inside.rollback()
        finally:
            get_connections().reset(self._token)
            self._client._lock.release()


client_class = Sqlite
