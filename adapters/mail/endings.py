"""What an SMTP ending means for a message. The only place that says so."""

import re
import ssl
from datetime import timedelta
from enum import StrEnum

from aiosmtplib import SMTPResponseException

from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

GREYLIST_DELAY = timedelta(minutes=5)
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_GREY = re.compile(r"gr[ae]y-?list|try again later|稍后", re.I)
_NOT_OURS = {530, 535, 538}  # authentication wanted: the account's fault


class Phase(StrEnum):
    """How far a conversation came."""

    SESSION = "session"  # connecting, greeting, TLS, login
    ENVELOPE = "envelope"  # MAIL, RCPT, DATA until 354
    HANDED_OVER = "handed_over"  # the mail's bytes were written


def classify(error: Exception, phase: Phase) -> DeliveryError:
    """Whether the mail may be sent again.

    A reply says what happened: 4yz not taken for now, 5yz never. Without a reply it
    was certainly not taken before its bytes were written, and perhaps after. A refused
    session is the account's trouble, never that of one message.
    """
    if isinstance(error, SMTPResponseException):
        return _classify_reply(error.code, error.message, phase)
    if phase is Phase.HANDED_OVER:
        return OutcomeUnknown("smtp_no_reply", type(error).__name__)
    if isinstance(error, ssl.SSLError):
        return TransientFailure("smtp_tls", type(error).__name__)
    if isinstance(error, (OSError, TimeoutError)):
        return TransientFailure("smtp_unreachable", type(error).__name__)
    return TransientFailure("smtp_session", type(error).__name__)


def _classify_reply(code: int, message: str, phase: Phase) -> DeliveryError:
    found = _ENHANCED.search(message)
    name, detail = f"smtp_{code}", found[0] if found else ""
    if code == 421:
        return TransientFailure(name, detail, throttled=True)
    if 400 <= code < 500:
        grey = GREYLIST_DELAY if _GREY.search(message) else None
        return TransientFailure(name, detail, retry_after=grey)
    if phase is Phase.SESSION or (code in _NOT_OURS and phase is Phase.ENVELOPE):
        return TransientFailure(name, f"{phase} {detail}".strip())
    if 500 <= code < 600:
        return PermanentFailure(name, detail)
    if phase is Phase.HANDED_OVER:
        return OutcomeUnknown("smtp_reply", str(code))
    return TransientFailure("smtp_reply", str(code))
