"""One outbound message as the bytes of a mail. The only place that builds MIME.

Headers are written here, line by line, from checked values; the standard library
makes the body. Bodies are base64: no line of theirs can end a mail or a header.
"""

import re
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from adapters.mail.addresses import Mailbox, is_token, message_ids
from adapters.mail.charset import clean, one_line
from gateway.contract import MessageKind, OutboundMessage
from gateway.errors import PermanentFailure

MAX_THREAD_IDS = 20
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_URL = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]{1,1000}")

# RFC 3834 section 5: an answer to something, or sent on our own account.
_AUTOMATIC = {
    MessageKind.RECEIPT: "auto-replied",
    MessageKind.SYSTEM: "auto-replied",
    MessageKind.ANSWER: "no",
    MessageKind.CALLBACK: "auto-generated",
    MessageKind.NOTICE: "auto-generated",
    MessageKind.DAILY: "auto-generated",
    MessageKind.TEST: "auto-generated",
}


def compose(
    message: OutboundMessage, mailbox: Mailbox, from_name: str, now: datetime
) -> bytes:
    """The mail with CRLF line ends.

    Raises PermanentFailure for an id, token or link that can't be put in a header.
    """
    head = _head(message, mailbox, from_name, now)
    lines = [f"{name}: {value}\r\n" for name, value in head if value]
    return "".join(lines).encode("ascii") + _body(message)


def _head(
    message: OutboundMessage, mailbox: Mailbox, from_name: str, now: datetime
) -> list[tuple[str, str]]:
    automatic = _AUTOMATIC[message.kind]
    return [
        ("From", _named(from_name, mailbox.address)),
        ("To", f"<{message.to.value}>"),
        ("Reply-To", _reply_to(message, mailbox)),
        ("Subject", _text(message.subject, "Subject")),
        ("Date", format_datetime(now)),
        ("Message-ID", own_message_id(message, mailbox)),
        ("In-Reply-To", "".join(message_ids(message.in_reply_to)[:1])),
        ("References", _references(message)),
        ("Auto-Submitted", automatic),
        ("X-Auto-Response-Suppress", "" if automatic == "no" else "All"),
        ("X-Loop", mailbox.address),
        *_unsubscribe(message.unsubscribe_url),
        ("MIME-Version", "1.0"),
    ]


def own_message_id(message: OutboundMessage, mailbox: Mailbox) -> str:
    """The same in every attempt, so that a repeated mail is known as one."""
    if not _ID.fullmatch(message.id):
        raise PermanentFailure("message_id_invalid")
    return mailbox.message_id(message.id)


def _named(name: str, address: str) -> str:
    name = one_line(name)
    if not name:
        return f"<{address}>"
    return (
        f"{Header(name, 'utf-8', header_name='From').encode(linesep=CRLF)} <{address}>"
    )


def _text(text: str, header: str) -> str:
    text = one_line(text)
    plain = text.isascii() and "=?" not in text and len(text) < 60
    return (
        text
        if plain
        else Header(text, "utf-8", header_name=header).encode(linesep=CRLF)
    )


CRLF = "\r\n"


def _reply_to(message: OutboundMessage, mailbox: Mailbox) -> str:
    token = message.reply_token
    if token and not is_token(token):
        raise PermanentFailure("reply_token_invalid")
    return f"<{mailbox.plus(token)}>" if token else ""


def _references(message: OutboundMessage) -> str:
    known = message_ids(" ".join([*message.references, message.in_reply_to]))
    return f"{CRLF} ".join(known[-MAX_THREAD_IDS:])


def _unsubscribe(url: str) -> list[tuple[str, str]]:
    """RFC 8058: one click, by POST."""
    if not url:
        return []
    if not _URL.fullmatch(url):
        raise PermanentFailure("unsubscribe_url_invalid")
    return [
        ("List-Unsubscribe", f"<{url}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]


def _body(message: OutboundMessage) -> bytes:
    """Content headers and body: plain text, with HTML beside it if there is one."""
    mail = EmailMessage(policy=SMTP)
    mail.set_content(clean(message.text), cte="base64")
    if message.html:
        mail.add_alternative(clean(message.html), subtype="html", cte="base64")
    del mail["MIME-Version"]
    return mail.as_bytes()
