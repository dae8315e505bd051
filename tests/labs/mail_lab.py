"""Plays the relay and the neighbouring mail server of an e-mail channel."""

import asyncio
import email
import smtplib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.policy import default
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from adapters import mail
from adapters.mail.adapter import EmailAdapter
from gateway.clock import ManualClock
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    ChannelContext,
    Event,
    MessageKind,
    OutboundMessage,
)
from tests.contract.labs import Case, LabEntry, Taken
from tests.labs.smtp_sink import DROP, Sink, smtp_sink

OURS = "service@centre.example"
PASSWORD = "lab-mail-password"
REPLIES = {
    Case.REFUSED: {"RCPT": "550 5.1.1 no such user"},
    Case.THROTTLED: {"MAIL": "421 4.7.0 too fast"},
    Case.REPLY_LOST: {"END": DROP},
    Case.NONSENSE: {"END": "thank you"},
    Case.MIXED_BATCH: {f"m{n}@member.example": "550 5.1.1 no" for n in (1, 3)},
}
SAID = """From: Li Lei <li@member.example>
Subject: hello
Message-ID: <1@member.example>

hi
"""
REPORT = """From: MAILER-DAEMON@member.example
Content-Type: multipart/report; report-type=delivery-status; boundary=d

--d
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.member.example

Final-Recipient: rfc822; m0@member.example
Action: pondered
Status: 9.9.9

--d--
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class MailLab:
    secrets: Sequence[str] = [PASSWORD]
    retry_after: timedelta | None = None

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lmtp_port = free_port()

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        self._sink.replies = dict(REPLIES.get(case, {}))
        unreachable = case is Case.UNREACHABLE
        settings = mail.Settings(
            address=OURS,
            from_name="党员服务中心",
            lmtp_port=self._lmtp_port,
            parsers=1,
            relay_port=free_port() if unreachable else self._sink.port,
            relay_tls="none",
            username="service",
            password=SecretStr(PASSWORD),
        )
        adapter = mail.build(settings, context())
        yield adapter
        await adapter.close()

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return OutboundMessage(
            id=f"message-{index}",
            kind=MessageKind.ANSWER,
            to=Address(AddressKind.EMAIL, f"m{index}@member.example"),
            text=text or "您好",
            subject="回复",
        )

    def taken(self) -> Sequence[Taken]:
        return [taken(sunk.content) for sunk in self._sink.mails]

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        assert isinstance(adapter, EmailAdapter)
        events: list[Event] = []

        async def accept(received: Sequence[Event]) -> None:
            events.extend(received)

        report = case is Case.UNMAPPED_STATUS
        to = adapter._mailbox.bounce("message-0") if report else OURS
        async with adapter.listen(accept):
            await asyncio.to_thread(self._deliver, REPORT if report else SAID, to)
        return events

    def _deliver(self, content: str, to: str) -> None:
        with smtplib.LMTP("127.0.0.1", self._lmtp_port, "member.example") as client:
            client.sendmail("li@member.example", [to], content)


def context() -> ChannelContext:
    return ChannelContext(
        name="email",
        clock=ManualClock(datetime(2026, 11, 20, 2, 30, tzinfo=UTC)),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=Path("unused"),
        public_url="http://127.0.0.1:8080",
        secret=lambda purpose: purpose.encode().ljust(32, b"."),
    )


def taken(content: bytes) -> Taken:
    found = email.message_from_bytes(content, policy=default)
    name = found["Message-ID"].partition("@")[0].removeprefix("<lx.")
    return Taken(name, found.get_content().removesuffix("\r\n").replace("\r\n", "\n"))


@asynccontextmanager
async def lab(_: Path) -> AsyncIterator[MailLab]:
    async with smtp_sink(login=("service", PASSWORD)) as sink:
        yield MailLab(sink)


ENTRY = LabEntry(
    open=lab,
    without={
        Case.FORGED: "anybody may write a mail; a forged bounce is kept as automatic "
        "mail, see test_a_forged_bounce_changes_nothing",
        Case.UNSIGNED: "mail carries no signature of a provider",
        Case.BROKEN: "bytes that are no mail are kept as an unreadable message",
    },
)
