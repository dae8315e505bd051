"""Reads the head of a plain push, strictly.

What two readers could understand in two ways, and what asks for more than its answer,
is not plain: nothing here decides what it means.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

START = b"POST /hooks/"
END = b"\r\n\r\n"
LONGEST_HEAD = 4 * 1024  # bytes
LONGEST_BODY = 64 * 1024
_REQUEST = re.compile(rb"POST /hooks/([\w.~-]+)/([\w.~-]+)/([\w.~/-]*) HTTP/1\.1")
_FIELD = re.compile(rb"([\w!#$%&'*+.^`|~-]+):([\t -~]*)")
_LENGTH = re.compile(r"[0-9]{1,6}")
_BEGUN = re.compile(rb"POST /hooks/[\t -~]*(\r\n[\t -~]+)*(\r\n)?\r?")
_ASK_MORE = frozenset(
    {
        *(hdrs.TRANSFER_ENCODING, hdrs.CONTENT_ENCODING, hdrs.EXPECT, hdrs.UPGRADE),
        *(hdrs.TRAILER, hdrs.TE),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Of `POST /hooks/{channel}/{token}/{path}`; no header stands twice."""

    channel: str
    token: bytes
    path: str
    length: int  # bytes of the body
    headers: CIMultiDictProxy[str]


def read(head: bytes) -> Head | None:
    """What stands before `END`; None where it is not plain."""
    return _read(head) if len(head) <= LONGEST_HEAD else None


@lru_cache(maxsize=512)  # a provider writes the same head again and again
def _read(head: bytes) -> Head | None:
    request, *lines = head.split(b"\r\n")
    asked = _REQUEST.fullmatch(request)
    fields = [_FIELD.fullmatch(line) for line in lines]
    headers: CIMultiDict[str] = CIMultiDict()
    for field in fields:
        if field is None:
            return None
        headers.add(field[1].decode("ascii"), field[2].strip(b" \t").decode("ascii"))
    if asked is None or len({name.lower() for name in headers}) < len(fields):
        return None
    length = headers.get(hdrs.CONTENT_LENGTH, "")
    if not _LENGTH.fullmatch(length) or int(length) > LONGEST_BODY:
        return None
    if headers.get(hdrs.CONNECTION, "keep-alive").lower() != "keep-alive":
        return None
    if hdrs.HOST not in headers or any(name in headers for name in _ASK_MORE):
        return None
    channel, token, path = asked.groups()
    return Head(
        channel=channel.decode("ascii"),
        token=token,
        path=path.decode("ascii"),
        length=int(length),
        headers=CIMultiDictProxy(headers),
    )


def may_begin(data: bytes) -> bool:
    """Whether more bytes may make a plain head of these, which have no `END`."""
    if len(data) < len(START):
        return START.startswith(data)
    return len(data) <= LONGEST_HEAD and _BEGUN.fullmatch(data) is not None
