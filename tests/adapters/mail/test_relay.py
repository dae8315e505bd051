"""What goes out over a real socket, and what each ending of SMTP means."""

import asyncio
import email
import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.policy import default
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from aiosmtplib import (
    SMTPConnectTimeoutError,
    SMTPException,
    SMTPNotSupported,
    SMTPReadTimeoutError,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from adapters.mail import Settings, build
from adapters.mail.adapter import EmailAdapter
from adapters.mail.addresses import normalise
from adapters.mail.endings import GREYLIST_DELAY, Phase, classify
from gateway.clock import ManualClock
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    ChannelContext,
    MessageKind,
    OutboundMessage,
    Outcome,
)
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from tests.labs.onebot_peer import until
from tests.labs.smtp_sink import DROP, smtp_sink

NOW = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
PASSWORD = "correct horse"


def context(clock: ManualClock | None = None) -> ChannelContext:
    return ChannelContext(
        name="email",
        clock=clock or ManualClock(NOW),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=Path("unused"),
        public_url="http://127.0.0.1:8080",
        secret=lambda purpose: purpose.encode().ljust(32, b"."),
    )


def adapter(
    port: int, clock: ManualClock | None = None, **extra: object
) -> EmailAdapter:
    values = {"relay_tls": "none", "timeout_seconds": 5, **extra}
    settings = Settings(
        address="service@centre.example", from_name="党员服务中心", relay_port=port,
        **values,
    )  # fmt: skip
    return build(settings, context(clock))


def message(number: int = 0, to: str = "li@member.example") -> OutboundMessage:
    return OutboundMessage(
        id=f"m{number}",
        kind=MessageKind.ANSWER,
        to=Address(AddressKind.EMAIL, to),
        text="您好，组织关系转接请带身份证。",
        subject="回复：组织关系",
    )


async def outcome(sender: EmailAdapter, note: OutboundMessage) -> Outcome:
    return (await sender.send([note]))[note.id]


async def test_a_mail_arrives_and_its_id_is_returned() -> None:
    async with smtp_sink() as sink:
        sender = adapter(sink.port)
        result = await outcome(sender, message())
        await sender.close()
    assert result == Accepted(("<lx.m0@centre.example>",))
    [mail] = sink.mails
    assert mail.recipients == ("li@member.example",)
    assert mail.sender.startswith("service+bm0.")
    parsed = email.message_from_bytes(mail.content, policy=default)
    assert parsed["Message-ID"] == "<lx.m0@centre.example>"
    assert parsed.get_content().strip() == message().text


async def test_the_message_id_is_the_same_in_every_attempt() -> None:
    async with smtp_sink() as sink:
        sender = adapter(sink.port)
        first, second = [await outcome(sender, message()) for _ in range(2)]
        await sender.close()
    assert first == second


REPLIES: list[tuple[str, str, type[DeliveryError], bool]] = [
    ("MAIL", "451 4.3.0 busy", TransientFailure, False),
    ("MAIL", "530 5.7.0 authenticate first", TransientFailure, False),
    ("MAIL", "553 5.7.1 sender not owned", PermanentFailure, False),
    ("RCPT", "450 4.2.0 greylisted", TransientFailure, False),
    ("RCPT", "421 4.7.0 slow down", TransientFailure, True),
    ("RCPT", "550 5.1.1 no such user", PermanentFailure, False),
    ("RCPT", "552 5.2.2 mailbox full", PermanentFailure, False),
    ("DATA", "451 4.3.0 later", TransientFailure, False),
    ("DATA", "554 5.7.1 no", PermanentFailure, False),
    ("END", "452 4.3.1 disk full", TransientFailure, False),
    ("END", "421 4.3.2 closing", TransientFailure, True),
    ("END", "554 5.7.1 spam", PermanentFailure, False),
    ("END", "gibberish", OutcomeUnknown, False),
    ("END", "299 what is this", OutcomeUnknown, False),
    ("MAIL", DROP, TransientFailure, False),
    ("RCPT", DROP, TransientFailure, False),
    ("DATA", DROP, TransientFailure, False),
    ("END", DROP, OutcomeUnknown, False),
]


