"""One mail as bytes to the events it stands for. Pure; runs in a child process.

Header values are read by our own linear decoder (charset.py); the standard library
only takes the mail apart.
"""

import email
import mimetypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.message import Message
from email.policy import Compat32
from email.utils import getaddresses, parsedate_to_datetime

from adapters.mail.addresses import Mailbox, message_ids, normalise
from adapters.mail.bounces import bounced_in_prose, receipts
from adapters.mail.charset import clean, decode, decode_header, one_line
from adapters.mail.guard import fault, identity
from adapters.mail.html_text import html_to_text
from adapters.mail.quotes import split_reply
from gateway.contract import (
    Address,
    AddressKind,
    Attachment,
    DeliveryReceipt,
    Event,
    InboundMessage,
)

MAX_TEXT_CHARACTERS = 200_000
MAX_ATTACHMENTS = 50
MAX_NAME_CHARACTERS = 100
MAX_THREAD_IDS = 30

UNREADABLE = "（这封邮件无法解读，原件已附上）"
ENCRYPTED = "（这封邮件已加密，原件已附上）"

_AUTOMATIC_PRECEDENCE = {"bulk", "list", "junk", "auto_reply"}
_MACHINES = {"mailer-daemon", "postmaster", "no-reply", "noreply"}
_ENCRYPTED = {
    "application/pkcs7-mime",
    "application/x-pkcs7-mime",
    "multipart/encrypted",
}
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u202a-\u202e\u2066-\u2069]+')

_PARSER_FAILS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    MessageError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What SMTP said about a mail: `sender` is empty for the null return path."""

    sender: str
    recipients: tuple[str, ...]


class _Verbatim(Compat32):
    """Header values as they came; the library would replace bare GBK bytes."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        return value


@dataclass(frozen=True, slots=True)
class _Content:
    text: str
    attachments: tuple[Attachment, ...]
    notes: tuple[str, ...]


def parse_mail(raw: bytes, envelope: Envelope, mailbox: Mailbox) -> list[Event]:
    """At least one event for whatever bytes; `raw` on them is left empty, the caller
    has it. An unreadable mail is a message with the original attached."""
    if fault(raw):
        return [unreadable(raw, envelope, mailbox)]
    try:
        return _read(raw, envelope, mailbox)
    # Hostile structure makes the parser fail in many ways: the original is kept.
    except _PARSER_FAILS:
        return [unreadable(raw, envelope, mailbox)]


def unreadable(raw: bytes, envelope: Envelope, mailbox: Mailbox) -> InboundMessage:
    """A message that stands for a mail nobody could parse."""
    key = identity(raw)
    sender = normalise(envelope.sender) or _nobody(key)
    to, token = _addressed(envelope.recipients, mailbox)
    return InboundMessage(
        key=key,
        sender=Address(AddressKind.EMAIL, sender),
        text=UNREADABLE,
        raw=b"",
        to=to,
        reply_token="" if mailbox.bounced(token) else token,
        attachments=(Attachment("原件.eml", "message/rfc822", raw),),
        automatic=not envelope.sender,
        notes=("unreadable",),
    )


def _read(raw: bytes, envelope: Envelope, mailbox: Mailbox) -> list[Event]:
    mail = email.message_from_bytes(raw, policy=_Verbatim())
    fields = _fields(mail)
    trace = [*fields("delivered-to"), *fields("x-original-to")]
    to, token = _addressed((*envelope.recipients, *map(decode_header, trace)), mailbox)
    key = identity(raw)
    found = receipts(mail, key, mailbox, token)
    if found:
        return list[Event](found)
    message = _message(mail, key, envelope, mailbox, to, token)
    bounce = _free_text_bounce(message, envelope, mailbox, token)
    return [bounce or message]


