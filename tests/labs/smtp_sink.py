"""A real SMTP server that records mails and misbehaves as told.

`sink.replies` maps a moment (`MAIL`, `RCPT`, `DATA`, `END`, or a recipient's address)
to the reply line given there, or to `DROP`: the connection dies without one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

DROP = "drop"


@dataclass(frozen=True, slots=True)
class SunkMail:
    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass
class Sink:
    port: int = 0
    mails: list[SunkMail] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)  # a reply given a single time
    late: asyncio.Event | None = None  # the answer to a mail waits for it
    greeting: str = ""
    pipelining: bool = False  # aiosmtpd can, but does not say so
    connections: int = 0
    open_now: set[SMTP] = field(default_factory=set)

    async def reply(self, server: SMTP, *moments: str) -> str | None:
        for moment in moments:
            if moment in self.once:
                return self.once.pop(moment)
        told = next((self.replies[m] for m in moments if m in self.replies), None)
        if told == DROP:
            assert server.transport is not None
            server.transport.abort()
            await asyncio.Event().wait()
        return told

    def hang_up(self) -> None:
        """Closes every connection, as a relay does after an idle time."""
        for server in tuple(self.open_now):
            if server.transport is not None:
                server.transport.abort()


class _Handler:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def handle_EHLO(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        offered = ["250-PIPELINING"] if self._sink.pipelining else []
        return [responses[0], *offered, *responses[1:]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, sender: str, _: object
    ) -> str:
        if told := await self._sink.reply(server, "MAIL"):
            return told
        envelope.mail_from = sender
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, to: str, _: object
    ) -> str:
        if told := await self._sink.reply(server, to, "RCPT"):
            return told
        envelope.rcpt_tos.append(to)
        return "250 2.1.5 OK"

    async def handle_DATA(
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        refused = self._sink.replies.get("END", "")[:1] in ("4", "5")
        if not refused:
            content = bytes(envelope.original_content or b"")
            sender = envelope.mail_from or ""
            mail = SunkMail(sender, tuple(envelope.rcpt_tos), content)
            self._sink.mails.append(mail)
        if self._sink.late is not None:
            await self._sink.late.wait()
        return await self._sink.reply(server, "END") or "250 2.0.0 Taken"


class _Server(SMTP):
    def __init__(self, sink: Sink, **options: object) -> None:
        self._sink = sink
        super().__init__(_Handler(sink), hostname="sink.test", **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.connections += self not in self._sink.open_now
        self._sink.open_now.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.open_now.discard(self)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str | None) -> None:
        if told := await self._sink.reply(self, "DATA"):
            await self.push(told)
            return
        await super().smtp_DATA(arg)

    async def _handle_client(self) -> None:
        if self._sink.greeting:
            await self.push(self._sink.greeting)
            self._writer.close()
            return
        await super()._handle_client()


@asynccontextmanager
async def smtp_sink(
    *,
    tls: ssl.SSLContext | None = None,
    implicit: bool = False,
    login: tuple[str, str] | None = None,
    port: int = 0,
    pipelining: bool = False,
) -> AsyncIterator[Sink]:
    """A sink on a loopback port, gone when the context is left.

    With `login` and without `tls` it takes that login but does not insist on one.
    """
    sink = Sink(pipelining=pipelining)
    loop = asyncio.get_running_loop()

    def authenticate(*arguments: object) -> AuthResult:
        given = arguments[-1]
        assert isinstance(given, LoginPassword)
        told = (given.login.decode(), given.password.decode())
        return AuthResult(success=told == login, handled=told == login)

    def connect() -> _Server:
        return _Server(
            sink,
            loop=loop,
            tls_context=None if implicit else tls,
            auth_required=login is not None and tls is not None,
            auth_require_tls=tls is not None,
            authenticator=authenticate,
        )

    server = await loop.create_server(
        connect, "127.0.0.1", port, ssl=tls if implicit else None
    )
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        tasks = [s._handler_coroutine for s in sink.open_now if s._handler_coroutine]
        sink.hang_up()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