@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize(("moment", "reply", "kind", "throttled"), REPLIES)
async def test_each_reply_on_the_wire_has_its_outcome(
    moment: str,
    reply: str,
    kind: type[DeliveryError],
    throttled: bool,
    pipelining: bool,
) -> None:
    """A-21, H-10: greylisted, 421, cut before and after the last dot."""
    async with smtp_sink(pipelining=pipelining) as sink:
        sink.replies[moment] = reply
        sender = adapter(sink.port)
        result = await outcome(sender, message())
        sink.replies.clear()
        again = await outcome(sender, message(1))
        await sender.close()
    assert type(result) is kind
    assert getattr(result, "throttled", False) is throttled
    assert isinstance(again, Accepted), "the channel goes on"


CLASSES: list[tuple[Exception, Phase, type[DeliveryError], str]] = [
    (ConnectionRefusedError(), Phase.SESSION, TransientFailure, "smtp_unreachable"),
    (socket.gaierror(-2, "x"), Phase.SESSION, TransientFailure, "smtp_unreachable"),
    (
        SMTPConnectTimeoutError("x"),
        Phase.SESSION,
        TransientFailure,
        "smtp_unreachable",
    ),
    (ssl.SSLError("cert"), Phase.SESSION, TransientFailure, "smtp_tls"),
    (SMTPException("no starttls"), Phase.SESSION, TransientFailure, "smtp_session"),
    (SMTPNotSupported("auth"), Phase.SESSION, TransientFailure, "smtp_session"),
    (ValueError("hostname"), Phase.SESSION, TransientFailure, "smtp_session"),
    (SMTPResponseException(535, ""), Phase.SESSION, TransientFailure, "smtp_535"),
    (SMTPResponseException(554, ""), Phase.SESSION, TransientFailure, "smtp_554"),
    (SMTPResponseException(-1, "?"), Phase.SESSION, TransientFailure, "smtp_-1"),
    (SMTPResponseException(-1, "?"), Phase.ENVELOPE, TransientFailure, "smtp_reply"),
    (SMTPResponseException(-1, "?"), Phase.HANDED_OVER, OutcomeUnknown, "smtp_reply"),
    (
        SMTPServerDisconnected("x"),
        Phase.ENVELOPE,
        TransientFailure,
        "smtp_unreachable",
    ),
    (SMTPReadTimeoutError("x"), Phase.ENVELOPE, TransientFailure, "smtp_unreachable"),
    (
        SMTPServerDisconnected("x"),
        Phase.HANDED_OVER,
        OutcomeUnknown,
        "smtp_no_reply",
    ),
    (SMTPReadTimeoutError("x"), Phase.HANDED_OVER, OutcomeUnknown, "smtp_no_reply"),
    (ConnectionResetError(), Phase.HANDED_OVER, OutcomeUnknown, "smtp_no_reply"),
]


@pytest.mark.parametrize(("error", "phase", "kind", "code"), CLASSES)
def test_classify(
    error: Exception, phase: Phase, kind: type[DeliveryError], code: str
) -> None:
    found = classify(error, phase)
    assert type(found) is kind
    assert found.code == code


def test_greylisting_tells_when_to_come_back() -> None:
    error = SMTPResponseException(450, "4.2.0 Greylisted, see you")
    found = classify(error, Phase.ENVELOPE)
    assert isinstance(found, TransientFailure)
    assert found.retry_after == GREYLIST_DELAY
    assert found.detail == "4.2.0"


@pytest.mark.parametrize("pipelining", [False, True])
async def test_each_mail_of_many_has_its_own_state(pipelining: bool) -> None:
    """A-20: 250 for some, 4yz and 5yz for others; nobody gets what was refused."""
    notes = [message(n, f"m{n}@member.example") for n in range(30)]
    async with smtp_sink(pipelining=pipelining) as sink:
        for n in range(0, 30, 3):
            sink.replies[f"m{n}@member.example"] = "450 4.2.1 mailbox busy"
        for n in range(1, 30, 5):
            sink.replies[f"m{n}@member.example"] = "550 5.1.1 no such user"
        sender = adapter(sink.port, connections=2)
        told: dict[str, Outcome] = {}
        sender.attach(told.__setitem__, lambda: None)
        sender.submit(notes)
        await until(lambda: len(told) == len(notes))
        await sender.close()
    taken = sorted(mail.recipients[0] for mail in sink.mails)
    accepted = [n for n in notes if isinstance(told[n.id], Accepted)]
    assert taken == sorted(note.to.value for note in accepted)
    for number, note in enumerate(notes):
        kind = TransientFailure if number % 3 == 0 else Accepted
        assert type(told[note.id]) is (PermanentFailure if number % 5 == 1 else kind)