def _message(
    mail: Message,
    key: str,
    envelope: Envelope,
    mailbox: Mailbox,
    to: str,
    token: str,
) -> InboundMessage:
    fields = _fields(mail)
    name, sender = _sender(fields("from"), envelope)
    content = _content(mail)
    text, quoted = split_reply(content.text)
    own = message_ids(_first(fields("message-id")))
    thread = message_ids(" ".join([*fields("in-reply-to"), *fields("references")]))
    notes = content.notes
    if not sender:
        notes = (*notes, "no_sender")
    return InboundMessage(
        key=key,
        sender=Address(AddressKind.EMAIL, sender or _nobody(key)),
        text=text,
        raw=b"",
        sent_at=_sent_at(_first(fields("date"))),
        provider_id=own[0] if own else "",
        to=to,
        subject=decode_header(_first(fields("subject")))[:500],
        display_name=name[:MAX_NAME_CHARACTERS],
        quoted=quoted,
        answers_to=(*thread[:1], *thread[1:][-MAX_THREAD_IDS:]),
        reply_token="" if mailbox.bounced(token) else token,
        attachments=content.attachments,
        automatic=_automatic(mail, sender, envelope, mailbox),
        notes=notes,
    )


class _fields:
    """Raw values of a header by its name; bare bytes stay surrogate-escaped."""

    def __init__(self, mail: Message) -> None:
        self._items = [(k.lower(), str(v)) for k, v in mail.raw_items()]

    def __call__(self, name: str) -> list[str]:
        return [value for key, value in self._items if key == name]


def _first(values: list[str]) -> str:
    return values[0] if values else ""


def _addressed(recipients: tuple[str, ...], mailbox: Mailbox) -> tuple[str, str]:
    """The address of ours the mail was sent to, one with a token before others."""
    ours = [(r.strip(), mailbox.token(r)) for r in recipients]
    known = [(address, token) for address, token in ours if token is not None]
    with_token = [pair for pair in known if pair[1]]
    return (with_token or known or [("", "")])[0]


def _nobody(key: str) -> str:
    """An address that can't be written to, another for each mail (RFC 2606)."""
    return f"unknown-{key[:12]}@sender.invalid"


def _sender(values: list[str], envelope: Envelope) -> tuple[str, str]:
    """Display name and address: of the first usable From, else of the envelope."""
    name = ""
    for shown, address in getaddresses([_ascii(value) for value in values]):
        name = name or decode_header(_bytes(shown))
        if usable := normalise(address.strip()):
            return decode_header(_bytes(shown)), usable
    return name, normalise(envelope.sender) or ""


