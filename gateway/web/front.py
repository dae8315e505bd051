"""Answers provider pushes below the application: they come by the thousand a second.

Only the plain push that was taken ends here. All other requests, and every fault of a
push, go the application's way, so that one place alone tells faults.
"""

import hmac
import random
import time
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

from gateway.contract import RawRequest, Receives
from gateway.web import access, headers, hooks
from gateway.web.keys import CORE, DOORS, FAULT, INBOX

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Push = tuple[str, str, Receives]
"""The channel, the path behind its secret address, and who reads it."""


def put(runner: web.AppRunner) -> None:
    """Before the application of a runner that is set up and doesn't listen yet."""
    assert runner.server is not None
    runner.server.request_handler = Front(runner.app, runner.server.request_handler)


class _Written(web.StreamResponse):
    """What is written already; the connection stays open."""

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Front:
    """Stands before one application."""

    def __init__(self, app: web.Application, whole: Answer) -> None:
        core = app[CORE]
        self._whole = whole
        self._doors, self._inbox = app[DOORS], app[INBOX]
        self._answered = core.metrics.answered
        self._trusted = core.settings.server.trusted_proxies
        self._always = headers.always(core.settings.server)
        self._heads: dict[str, str] = {}  # by content type
        self._written = _Written()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        push = self._push(request)
        if push is None:
            return await self._whole(request)
        channel, path, adapter = push
        try:
            received = adapter.receive(
                RawRequest(
                    path=path,
                    body=await _body(request),
                    method=hdrs.METH_POST,
                    headers=request.headers,
                    query={},
                    remote=access.remote_of(request, self._trusted),
                )
            )
            await self._inbox.accept(channel, received.events)
            answer = self._head(received.content_type, len(received.reply))
        except Exception as fault:
            request[FAULT] = fault
        if FAULT in request:
            return await self._whole(request)
        await _write(request, answer.encode("ascii") + received.reply)
        self._answered(hooks.PATH, hdrs.METH_POST, 200, time.perf_counter() - started)
        return self._written

    def _push(self, request: web.BaseRequest) -> Push | None:
        """What is not written as plainly as providers do is for the application."""
        path = request.rel_url.raw_path
        if not path.startswith("/hooks/") or request.method != hdrs.METH_POST:
            return None
        if "%" in path or not path.isascii() or request.rel_url.raw_query_string:
            return None
        if request.version != HttpVersion11 or not request.keep_alive:
            return None
        parts = path.split("/", 4)
        if len(parts) != 5 or hdrs.EXPECT in request.headers:
            return None
        expected, adapter = self._doors.get(parts[2], (b"", None))
        if not hmac.compare_digest(expected, parts[3].encode()) or adapter is None:
            return None
        return parts[2], parts[4], adapter

    def _head(self, content_type: str, length: int) -> str:
        head = self._heads.get(content_type)
        if head is None:
            if not content_type.isprintable():
                raise ValueError("a header of more than one line")
            given = {hdrs.CONTENT_TYPE: content_type, **self._always}
            lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            head = self._heads[content_type] = f"HTTP/1.1 200 OK\r\n{lines}"
        return (
            f"{head}Content-Length: {length}\r\nDate: {rfc822_formatted_time()}\r\n"
            f"X-Request-Id: {random.getrandbits(64):016x}\r\n\r\n"
        )


async def _body(request: web.BaseRequest) -> bytes:
    """Raises HTTPRequestEntityTooLarge like `read`, which waits for what is to come."""
    content = request.content
    if content.is_eof() and content.total_bytes <= request.client_max_size:
        return content.read_nowait()
    return await request.read()


async def _write(request: web.BaseRequest, answer: bytes) -> None:
    if request.transport is None:
        return  # the provider went away; it will push again
    request.transport.write(answer)
    if request.protocol.writing_paused:
        await request.writer.drain()