async def test_nobody_listening_is_transient(unused_tcp_port: int) -> None:
    sender = adapter(unused_tcp_port)
    assert isinstance(await outcome(sender, message()), TransientFailure)


async def test_a_relay_that_refuses_us_is_not_the_message_s_fault() -> None:
    async with smtp_sink() as sink:
        sink.greeting = "554 5.7.1 you are blocked"
        sender = adapter(sink.port)
        assert isinstance(await outcome(sender, message()), TransientFailure)


async def test_a_silent_relay_after_the_last_dot_is_unknown() -> None:
    async with smtp_sink() as sink:
        sink.late = asyncio.Event()
        sender = adapter(sink.port, timeout_seconds=0.2)
        assert isinstance(await outcome(sender, message()), OutcomeUnknown)
    assert len(sink.mails) == 1


@pytest.mark.parametrize("pipelining", [False, True])
async def test_connections_are_reused_and_never_more_than_allowed(
    pipelining: bool,
) -> None:
    async with smtp_sink(pipelining=pipelining) as sink:
        sender = adapter(sink.port, connections=3)
        await asyncio.gather(*(outcome(sender, message(n)) for n in range(30)))
        assert sink.connections <= 3
        await sender.close()
    assert len(sink.mails) == 30


@pytest.mark.parametrize("pipelining", [False, True])
async def test_a_kept_connection_that_died_costs_no_attempt(pipelining: bool) -> None:
    async with smtp_sink(pipelining=pipelining) as sink:
        sender = adapter(sink.port)
        assert isinstance(await outcome(sender, message(0)), Accepted)
        sink.once["MAIL"] = "421 4.4.2 idle too long"
        assert isinstance(await outcome(sender, message(1)), Accepted)
        await sender.close()
    assert sink.connections == 2


async def test_a_connection_the_relay_hung_up_is_replaced() -> None:
    async with smtp_sink() as sink:
        sender = adapter(sink.port)
        assert isinstance(await outcome(sender, message(0)), Accepted)
        sink.hang_up()
        assert isinstance(await outcome(sender, message(1)), Accepted)
        await sender.close()
    assert sink.connections == 2


async def test_an_old_connection_is_not_used_again() -> None:
    clock = ManualClock(NOW)
    async with smtp_sink() as sink:
        sender = adapter(sink.port, clock)
        await outcome(sender, message(0))
        clock.advance(timedelta(minutes=1))
        await outcome(sender, message(1))
        await sender.close()
    assert sink.connections == 2


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    return tls


@pytest.mark.parametrize("mode", ["required", "implicit"])
async def test_tls_and_login(certificate: tuple[Path, Path], mode: str) -> None:
    options = {"tls": server_tls(certificate), "implicit": mode == "implicit"}
    login = None if mode == "implicit" else ("service", PASSWORD)
    account = {"username": "service", "password": SecretStr(PASSWORD)} if login else {}
    async with smtp_sink(login=login, **options) as sink:
        sender = adapter(
            sink.port, relay_tls=mode, relay_ca_file=certificate[0], **account
        )
        assert isinstance(await outcome(sender, message()), Accepted)
        await sender.close()


async def test_a_wrong_password_is_the_account_s_trouble(
    certificate: tuple[Path, Path],
) -> None:
    tls = server_tls(certificate)
    async with smtp_sink(tls=tls, login=("service", PASSWORD)) as sink:
        sender = adapter(
            sink.port,
            relay_tls="required",
            relay_ca_file=certificate[0],
            username="service",
            password=SecretStr("wrong"),
        )
        result = await outcome(sender, message())
    assert isinstance(result, TransientFailure)
    assert result.code == "smtp_535"


async def test_required_tls_never_falls_back_to_plain() -> None:
    """H-10: a relay that does not offer STARTTLS gets nothing."""
    async with smtp_sink() as sink:
        sender = adapter(sink.port, relay_tls="required")
        assert isinstance(await outcome(sender, message()), TransientFailure)
    assert sink.mails == []


