"""The strict grammar of mail addresses, and the tokens in our own. Pure.

What passes here goes into RCPT byte for byte. Quoted local parts, comments, domain
literals and control characters do not pass: mail libraries rewrite them silently.
"""

import base64
import hmac
import re
from dataclasses import dataclass

_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HAN = re.compile(r"[a-z0-9\u3400-\u9fff-]+")
_TOKEN = re.compile(r"[A-Za-z0-9._=~-]{1,64}")
_MESSAGE_ID = re.compile(r"<[^<>\s\x00-\x20\x7f-\U0010ffff]{3,250}>")
_OURS = re.compile(r"<lx\.([A-Za-z0-9_-]{1,32})@([^<>\s]+)>")
_BOUNCE = re.compile(r"b([A-Za-z0-9_-]{1,32})\.([a-z2-7]{10})")


def normalise(text: str) -> str | None:
    """The address with its domain in lower case, or None: not one we write to.

    RFC 5321 4.1.2 without quoted strings and address literals. A punycode label has
    to decode to Chinese characters, so that none looks like a Latin name.
    """
    local, at, domain = text.rpartition("@")
    if not at or not text.isascii() or len(text) > 254 or len(local) > 64:
        return None
    domain = domain.lower()
    labels = domain.split(".")
    if not _LOCAL.fullmatch(local.lower()) or len(labels) < 2:
        return None
    if not all(map(_label, labels)) or labels[-1].isdigit() or labels[-1] == "invalid":
        return None
    return f"{local}@{domain}"


def _label(label: str) -> bool:
    if not _LABEL.fullmatch(label):
        return False
    if not label.startswith("xn--"):
        return True
    try:
        shown = label.encode("ascii").decode("idna")
    except UnicodeError:
        return False
    return _HAN.fullmatch(shown) is not None and not shown.isascii()


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def message_ids(header: str) -> tuple[str, ...]:
    """The msg-ids of a header in order, each once, with their angle brackets."""
    return tuple(dict.fromkeys(_MESSAGE_ID.findall(header)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Our own address, and what only we can write into it.

    `key` signs bounce addresses: a bounce that carries no valid one was not caused by
    a mail of ours.
    """

    address: str
    key: bytes
    bounce_addresses: bool = True

    @property
    def local(self) -> str:
        return self.address.partition("@")[0]

    @property
    def domain(self) -> str:
        return self.address.partition("@")[2]

    def plus(self, token: str) -> str:
        return f"{self.local}+{token}@{self.domain}"

    def message_id(self, message: str) -> str:
        return f"<lx.{message}@{self.domain}>"

    def own_id(self, message_id: str) -> str:
        """Our message id inside a Message-ID of ours, else empty."""
        found = _OURS.fullmatch(message_id.strip())
        ours = found and found[2].lower() == self.domain
        return found[1] if found and ours else ""

    def bounce(self, message: str) -> str:
        return self.plus(f"b{message}.{self._mark(message)}")

    def bounced(self, token: str) -> str:
        """Our message id from a bounce token with a valid mark, else empty."""
        found = _BOUNCE.fullmatch(token)
        if not found:
            return ""
        valid = hmac.compare_digest(found[2], self._mark(found[1]))
        return found[1] if valid else ""

    def token(self, recipient: str) -> str | None:
        """What follows the plus in an address of ours; None: not ours."""
        local, _, domain = recipient.strip().rpartition("@")
        name, _, token = local.partition("+")
        if name.lower() != self.local or domain.lower() != self.domain:
            return None
        if token and not is_token(token):
            return None
        return token

    def _mark(self, message: str) -> str:
        digest = hmac.digest(self.key, message.lower().encode(), "sha256")
        return base64.b32encode(digest[:10])[:10].decode().lower()
