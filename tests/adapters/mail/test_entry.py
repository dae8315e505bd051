"""The mail server over real sockets: what it takes, and when it says 250."""

import asyncio
import logging
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from adapters.mail import Settings, build
from gateway.clock import ManualClock
from gateway.contract import (
    Address,
    AddressKind,
    ChannelContext,
    Event,
    InboundMessage,
)
from gateway.errors import StorageUnavailable
from tests.labs.heartbeat import heartbeat

NOW = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
OURS = "service@centre.example"
MAIL = (
    "From: Li Lei <li@Member.Example>\r\nTo: service@centre.example\r\n"
    "Subject: hello\r\nMessage-ID: <1@member.example>\r\n\r\nhi\r\n"
)


@dataclass
class Desk:
    """What was stored, and the ports of the server that stores it."""

    smtp: int
    lmtp: int
    events: list[Event] = field(default_factory=list)
    down: bool = False
    gate: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def accept(self, events: Sequence[Event]) -> None:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StorageUnavailable("database", "disk full")
        self.events += events

    @property
    def messages(self) -> list[InboundMessage]:
        return [e for e in self.events if isinstance(e, InboundMessage)]


@asynccontextmanager
async def desk(ports: Callable[[], int], **extra: object) -> AsyncIterator[Desk]:
    opened = Desk(ports(), ports())
    values = {"parsers": 1, **extra}
    settings = Settings(
        address=OURS, smtp_port=opened.smtp, lmtp_port=opened.lmtp, **values
    )
    adapter = build(
        settings,
        ChannelContext(
            name="email",
            clock=ManualClock(NOW),
            timezone=ZoneInfo("Asia/Shanghai"),
            data_dir=Path("unused"),
            public_url="http://127.0.0.1:8080",
            secret=lambda purpose: purpose.encode().ljust(32, b"."),
        ),
    )
    async with adapter.listen(opened.accept):
        yield opened
    await adapter.close()


Ports = Callable[[], int]


@pytest.fixture
def ports(unused_tcp_port_factory: Ports) -> Ports:
    return unused_tcp_port_factory


def deliver(
    port: int,
    mail: str | bytes = MAIL,
    to: Sequence[str] = (OURS,),
    sender: str = "li@member.example",
    kind: type[smtplib.SMTP] = smtplib.SMTP,
) -> dict[str, tuple[int, bytes]]:
    with kind("127.0.0.1", port, local_hostname="member.example", timeout=20) as client:
        return client.sendmail(sender, list(to), mail)


