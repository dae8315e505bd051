"""Group commit: what gathered while the last commit ran goes into the next one.

There is no waiting for a batch to fill. A lone work is committed at once; under load
one fsync serves all that came during the fsync before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from gateway import database as db
from gateway.errors import StorageUnavailable

T = TypeVar("T")
LARGEST = 256  # works in one transaction, so that nobody waits behind all of a storm
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    work: Callable[[], Awaitable[Any]]
    done: asyncio.Future[Any]
    early: bool

    def succeed(self, result: Any) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Commits:
    """One per process; needs no start and no stop."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._committer: asyncio.Task[None] | None = None

    async def run(self, work: Callable[[], Awaitable[T]], *, early: bool = False) -> T:
        """Run `work` in a transaction; return its result once that is committed.

        On SQLite works run one after another in one transaction, in a task of their
        own. Where one raises, that transaction is rolled back and each runs again
        alone: so a work must be safe to run twice (build its state inside, give
        nothing away before `run` returned), and only the failing one gets its
        exception. A work whose caller is cancelled before it began doesn't run; later
        it may be committed all the same. On PostgreSQL each work has its own
        transaction, side by side.

        An `early` work comes before the others of its transaction: what became of a
        message before the receipts that ask for it.

        Raises StorageUnavailable where the database can't commit now: nothing of the
        work is stored. Never call it inside a transaction. A work awaits the database
        and nothing else, and tells no page or worker: it runs in a thread of its own.
        """
        if db.is_postgres():
            async with db.transaction():
                return await work()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, done, early))
        if self._committer is None or self._committer.done():
            self._start()
        return await done

    def _start(self) -> None:
        # An empty context: a batch must not run inside its first caller's transaction.
        self._committer = asyncio.get_running_loop().create_task(
            self._commit_all(), name="commits", context=Context()
        )

    async def _commit_all(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                batch.sort(key=lambda one: not one.early)
                await _commit([one for one in batch if not one.done.done()])
                # Who was served now may come along with the next.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for one in (*batch, *self._waiting):
                one.done.cancel()
            self._waiting = []
            raise


async def _commit(batch: Sequence[_Waiting]) -> None:
    try:
        results = await _together(batch)
    except StorageUnavailable as error:
        for one in batch:  # no better alone, and each try may take seconds
            one.fail(StorageUnavailable(error.code, error.detail))
    except (Exception, asyncio.CancelledError) as error:
        if _stopping():
            raise
        await _apart(batch, error)
    else:
        for one, result in zip(batch, results, strict=True):
            one.succeed(result)


async def _together(batch: Sequence[_Waiting]) -> list[Any]:
    if not batch:
        return []

    async def works() -> list[Any]:
        return [None if one.done.done() else await one.work() for one in batch]

    return await db.atomic(works)


async def _apart(batch: Sequence[_Waiting], error: BaseException) -> None:
    if len(batch) == 1:
        batch[0].fail(error)
        return
    log.warning("commits.apart", works=len(batch), error=type(error).__name__)
    for one in batch:
        await _commit([one])


def _stopping() -> bool:
    """Whether the committer is cancelled, and not something that a work awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
