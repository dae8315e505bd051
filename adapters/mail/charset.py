"""Bytes of mail to clean text: wrong labels mended, nothing that a table or a page
can't hold. Pure; never raises."""

import base64
import binascii
import codecs
import quopri
import re

# Clients label GBK and GB18030 text "gb2312"; gb18030 reads all three.
_CHINESE = {"gb2312", "gb_2312-80", "gbk", "x-gbk", "cp936", "gb18030", "hz"}
_NOT_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}
_WORD = re.compile(rb"=\?([^?\s]{1,40})\?([BbQq])\?([^?]*)\?=")
_GAP = re.compile(rb"(\?=)[ \t\r\n]+(?==\?)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINE = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Newlines as \\n; no NUL, no control characters, no lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def one_line(text: str) -> str:
    return " ".join(_LINE.sub(" ", _SURROGATE.sub("\ufffd", text)).split())


def decode(data: bytes, label: str = "") -> str:
    """Text of `data`: by its label, else by what fits, else with replacements."""
    named = _codec(label)
    for codec in dict.fromkeys((named, "utf-8", "gb18030")):
        if codec:
            try:
                return clean(data.decode(codec))
            except (UnicodeError, ValueError):
                continue
    return clean(data.decode(named or "utf-8", "replace"))


def _codec(label: str) -> str:
    name = label.strip().strip("\"'").lower()
    if name in _CHINESE and name != "hz":
        return "gb18030"
    try:
        found = codecs.lookup(name).name
        "".encode(found)
    except (LookupError, ValueError):
        return ""
    return "" if found in _NOT_CHARSETS else found


def decode_header(value: str | bytes) -> str:
    """One line of text from a raw header value: encoded words (RFC 2047), bare bytes.

    Neighbouring words of one charset are joined before they are decoded: Chinese
    clients cut a character in two.
    """
    raw = (
        value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    )
    raw = _GAP.sub(rb"\1", raw)
    pieces: list[tuple[str, bytes]] = []
    end = 0
    for word in _WORD.finditer(raw):
        if word.start() > end:
            pieces.append(("", raw[end : word.start()]))
        label = word[1].decode("ascii", "replace").partition("*")[0].lower()
        data = _word_bytes(word[2].upper(), word[3])
        if pieces and label and pieces[-1][0] == label and word.start() == end:
            data = pieces.pop()[1] + data
        pieces.append((label, data))
        end = word.end()
    pieces.append(("", raw[end:]))
    return one_line("".join(decode(data, label) for label, data in pieces))


def _word_bytes(encoding: bytes, text: bytes) -> bytes:
    if encoding == b"Q":
        return quopri.decodestring(text.replace(b"_", b" "))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return text
