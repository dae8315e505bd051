"""The connections to the relay that are kept and shared by all mails.

aiosmtplib connects, secures and logs in; session.py then takes the connection over.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import cast

import aiosmtplib
import structlog
from aiosmtplib import SMTPException

from adapters.mail.endings import Phase, classify
from adapters.mail.session import Job, Mail, Session
from adapters.mail.settings import Settings
from gateway.clock import Clock
from gateway.contract import Connection
from gateway.errors import DeliveryError, TransientFailure

MAILS_PER_CONNECTION = 1000
IN_HAND_PER_CONNECTION = 20  # so that none has to wait for the next commit
RETRY_SECONDS = 5.0  # a refused further connection is not asked for again sooner
FAREWELL_SECONDS = 0.3

log = structlog.get_logger()


class Relay:
    """At most `settings.connections` sessions; what waits for them, in order."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.on_room: Callable[[], None] = lambda: None  # room where none was
        self._settings = settings
        self._clock = clock
        self._waiting: deque[Job] = deque()
        self._in_hand = 0
        self._sessions: list[Session] = []
        self._idle: list[Session] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._retry_at = clock.monotonic()
        self._closed = False
        self._changed_at: datetime = clock.now()
        self._last_error = ""

    @property
    def room(self) -> int:
        """How many more mails can be used now."""
        most = IN_HAND_PER_CONNECTION * self._settings.connections
        return max(0, most - self._in_hand)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Each hears by its `done` what became of it."""
        self._in_hand += len(jobs)
        self._waiting.extend(jobs)
        self._pump()

    async def deliver(self, mail: Mail) -> None:
        """Returns once the relay took the mail. Raises DeliveryError."""
        told: asyncio.Future[DeliveryError | None]
        told = asyncio.get_running_loop().create_future()

        def done(failure: DeliveryError | None) -> None:
            if not told.done():
                told.set_result(failure)

        job = Job(mail, done)
        self.submit([job])
        try:
            failure = await told
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        if failure is not None:
            raise failure

    def connections(self) -> Sequence[Connection]:
        """What the channel page shows."""
        found = [
            self._connection(number, "open", one.opened_at, one)
            for number, one in enumerate(self._sessions, start=1)
        ]
        state = "connecting" if self._opening else "closed"
        return found or [self._connection(1, state, self._changed_at)]

    async def close(self) -> None:
        """Let connections go; what was not handed over is not sent any more."""
        self._closed = True
        for task in tuple(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self._fail_waiting(TransientFailure("smtp_closed"))
        sessions = tuple(self._sessions)
        for session in sessions:
            session.quit()
        await _closed(sessions)
        for session in sessions:
            session.end(aiosmtplib.SMTPServerDisconnected("closed"))
        await _closed(sessions)

    def _withdraw(self, job: Job) -> None:
        """Nobody waits for it any more: it does not leave, if it has not yet."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._in_hand -= 1

    def _pump(self) -> None:
        """Work for the idle sessions, and new ones for what still waits."""
        while self._waiting and self._idle:
            session = self._idle.pop()
            if session.is_stale:
                session.quit()
            else:
                session.begin()
        for _ in range(self._missing()):
            self._opening.add(asyncio.create_task(self._open()))

    def _missing(self) -> int:
        """Sessions to open. The first alone: five wrong logins lock an account."""
        if self._closed or not self._waiting:
            return 0
        live = [one for one in self._sessions if not one.is_leaving]
        if not live:
            return 0 if self._opening else 1
        if self._clock.monotonic() < self._retry_at:
            return 0
        free = self._settings.connections - len(live) - len(self._opening)
        return max(0, min(free, len(self._waiting) - len(self._opening)))

    async def _open(self) -> None:
        found = await self._connected()
        self._opening.remove(cast("asyncio.Task[None]", asyncio.current_task()))
        if isinstance(found, DeliveryError):
            self._refused(found)
            return
        self._sessions.append(found)
        self._changed(error="")
        found.begin()
        self._pump()

    def _refused(self, failure: DeliveryError) -> None:
        self._changed(failure.code)
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS
        if not self._sessions and not self._opening:
            self._fail_waiting(failure)

    def _fail_waiting(self, failure: DeliveryError) -> None:
        waiting = tuple(self._waiting)
        self._waiting.clear()
        for job in waiting:
            self._told(job, failure)

    async def _connected(self) -> Session | DeliveryError:
        client = self._client()
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
            if client.transport is None or client.transport.is_closing():
                raise aiosmtplib.SMTPServerDisconnected("connection lost")
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            client.close()
            log.warning("relay.unreachable", kind=type(error).__name__)
            return classify(error, Phase.SESSION)
        except BaseException:
            client.close()
            raise
        return Session(
            cast(asyncio.Transport, client.transport),
            pipelining=client.supports_extension("pipelining"),
            timeout_seconds=self._settings.timeout_seconds,
            max_mails=MAILS_PER_CONNECTION,
            clock=self._clock,
            take=self._take,
            told=self._told,
            idle=self._idle.append,
            ended=self._ended,
        )

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

    def _take(self) -> Job | None:
        return self._waiting.popleft() if self._waiting else None

    def _told(self, job: Job, failure: DeliveryError | None) -> None:
        self._in_hand -= 1
        job.done(failure)
        if self.room == 1:
            self.on_room()

    def _ended(self, session: Session, moved: Sequence[Job]) -> None:
        self._sessions.remove(session)
        if session in self._idle:
            self._idle.remove(session)
        if session.last_error:
            self._changed(session.last_error)
        for job in reversed(moved):
            job.moved = True
            self._waiting.appendleft(job)
        if self._closed:
            self._fail_waiting(TransientFailure("smtp_closed"))
        self._pump()

    def _changed(self, error: str) -> None:
        self._changed_at = self._clock.now()
        self._last_error = error

    def _connection(
        self, number: int, state: str, since: datetime, session: Session | None = None
    ) -> Connection:
        return Connection(
            name=str(number),
            state=state,
            since=since,
            window=session.window if session else 0,
            awaited=session.awaited if session else 0,
            last_error=self._last_error,
        )


async def _closed(sessions: Sequence[Session]) -> None:
    if sessions:
        closed = [session.closed for session in sessions]
        await asyncio.wait(closed, timeout=FAREWELL_SECONDS)
