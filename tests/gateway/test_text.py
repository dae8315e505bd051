import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import TextEncoding
from gateway.text import (
    clean,
    clusters,
    decode,
    excerpt,
    fold_width,
    length,
    segment_count,
    split_segments,
    visible,
)

SMS = (70, 67)
FAMILY = "👨‍👩‍👧‍👦"
FLAG = "🇨🇳"

anything = st.text(st.characters())  # lone surrogates included
valid = st.text(st.characters(exclude_categories=["Cs"]))
emoji_heavy = st.text(
    st.sampled_from(["党", "a", "😀", "\u0301", "\u200d", "🇨", "👍", "🏽"])
)


def units(text: str) -> int:
    return sum(2 if ord(character) > 0xFFFF else 1 for character in text)


@given(anything)
def test_length_agrees_with_a_count_by_hand(text: str) -> None:
    assert length(text, TextEncoding.UCS2) == units(text)
    assert length(text, TextEncoding.UTF8) == len(text.encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (0, 0),
        (1, 1),
        (70, 1),
        (71, 2),
        (134, 2),
        (135, 3),
        (201, 3),
        (202, 4),
        (500, 8),
    ],
)
@pytest.mark.parametrize("character", ["a", "党"])
def test_segments_are_billed_70_then_67(character: str, size: int, count: int) -> None:
    assert segment_count(character * size, SMS) == count


def test_an_emoji_is_billed_as_two() -> None:
    assert segment_count("😀" * 35, SMS) == 1
    assert segment_count("😀" * 35 + "a", SMS) == 2


def test_a_channel_without_segments_sends_one() -> None:
    assert segment_count("长" * 5000, None) == 1
    assert split_segments("长" * 5000, None) == ["长" * 5000]
    assert segment_count("", None) == 0
    assert split_segments("", SMS) == []


@given(st.one_of(anything, emoji_heavy).map(lambda text: text * 20))
def test_segments_join_to_the_text_and_keep_their_size(text: str) -> None:
    parts = split_segments(text, SMS)
    assert "".join(parts) == text
    assert all(0 < units(part) <= 70 for part in parts)
    assert len(parts) == 1 or all(units(part) <= 67 for part in parts)
    assert len(parts) >= segment_count(text, SMS)


@given(
    st.text(st.characters(max_codepoint=0xD7FF, categories=["L", "N"]), max_size=400)
)
def test_without_wide_characters_preview_and_bill_agree(text: str) -> None:
    assert len(split_segments(text, SMS)) == segment_count(text, SMS)


@pytest.mark.parametrize("cluster", ["😀", FAMILY, FLAG, "e\u0301", "👍🏽", "❤\ufe0f"])
@pytest.mark.parametrize("offset", range(60, 71))
def test_no_cluster_is_cut_at_a_border(cluster: str, offset: int) -> None:
    text = "党" * offset + cluster + "员" * 80
    assert sum(cluster in part for part in split_segments(text, SMS)) == 1


