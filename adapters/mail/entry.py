"""The mail server that takes members' mail in: SMTP and LMTP, in our own event loop.

A mail is answered 250 only after it was stored. Parsing is elsewhere (pool.py).
"""

import asyncio
import contextlib
import logging
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session, syntax

from adapters.mail.addresses import Mailbox
from adapters.mail.settings import Settings
from gateway.errors import StorageUnavailable

MAX_LINE_BYTES = 64 * 1024
MAX_OVERRUN = 4  # times the size limit; who sends more is cut off
MAX_COMMANDS = 1000  # of one verb on one connection
MAX_IN_FLIGHT = 8  # times the size limit: all mails in memory together
FAREWELL_SECONDS = 0.5
PIECE_BYTES = 1 << 20
END = b"\r\n.\r\n"

Take = Callable[[bytes, str, tuple[str, ...]], Awaitable[None]]
"""Parses and stores a mail: its bytes, return path and recipients."""

log = structlog.get_logger()


class Entry:
    """What all connections share: the limits, and where mail goes."""

    def __init__(self, settings: Settings, mailbox: Mailbox, take: Take) -> None:
        self.settings = settings
        self.mailbox = mailbox
        self.take = take
        self.max_bytes = settings.max_mail_mib * 1024 * 1024
        self.in_flight_bytes = 0
        self.connections: set[_Connection] = set()
        self.closing = False
        self._storing = 0
        self._stored = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        # aiosmtpd logs commands, which hold members' addresses, below this level.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        settings = self.settings
        async with AsyncExitStack() as stack:
            if settings.smtp_port:
                await self._open(stack, _Smtp, settings.smtp_port)
            if settings.lmtp_port:
                await self._open(stack, _Lmtp, settings.lmtp_port)
            stack.push_async_callback(self._farewell)
            yield

    async def _open(
        self, stack: AsyncExitStack, kind: "type[_Smtp] | type[_Lmtp]", port: int
    ) -> None:
        loop = asyncio.get_running_loop()
        context = _tls(self.settings)
        server = await loop.create_server(
            lambda: kind(self, loop, context), self.settings.listen_host, port
        )
        stack.callback(server.close)

    async def _farewell(self) -> None:
        """Lets mails that are just being stored get their answer, then closes."""
        self.closing = True
        if self._storing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stored.wait(), FAREWELL_SECONDS)
        await asyncio.gather(*(c.part() for c in tuple(self.connections)))

    async def store(self, content: bytes, envelope: Envelope) -> str:
        """The SMTP answer to a mail: 250 only if it is in the database."""
        sender = (envelope.mail_from or "").strip("<>")
        self._storing += 1
        self._stored.clear()
        try:
            await self.take(content, sender, tuple(envelope.rcpt_tos))
        except StorageUnavailable as error:
            log.warning("mail.deferred", code=error.code)
            return "451 4.3.0 Not stored, please try again"
        except Exception:
            log.exception("mail.failed")
            return "451 4.3.0 Internal error, please try again"
        finally:
            self._storing -= 1
            if not self._storing:
                self._stored.set()
        return "250 2.0.0 Stored"


