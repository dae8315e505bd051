"""Texts as channels count them, as providers spell them and as people see them.

What is stored stays as the person wrote it; only what no store and no reader can
bear is taken out (`clean`). Display marks what is invisible (`visible`).
"""

import re
import unicodedata
from collections.abc import Iterator
from hashlib import sha256

from gateway.contract import TextEncoding

_ZERO_WIDTH_JOINER = "\u200d"
# Invisible without meaning in an answer: soft hyphen, zero width space, joiners,
# marks of direction, byte order mark, variation selectors.
_IGNORABLE = re.compile(
    "[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe0f\ufeff]"
)
# The joiners U+200C and U+200D build emoji and many scripts: they stay as they are.
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_NEVER_BARE = {"gb2312", "gbk", "gb_2312-80", "cp936", "ms936", "x-gbk", "euc-cn"}
_CODECS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "gb18030": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "utf-16": "utf-16-be",  # without a mark: RFC 2781, 4.3
    "utf-16be": "utf-16-be",
    "utf-16-be": "utf-16-be",
    "ucs2": "utf-16-be",
    "ucs-2": "utf-16-be",
    "utf-16le": "utf-16-le",
    "utf-16-le": "utf-16-le",
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "windows-1252": "cp1252",
    "iso-2022-jp": "iso2022_jp",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
} | dict.fromkeys(_NEVER_BARE, "gb18030")
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\xff\xfe", "utf-16-le"),
)


def length(text: str, encoding: TextEncoding) -> int:
    """Length in the unit in which a channel counts: UTF-16 code units or bytes."""
    if encoding is TextEncoding.UCS2:
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return len(text.encode("utf-8", "replace"))


def segment_count(text: str, segments: tuple[int, int] | None) -> int:
    """Billed SMS segments of `text`, the signature included by the caller.

    Domestic billing counts UTF-16 units, ASCII too: 70 in a lone segment, 67 in one
    of several (https://help.aliyun.com/document_detail/414224.htm). Without
    `segments` a text is one message. An empty text is none.
    """
    units = length(text, TextEncoding.UCS2)
    if segments is None or units <= segments[0]:
        return min(units, 1)
    return -(-units // segments[1])


def split_segments(text: str, segments: tuple[int, int] | None) -> list[str]:
    """The segments a reader may see, for preview; joined they give `text`.

    Borders lie between grapheme clusters where a cluster fits into a segment, and
    never inside a surrogate pair. Billing (`segment_count`) doesn't know clusters,
    so a text with emoji at a border may show one more part here.
    """
    if not text:
        return []
    if segments is None or length(text, TextEncoding.UCS2) <= segments[0]:
        return [text]
    return list(_pack(_pieces(text, segments[1]), segments[1]))


def _pack(pieces: Iterator[str], limit: int) -> Iterator[str]:
    part: list[str] = []
    used = 0
    for piece in pieces:
        size = length(piece, TextEncoding.UCS2)
        if part and used + size > limit:
            yield "".join(part)
            part, used = [], 0
        part.append(piece)
        used += size
    yield "".join(part)


def _pieces(text: str, limit: int) -> Iterator[str]:
    """Clusters, those longer than `limit` units taken apart into characters."""
    for cluster in clusters(text):
        if length(cluster, TextEncoding.UCS2) <= limit:
            yield cluster
        else:
            yield from cluster


def clusters(text: str) -> Iterator[str]:
    """What a reader takes for one character each; joined they give `text`.

    A reading of UAX 29 without Hangul jamo and Indic conjuncts: marks, variation
    selectors, skin tones, joiner sequences and flags stay together.
    """
    start, flags = 0, 0
    for index in range(1, len(text)):
        flags = flags + 1 if _is_flag_half(text[index - 1]) else 0
        if not _joins(text[index - 1], text[index], flags):
            yield text[start:index]
            start = index
    if text:
        yield text[start:]


def _joins(before: str, character: str, flags: int) -> bool:
    if _is_flag_half(character):
        return flags % 2 == 1
    return (
        character == _ZERO_WIDTH_JOINER
        or (before == _ZERO_WIDTH_JOINER and character > "\u2000")
        or (before == "\r" and character == "\n")
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
        or unicodedata.category(character).startswith("M")
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def clean(text: str) -> str:
    """What is stored of a provider's text: nothing a text column would refuse.

    NUL goes, a lone surrogate becomes U+FFFD, two that make a pair become the
    character, line ends become LF. All else stays, not even normalised.
    """
    if text.isprintable():
        return text  # ids, codes and most of what people write, many times a second
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def fitted(text: str, most: int) -> str:
    """`clean`, in a column of so many characters, at least 66: what is longer keeps its
    beginning and its identity."""
    text = clean(text)
    if len(text) <= most:
        return text
    return f"{text[: most - 65]}:{sha256(text.encode()).hexdigest()}"


def visible(text: str) -> str:
    """`text` for display: control and direction characters shown as ⟦U+202E⟧."""
    return _HIDDEN.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)


def fold_width(text: str) -> str:
    """For comparisons: compatibility forms, width, case and outer blanks made alike.

    Meant for short texts; NFKC is slow on thousands of stacked marks.
    """
    if text.isascii():
        return text.strip().upper()
    plain = unicodedata.normalize("NFKC", _IGNORABLE.sub("", text))
    return plain.strip().upper()


def narrow(text: str) -> str:
    """Full-width letters, digits and signs as ASCII, in a text of any length."""
    return _IGNORABLE.sub("", text).translate(_NARROW)


def excerpt(text: str, limit: int) -> str:
    """One line of at most `limit` characters, cut between clusters, with ellipsis."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    kept = ""
    for cluster in clusters(line[:limit]):
        if len(kept) + len(cluster) >= limit:
            break
        kept += cluster
    return (kept or line[: limit - 1]).rstrip() + "…"


def decode(raw: bytes, declared: str | None = None) -> tuple[str, bool]:
    """Best effort at a provider's bytes: the cleaned text, and whether any were lost.

    A byte order mark counts most, then the declared charset if it fits, then UTF-16
    by its zero bytes, UTF-8, GB18030. What fits none is read as declared, with
    U+FFFD. Declared UTF-16 is believed: its bytes may look like anything. Never
    raises.
    """
    for mark, codec in _MARKS:
        if raw.startswith(mark):
            return _decode_as(raw[len(mark) :], [codec])
    named = _CODECS.get((declared or "").strip().strip("\"'").lower())
    if named and named.startswith("utf-16"):
        return _decode_as(raw, [named])
    return _decode_as(raw, [*filter(None, [named]), *_guesses(raw)])


def _decode_as(raw: bytes, codecs: list[str]) -> tuple[str, bool]:
    for codec in codecs:
        try:
            return clean(raw.decode(codec)), False
        except UnicodeDecodeError:
            continue
    return clean(raw.decode(codecs[0], "replace")), True


def _guesses(raw: bytes) -> list[str]:
    zeros = (raw[0::2].count(0), raw[1::2].count(0))
    if max(zeros) * 4 <= len(raw):
        return ["utf-8", "gb18030"]
    return ["utf-16-be" if zeros[0] >= zeros[1] else "utf-16-le", "utf-8", "gb18030"]
