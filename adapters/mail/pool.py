"""Warm child processes that parse mail, so that no mail can hold up the gateway.

A child that is silent for `seconds`, uses too much memory or dies is killed and
replaced; its mail is kept unread (parse.unreadable).
"""

import asyncio
import contextlib
import pickle
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from adapters.mail.addresses import Mailbox
from adapters.mail.parse import Envelope, unreadable
from adapters.mail.worker import LENGTH, READY
from gateway.contract import DeliveryReceipt, Event, InboundMessage

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
_LOST = (asyncio.IncompleteReadError, ConnectionError, TimeoutError)

log = structlog.get_logger()


class _Child:
    """One process; answers one job at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a child needs pipes")
        self._process = process
        self._into, self._out = process.stdin, process.stdout

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            await self._out.readexactly(len(READY))

    async def ask(self, job: bytes, raw: bytes) -> bytes:
        self._into.write(LENGTH.pack(len(job), len(raw)) + job)
        self._into.write(raw)
        await self._into.drain()
        size, _ = LENGTH.unpack(await self._out.readexactly(LENGTH.size))
        return await self._out.readexactly(size)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._into.close()
        # Reading to the end lets asyncio close the pipe's transport.
        with contextlib.suppress(ConnectionError):
            await self._out.read()
        await self._process.wait()


async def _start() -> _Child:
    return _Child(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "adapters.mail.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
            limit=1024 * 1024,
        )
    )


class ParserPool:
    """At most `size` children, started together and kept warm until the end."""

    def __init__(self, size: int, mailbox: Mailbox, seconds: float = 5.0) -> None:
        self._size = size
        self._mailbox = mailbox
        self._seconds = seconds
        self._idle: asyncio.Queue[_Child | None] = asyncio.Queue()
        self._children: set[_Child] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for _ in range(self._size):
            self._idle.put_nowait(None)
        try:
            await asyncio.gather(*(self._warm_up() for _ in range(self._size)))
            yield
        finally:
            await asyncio.gather(*(self._drop(child) for child in set(self._children)))

    async def parse(self, raw: bytes, envelope: Envelope) -> Sequence[Event]:
        """The events of a mail, each with `raw`. Waits for a free child."""
        job = pickle.dumps((envelope, self._mailbox))
        child = await self._idle.get()
        try:
            child = child or await self._fresh()
            async with asyncio.timeout(self._seconds):
                answer = await child.ask(job, raw)
        except _LOST as lost:
            await self._lose(child, lost, len(raw))
            return await self._unread(raw, envelope)
        except BaseException:
            await self._lose(child, None, len(raw))
            raise
        self._idle.put_nowait(child)
        # Both ends are this program; the child's only other input is the mail.
        events: list[InboundMessage | DeliveryReceipt] = pickle.loads(answer)
        return [replace(event, raw=raw) for event in events]

    async def _warm_up(self) -> None:
        child = await self._idle.get()
        try:
            child = child or await self._fresh()
        finally:
            self._idle.put_nowait(child)

    async def _fresh(self) -> _Child:
        child = await _start()
        self._children.add(child)
        try:
            await child.ready()
        except BaseException:
            await self._drop(child)
            raise
        return child

    async def _lose(
        self, child: _Child | None, lost: BaseException | None, size: int
    ) -> None:
        """The next mail finds an empty place and starts a child there."""
        if lost is not None:
            log.warning("parser.lost", reason=type(lost).__name__, bytes=size)
        self._idle.put_nowait(None)
        if child is not None:
            await self._drop(child)

    async def _drop(self, child: _Child) -> None:
        self._children.discard(child)
        await child.kill()

    async def _unread(self, raw: bytes, envelope: Envelope) -> Sequence[Event]:
        # The hash of a large mail takes longer than the loop may stand still.
        message = await asyncio.to_thread(unreadable, raw, envelope, self._mailbox)
        return [replace(message, raw=raw)]
