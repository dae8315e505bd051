"""Mails as bytes to events: the corpus, and whatever bytes hypothesis thinks of."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.mail.addresses import Mailbox, is_token, normalise
from adapters.mail.charset import decode, decode_header
from adapters.mail.guard import fault, identity
from adapters.mail.html_text import html_to_text
from adapters.mail.parse import (
    ENCRYPTED,
    MAX_ATTACHMENTS,
    MAX_TEXT_CHARACTERS,
    UNREADABLE,
    Envelope,
    parse_mail,
    safe_name,
)
from adapters.mail.quotes import split_reply
from gateway.contract import DeliveryReceipt, InboundMessage, ReceiptState

CORPUS = Path(__file__).parent / "corpus"
BOX = Mailbox(address="service@centre.example", key=b"k" * 32)
OPEN_BOX = replace(BOX, bounce_addresses=False)
FROM_MEMBER = Envelope(sender="li@member.example", recipients=(BOX.address,))
BOUNCED = Envelope(sender="", recipients=(BOX.bounce("m77"),))
FORGED = Envelope(sender="", recipients=("service+bm77.aaaaaaaaaa@centre.example",))
OWN = "材料已经准备好了。"
OLD = "您的咨询已收到，编号 C-0815。"


def raw(name: str) -> bytes:
    return (CORPUS / f"{name}.eml").read_bytes()


def message(name: str, envelope: Envelope = FROM_MEMBER) -> InboundMessage:
    [event] = parse_mail(raw(name), envelope, BOX)
    assert isinstance(event, InboundMessage)
    return event


def receipt(
    name: str, envelope: Envelope = BOUNCED, mailbox: Mailbox = BOX
) -> DeliveryReceipt:
    [event] = parse_mail(raw(name), envelope, mailbox)
    assert isinstance(event, DeliveryReceipt)
    return event


def compact(text: str) -> str:
    return "".join(text.split()).replace(">", "")


REPLIES = sorted(path.stem for path in CORPUS.glob("reply-*.eml"))


@pytest.mark.parametrize("name", [*REPLIES, "html-qq-reply"])
def test_a_reply_is_split_and_nothing_is_lost(name: str) -> None:
    found = message(name)
    if name != "reply-between":
        assert found.text.removesuffix("\n\n\n\n李雷") == OWN
        assert OLD in found.quoted
        assert OLD not in found.text
    assert found.answers_to == ("<lx.m1@centre.example>", "<a@b.example>")
    assert not found.automatic


def test_answers_between_the_quoted_lines_stay_where_they_are() -> None:
    found = message("reply-between")
    assert found.quoted == ""
    assert "> 请问何时来？\n周五。" in found.text


def test_a_phone_s_signature_is_folded() -> None:
    found = message("phone-only")
    assert (found.text, found.quoted) == ("请问党费怎么交？", "发自我的华为手机")


def test_a_forward_is_what_the_member_says() -> None:
    found = message("forward-nested")
    assert found.quoted == ""
    assert "我要转接组织关系。" in found.text
    assert "原信内容在此。" in found.text


@pytest.mark.parametrize(
    "text",
    [
        "来自朝阳区的党员",
        "请看：\n发件人：张三寄来的信",
        "在 2026 年写道",
        "-----",
        "From: here on",
        "主题：党费",
        "发自我的iPhone",
        "",
    ],
)
def test_ordinary_words_are_not_taken_for_quotes(text: str) -> None:
    assert split_reply(text) == (text, "")


@given(st.text(alphabet="> \n-发自我的件人：:写道在于2026年Fromwrte", max_size=300))
def test_splitting_loses_nothing(text: str) -> None:
    own, quoted = split_reply(text)
    assert sorted(compact(own + quoted)) == sorted(compact(text))


TEXTS = {
    "wrong-gb2312": "我叫喆镕，问䶮字怎么写？",
    "unknown-charset": "没有人认识这个字符集。",
    "raw-gbk": "怎么交党费？",
    "alternative": "纯文本正文。",
    "alternative-blank-plain": "网页正文。",
    "calendar-invite": "请参加支部会。",
    "smime-signed": "签名的信。",
    "smime-encrypted": ENCRYPTED,
}


@pytest.mark.parametrize(("name", "text"), TEXTS.items())
def test_text(name: str, text: str) -> None:
    assert message(name).text == text


def test_headers() -> None:
    found = message("reply-163")
    assert found.display_name == "李雷"
    assert found.sender.value == "li@member.example"
    assert found.subject == "组织关系"
    assert found.provider_id == "<reply-163@member.example>"
    assert found.sent_at == datetime(2026, 11, 20, 2, 23, 45, tzinfo=UTC)
    assert message("split-word").subject == "党员教育"
    assert message("raw-gbk").subject == "党费"
    assert message("raw-gbk").display_name == "李雷"
    assert message("wrong-gb2312").display_name == "喆镕"


def test_html_becomes_readable_text() -> None:
    assert message("html-only").text.split("\n") == [
        "第一段，请看通知 (https://member.example/a?b=1&c=2)。",
        "",
        "- 身份证",
        "- 介绍信",
        "",
        "1. 先填表",
        "2. 再盖章",
        "",
        "第二段",
        "换行 <b> \U0001f600",
        "",
        "姓名 李雷",
        "",
        "[合影]",
    ]


def test_html_quotes_and_broken_html() -> None:
    assert html_to_text("<blockquote>a<p>b</blockquote>c") == "> a\n> b\nc"
    assert html_to_text("<head><style>x</style><body>y<script>z") == "y"
    assert (
        html_to_text("<a href='javascript:x'>l</a><a>m</a></ul></blockquote>") == "lm"
    )


def test_attachments_keep_their_chinese_names() -> None:
    found = message("attachments-zh").attachments
    assert [(a.name, a.content) for a in found] == [
        ("关于组织关系转接的申请.pdf", b"%PDF-1"),
        ("介绍信.doc", b"DOC"),
        ("照片.jpg", b"JPEG"),
        ("etc_passwd", b"x"),
    ]
    [sheet] = message("attachment-raw-gbk").attachments
    assert (sheet.name, sheet.content.strip()) == ("名单.xls", b"XLS")


def test_enclosed_mail_and_invitation_are_attachments() -> None:
    [enclosed] = message("forward-attached").attachments
    assert enclosed.name == "附件1.eml"
    assert b"inner text" in enclosed.content
    [invitation] = message("calendar-invite").attachments
    assert invitation.content_type == "text/calendar"


@pytest.mark.parametrize(
    "name", ["a/b\\c:d.pdf", "\u202egpj.exe", "..", "x" * 300 + ".doc"]
)
def test_safe_names(name: str) -> None:
    safe = safe_name(name, "application/pdf", 1)
    assert safe
    assert len(safe) <= 100
    assert not set(safe) & set("/\\:\u202e")
    assert not safe.startswith(".")


def test_many_attachments_are_cut_with_a_note() -> None:
    part = b"--m\r\nContent-Type: image/png\r\n\r\nx\r\n"
    head = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n"
    [found] = parse_mail(head + part * 60 + b"--m--\r\n", FROM_MEMBER, BOX)
    assert isinstance(found, InboundMessage)
    assert len(found.attachments) == MAX_ATTACHMENTS
    assert found.notes == ("attachments_cut",)


def test_a_very_long_text_is_cut_with_a_note() -> None:
    [found] = parse_mail(b"\n" + b"word " * 60_000, FROM_MEMBER, BOX)
    assert isinstance(found, InboundMessage)
    assert len(found.text) <= MAX_TEXT_CHARACTERS
    assert found.notes == ("truncated",)


AUTOMATIC = [
    "auto-reply",
    "auto-x-autoreply",
    "list-mail",
    "own-loop",
    "from-ourselves",
]


@pytest.mark.parametrize("name", AUTOMATIC)
def test_machines_are_known(name: str) -> None:
    assert message(name).automatic


def test_the_null_return_path_is_a_machine_s() -> None:
    null = Envelope(sender="", recipients=(BOX.address,))
    assert message("phone-only", null).automatic


def test_no_usable_sender() -> None:
    found = message("no-from")
    assert found.sender.value == "li@member.example", "the envelope's"
    assert found.display_name == "匿名"
    null = message("no-from", Envelope(sender="", recipients=(BOX.address,)))
    assert normalise(null.sender.value) is None
    assert "no_sender" in null.notes


def test_no_nul_and_no_surrogate() -> None:
    text = message("nul-and-surrogates").text
    assert "\x00" not in text
    text.encode("utf-8")


def test_the_token_of_the_plus_address() -> None:
    def token(*recipients: str, header: str = "") -> str:
        envelope = Envelope(sender="li@member.example", recipients=recipients)
        [found] = parse_mail(f"{header}\r\n\r\nx".encode(), envelope, BOX)
        assert isinstance(found, InboundMessage)
        return found.reply_token

    assert token("service@centre.example", "Service+T.1@Centre.example") == "T.1"
    assert token(BOX.address, header="Delivered-To: service+t2@centre.example") == "t2"
    assert token(BOX.address, header="X-Original-To: service+t3@centre.example") == "t3"
    assert token(BOX.address, header="To: service+t4@centre.example") == ""
    assert token(BOX.bounce("m1")) == ""
    assert not is_token("a b")


@pytest.mark.parametrize(
    ("name", "state", "code"),
    [
        ("dsn-failed", ReceiptState.FAILED, "failed 5.1.1"),
        ("dsn-headers-only", ReceiptState.FAILED, "failed 5.2.2"),
        ("dsn-delivered", ReceiptState.DELIVERED, "delivered 2.0.0"),
        ("dsn-delayed", ReceiptState.UNKNOWN, "delayed 4.4.1"),
        ("dsn-strange", ReceiptState.UNKNOWN, "pondered 9.9.9"),
    ],
)
def test_a_bounce_is_a_receipt(name: str, state: ReceiptState, code: str) -> None:
    for found in (receipt(name), receipt(name, FROM_MEMBER, OPEN_BOX)):
        assert (found.state, found.code) == (state, code)
        assert (found.reference, found.provider_id) == (
            "m77",
            "<lx.m77@centre.example>",
        )
        assert found.address is not None
        assert found.address.value == "li@gone.example"


@pytest.mark.parametrize("envelope", [FORGED, FROM_MEMBER])
def test_a_forged_bounce_changes_nothing(envelope: Envelope) -> None:
    found = message("dsn-failed", envelope)
    assert found.automatic


def test_a_bounce_of_something_else_is_kept_as_automatic_mail() -> None:
    assert message(
        "dsn-not-ours", Envelope(sender="", recipients=(BOX.address,))
    ).automatic


def test_a_bounce_in_prose_is_known_by_its_address() -> None:
    found = receipt("bounce-prose")
    assert (found.state, found.reference, found.code) == (
        ReceiptState.FAILED,
        "m77",
        "bounce",
    )


def test_a_holiday_reply_to_the_bounce_address_is_no_bounce() -> None:
    assert message("auto-reply", BOUNCED).automatic


def test_identity_survives_trace_headers_and_line_ends() -> None:
    mail = raw("attachments-zh")
    traced = b"Received: by x;\r\n\tnow\r\nReturn-Path: <>\r\n" + mail
    assert identity(traced) == identity(mail) == identity(mail.replace(b"\r\n", b"\n"))
    assert len({identity(p.read_bytes()) for p in CORPUS.glob("*.eml")}) == len(
        list(CORPUS.glob("*.eml"))
    )


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.eml")), ids=lambda p: p.stem)
def test_the_corpus_is_readable(path: Path) -> None:
    assert fault(path.read_bytes()) == ""
    for event in parse_mail(path.read_bytes(), FROM_MEMBER, BOX):
        if isinstance(event, InboundMessage):
            assert "unreadable" not in event.notes


FAULTS = {
    "too_many_parts": b"Content-Type: multipart/mixed; boundary=b\n\n"
    + b"--b\n\n" * 1001,
    "too_deep": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
        for n in range(25)
    ),
    "header_too_long": b"References: " + b"<a@b.example> " * 6000 + b"\n\nx",
    "too_many_addresses": b"To: " + b"a@b.example,\n " * 600 + b"\n\nx",
}


@pytest.mark.parametrize(("code", "mail"), FAULTS.items())
def test_limits(code: str, mail: bytes) -> None:
    assert fault(mail) == code
    [found] = parse_mail(mail, FROM_MEMBER, BOX)
    assert isinstance(found, InboundMessage)
    assert (found.text, found.notes) == (UNREADABLE, ("unreadable",))
    assert found.attachments[0].content == mail


def test_a_digest_is_not_deep() -> None:
    part = b"--d\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n"
    mail = b"Content-Type: multipart/digest; boundary=d\n\n" + part * 60 + b"--d--\n"
    assert fault(mail) == ""


@pytest.mark.parametrize(
    "data",
    [b"\xd8\x00\x00A", b"\x00A\x00", b"\xc4\xe3\xba", b"\x80\xff", b"a\x00b"],
)
@pytest.mark.parametrize(
    "label", ["", "utf-8", "gb2312", "utf-16", "rot13", "idna", "\0"]
)
def test_any_bytes_become_clean_text(data: bytes, label: str) -> None:
    text = decode(data, label)
    assert "\x00" not in text
    text.encode("utf-8")


PIECES = st.sampled_from(
    [
        *(b"From: a@b.example\r\n", b"Subject: =?gb2312?B?xOO6ww==?=\r\n", b"\r\n"),
        *(b"Content-Type: multipart/mixed; boundary=x\r\n", b"--x\r\n", b"--x--\r\n"),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Type: text/html\r\n"),
        *(b"Content-Type: message/delivery-status\r\n", b"Action: failed\r\n"),
        *(b"Content-Transfer-Encoding: base64\r\n", b"=?utf-8?Q?=FF?=", b"<p>&#xD800;"),
        *(b"Content-Disposition: attachment; filename*=x'y'%\r\n", b"\xff\xfe\x00"),
        *(
            b"Content-Type: text/plain; charset*0*=a'b'c; charset*1=d\r\n",
            b"Date: \xe5\r\n",
        ),
        *(
            b"Content-Transfer-Encoding: x-uuencode\r\n",
            b"begin 666 x\n`\n",
            b"To: <\r\n",
        ),
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.lists(PIECES, max_size=25).map(b"".join)),
    st.sampled_from([FROM_MEMBER, BOUNCED, FORGED]),
)
def test_whatever_comes_is_an_event(data: bytes, envelope: Envelope) -> None:
    events = parse_mail(data, envelope, BOX)
    assert events
    for event in events:
        assert len(event.key) >= 40
        if isinstance(event, InboundMessage):
            "".join(
                [event.text, event.quoted, event.subject, event.display_name]
            ).encode()
            assert "\x00" not in event.text + event.subject


@given(st.binary(max_size=300))
def test_any_header_is_one_clean_line(data: bytes) -> None:
    line = decode_header(data)
    assert line.splitlines() in ([], [line])
    line.encode("utf-8")
