"""The GSM 7-bit default alphabet and its extension (3GPP TS 23.038, 6.2.1), one
septet in each octet as SMPP carries it, or packed."""

from collections.abc import Iterator

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
ESCAPE = 0x1B
_SEPTETS = {
    character: bytes([code]) for code, character in enumerate(BASIC) if code != ESCAPE
} | {character: bytes([ESCAPE, code]) for code, character in EXTENSION.items()}
_CARRIAGE_RETURN = 0x0D


def encode(text: str) -> bytes | None:
    """One octet a septet; None where a character is not in the alphabet."""
    try:
        return b"".join([_SEPTETS[character] for character in text])
    except KeyError:
        return None


def decode(septets: bytes) -> tuple[str, bool]:
    """The text, and whether any octet had no meaning.

    An escape before something unknown is shown as the basic character
    (3GPP TS 23.038, 6.2.1.1); an escape at the end is nothing.
    """
    if ESCAPE not in septets and max(septets, default=0) < 0x80:
        return "".join([BASIC[octet] for octet in septets]), False
    return _decode_slowly(septets)


def _decode_slowly(septets: bytes) -> tuple[str, bool]:
    found: list[str] = []
    escaped = lost = False
    for octet in septets:
        if escaped:
            found.append(EXTENSION.get(octet) or _basic(octet))
            escaped = False
        elif octet == ESCAPE:
            escaped = True
        else:
            found.append(_basic(octet))
        lost = lost or octet > 0x7F
    return "".join(found), lost


def _basic(octet: int) -> str:
    if octet > 0x7F:
        return "\N{REPLACEMENT CHARACTER}"
    return " " if octet == ESCAPE else BASIC[octet]


def split(text: str, limit: int) -> list[str]:
    """Pieces of at most `limit` septets; an escape stays with its character."""
    return list(_pieces(text, limit))


def _pieces(text: str, limit: int) -> Iterator[str]:
    start = used = 0
    for index, character in enumerate(text):
        size = len(_SEPTETS[character])
        if used + size > limit:
            yield text[start:index]
            start, used = index, 0
        used += size
    yield text[start:]


def pack(septets: bytes, fill: int = 0) -> bytes:
    """Eight septets in seven octets (3GPP TS 23.038, 6.1.2.1), after `fill` bits that
    bring them to a septet border behind a header.

    Seven bits left over would read as one more @: they become a carriage return.
    """
    bits = fill + 7 * len(septets)
    if bits % 8 == 1:
        septets += bytes([_CARRIAGE_RETURN])
        bits += 7
    number = 0
    for index, septet in enumerate(septets):
        number |= (septet & 0x7F) << (fill + 7 * index)
    return number.to_bytes(-(-bits // 8), "little")


def unpack(octets: bytes, fill: int = 0) -> bytes:
    number = int.from_bytes(octets, "little") >> fill
    count = (8 * len(octets) - fill) // 7
    found = bytes([(number >> (7 * index)) & 0x7F for index in range(count)])
    full = (8 * len(octets) - fill) % 7 == 0
    if full and found.endswith(bytes([_CARRIAGE_RETURN])):
        return found[:-1]
    return found


def fill_bits(header_octets: int) -> int:
    """Bits between a header and the next septet border."""
    return -(8 * header_octets) % 7