async def test_an_unknown_certificate_is_refused_where_tls_is_required(
    certificate: tuple[Path, Path],
) -> None:
    async with smtp_sink(tls=server_tls(certificate)) as sink:
        sender = adapter(sink.port, relay_tls="required")
        assert isinstance(await outcome(sender, message()), TransientFailure)
    assert sink.mails == []


async def test_opportunistic_tls_takes_what_there_is(
    certificate: tuple[Path, Path],
) -> None:
    for tls in (None, server_tls(certificate)):
        async with smtp_sink(tls=tls) as sink:
            sender = adapter(sink.port, relay_tls="opportunistic")
            assert isinstance(await outcome(sender, message()), Accepted)
            await sender.close()


HOSTILE = [
    '"a\r\nb"@d.example',
    "c@d.example\nDATA",
    "c@d.example> ORCPT=rfc822;x",
    "bob@corp.example]<e@evil.example>",
    "a@[127.0.0.1]",
    "a@xn--80ak6aa92e.com",  # Cyrillic letters that look Latin
    "李雷@d.example",
    "a@例子.example",
    "a" * 65 + "@d.example",
    "a@" + "d" * 64 + ".example",
    "a@" + "d." * 160 + "example",
    "a b@d.example",
    "a@d",
    "a@d..example",
    ".a@d.example",
    "a.@d.example",
    "a@-d.example",
    "a@1.2.3.4",
    "a@b@d.example",
    "<a@d.example>",
    "Name <a@d.example>",
    "a@d.example,b@d.example",
    "a\x00@d.example",
    "a@d.example\u2028",
    " a@d.example",
    "unknown-1@sender.invalid",
    "",
    "@",
]


@pytest.mark.parametrize("to", HOSTILE)
async def test_a_hostile_address_is_never_written_to(to: str) -> None:
    """A-22."""
    async with smtp_sink() as sink:
        result = await outcome(adapter(sink.port), message(to=to))
    assert isinstance(result, PermanentFailure)
    assert result.code == "address_invalid"
    assert sink.connections == 0


INTO = "ab@d.example"
SLIPPED_IN = [*'\r\n\0\x7f\t "<>()[],;:\\', "\r\nDATA\r\n", "\u2028", "\u202e", "\xa0"]


def test_two_hundred_hostile_addresses_reach_no_relay() -> None:
    """A-22: whatever stands wherever in an address that was good."""
    made = {INTO[:at] + one + INTO[at:] for one in SLIPPED_IN for at in range(13)}
    assert len(made) >= 200
    assert [to for to in sorted(made) if normalise(to) is not None] == []


GOOD = [
    "li@member.example",
    "Li.Lei+x=y@member.example",
    "o'neil_{}|~@a-b.member.example",
    "12345@qq.com",
    "a@xn--fiqs8s.cn",
]


@pytest.mark.parametrize("to", GOOD)
async def test_what_is_stored_is_what_goes_into_rcpt(to: str) -> None:
    """A-22."""
    assert normalise(to) == to
    async with smtp_sink() as sink:
        sender = adapter(sink.port)
        assert isinstance(await outcome(sender, message(to=to)), Accepted)
        await sender.close()
    assert sink.mails[0].recipients == (to,)


def test_a_password_does_not_cross_the_net_in_the_clear() -> None:
    with pytest.raises(ValidationError, match="relay_tls"):
        Settings(
            address="service@centre.example",
            relay_host="smtp.centre.example",
            relay_tls="opportunistic",
            username="service",
            password=SecretStr(PASSWORD),
        )


@pytest.mark.parametrize(
    "address", ["service", "a+b@centre.example", "x" * 17 + "@c.cn"]
)
def test_our_own_address_is_a_plain_one(address: str) -> None:
    with pytest.raises(ValidationError, match="address"):
        Settings(address=address)


@given(
    st.text(st.sampled_from('ab.@+-_"<>()[],;:\\ \r\n\x00\u3002例xn1'), max_size=40)
    | st.emails()
)
def test_an_address_passes_only_as_what_it_is(text: str) -> None:
    address = normalise(text)
    if address is not None:
        assert re.fullmatch(r"[!#-'*+\-/-9=?A-Z^-~.]+@[a-z0-9.-]+", address)
        assert normalise(address) == address
        assert address.lower() == text.lower()
