"""What is said in one process is heard in all: wake-ups and changes over NOTIFY.

Nothing here is durable. Workers poll and pages re-read, so a lost signal is late.
What is said within a moment goes together: a notification costs every process of the
cluster a little, so there are at most ten of them a second, whatever the load.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog

from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.hub import Change
from gateway.postgres import Line
from gateway.supervisor import beat

log = structlog.get_logger()
CHANNEL = "lianxin"
GATHER_SECONDS = 0.1
SILENT_SECONDS = 2.0  # so long after the last sign the line is looked at
MOST_CHANGES = 100  # of one moment; above that every page reads everything again
_PAYLOAD = 7000  # bytes of one notification; PostgreSQL takes 7999
REFRESH = Change("refresh", "")


class Signals:
    """Between one process's hub and wake-ups, and those of the others."""

    def __init__(self, core: Core, url: str) -> None:
        self._core = core
        self._wakes: set[str] = set()
        self._changes: dict[Change, None] = {}
        self._something = asyncio.Event()
        self._on_change: list[Callable[[Change], None]] = []
        self.line = Line(url, CHANNEL, self._hear)

    def attach(self) -> None:
        """From now on everything said here is said to the others, too."""
        self._core.wakeups.outside = self._wake
        self._core.hub.outside = self._change

    def on_change(self, tell: Callable[[Change], None]) -> None:
        """`tell` hears the changes that other processes made."""
        self._on_change.append(tell)

    async def run(self) -> None:
        """Say what gathered, and keep the line open."""
        while True:
            beat()
            try:
                await self._say()
            except StorageUnavailable:
                log.warning("signals.unsaid", changes=len(self._changes))
            await asyncio.sleep(GATHER_SECONDS)
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    await self._something.wait()
            except TimeoutError:
                pass

    async def _say(self) -> None:
        self._something.clear()
        wakes, changes = sorted(self._wakes), list(self._changes)
        if not wakes and not changes:
            await self.line.listen()
            return
        for payload in _payloads(self._core.node_id, wakes, changes):
            await self.line.rows("SELECT pg_notify(?, ?) AS said", CHANNEL, payload)
        self._wakes.difference_update(wakes)
        for change in changes:
            self._changes.pop(change, None)

    def _wake(self, worker: str) -> None:
        self._wakes.add(worker)
        self._something.set()

    def _change(self, change: Change) -> None:
        if len(self._changes) >= MOST_CHANGES:
            self._changes.clear()
            change = REFRESH
        if REFRESH not in self._changes:
            self._changes[change] = None
        self._something.set()

    def _hear(self, payload: str | None) -> None:
        """None: a new connection. Nobody knows what was said before it."""
        if payload is None:
            self._tell(REFRESH)
            self._core.wakeups.wake_here("")
            return
        sender, wakes, changes = _read(payload)
        if sender == self._core.node_id:
            return
        for worker in wakes:
            self._core.wakeups.wake_here(worker)
        for change in changes:
            self._tell(change)

    def _tell(self, change: Change) -> None:
        self._core.hub.tell(change)
        for tell in self._on_change:
            tell(change)


def _payloads(
    node_id: int, wakes: Sequence[str], changes: Sequence[Change]
) -> Iterator[str]:
    """As many notifications as it takes; usually one."""
    told: list[list[str]] = []
    size = 0
    for change in changes:
        one = [change.topic, change.id, change.path]
        size += len(json.dumps(one))
        if size > _PAYLOAD:
            yield _written(node_id, [], told)
            told, size = [], len(json.dumps(one))
        told.append(one)
    yield _written(node_id, wakes, told)


def _written(node_id: int, wakes: Sequence[str], told: Sequence[Any]) -> str:
    return json.dumps([node_id, list(wakes), list(told)])


def _read(payload: str) -> tuple[int, list[str], list[Change]]:
    """What anybody may have put on the channel; nonsense says nothing."""
    try:
        sender, wakes, changes = json.loads(payload)
        told = [Change(str(t), str(i), str(p)) for t, i, p in changes]
        return int(sender), [str(one) for one in wakes], told
    except (ValueError, TypeError):
        log.warning("signals.nonsense", characters=len(payload))
        return 0, [], []