async def lines(port: int, *sent: bytes) -> list[bytes]:
    """Replies to raw bytes, sent one after the other as each is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    replies = [await reader.readline()]
    for piece in sent:
        writer.write(piece)
        reply = await asyncio.wait_for(reader.readline(), 10)
        while reply[3:4] == b"-":
            reply = await asyncio.wait_for(reader.readline(), 10)
        replies.append(reply)
    writer.close()
    await writer.wait_closed()
    return replies


HELLO = (
    b"EHLO member.example\r\n",
    b"MAIL FROM:<li@member.example>\r\n",
    b"RCPT TO:<service@centre.example>\r\n",
    b"DATA\r\n",
)


async def test_a_mail_is_stored_with_its_bytes_before_250(ports: Ports) -> None:
    async with desk(ports) as opened:
        opened.gate = asyncio.Event()
        sending = asyncio.create_task(asyncio.to_thread(deliver, opened.smtp))
        await opened.asked.wait()
        assert not sending.done(), "250 only after the commit"
        opened.gate.set()
        await sending
    [message] = opened.messages
    assert message.sender == Address(AddressKind.EMAIL, "li@member.example")
    assert message.raw == MAIL.encode()
    assert (message.text, message.subject, message.to) == ("hi", "hello", OURS)


async def test_a_repeated_delivery_has_the_same_key(ports: Ports) -> None:
    async with desk(ports) as opened:
        await asyncio.to_thread(deliver, opened.smtp)
        again = "Received: from x by y; Fri, 20 Nov 2026 10:00:00 +0800\r\n" + MAIL
        await asyncio.to_thread(deliver, opened.smtp, again)
        other = MAIL.replace("\r\nhi", "\r\nanother text")
        await asyncio.to_thread(deliver, opened.smtp, other)
    first, second, third = [m.key for m in opened.messages]
    assert first == second
    assert first != third, "the same Message-ID does not suppress another mail"


async def test_no_address_and_no_text_in_the_log(
    ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), capture_logs() as logged:
        async with desk(ports) as opened:
            opened.down = True
            with pytest.raises(smtplib.SMTPDataError):
                await asyncio.to_thread(deliver, opened.smtp)
            await lines(opened.smtp, b"MAIL FROM:<li@member.example\r\n")
    shown = caplog.text + str(logged)
    assert "mail.deferred" in shown
    for private in ("li@member", "Li Lei", "hello", "hi\n"):
        assert private not in shown


async def test_storage_that_is_down_defers(ports: Ports) -> None:
    async with desk(ports) as opened:
        opened.down = True
        with pytest.raises(smtplib.SMTPDataError) as caught:
            await asyncio.to_thread(deliver, opened.smtp)
        assert caught.value.smtp_code == 451
        opened.down = False
        await asyncio.to_thread(deliver, opened.smtp)
    assert len(opened.messages) == 1


async def test_other_recipients_are_refused(ports: Ports) -> None:
    strangers = ["other@centre.example", "service@else.example", "service+a b@x.y"]
    async with desk(ports) as opened:
        for stranger in strangers:
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                await asyncio.to_thread(deliver, opened.smtp, MAIL, [stranger])
            assert caught.value.recipients[stranger][0] in (501, 550, 553, 555)
    assert opened.events == []


async def test_recipients_are_bounded(ports: Ports) -> None:
    async with desk(ports, max_recipients=2) as opened:
        to = [f"service+t{n}@centre.example" for n in range(3)]
        refused = await asyncio.to_thread(deliver, opened.smtp, MAIL, to)
    assert refused[to[2]][0] == 452
    assert opened.messages[0].reply_token == "t0"


async def test_a_mail_over_the_limit_is_refused(ports: Ports) -> None:
    big = b"x" * 70 + b"\r\n"
    async with desk(ports, max_mail_mib=1) as opened:
        with pytest.raises(smtplib.SMTPSenderRefused) as declared:
            await asyncio.to_thread(deliver, opened.smtp, MAIL + "x" * 2_000_000)
        assert declared.value.smtp_code == 552
        body = big * 20_000 + b".\r\n"
        replies = await lines(opened.smtp, *HELLO, body, b"NOOP\r\n")
        assert [r[:3] for r in replies[-2:]] == [b"552", b"250"]
    assert opened.events == []


async def test_a_sender_that_never_stops_is_cut_off(ports: Ports) -> None:
    async with desk(ports, max_mail_mib=1) as opened:
        _, writer = await asyncio.open_connection("127.0.0.1", opened.smtp)
        writer.write(b"".join(HELLO))
        with pytest.raises(ConnectionError):
            await flood(writer)
        writer.close()
    assert opened.events == []


async def flood(writer: asyncio.StreamWriter) -> None:
    for _ in range(10_000):
        writer.write(b"x" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    "ending",
    [b"\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r\n", b"\r\n.\n", b"\0.\r\n", b"\r.\r"],
)
async def test_only_crlf_dot_crlf_ends_a_mail(ports: Ports, ending: bytes) -> None:
    smuggled = (
        b"From: li@member.example\r\n\r\nhi"
        + ending
        + b"MAIL FROM:<e@evil.example>\r\n"
        b"RCPT TO:<service@centre.example>\r\nDATA\r\nevil\r\n.\r\n"
    )
    async with desk(ports) as opened:
        replies = await lines(opened.smtp, *HELLO, smuggled, b"NOOP\r\n")
    assert [r[:3] for r in replies[-2:]] == [b"250", b"250"]
    [message] = opened.messages
    assert b"MAIL FROM:<e@evil.example>" in message.raw


async def test_commands_after_the_end_are_not_lost(ports: Ports) -> None:
    async with desk(ports) as opened:
        data = MAIL.encode() + b"..dot\r\n.\r\nQUIT\r\n"
        replies = await lines(opened.smtp, *HELLO, data, b"")
    assert [r[:3] for r in replies[-2:]] == [b"250", b"221"]
    assert opened.messages[0].text == "hi\n.dot"


async def test_an_empty_mail_is_kept(ports: Ports) -> None:
    async with desk(ports) as opened:
        replies = await lines(opened.smtp, *HELLO, b".\r\n")
    assert replies[-1].startswith(b"250")
    assert opened.messages[0].raw == b""


async def test_lmtp_answers_each_recipient(ports: Ports) -> None:
    to = [OURS, "service+abc@centre.example"]
    async with desk(ports) as opened:
        hello = [b"LHLO mx\r\n", b"MAIL FROM:<>\r\n"]
        hello += [b"RCPT TO:<%s>\r\n" % r.encode() for r in to]
        data = MAIL.encode() + b".\r\n"
        replies = await lines(opened.lmtp, *hello, b"DATA\r\n", data, b"")
    assert [r[:3] for r in replies[-2:]] == [b"250", b"250"]
    [message] = opened.messages
    assert message.reply_token == "abc"
    assert message.automatic, "the null return path is a machine's"


async def test_connections_are_bounded(ports: Ports) -> None:
    async with desk(ports, max_connections=1) as opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.smtp)
        assert (await reader.readline()).startswith(b"220")
        second, other = await asyncio.open_connection("127.0.0.1", opened.smtp)
        assert (await second.readline()).startswith(b"421")
        writer.close()
        other.close()
        await writer.wait_closed()
        await asyncio.to_thread(deliver, opened.smtp)
    assert len(opened.messages) == 1


async def test_an_idle_connection_is_closed(ports: Ports) -> None:
    async with desk(ports, idle_seconds=0.1) as opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.smtp)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_it_closes_at_once_and_the_client_keeps_its_mail(ports: Ports) -> None:
    async with desk(ports) as opened:
        opened.gate = asyncio.Event()
        sending = asyncio.create_task(asyncio.to_thread(deliver, opened.smtp))
        await opened.asked.wait()
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with pytest.raises(smtplib.SMTPException):
        await sending
    assert opened.events == []


async def test_no_password_is_asked_for_and_tls_is_offered(
    ports: Ports, certificate: tuple[Path, Path]
) -> None:
    options = {"tls_certificate": certificate[0], "tls_key": certificate[1]}

    def over_tls(port: int) -> set[str]:
        with smtplib.SMTP("127.0.0.1", port, "member.example", timeout=10) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.ehlo()
            client.sendmail("li@member.example", [OURS], MAIL)
            return set(client.esmtp_features)

    async with desk(ports, **options) as opened:
        features = await asyncio.to_thread(over_tls, opened.smtp)
    assert len(opened.messages) == 1
    assert "auth" not in features


SWAKS = [
    ["--header", "Subject: =?gb2312?B?xOO6ww==?=", "--body", "plain"],
    ["--attach-type", "text/calendar", "--attach", "BEGIN:VCALENDAR"],
    ["--header", "From: (nobody) <>", "--body", "x"],
    ["--header", "Date: the day after never", "--body", "\u4f60\u597d"],
    ["--data", "no header at all\n\nbody"],
    ["--data", "From: a@b.example\nContent-Type: multipart/mixed; boundary=x\n\n--x"],
    ["--data", "\n\n\n"],
    ["--data", "Subject" + ": x\n " * 200 + "\n\n.\n..\nend"],
]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["SMTP", "LMTP"])
async def test_swaks_delivers_odd_mails(ports: Ports, protocol: str) -> None:
    async with desk(ports) as opened:
        port = opened.smtp if protocol == "SMTP" else opened.lmtp
        for options in SWAKS:
            command = ["swaks", "--server", "127.0.0.1", "--port", str(port)]
            command += ["--protocol", protocol, "--from", "li@member.example"]
            command += ["--to", OURS, "--timeout", "10", *options]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, timeout=30
            )
            assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    assert len(opened.events) == len(SWAKS)


async def test_garbage_does_not_stop_the_server(ports: Ports) -> None:
    async with desk(ports) as opened:
        garbage = [
            b"\xff\xfe\r\n",
            b"MAIL FROM:<\r\n",
            b"RCPT\r\n",
            b"X" * 5000 + b"\r\n",
        ]
        garbage += [b"MAIL FROM:<a@b> SIZE=x\r\n", b"EHLO\r\n", b"DATA\r\n", b"\0\r\n"]
        replies = await lines(opened.smtp, *garbage)
        assert all(reply[:1] in (b"2", b"4", b"5") for reply in replies)
        with socket.create_connection(("127.0.0.1", opened.smtp)) as cut:
            cut.sendall(b"".join(HELLO) + b"half a ma")
        await asyncio.to_thread(deliver, opened.smtp)
    assert len(opened.messages) == 1


STALLS = {
    "blank lines": b"\r\n" * 10_000_000,
    "dots": b"..\r\n" * 5_000_000,
    "one line": b"x" * 20_000_000,
    "nearly ended": b".\n" * 10_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STALLS)
async def test_twenty_megabytes_do_not_hold_up_the_loop(
    ports: Ports, name: str
) -> None:
    data = b"\r\n" + STALLS[name] + b"\r\n.\r\n"

    def pour(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            answers = client.makefile("rb")
            for piece in (b"", b"HELO x\r\n", *HELLO[1:], data):
                client.sendall(piece)
                answer = answers.readline()
            answers.close()
            return answer

    async with desk(ports) as opened, heartbeat() as worst:
        assert (await asyncio.to_thread(pour, opened.smtp)).startswith(b"250")
    assert len(opened.messages) == 1
    assert worst[0] < 0.1
