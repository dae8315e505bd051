"""Keeps the background parts alive and says which are: a part that dies is started
again and seen, never silently missing."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog
from tortoise.exceptions import BaseORMException, IntegrityError

from gateway.errors import StorageUnavailable
from gateway.postgres import AWAY

log = structlog.get_logger()
LONGEST_PAUSE = 30.0  # seconds between two starts of a part that keeps dying
SEEN_SECONDS = 30.0  # how long a fault makes the health red: monitors look seldom
DEATHS = 3  # within the window: the process ends, its service manager starts anew
WINDOW_SECONDS = 60.0
_PART: ContextVar["Part"] = ContextVar("part")
_STORAGE = (*AWAY, BaseORMException, StorageUnavailable, sqlite3.Error)


@dataclass(slots=True)
class Part:
    """What is known of one background part. Times are seconds of the loop's clock."""

    name: str
    patience: float | None = None  # it gives a sign of life more often than that
    alive: bool = True
    deaths: int = 0
    last_error: str = ""
    beat_at: float = field(default_factory=lambda: _now())
    died_at: float | None = None
    red_until: float = 0.0
    counted: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))

    def silent(self) -> float:
        """Seconds since its last sign of life."""
        return _now() - self.beat_at

    def is_well(self) -> bool:
        """Alive, not silent, and not dead a moment ago by a fault of its own."""
        if self.patience is not None and self.silent() > self.patience:
            return False
        return self.alive and _now() >= self.red_until

    def steady(self) -> float | None:
        """Seconds since it died last; None: it never did."""
        return None if self.died_at is None else _now() - self.died_at


def _now() -> float:
    return asyncio.get_running_loop().time()


def beat() -> None:
    """A sign of life of the part in which this is called; elsewhere nothing."""
    part = _PART.get(None)
    if part is not None:
        part.beat_at = _now()


class Supervisor:
    """`give_up` is told of a part that died too often: the process had better end."""

    def __init__(self, give_up: Callable[[Part], None] = lambda part: None) -> None:
        self._parts: dict[str, Part] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._give_up = give_up

    def start(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        patience: float | None = None,
    ) -> None:
        """Run `work` for ever, again after it raised. A plain return ends it."""
        part = self._parts[name] = Part(name, patience)
        # An empty context: a part must not inherit its starter's transaction.
        context = Context()
        context.run(_PART.set, part)
        self._tasks[name] = asyncio.get_running_loop().create_task(
            self._keep(part, work), name=name, context=context
        )

    def parts(self) -> Mapping[str, Part]:
        return self._parts

    async def stop(self, *names: str) -> None:
        """Cancel these parts, or all, and wait until they are gone."""
        chosen = names or tuple(self._tasks)
        tasks = [self._tasks.pop(name) for name in chosen if name in self._tasks]
        for name in chosen:
            self._parts.pop(name, None)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self, part: Part, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                part.alive = False
                return
            except Exception as error:
                self._died(part, error)
            await asyncio.sleep(min(2.0 ** min(part.deaths, 5) / 4, LONGEST_PAUSE))
            part.alive = True
            beat()

    def _died(self, part: Part, error: Exception) -> None:
        part.deaths += 1
        part.alive = False
        part.died_at = _now()
        part.last_error = type(error).__name__
        log.exception("part.died", part=part.name, deaths=part.deaths)
        if is_storage_trouble(error):
            # A new process would find the same database; and once that is back, all
            # processes at once would still look ill to whoever shares out the work.
            return
        part.red_until = part.died_at + SEEN_SECONDS
        part.counted.append(part.died_at)
        if len(part.counted) == DEATHS and _now() - part.counted[0] < WINDOW_SECONDS:
            log.critical("part.given_up", part=part.name, deaths=part.deaths)
            self._give_up(part)


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these while the body runs. One that dies ends the body with its error, so
    that the part in which this stands is seen to die and starts anew."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def is_storage_trouble(error: BaseException) -> bool:
    """The database or the disk is away, full or locked: it passes, or people mend it;
    meanwhile there is more to keep alive here than to win by starting anew."""
    if isinstance(error, IntegrityError):
        return False
    return isinstance(error, _STORAGE)
