"""Sends mails to the relay over a few connections that are kept and reused.

`classify` is the only place that says what an SMTP ending means for a message.
"""

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import aiosmtplib
import structlog
from aiosmtplib import SMTPException, SMTPResponseException

from adapters.mail.settings import Settings
from gateway.clock import Clock
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

MAX_IDLE_SECONDS = 30.0  # relays close sooner or later; a dead socket costs a retry
GREYLIST_DELAY = timedelta(minutes=5)
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_GREY = re.compile(r"gr[ae]y-?list|try again later|稍后", re.I)
_NOT_OURS = {530, 535, 538}  # authentication wanted: the account's fault

log = structlog.get_logger()


class Phase(StrEnum):
    """How far a conversation came."""

    SESSION = "session"  # connecting, greeting, TLS, login
    ENVELOPE = "envelope"  # MAIL, RCPT, DATA until 354
    HANDED_OVER = "handed_over"  # the mail's bytes were written


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """Bytes to hand over, and the envelope, in the strict grammar of addresses."""

    sender: str
    recipient: str
    content: bytes


def classify(error: Exception, phase: Phase) -> DeliveryError:
    """Whether the mail may be sent again.

    A reply says what happened: 4yz not taken for now, 5yz never. Without a reply it
    was certainly not taken before its bytes were written, and perhaps after. A refused
    session is the account's trouble, never that of one message.
    """
    if isinstance(error, SMTPResponseException):
        return _classify_reply(error.code, error.message, phase)
    if phase is Phase.HANDED_OVER:
        return OutcomeUnknown("smtp_no_reply", type(error).__name__)
    if isinstance(error, ssl.SSLError):
        return TransientFailure("smtp_tls", type(error).__name__)
    if isinstance(error, (OSError, TimeoutError)):
        return TransientFailure("smtp_unreachable", type(error).__name__)
    return TransientFailure("smtp_session", type(error).__name__)


def _classify_reply(code: int, message: str, phase: Phase) -> DeliveryError:
    found = _ENHANCED.search(message)
    name, detail = f"smtp_{code}", found[0] if found else ""
    if code == 421:
        return TransientFailure(name, detail, throttled=True)
    if 400 <= code < 500:
        grey = GREYLIST_DELAY if _GREY.search(message) else None
        return TransientFailure(name, detail, retry_after=grey)
    if phase is Phase.SESSION or (code in _NOT_OURS and phase is Phase.ENVELOPE):
        return TransientFailure(name, f"{phase} {detail}".strip())
    if 500 <= code < 600:
        return PermanentFailure(name, detail)
    if phase is Phase.HANDED_OVER:
        return OutcomeUnknown("smtp_reply", str(code))
    return TransientFailure("smtp_reply", str(code))


class _Connection:
    """One SMTP session with the relay."""

    def __init__(self, client: aiosmtplib.SMTP, used_at: float) -> None:
        self.client = client
        self.used_at = used_at  # monotonic
        self.used = False

    async def deliver(self, mail: Mail) -> None:
        """Raises DeliveryError; the connection is closed if it can't be used again."""
        phase = Phase.ENVELOPE
        try:
            await self._command(b"MAIL", b"FROM:<%s>" % mail.sender.encode("ascii"))
            await self._command(b"RCPT", b"TO:<%s>" % mail.recipient.encode("ascii"))
            await self._command(b"DATA", expected=354)
            phase = Phase.HANDED_OVER
            await self._hand_over(mail.content)
        except (SMTPException, OSError, TimeoutError) as error:
            await self._recover(error)
            raise classify(error, phase) from error
        except BaseException:
            self.client.close()
            raise

    async def _command(self, *words: bytes, expected: int = 250) -> None:
        """The address goes out byte for byte: aiosmtplib's own MAIL and RCPT rewrite
        what they take for a display form."""
        response = await self.client.execute_command(*words)
        taken = (250, 251) if expected == 250 else (expected,)
        if response.code not in taken:
            raise SMTPResponseException(response.code, response.message)

    async def _hand_over(self, content: bytes) -> None:
        protocol = self.client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        protocol.write(_stuffed(content) + b".\r\n")
        response = await protocol.read_response(timeout=self.client.timeout)
        if response.code != 250:
            raise SMTPResponseException(response.code, response.message)

    async def _recover(self, error: Exception) -> None:
        """Ready for the next mail after a refusal; closed after anything else."""
        refused = isinstance(error, SMTPResponseException) and 400 <= error.code < 600
        if not refused or not self.client.is_connected:
            self.client.close()
            return
        try:
            await self.client.rset()
        except (SMTPException, OSError, TimeoutError):
            self.client.close()


class Relay:
    """At most `settings.connections` sessions; each carries one mail at a time."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._places = asyncio.Semaphore(settings.connections)
        self._idle: list[_Connection] = []
        self._closed = False

    async def deliver(self, mail: Mail) -> None:
        """Returns once the relay took the mail. Raises DeliveryError."""
        async with self._places:
            connection = await self._connection()
            try:
                await connection.deliver(mail)
            except TransientFailure as failure:
                if not connection.used or not _went_stale(failure):
                    raise
                # The relay had closed a kept connection; nothing of this mail is out.
                connection = await self._connect()
                await connection.deliver(mail)
            finally:
                self._put_back(connection)

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._quit(connection) for connection in idle))

    async def _connection(self) -> _Connection:
        oldest = self._clock.monotonic() - MAX_IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected and connection.used_at > oldest:
                return connection
            connection.client.close()
        return await self._connect()

    async def _connect(self) -> _Connection:
        client = self._client()
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            client.close()
            log.warning("relay.unreachable", kind=type(error).__name__)
            raise classify(error, Phase.SESSION) from error
        return _Connection(client, self._clock.monotonic())

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        password = settings.password.get_secret_value() if settings.password else None
        return aiosmtplib.SMTP(
            hostname=settings.relay_host,
            port=settings.relay_port,
            username=settings.username or None,
            password=password,
            local_hostname=settings.domain,
            timeout=settings.timeout_seconds,
            use_tls=settings.relay_tls == "implicit",
            start_tls={"required": True, "opportunistic": None}.get(
                settings.relay_tls, False
            ),
            # Opportunistic TLS takes any certificate: it is better than none at all.
            validate_certs=settings.relay_tls != "opportunistic",
            cert_bundle=str(settings.relay_ca_file) if settings.relay_ca_file else None,
        )

    def _put_back(self, connection: _Connection) -> None:
        connection.used = True
        connection.used_at = self._clock.monotonic()
        if connection.client.is_connected and not self._closed:
            self._idle.append(connection)
        else:
            connection.client.close()

    async def _quit(self, connection: _Connection) -> None:
        with contextlib.suppress(SMTPException, OSError, TimeoutError):
            await connection.client.quit(timeout=0.3)
        connection.client.close()


def _went_stale(failure: TransientFailure) -> bool:
    return failure.code in ("smtp_unreachable", "smtp_421")


def _stuffed(content: bytes) -> bytes:
    """Doubles leading dots (RFC 5321 section 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"..", content)