class _Handler:
    """Hooks of aiosmtpd for one connection."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    async def handle_EHLO(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        return [line for line in responses if not line[4:].startswith("AUTH")]

    async def handle_RCPT(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        if self._entry.mailbox.token(address) is None:
            return "550 5.1.1 No such mailbox here"
        if len(envelope.rcpt_tos) >= self._entry.settings.max_recipients:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        log.error("mail.protocol_error", kind=type(error).__name__)
        return "451 4.3.0 Internal error"


class _Connection(SMTP):
    """aiosmtpd with bounded connections and its own reader of mail data."""

    line_length_limit = MAX_LINE_BYTES

    def __init__(
        self,
        entry: Entry,
        loop: asyncio.AbstractEventLoop,
        tls_context: ssl.SSLContext | None,
    ) -> None:
        # aiosmtpd keeps these on the class, where every EHLO makes them larger.
        self.command_size_limits = defaultdict(lambda: self.command_size_limit)
        self._entry = entry
        self._refused = False
        super().__init__(
            _Handler(entry),
            data_size_limit=entry.max_bytes,
            hostname=entry.mailbox.domain,
            ident="mail",
            tls_context=tls_context,
            timeout=entry.settings.idle_seconds,
            command_call_limit=MAX_COMMANDS,
            loop=loop,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        entry = self._entry
        full = len(entry.connections) >= entry.settings.max_connections
        if self not in entry.connections and (full or entry.closing):
            self._refused = True
        else:
            entry.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._entry.connections.discard(self)
        super().connection_lost(error)

    async def part(self) -> None:
        """Hangs up; the client keeps what has not been answered 250."""
        if self.transport is not None:
            self.transport.close()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.wait([self._handler_coroutine])

    async def _handle_client(self) -> None:
        # A client that vanished in the middle of an answer is no news.
        with contextlib.suppress(ConnectionError):
            if self._refused:
                await self.push("421 4.7.0 Too many connections, try later")
                self._writer.close()
            else:
                await super()._handle_client()

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:
        if arg:
            await self.push("501 Syntax: DATA")
            return
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Send RCPT first")
            return
        if self._entry.in_flight_bytes > MAX_IN_FLIGHT * self._entry.max_bytes:
            await self.push("452 4.3.1 Too much mail at once, try later")
            return
        await self.push("354 End with <CR><LF>.<CR><LF>")
        held = _Held(self._entry)
        try:
            await self._receive(self.envelope, held)
        finally:
            held.release()

    async def _receive(self, envelope: Envelope, held: "_Held") -> None:
        try:
            content = await self._read_data(held)
        except EOFError as error:
            # aiosmtpd closes on this one; after any other it would go on and take
            # the rest of the mail for commands.
            raise ConnectionResetError from error
        if content is None:
            status = "552 5.3.4 Mail is too large"
        else:
            status = await self._entry.store(content, envelope)
        self.envelope = self._create_envelope()
        # LMTP wants one answer for each recipient (RFC 2033 section 4.2).
        answers = len(envelope.rcpt_tos) if isinstance(self, LMTP) else 1
        await self.push("\r\n".join([status] * answers))

    async def _read_data(self, held: "_Held") -> bytes | None:
        """The mail up to <CR><LF>.<CR><LF> and to nothing else; None: too large.

        One buffer instead of aiosmtpd's object per line: 25 MB of empty lines took
        1.2 GB.
        """
        # The line end of the DATA command is that of an end right after it.
        self._reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]
        body = bytearray()
        dropped = 0
        complete = False
        while not complete:
            try:
                body += await self._reader.readuntil(END)
                complete = True
            except asyncio.LimitOverrunError as overrun:
                body += await self._reader.readexactly(overrun.consumed)
            if dropped or len(body) > self._entry.max_bytes + len(END) + 2:
                dropped += len(body)
                body.clear()
            if dropped > MAX_OVERRUN * self._entry.max_bytes:
                raise EOFError("far over the size limit")
            held.hold(len(body))
            # A full socket buffer never suspends the reader.
            await asyncio.sleep(0)
        del body[-len(END) + 2 :]
        return None if dropped else await _unstuffed(body[2:])


class _Smtp(_Connection):
    pass


class _Lmtp(_Connection, LMTP):
    pass


class _Held:
    """Bytes of one unfinished mail, counted against the limit for all."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._bytes = 0

    def hold(self, size: int) -> None:
        self._entry.in_flight_bytes += size - self._bytes
        self._bytes = size

    def release(self) -> None:
        self.hold(0)


async def _unstuffed(body: bytearray) -> bytes:
    """Takes away the dots of RFC 5321 section 4.5.2.

    In pieces of whole lines: at once, 20 MB of dots hold up the loop for 0.1 s.
    """
    pieces: list[bytes] = []
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + PIECE_BYTES) + 1 or len(body)
        piece = bytes(body[start:end]).replace(b"\r\n.", b"\r\n")
        if start == 0 or body[start - 2 : start] == b"\r\n":
            piece = piece.removeprefix(b".")
        pieces.append(piece)
        start = end
        await asyncio.sleep(0)
    return b"".join(pieces)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
