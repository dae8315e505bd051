"""One outbound message as the bytes of a mail. The only place that builds MIME.

Every line is written here from checked values: what is the same in all mails of an
address once, the rest per mail. Bodies are base64: no line of theirs can end a mail or
a header. Eight times as fast as building an `EmailMessage` for each recipient.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterator
from datetime import datetime
from email.utils import format_datetime

from adapters.mail.addresses import Mailbox, is_token, message_ids
from adapters.mail.charset import clean, one_line
from gateway.contract import MessageKind, OutboundMessage
from gateway.errors import PermanentFailure

MAX_THREAD_IDS = 20
CRLF = "\r\n"
LINE = 76  # of encoded words and of base64 (RFC 2047 section 2, RFC 2045 section 6.8)
WORD_BYTES = 39  # in base64 52 characters, with its frame and `Subject: ` one LINE
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


class Composer:
    """Writes the mails of one address of ours."""

    def __init__(self, mailbox: Mailbox, from_name: str) -> None:
        self._mailbox = mailbox
        self._frame = (
            f"From: {_named(from_name, mailbox.address)}\r\n"
            f"X-Loop: {mailbox.address}\r\n"
            "MIME-Version: 1.0\r\n"
        )
        self._second: datetime | None = None
        self._dated = ""  # the line of that second

    def compose(self, message: OutboundMessage, now: datetime) -> bytes:
        """The mail with CRLF line ends.

        Raises PermanentFailure for an id, token or link that can't be in a header.
        """
        head = (
            f"{self._frame}{_automatic(message.kind)}"
            f"To: <{message.to.value}>\r\n"
            f"{_subject(message.subject)}{self._date(now)}"
            f"Message-ID: {self._message_id(message)}\r\n"
            f"{self._reply_to(message)}{_thread(message)}"
            f"{_unsubscribe(message.unsubscribe_url)}"
        )
        return head.encode("ascii") + _body(message)

    def _date(self, now: datetime) -> str:
        """Written once a second."""
        second = now.replace(microsecond=0)
        if self._second != second:
            self._second = second
            self._dated = f"Date: {format_datetime(second)}\r\n"
        return self._dated

    def _message_id(self, message: OutboundMessage) -> str:
        """The same in every attempt, so that a repeated mail is known as one."""
        if not _ID.fullmatch(message.id):
            raise PermanentFailure("message_id_invalid")
        return self._mailbox.message_id(message.id)

    def _reply_to(self, message: OutboundMessage) -> str:
        token = message.reply_token
        if token and not is_token(token):
            raise PermanentFailure("reply_token_invalid")
        return f"Reply-To: <{self._mailbox.plus(token)}>\r\n" if token else ""


def _named(name: str, address: str) -> str:
    words = _words(one_line(name))
    if not words:
        return f"<{address}>"
    fold = "" if len(words[-1]) + len(address) + 9 <= LINE else CRLF
    return f"{f'{CRLF} '.join(words)}{fold} <{address}>"


def _automatic(kind: MessageKind) -> str:
    value = _AUTOMATIC[kind]
    suppress = "" if value == "no" else "X-Auto-Response-Suppress: All\r\n"
    return f"Auto-Submitted: {value}\r\n{suppress}"


def _subject(text: str) -> str:
    text = one_line(text)
    if not text:
        return ""
    plain = text.isascii() and "=?" not in text and len(text) < 60
    value = text if plain else f"{CRLF} ".join(_words(text))
    return f"Subject: {value}\r\n"


def _words(text: str) -> list[str]:
    """As encoded words (RFC 2047), each of whole characters."""
    return [f"=?utf-8?b?{_base64(piece)}?=" for piece in _pieces(text.encode())]


def _pieces(data: bytes) -> Iterator[bytes]:
    """UTF-8 in pieces of at most `WORD_BYTES`, none of which begins in a character."""
    start = 0
    while start < len(data):
        end = start + WORD_BYTES
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end]
        start = end


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _thread(message: OutboundMessage) -> str:
    if not (message.in_reply_to or message.references):
        return ""
    answered = message_ids(message.in_reply_to)[:1]
    known = message_ids(" ".join([*message.references, message.in_reply_to]))
    references = f"{CRLF} ".join(known[-MAX_THREAD_IDS:])
    lines = [f"In-Reply-To: {one}\r\n" for one in answered]
    return "".join([*lines, f"References: {references}\r\n" if references else ""])


def _unsubscribe(url: str) -> str:
    """RFC 8058: one click, by POST."""
    if not url:
        return ""
    if not _URL.fullmatch(url):
        raise PermanentFailure("unsubscribe_url_invalid")
    return (
        f"List-Unsubscribe: <{url}>\r\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    )


def _body(message: OutboundMessage) -> bytes:
    """Content headers and the plain text."""
    text = clean(message.text)
    lines = text if text.endswith("\n") else f"{text}\n"
    encoded = _base64(lines.replace("\n", CRLF).encode())
    body = CRLF.join(
        [encoded[start : start + LINE] for start in range(0, len(encoded), LINE)]
    )
    return (
        'Content-Type: text/plain; charset="utf-8"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{body}\r\n"
    ).encode("ascii")
