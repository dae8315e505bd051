"""Cursors: where the next page of a list begins. Opaque to callers, and signed, so
that nothing but what we wrote ever reaches a query. Pure."""

import base64
import binascii
import hmac

from gateway.errors import RequestError

_MAC_BYTES = 9


def encode(key: bytes, resource: str, place: str) -> str:
    """A cursor for `place` in the list called `resource`; "" stays ""."""
    if not place:
        return ""
    body = place.encode()
    return base64.urlsafe_b64encode(_mac(key, resource, body) + body).decode()


def decode(key: bytes, resource: str, cursor: str) -> str:
    """The place inside; "" for "". RequestError(cursor) for what we didn't write."""
    if not cursor:
        return ""
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeError, binascii.Error):
        raise _fault() from None
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, resource, body)):
        raise _fault()
    return body.decode()


def _mac(key: bytes, resource: str, body: bytes) -> bytes:
    return hmac.digest(key, resource.encode() + b"\0" + body, "sha256")[:_MAC_BYTES]


def _fault() -> RequestError:
    detail = "send the `next` of the page before, unchanged, or no cursor at all"
    return RequestError("cursor", detail, fields={"cursor": detail})
