"""Keeps the background parts alive and says which are: a part that dies is started
again and seen, never silently missing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass

import structlog

log = structlog.get_logger()
LONGEST_PAUSE = 30.0  # seconds between two starts of a part that keeps dying


@dataclass(slots=True)
class Part:
    """What is known of one background part."""

    name: str
    alive: bool = True
    deaths: int = 0
    last_error: str = ""


class Supervisor:
    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` for ever, again after it raised. A plain return ends it."""
        part = self._parts[name] = Part(name)
        # An empty context: a part must not inherit its starter's transaction.
        self._tasks[name] = asyncio.get_running_loop().create_task(
            self._keep(part, work), name=name, context=Context()
        )

    def parts(self) -> Mapping[str, Part]:
        return self._parts

    async def stop(self, *names: str) -> None:
        """Cancel these parts, or all, and wait until they are gone."""
        chosen = names or tuple(self._tasks)
        tasks = [self._tasks.pop(name) for name in chosen if name in self._tasks]
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
                part.deaths += 1
                part.alive = False
                part.last_error = type(error).__name__
                log.exception("part.died", part=part.name, deaths=part.deaths)
            await asyncio.sleep(min(2.0 ** min(part.deaths, 5) / 4, LONGEST_PAUSE))
            part.alive = True