def _ascii(value: str) -> str:
    return " ".join(value.splitlines())


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _sent_at(value: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(one_line(value))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _automatic(
    mail: Message, sender: str, envelope: Envelope, mailbox: Mailbox
) -> bool:
    """RFC 3834 section 2, and our own mark coming back."""
    fields = _fields(mail)
    submitted = decode_header(_first(fields("auto-submitted"))).lower()
    precedence = decode_header(_first(fields("precedence"))).lower()
    return_path = [decode_header(v) for v in fields("return-path")]
    return (
        not envelope.sender
        or "<>" in return_path
        or submitted.partition(";")[0].strip() not in ("", "no")
        or precedence in _AUTOMATIC_PRECEDENCE
        or bool(fields("list-id") or fields("x-autoreply") or fields("x-autorespond"))
        or mailbox.address in [decode_header(v) for v in fields("x-loop")]
        or mailbox.token(sender) is not None
        or sender.partition("@")[0].lower() in _MACHINES
    )


def _free_text_bounce(
    message: InboundMessage, envelope: Envelope, mailbox: Mailbox, token: str
) -> DeliveryReceipt | None:
    """A bounce in prose, as several Chinese providers write it: only its signed
    address tells what it is about. Holiday replies come to that address too."""
    reference = mailbox.bounced(token)
    writer = message.sender.value.partition("@")[0].lower()
    if not reference or envelope.sender or writer not in _MACHINES:
        return None
    return bounced_in_prose(message.key, reference, mailbox)


def _content(mail: Message) -> _Content:
    texts: list[str] = []
    attachments: list[Attachment] = []
    for leaf in _leaves(mail):
        if _is_text(leaf):
            texts.append(_text_of(leaf))
        else:
            attachments.append(_attachment(leaf, len(attachments) + 1))
    text = "\n\n".join(filter(None, texts))
    notes: list[str] = []
    if not text.strip() and mail.get_content_type() in _ENCRYPTED:
        text, notes = ENCRYPTED, ["encrypted"]
    if len(text) > MAX_TEXT_CHARACTERS:
        text, notes = text[:MAX_TEXT_CHARACTERS], [*notes, "truncated"]
    if len(attachments) > MAX_ATTACHMENTS:
        attachments, notes = attachments[:MAX_ATTACHMENTS], [*notes, "attachments_cut"]
    return _Content(text, tuple(attachments), tuple(notes))


def _leaves(part: Message) -> Iterator[Message]:
    """The parts a reader is shown, in order; enclosed mails stay whole."""
    payload = part.get_payload()
    if not part.is_multipart() or part.get_content_maintype() != "multipart":
        yield part
    elif part.get_content_subtype() == "alternative":
        yield from _alternative([p for p in payload if isinstance(p, Message)])
    else:
        for child in payload:
            if isinstance(child, Message):
                yield from _leaves(child)


def _alternative(versions: list[Message]) -> Iterator[Message]:
    """Plain text where it says something, else HTML; and whatever is not text."""
    leaves = [leaf for version in versions for leaf in _leaves(version)]
    texts = [leaf for leaf in leaves if _is_text(leaf)]
    plain = [leaf for leaf in texts if leaf.get_content_subtype() == "plain"]
    said = [leaf for leaf in plain if _text_of(leaf).strip()]
    yield from said or [leaf for leaf in texts if leaf not in plain]
    yield from (leaf for leaf in leaves if leaf not in texts)


def _is_text(part: Message) -> bool:
    kind = part.get_content_type()
    attached = part.get_content_disposition() == "attachment" or _name(part)
    return kind in ("text/plain", "text/html") and not attached


def _text_of(part: Message) -> str:
    data = _data(part)
    text = decode(data, str(part.get_param("charset", "") or ""))
    if part.get_content_subtype() == "html":
        return clean(html_to_text(text))
    return text.strip("\n")


def _data(part: Message) -> bytes:
    if part.is_multipart():
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        return first.as_bytes() if isinstance(first, Message) else b""
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _attachment(part: Message, number: int) -> Attachment:
    kind = part.get_content_type()
    return Attachment(safe_name(_name(part), kind, number), kind, _data(part))


def _name(part: Message) -> str:
    """The file name: RFC 2231, encoded words, bare GBK or UTF-8 bytes."""
    for header, parameter in (
        ("content-disposition", "filename"),
        ("content-type", "name"),
    ):
        try:
            value = part.get_param(parameter, "", header)
        except (ValueError, TypeError, LookupError):
            continue
        if isinstance(value, tuple):
            return one_line(decode(_octets(value[2]), value[0] or ""))
        if value:
            return decode_header(_bytes(str(value)))
    return ""


def _octets(value: str) -> bytes:
    """The library reads RFC 2231 octets as Latin-1, whatever charset they name."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return _bytes(value)


def safe_name(name: str, content_type: str, number: int) -> str:
    """A file name without path, control or direction marks; never empty."""
    name = _UNSAFE.sub("_", name).strip(" ._")
    if not name:
        ending = mimetypes.guess_extension(content_type) or ".bin"
        ending = ".eml" if content_type == "message/rfc822" else ending
        return f"附件{number}{ending}"
    stem, dot, ending = name.rpartition(".")
    if dot and len(ending) <= 10:
        return f"{stem[: MAX_NAME_CHARACTERS - len(ending) - 1]}.{ending}"
    return name[:MAX_NAME_CHARACTERS]
