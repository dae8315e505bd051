"""Group commit: what gathered while the last commit ran goes into the next one.

There is no waiting for a batch to fill. A lone work is committed at once; under load
one fsync serves all that came during the fsync before.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from gateway import database as db
from gateway.errors import StorageUnavailable
from gateway.late import Late

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


class _Batch(Late[_Waiting]):
    """The works of one transaction: those that wait when its turn comes."""

    def _take(self) -> Sequence[_Waiting]:
        taken = list[_Waiting]()
        while self._waiting and len(taken) < LARGEST:
            taken.append(self._waiting.popleft())
        return sorted(taken, key=lambda one: not one.early)

    async def run(self) -> list[Any]:
        return [None if one.done.done() else await one.work() for one in self.items]


class Commits:
    """One per process; needs no start and no stop."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

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
        if self._task is None:
            self._start()
        return await done

    def _start(self) -> None:
        # An empty context: a batch must not run inside its first caller's transaction.
        self._task = asyncio.get_running_loop().create_task(
            self._work(), name="commits", context=Context()
        )
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whatever is left waits for nothing more."""
        self._task = None
        if task.cancelled():
            while self._waiting:
                self._waiting.popleft().done.cancel()
        elif self._waiting:
            self._start()

    async def _work(self) -> None:
        while self._waiting:
            batch = _Batch(self._waiting)
            try:
                await _commit(batch)
            except asyncio.CancelledError:
                for one in batch.items:
                    one.done.cancel()
                raise
            # Who was served now may come along with the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)


async def _commit(batch: _Batch) -> None:
    try:
        results = await db.atomic(batch.run)
    except StorageUnavailable as error:
        for one in batch.items:  # no better alone, and each try may take seconds
            one.fail(StorageUnavailable(error.code, error.detail))
    except (Exception, asyncio.CancelledError) as error:
        if _stopping():
            raise
        await _apart(batch.items, error)
    else:
        for one, result in zip(batch.items, results, strict=True):
            one.succeed(result)


async def _apart(works: Sequence[_Waiting], error: BaseException) -> None:
    """Each by itself, and its own error to each."""
    if len(works) == 1:
        works[0].fail(error)
        return
    log.warning("commits.apart", works=len(works), error=type(error).__name__)
    for one in works:
        if not one.done.done():
            await _commit(_Batch(deque([one])))


def _stopping() -> bool:
    """Whether the committer is cancelled, and not something that a work awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