def test_a_cluster_longer_than_a_segment_is_cut_between_characters() -> None:
    zalgo = "a" + "\u0301" * 10_000
    parts = split_segments(zalgo, SMS)
    assert len(parts) == segment_count(zalgo, SMS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("党员", ["党", "员"]),
        (f"a{FAMILY}b", ["a", FAMILY, "b"]),
        (FLAG * 2, [FLAG, FLAG]),
        ("🇨🇳🇨", [FLAG, "🇨"]),
        ("x🇨🇳", ["x", FLAG]),
        ("e\u0301\u0302", ["e\u0301\u0302"]),
        ("\r\n", ["\r\n"]),
        ("👍🏽!", ["👍🏽", "!"]),
    ],
)
def test_clusters(text: str, expected: list[str]) -> None:
    assert list(clusters(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\0b", "ab"),
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\r\0\n", "\n"),
        ("a\ud800b", "a\ufffdb"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("e\u0301 \u202e \u200b", "e\u0301 \u202e \u200b"),
        ("Ａ①", "Ａ①"),
    ],
)
def test_clean_takes_out_only_what_no_store_bears(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(anything)
def test_clean_text_can_be_stored_and_is_left_alone(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert "\r" not in cleaned
    assert clean(cleaned) == cleaned


@given(valid.filter(lambda text: not {"\0", "\r"} & set(text)))
def test_clean_keeps_what_was_written(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u202etxt.exe", "⟦U+202E⟧txt.exe"),
        ("a\u2066b\u2069", "a⟦U+2066⟧b⟦U+2069⟧"),
        ("a\x07b\x9f", "a⟦U+0007⟧b⟦U+009F⟧"),
        ("zero\u200bwidth\ufeff", "zero⟦U+200B⟧width⟦U+FEFF⟧"),
        ("\U000e0041", "⟦U+E0041⟧"),
        ("line\n\ttab", "line\n\ttab"),
        (FAMILY, FAMILY),
    ],
)
def test_visible_shows_what_hides(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert visible(expected) == expected


@pytest.mark.parametrize("text", ["ＴＤ", " td ", "Td\u200b", "\ufefftd", "\u202etd"])
def test_fold_width_makes_spellings_alike(text: str) -> None:
    assert fold_width(text) == "TD"


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("  一行\n  两行 ", 20, "一行 两行"),
        ("一二三四五", 5, "一二三四五"),
        ("一二三四五六", 5, "一二三四…"),
        ("一二三 四五六", 5, "一二三…"),
        (f"一{FAMILY}二三四", 5, "一…"),
        ("e" + "\u0301" * 90, 5, "e\u0301\u0301\u0301…"),
        ("", 5, ""),
    ],
)
def test_excerpt(text: str, limit: int, expected: str) -> None:
    assert excerpt(text, limit) == expected


@given(anything, st.integers(1, 30))
def test_an_excerpt_is_one_line_within_its_limit(text: str, limit: int) -> None:
    short = excerpt(text, limit)
    assert len(short) <= limit
    assert len(short.splitlines()) <= 1


@pytest.mark.parametrize(
    ("raw", "declared", "expected"),
    [
        ("你好".encode(), None, "你好"),
        ("你好".encode(), "us-ascii", "你好"),
        ("你好".encode(), '"UTF-8"', "你好"),
        ("你好，党员".encode("gbk"), None, "你好，党员"),
        ("你好".encode("gbk"), "GB2312", "你好"),
        ("𠮷".encode("gb18030"), "gbk", "𠮷"),
        ("你好".encode("gbk"), "utf-8", "你好"),
        ("你好".encode("utf-16-be"), "ucs2", "你好"),
        ("a党b".encode("utf-16-le"), None, "a党b"),
        ("a党b".encode("utf-16-be"), None, "a党b"),
        ("﻿你好".encode("utf-16-le"), None, "你好"),
        ("﻿你好".encode("utf-16-be"), "utf-8", "你好"),
        ("﻿你好".encode(), None, "你好"),
        ("謝謝".encode("big5"), "Big5", "謝謝"),
        ("café".encode("latin-1"), "iso-8859-1", "café"),
        (b"", None, ""),
        (b"plain", "no-such-charset", "plain"),
        (b"plain", "base64", "plain"),
    ],
)
def test_decode(raw: bytes, declared: str | None, expected: str) -> None:
    assert decode(raw, declared) == (expected, False)


@pytest.mark.parametrize(
    ("raw", "declared", "expected"),
    [
        (bytes.fromhex("d8000041"), "utf-16-be", "\ufffdA"),
        (bytes.fromhex("004100"), "utf-16-be", "A\ufffd"),
        (bytes.fromhex("610062"), "utf-16-le", "a\ufffd"),
        (bytes.fromhex("c4e3ba"), "gbk", "你\ufffd"),
        (b"ab\xff", "utf-8", "ab\ufffd"),
    ],
)
def test_damaged_bytes_are_read_as_far_as_they_go(
    raw: bytes, declared: str, expected: str
) -> None:
    assert decode(raw, declared) == (expected, True)


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=12)))
def test_decode_takes_any_bytes_under_any_name(raw: bytes, name: str | None) -> None:
    text, _ = decode(raw, name)
    assert clean(text) == text


@given(
    valid.map(clean), st.sampled_from(["utf-8", "gb18030", "utf-16-be", "utf-16-le"])
)
def test_what_was_declared_rightly_comes_back(text: str, codec: str) -> None:
    text = text.lstrip("\ufeff\ufffe")
    raw = text.encode(codec)
    if not raw.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        assert decode(raw, codec) == (text, False)
