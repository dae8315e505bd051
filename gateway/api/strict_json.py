"""Reading JSON that strangers send: small, shallow, unambiguous, or refused. Pure."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from gateway.errors import RequestError

LARGEST_BODY = 256 * 1024  # bytes
DEEPEST = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INT64 = 2**63


def parse(body: bytes) -> Any:
    """The value in `body`; RequestError(json) says what is wrong with it, and where.

    Refused beyond RFC 8259: repeated names, NaN and Infinity, numbers that a 64-bit
    integer or double can't hold, NUL, half a surrogate pair, more than `DEEPEST`
    levels.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise _fault(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _fault(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _too_deep() from None
    _refuse_unfit(value)
    return value


def canonical(value: Any) -> str:
    """The same text for the same value, however it was written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _fault("an object names the same member twice")
    return found


def _integer(digits: str) -> int:
    # Python itself refuses to read thousands of digits; nobody needs more than these.
    if len(digits) > 20 or not -_INT64 <= (number := int(digits)) < _INT64:
        raise _fault("a number does not fit 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _fault("a number is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise _fault(f"{name} is not JSON")


def _refuse_unfit(value: Any) -> None:
    """Depth and characters, without recursion."""
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if depth > DEEPEST and isinstance(one, dict | list):
            raise _too_deep()
        for text in _texts(one):
            if _UNSTORABLE.search(text):
                raise _fault("a text holds NUL or half of a surrogate pair")
        waiting.extend((child, depth + 1) for child in _children(one))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _too_deep() -> RequestError:
    return _fault(f"nested deeper than {DEEPEST} levels")


def _fault(detail: str) -> RequestError:
    return RequestError("json", f"the body can't be read as JSON: {detail}")
