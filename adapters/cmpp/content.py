"""Texts as Msg_Content carries them: which Msg_Fmt, in how many parts, and back."""

from collections.abc import Sequence
from typing import Literal

from gateway.text import decode, split_segments

ASCII, BINARY, UCS2, GBK = 0, 4, 8, 15  # Msg_Fmt (8.4.3.1); 3 writes to the SIM card

Charset = Literal["ucs2", "gbk"]


def encoded(
    text: str, charset: Charset, segments: tuple[int, int]
) -> tuple[int, Sequence[bytes]]:
    """Msg_Fmt and the octets of each part, without headers: at most 140 with them.

    What GBK can't say leaves in UCS-2, all parts alike. A pair of surrogates is UTF-16
    there, as all handsets read it.
    """
    parts = split_segments(text, segments) or [""]
    if charset == "gbk":
        try:
            return GBK, [part.encode("gbk") for part in parts]
        except UnicodeEncodeError:
            pass
    return UCS2, [part.encode("utf-16-be", "replace") for part in parts]


def read(msg_fmt: int, octets: bytes) -> tuple[str, bool]:
    """What the octets of a whole message say, and whether any were unreadable.

    Gateways are met that send Chinese under Msg_Fmt 0, and GSM data coding schemes
    (3GPP TS 23.038, 4) such as 0x18 for UCS-2 with a class.
    """
    if msg_fmt == BINARY:
        return "", bool(octets)
    if msg_fmt == GBK:
        return decode(octets, "gb18030")
    if msg_fmt & 0x0C == UCS2:
        return decode(octets, "utf-16-be")
    return decode(octets, "us-ascii")
