"""Answers plain pushes before aiohttp sees them: they come by the thousand a second.

A connection is answered here as long as it brings nothing else. With the first byte of
anything else, and with every fault of a push, it is aiohttp's for good, as if it had
just been opened: so that one place alone tells faults.
"""

import asyncio
import hmac
import random
import socket
import time
from contextvars import copy_context
from typing import cast

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from gateway.contract import RawRequest, Received, Receives
from gateway.web import access, headers, hooks, plain
from gateway.web.keys import CORE, DOORS, INBOX, Accepts

IDLE_SECONDS = 1800.0  # without an answer, once or twice as long: the provider is gone
STOP_SECONDS = 0.5  # how long a stop waits for what is being stored
UNREAD = 128 * 1024  # bytes of pushes behind the one that is being stored


class Front:
    """What all connections to one application share."""

    def __init__(self, runner: web.AppRunner, idle: float) -> None:
        """Of a runner that is set up; `idle` in seconds."""
        assert runner.server is not None
        self.idle = idle
        core = runner.app[CORE]
        self.aiohttp = runner.server
        self.connections: set[Connection] = set()
        self.inbox: Accepts = runner.app[INBOX]
        self.trusted = core.settings.server.trusted_proxies
        self._doors = runner.app[DOORS]
        self._answered = core.metrics.answered
        self._always = headers.always(core.settings.server)
        self._heads: dict[str, str] = {}  # by content type

    def adapter(self, head: plain.Head) -> Receives | None:
        """Who reads it; None where the address is not the channel's secret one."""
        expected, adapter = self._doors.get(head.channel, (b"", None))
        return adapter if hmac.compare_digest(expected, head.token) else None

    def head(self, content_type: str) -> str:
        """All of an answer that stays the same. Raises ValueError for a fault of the
        adapter."""
        head = self._heads.get(content_type)
        if head is None:
            if not content_type.isprintable():
                raise ValueError("a header of more than one line")
            given = {hdrs.CONTENT_TYPE: content_type, **self._always}
            lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            head = self._heads[content_type] = f"HTTP/1.1 200 OK\r\n{lines}"
        return head

    def answer(self, received: Received, seconds: float) -> bytes:
        """The whole answer to what took so long to store; it is counted."""
        self._answered(hooks.PATH, hdrs.METH_POST, 200, seconds)
        text = (
            f"{self.head(received.content_type)}Content-Length: {len(received.reply)}"
            f"\r\nDate: {rfc822_formatted_time()}\r\n"
            f"X-Request-Id: {random.getrandbits(64):016x}\r\n\r\n"
        )
        return text.encode("ascii") + received.reply


class Connection(asyncio.Protocol):
    """One connection: its pushes are taken one after another."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._data = b""  # from the push on that is not answered yet
        self._end = 0  # of that push, while it is being stored; else 0
        self._heard = True  # since the last look
        self._choked = False  # the provider doesn't read our answers
        self._stopping = False
        self._received = Received(())
        self._began = 0.0
        self._loop = asyncio.get_running_loop()
        self.gone = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none
        peer = transport.get_extra_info("peername") or ("",)  # it may be gone already
        self._remote = str(peer[0])
        self._front.connections.add(self)
        self._look()

    def connection_lost(self, error: Exception | None) -> None:
        self._let_go()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._next()

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        self._next()
        if len(self._data) > UNREAD:
            self._transport.pause_reading()

    @property
    def busy(self) -> bool:
        return self._end > 0

    def stop(self) -> None:
        """Once what is being stored is answered."""
        self._stopping = True
        if not self.busy:
            self._transport.close()

    def abort(self) -> None:
        if not self.gone.done():
            self._transport.abort()

    def _look(self) -> None:
        """Whether anything was answered since the last look."""
        if not self._heard and not self.busy:
            self._transport.close()
            return
        self._heard = False
        self._next_look = self._loop.call_later(self._front.idle, self._look)

    def _next(self) -> None:
        """Take the next push, once it is whole."""
        data = self._data
        if not data or self._end or self._choked:
            return
        body = data.find(plain.END) + len(plain.END)
        if body < len(plain.END):
            if not plain.may_begin(data):
                self._hand_over()
            return
        head = plain.read(data[: body - len(plain.END)])
        adapter = None if head is None else self._front.adapter(head)
        if head is None or adapter is None:
            self._hand_over()
        elif len(data) >= body + head.length:
            self._end = body + head.length
            self._take(head, data[body : self._end], adapter)

    def _take(self, head: plain.Head, body: bytes, adapter: Receives) -> None:
        self._began = time.perf_counter()
        front = self._front
        try:
            self._received = adapter.receive(
                RawRequest(
                    path=head.path,
                    body=body,
                    method=hdrs.METH_POST,
                    headers=head.headers,
                    query={},
                    remote=access.remote_of(self._remote, head.headers, front.trusted),
                )
            )
            front.head(self._received.content_type)
        except Exception as fault:
            self._hand_over(fault)
        else:
            front.inbox.take(head.channel, self._received.events, self._told)

    def _told(self, fault: Exception | None) -> None:
        """The push is stored, or can't be. The inbox waits: no more than the answer."""
        if self._transport.is_closing():
            return  # it will be pushed again
        if fault is not None:
            self._loop.call_soon(self._hand_over, fault)
            return
        seconds = time.perf_counter() - self._began
        self._transport.write(self._front.answer(self._received, seconds))
        self._heard = True
        self._data, self._end = self._data[self._end :], 0
        if self._stopping:
            self._transport.close()
        elif self._data:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """With what came meanwhile."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._next()

    def _hand_over(self, fault: Exception | None = None) -> None:
        """To aiohttp, with all that isn't answered; the first of it had this fault."""
        if self._stopping or self._transport.is_closing():
            self._transport.close()
            return
        context = copy_context()
        if fault is not None:
            context.run(hooks.FAULT.set, [fault])
        handler = self._front.aiohttp()
        self._transport.set_protocol(handler)
        self._transport.resume_reading()
        context.run(handler.connection_made, self._transport)
        if self._choked:
            handler.pause_writing()
        handler.data_received(self._data)
        self._let_go()

    def _let_go(self) -> None:
        self._data = b""
        self._next_look.cancel()
        self._front.connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)


class Site(web.BaseSite):
    """Where an application that takes pushes listens."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        idle: float = IDLE_SECONDS,
    ) -> None:
        super().__init__(runner)
        self._front = Front(runner, idle)
        self._host, self._port = host, port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._front), self._host, self._port, backlog=128
        )
        for wire in self._server.sockets:  # each connection inherits it
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def stop(self) -> None:
        """What is being stored is answered, as far as its provider reads answers."""
        await super().stop()
        left = list(self._front.connections)
        for one in left:
            one.stop()
        if left:
            await asyncio.wait([one.gone for one in left], timeout=STOP_SECONDS)
        for one in left:
            one.abort()
