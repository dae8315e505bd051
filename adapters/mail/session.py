"""One connection to the relay, after login: mail after mail in few round trips.

Where the relay offers PIPELINING (RFC 2920), MAIL, RCPT and DATA leave together, and
together with the bytes of the mail before: one round trip a mail. Else each command
waits for its reply. Connecting, TLS and login are aiosmtplib's (relay.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from aiosmtplib import SMTPResponseException, SMTPServerDisconnected

from adapters.mail.endings import Phase, classify
from gateway.clock import Clock
from gateway.errors import DeliveryError

MAX_IDLE_SECONDS = 30.0  # relays close sooner or later; a dead socket costs a retry
MAX_REPLY_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """Bytes to hand over, and the envelope, in the strict grammar of addresses."""

    sender: str
    recipient: str
    content: bytes  # ends with CRLF


@dataclass(slots=True, eq=False)
class Job:
    """A mail on its way. `done` hears once what became of it; None: it was taken."""

    mail: Mail
    done: Callable[[DeliveryError | None], None]
    phase: Phase = Phase.ENVELOPE
    refusal: DeliveryError | None = None  # of MAIL or RCPT; DATA's reply comes yet
    movable: bool = False  # not the first on its connection
    moved: bool = False  # to another connection; that happens once


class Step(Enum):
    """What a reply that is awaited answers."""

    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()
    NOTHING = auto()  # a lone dot after a refused recipient
    RSET = auto()
    QUIT = auto()


class Session(asyncio.Protocol):
    """Takes mails from `take` until none is left, then tells `idle`; `told` hears of
    each mail. `ended` hears once that the connection is over, with the mails that
    certainly did not leave and may go over another one.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        pipelining: bool,
        timeout_seconds: float,
        max_mails: int,
        clock: Clock,
        take: Callable[[], Job | None],
        told: Callable[[Job, DeliveryError | None], None],
        idle: Callable[["Session"], None],
        ended: Callable[["Session", list[Job]], None],
    ) -> None:
        self.opened_at: datetime = clock.now()
        self.ended = False
        self.is_leaving = False  # takes no more mails
        self.last_error = ""
        self.window = 2 if pipelining else 1  # mails on their way at most
        self._transport = transport
        self._pipelining = pipelining
        self._timeout_seconds = timeout_seconds
        self._max_mails = max_mails
        self._clock = clock
        self._take, self._told = take, told
        self._tell_idle, self._tell_ended = idle, ended
        self._awaited: deque[tuple[Step, Job | None]] = deque()
        self._begun = 0
        self._left = b""
        self._lines: list[bytes] = []  # of a reply that goes on
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._used_at = clock.monotonic()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        transport.set_protocol(self)
        self._watch()

    @property
    def awaited(self) -> int:
        """Mails on their way over this connection."""
        return len({job for _, job in self._awaited if job is not None})

    @property
    def is_stale(self) -> bool:
        return self._clock.monotonic() - self._used_at > MAX_IDLE_SECONDS

    def begin(self) -> None:
        """Go on after idleness."""
        self._write(self._next())

    def quit(self) -> None:
        """Say goodbye; only while nothing is awaited."""
        if not self.ended and not self._awaited:
            self.is_leaving = True
            self._awaited.append((Step.QUIT, None))
            self._write(b"QUIT\r\n")

    def end(self, error: Exception) -> None:
        """Cut the connection; what was on it is told or moved.

        A reply is about the mail it answers; to the others the connection was lost.
        """
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        answered = self._awaited[0][1] if self._awaited else None
        jobs = dict.fromkeys(job for _, job in self._awaited if job is not None)
        self._awaited.clear()
        if jobs or isinstance(error, SMTPResponseException):
            self.last_error = classify(error, Phase.SESSION).code
        moved = [job for job in jobs if _moves(job, error, job is answered)]
        for job in jobs:
            if job not in moved:
                lost = error if job is answered else _lost()
                self._told(job, job.refusal or classify(lost, job.phase))
        self._tell_ended(self, moved)

    def data_received(self, data: bytes) -> None:
        *lines, self._left = (self._left + data).split(b"\n")
        self._active_at = self._loop.time()
        answer = [self._line(line) for line in lines if not self.ended]
        if len(self._left) + sum(map(len, self._lines)) > MAX_REPLY_BYTES:
            self.end(SMTPResponseException(-1, "reply too long"))
        self._write(b"".join(answer))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(error or _lost())
        if not self.closed.done():
            self.closed.set_result(None)

    def _line(self, line: bytes) -> bytes:
        if line[3:4] == b"-":
            self._lines.append(line)
            return b""
        text = b" ".join((*self._lines, line)) if self._lines else line
        self._lines.clear()
        return self._reply(int(line[:3]) if line[:3].isdigit() else -1, text)

    def _reply(self, code: int, text: bytes) -> bytes:
        """What to write next."""
        if not self._awaited or code == 421 or not 200 <= code < 600:
            # The relay goes, or says what no relay says at this place.
            self.end(_response(code, text))
            return b""
        step, job = self._awaited.popleft()
        if job is None:
            return self._after_nothing(step, code)
        if step is Step.DATA:
            return self._after_data(job, code, text)
        if step is Step.CONTENT:
            return self._after_content(job, code, text)
        if code not in (250, 251) and job.refusal is None:
            job.refusal = _refused(code, text, job)
        return b"" if self._pipelining else self._next_command(step, job)

    def _after_nothing(self, step: Step, code: int) -> bytes:
        if step is Step.QUIT:
            self._transport.close()
            return b""
        if step is Step.RSET and code != 250:
            self.end(_lost())
        return self._more()

    def _after_data(self, job: Job, code: int, text: bytes) -> bytes:
        if code == 354 and job.refusal is None:
            job.phase = Phase.HANDED_OVER
            self._awaited.append((Step.CONTENT, job))
            return _stuffed(job.mail.content) + b".\r\n" + self._ahead()
        refusal = job.refusal or _refused(code, text, job)
        if code == 354:
            # RFC 2920 section 3.1: a lone dot ends a mail that is for nobody.
            self._awaited.append((Step.NOTHING, None))
            command = b".\r\n"
        else:
            self._awaited.append((Step.RSET, None))
            command = b"RSET\r\n"
        self._told(job, refusal)
        return command + self._ahead()

    def _after_content(self, job: Job, code: int, text: bytes) -> bytes:
        if code == 250:
            self._told(job, None)
            return self._more()
        self._told(job, _refused(code, text, job))
        if code < 400:
            self.end(_lost())
        return self._more()

    def _next_command(self, step: Step, job: Job) -> bytes:
        """Without pipelining: what follows the reply to MAIL or RCPT."""
        if job.refusal is not None:
            self._awaited.append((Step.RSET, None))
            self._told(job, job.refusal)
            return b"RSET\r\n"
        if step is Step.MAIL:
            self._awaited.append((Step.RCPT, job))
            return _rcpt(job.mail)
        self._awaited.append((Step.DATA, job))
        return b"DATA\r\n"

    def _ahead(self) -> bytes:
        return self._next() if self._pipelining else b""

    def _more(self) -> bytes:
        """After a mail is done with: the next, unless that is on its way."""
        return b"" if self._awaited or self.ended else self._next()

    def _next(self) -> bytes:
        """The commands that open the next mail, if one waits."""
        if self.ended or self._transport.is_closing():
            return b""
        if self._begun >= self._max_mails:
            self.quit()
            return b""
        job = self._take()
        if job is None:
            if not self._awaited:
                self._used_at = self._clock.monotonic()
                self._tell_idle(self)
            return b""
        job.movable = self._begun > 0
        self._begun += 1
        self._awaited.append((Step.MAIL, job))
        opening = b"MAIL FROM:<%s>\r\n" % job.mail.sender.encode("ascii")
        if not self._pipelining:
            return opening
        self._awaited.append((Step.RCPT, job))
        self._awaited.append((Step.DATA, job))
        return opening + _rcpt(job.mail) + b"DATA\r\n"

    def _write(self, data: bytes) -> None:
        if data and not self.ended:
            self._active_at = self._loop.time()
            self._transport.write(data)

    def _watch(self) -> None:
        """Silence ends the session; so does idleness, politely."""
        limit = self._timeout_seconds if self._awaited else MAX_IDLE_SECONDS
        rest = self._active_at + limit - self._loop.time()
        if rest <= 0 and self._awaited:
            self.end(TimeoutError("no reply"))
            return
        if rest <= 0:
            self.quit()
        pause = min(max(rest, 0.01), self._timeout_seconds)
        self._timer = self._loop.call_later(pause, self._watch)


def _rcpt(mail: Mail) -> bytes:
    return b"RCPT TO:<%s>\r\n" % mail.recipient.encode("ascii")


def _stuffed(content: bytes) -> bytes:
    """Doubles leading dots (RFC 5321 section 4.5.2)."""
    if b"\n." in content:
        content = content.replace(b"\n.", b"\n..")
    return b"." + content if content[:1] == b"." else content


def _refused(code: int, text: bytes, job: Job) -> DeliveryError:
    return classify(_response(code, text), job.phase)


def _response(code: int, text: bytes) -> SMTPResponseException:
    return SMTPResponseException(code, text.decode("utf-8", "replace"))


def _lost() -> SMTPServerDisconnected:
    return SMTPServerDisconnected("connection lost")


def _moves(job: Job, error: Exception, is_answered: bool) -> bool:
    """Whether a mail that did not leave goes over another connection: relays close
    kept ones, and that is nobody's fault. A refusal of this very mail stays one."""
    if not job.movable or job.moved or job.refusal or job.phase is not Phase.ENVELOPE:
        return False
    reply = error.code if isinstance(error, SMTPResponseException) else 421
    return reply == 421 or not is_answered
