"""The bytes of outgoing mail: headers nobody can add to, bodies everybody can read."""

import base64
import email
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTP, compat32, default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mail.addresses import Mailbox
from adapters.mail.charset import clean, one_line
from adapters.mail.compose import Composer
from gateway.contract import Address, AddressKind, MessageKind, OutboundMessage
from gateway.errors import PermanentFailure

NOW = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
BOX = Mailbox(address="service@centre.example", key=b"k" * 32)
NAME = "党员服务中心"
ANSWER = OutboundMessage(
    id="01JD0ABCDEF",
    kind=MessageKind.ANSWER,
    to=Address(AddressKind.EMAIL, "li@member.example"),
    text="您好，\n请带身份证。\n.\n..\nFrom here on",
    subject="回复：组织关系转接需要哪些材料，在哪里办理，什么时候可以办理",
)


def raw(message: OutboundMessage, name: str = NAME) -> bytes:
    return Composer(BOX, name).compose(message, NOW)


def parsed(message: OutboundMessage, name: str = NAME) -> EmailMessage:
    return email.message_from_bytes(raw(message, name), policy=default)


def test_a_plain_answer() -> None:
    mail = parsed(ANSWER)
    assert mail["From"].addresses[0].display_name == NAME
    assert mail["From"].addresses[0].addr_spec == BOX.address
    assert mail["To"].addresses[0].addr_spec == "li@member.example"
    assert mail["Subject"] == ANSWER.subject
    assert mail["Date"].datetime == NOW
    assert mail["Message-ID"] == "<lx.01JD0ABCDEF@centre.example>"
    assert mail["Auto-Submitted"] == "no"
    assert mail["X-Loop"] == BOX.address
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == ANSWER.text.splitlines()
    for absent in ("Reply-To", "In-Reply-To", "References", "List-Unsubscribe"):
        assert mail[absent] is None


def test_threads() -> None:
    long = "<" + "x" * 150 + "@mail.example>"
    mail = replace(ANSWER, in_reply_to=long, references=("<a@b.c>", "<d@e.f>"))
    assert parsed(mail)["In-Reply-To"] == long
    assert str(parsed(mail)["References"]).split() == ["<a@b.c>", "<d@e.f>", long]
    assert b"=?" not in raw(replace(mail, subject="x"), "")


def test_the_reply_comes_back_to_the_plus_address() -> None:
    mail = parsed(replace(ANSWER, reply_token="t-1.ab"))
    assert mail["Reply-To"] == BOX.plus("t-1.ab")


def test_one_click_unsubscribe() -> None:
    url = "https://centre.example/u/abc?x=1"
    mail = parsed(replace(ANSWER, kind=MessageKind.NOTICE, unsubscribe_url=url))
    assert mail["List-Unsubscribe"] == f"<{url}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


@pytest.mark.parametrize("kind", MessageKind)
def test_machines_say_that_they_are(kind: MessageKind) -> None:
    automatic = parsed(replace(ANSWER, kind=kind))["Auto-Submitted"]
    replied = kind in (MessageKind.RECEIPT, MessageKind.SYSTEM)
    expected = "auto-replied" if replied else "auto-generated"
    assert automatic == ("no" if kind is MessageKind.ANSWER else expected)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"reply_token": "x\r\nBcc: v@e.example"}, "reply_token_invalid"),
        ({"reply_token": "a@b"}, "reply_token_invalid"),
        ({"unsubscribe_url": "https://x/>\r\nBcc: v@e"}, "unsubscribe_url_invalid"),
        ({"unsubscribe_url": "javascript:alert(1)"}, "unsubscribe_url_invalid"),
        ({"id": "x@y"}, "message_id_invalid"),
        ({"id": "x\r\n"}, "message_id_invalid"),
    ],
)
def test_what_can_t_stand_in_a_header_is_refused(
    changed: dict[str, str], code: str
) -> None:
    with pytest.raises(PermanentFailure) as caught:
        raw(replace(ANSWER, **changed))
    assert caught.value.code == code


HOSTILE = st.text(
    st.one_of(
        st.sampled_from('\r\n\x00\u2028\u2029\x85\x0b\x0c:"<>@,; =?\ud800党'),
        st.characters(),
    ),
    max_size=200,
)
NAMES = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Loop"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
]


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_adds_a_header_or_ends_a_mail(
    subject: str, name: str, reply_to: str, text: str
) -> None:
    message = replace(
        ANSWER, subject=subject, in_reply_to=reply_to, references=(reply_to,), text=text
    )
    content = raw(message, name)
    head = content.partition(b"\r\n\r\n")[0]
    names = [
        line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] != b" "
    ]
    allowed = {*NAMES, "Reply-To", "In-Reply-To", "References"}
    assert {n.decode() for n in names} <= allowed
    assert len(names) == len(set(names))
    content.decode("ascii")
    assert b"\r\n.\r\n" not in content
    assert content.replace(b"\r\n", b"").count(b"\n") == 0
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))


@pytest.mark.parametrize(
    "subject", ["=?utf-8?q?spoof?=", "a" * 200, "党" * 200, "x\r\nBcc: v@e.example", ""]
)
def test_subjects_arrive_as_they_are(subject: str) -> None:
    found = parsed(replace(ANSWER, subject=subject))["Subject"] or ""
    assert found == " ".join(subject.split())


def stdlib_body(message: OutboundMessage) -> bytes:
    """What we write faster, as the standard library writes it."""
    mail = EmailMessage(policy=SMTP)
    mail.set_content(clean(message.text), cte="base64")
    del mail["MIME-Version"]
    return mail.as_bytes()


@given(HOSTILE | st.text(st.sampled_from("\n\r."), max_size=8))
def test_a_body_is_byte_for_byte_the_standard_library_s(text: str) -> None:
    message = replace(ANSWER, text=text)
    assert raw(message).endswith(stdlib_body(message))


@given(HOSTILE, HOSTILE)
def test_names_and_subjects_are_read_as_they_were(subject: str, name: str) -> None:
    message = replace(ANSWER, subject=subject)
    content = raw(message, name)
    head = email.message_from_bytes(content, policy=default)
    assert (head["Subject"] or "") == one_line(subject)
    assert head["From"].addresses[0].addr_spec == BOX.address
    # Not `display_name`: the newer parser puts blanks between encoded words.
    shown = email.message_from_bytes(content, policy=compat32)["From"]
    expected = f"{one_line(name)} <{BOX.address}>".strip()
    assert str(make_header(decode_header(shown))) == expected
    for line in content.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert b"=?" not in line or len(line) <= 76


@given(HOSTILE)
def test_each_encoded_word_stands_alone(subject: str) -> None:
    """RFC 2047 section 5: a character is never split between two words."""
    content = raw(replace(ANSWER, subject=f"党{subject}"))
    found = re.findall(rb"=\?utf-8\?b\?([^?]*)\?=", content)
    said = [base64.b64decode(word, validate=True).decode() for word in found]
    assert "".join(said) == f"{NAME}{one_line(f'党{subject}')}"
    assert all(len(word) + 12 <= 75 for word in found)


def test_the_date_follows_the_clock() -> None:
    composer = Composer(BOX, NAME)
    dates = [
        email.message_from_bytes(composer.compose(ANSWER, at), policy=default)["Date"]
        for at in (NOW, NOW + timedelta(milliseconds=999), NOW + timedelta(seconds=1))
    ]
    assert [date.datetime for date in dates] == [NOW, NOW, NOW + timedelta(seconds=1)]
