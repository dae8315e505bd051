"""User data headers (3GPP TS 23.040, 9.2.3.24): parts of long messages."""

from collections.abc import Iterator
from struct import pack
from typing import NamedTuple

# 3GPP TS 23.040, 9.2.3.24.1 and 9.2.3.24.8
NARROW, WIDE = 0x00, 0x08
USER_DATA_BYTES = 140


class Concatenation(NamedTuple):
    reference: int
    total: int
    number: int  # from 1


def header(found: Concatenation, *, wide: bool) -> bytes:
    """The header of one part, with a reference of 8 or 16 bits."""
    reference, total, number = found
    if wide:
        return pack(">BBBHBB", 6, WIDE, 4, reference & 0xFFFF, total, number)
    return pack(">BBBBBB", 5, NARROW, 3, reference & 0xFF, total, number)


def header_bytes(*, wide: bool) -> int:
    return 7 if wide else 6


def taken_apart(user_data: bytes) -> tuple[Concatenation | None, bytes, bool]:
    """The part's place, the text's bytes, and whether the header made sense.

    A header that says more than there is, or a part 0 or beyond the last, belongs to
    no long message: the bytes then stand for themselves.
    """
    if not user_data or user_data[0] >= len(user_data):
        return None, user_data, False
    end = user_data[0] + 1
    body = user_data[end:]
    for tag, value in _elements(user_data[1:end]):
        if tag == NARROW and len(value) == 3:
            return checked(value[0], value[1], value[2]), body, True
        if tag == WIDE and len(value) == 4:
            reference = int.from_bytes(value[:2], "big")
            return checked(reference, value[2], value[3]), body, True
    return None, body, True


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + 2 <= len(data):
        tag, length = data[start], data[start + 1]
        yield tag, data[start + 2 : start + 2 + length]
        start += 2 + length


def checked(reference: int, total: int, number: int) -> Concatenation | None:
    """None too for a lone part: it is a message like any other."""
    if total < 2 or not 1 <= number <= total:
        return None
    return Concatenation(reference, total, number)
