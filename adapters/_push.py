"""Reads what providers push as JSON: strictly, row by row, each row with its own bytes.

A row that can't be read never takes its neighbours with it: it becomes a
ChannelTrouble that carries it, so that the provider may forget it and staff may not.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import NoReturn
from zoneinfo import ZoneInfo

from gateway.contract import ChannelTrouble, Event, RawRequest
from gateway.errors import RequestError
from gateway.settings import Network

Row = Mapping[str, object]
ReadRow = Callable[[Row, bytes], Event]

LONGEST_WORD = 256
_LONGEST_TIME = 20  # digits
_NO_DIGIT = re.compile("[^0-9]+")
LONGEST_TEXT = 64 * 1024


class BadRow(Exception):
    """One row is not as documented; holds the field and what was expected."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.field = field
        self.expected = expected


def check_source(request: RawRequest, allowed: Sequence[Network]) -> None:
    """Refuse a push that is no POST or comes from outside the allowed networks."""
    if request.method != "POST":
        raise RequestError("not_post", "push with POST", status=405)
    if allowed and not _inside(request.remote, allowed):
        raise RequestError(
            "source_not_allowed", "add the network to push_addresses", status=403
        )


def _inside(remote: str, allowed: Sequence[Network]) -> bool:
    try:
        address = ip_address(remote)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in allowed)


def read_array(body: bytes, read: ReadRow) -> tuple[Event, ...]:
    """Events of a JSON array. Raises RequestError if it is none, or if not one of its
    rows can be read."""
    return _events(_array(_text(body)), read)


def read_object(body: bytes, read: ReadRow) -> tuple[Event, ...]:
    """The event of a single JSON object."""
    text = _text(body)
    value, end = _value(text, _skip(text, 0))
    _check_end(text, end)
    return _events([(value, body.strip())], read)


def _events(rows: Iterable[tuple[object, bytes]], read: ReadRow) -> tuple[Event, ...]:
    events: list[Event] = []
    faults: dict[str, str] = {}
    for number, (value, raw) in enumerate(rows):
        try:
            events.append(read(_object(value), raw))
        except BadRow as bad:
            faults[f"[{number}].{bad.field}".rstrip(".")] = bad.expected
            events.append(
                ChannelTrouble(key=key("row", raw), code="unreadable_row", raw=raw)
            )
    if faults and len(faults) == len(events):
        detail = "; ".join(f"{where}: {what}" for where, what in faults.items())
        raise RequestError("unreadable_push", detail[:500], fields=faults)
    return tuple(events)


def _object(value: object) -> Row:
    if not isinstance(value, dict):
        raise BadRow("", "expected an object")
    return value


def word(row: Row, field: str, *, needed: bool = False) -> str:
    """An id, code or number: printable, short. Bare JSON numbers pass, for providers
    change between 1 and "1"."""
    value = row.get(field)
    if type(value) is str and 0 < len(value) <= LONGEST_WORD and value.isprintable():
        return value
    if value is None or value == "":
        if needed:
            raise BadRow(field, "missing")
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadRow(field, "expected a string")
    found = value if isinstance(value, str) else str(value)
    if len(found) > LONGEST_WORD or not found.isprintable():
        raise BadRow(field, f"expected at most {LONGEST_WORD} printable characters")
    return found


def written(row: Row, field: str) -> tuple[str, tuple[str, ...]]:
    """What a person wrote, and notes about it. Halves of surrogate pairs are replaced
    and NUL is dropped (a text column may refuse both): the message must not be lost,
    its bytes stay in `raw`."""
    value = row.get(field)
    if not isinstance(value, str):
        raise BadRow(field, "expected a string")
    if len(value) > LONGEST_TEXT:
        raise BadRow(field, f"expected at most {LONGEST_TEXT} characters")
    if value.isprintable():
        return value, ()
    clean = value.replace("\0", "").encode("utf-16", "surrogatepass")
    found = clean.decode("utf-16", "replace")
    return found, () if found == value else ("unreadable",)


def local_time(value: str, zone: ZoneInfo) -> datetime | None:
    """`2026-11-21 09:30:00` of the provider's clock; None where it is not one."""
    try:
        # The zone is set in the same expression, as the payload has none.
        naive = datetime.strptime(value, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        return naive.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def unix_time(value: str) -> datetime | None:
    """Seconds since 1970 up to the year 2100; None where it is not one."""
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        return None
    return datetime.fromtimestamp(int(value), UTC)


def key(kind: str, *parts: str | bytes, at: str = "") -> str:
    """A short key that is the same for the same parts, for ever.

    `at`, the provider's own time, comes first: keys that come together lie together,
    and a commit of many writes few pages of their index.
    """
    said = bytearray()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        said += len(data).to_bytes(4, "big") + data
    when = at if at.isdecimal() and at.isascii() else _NO_DIGIT.sub("", at)
    return f"{kind}:{when[:_LONGEST_TIME]}:{sha256(said).hexdigest()[:40]}"


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(f"not UTF-8 at byte {error.start}") from None


def _array(text: str) -> list[tuple[object, bytes]]:
    at = _skip(text, 0)
    if not text.startswith("[", at):
        raise _broken("expected a JSON array")
    rows: list[tuple[object, bytes]] = []
    at = _skip(text, at + 1)
    if text.startswith("]", at):
        _check_end(text, at + 1)
        return rows
    while True:
        value, end = _value(text, at)
        rows.append((value, text[at:end].encode()))
        at = _skip(text, end)
        if text.startswith("]", at):
            _check_end(text, at + 1)
            return rows
        if not text.startswith(",", at):
            raise _broken(f"expected , or ] at character {at}")
        at = _skip(text, at + 1)


def _value(text: str, at: int) -> tuple[object, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _broken(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _broken("nested too deeply") from None
    except ValueError as error:
        raise _broken(str(error)[:100]) from None
    return value, end


def _check_end(text: str, at: int) -> None:
    at = _skip(text, at)
    if at != len(text):
        raise _broken(f"something follows the end at character {at}")


def _broken(detail: str) -> RequestError:
    return RequestError("broken_json", detail)


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANK:  # as nearly always
        return at
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


_BLANK = frozenset(" \t\r\n")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)
