"""The GSM 7-bit alphabet: vectors of G-1, both directions, packed and not."""

import pytest
import smpplib.gsm
from hypothesis import given
from hypothesis import strategies as st

from adapters.smpp import gsm7

ALPHABET = "".join(c for c in gsm7.BASIC if c != "\x1b") + "".join(
    gsm7.EXTENSION.values()
)
texts = st.text(ALPHABET, max_size=400)


def test_the_alphabet_has_its_127_and_10_characters() -> None:
    assert len(gsm7.BASIC) == 128
    assert len(set(ALPHABET)) == 137


# 3GPP TS 23.038, 6.2.1: places that are often wrong.
@pytest.mark.parametrize(
    ("character", "octets"),
    [
        ("@", "00"), ("£", "01"), ("$", "02"), ("¥", "03"), ("ò", "08"), ("Ç", "09"),
        ("\n", "0a"), ("\r", "0d"), ("Δ", "10"), ("_", "11"), ("Ξ", "1a"), ("É", "1f"),
        ("¤", "24"), ("¡", "40"), ("Ä", "5b"), ("§", "5f"), ("¿", "60"), ("à", "7f"),
        ("\f", "1b0a"), ("^", "1b14"), ("{", "1b28"), ("}", "1b29"), ("\\", "1b2f"),
        ("[", "1b3c"), ("~", "1b3d"), ("]", "1b3e"), ("|", "1b40"), ("€", "1b65"),
    ],
)  # fmt: skip
def test_places(character: str, octets: str) -> None:
    """G-1"""
    assert gsm7.encode(character) == bytes.fromhex(octets)
    assert gsm7.decode(bytes.fromhex(octets)) == (character, False)


@pytest.mark.parametrize("text", ["党", "a党b", "ç", "`", "😀", "\t"])
def test_one_character_outside_and_the_text_is_none(text: str) -> None:
    """G-1: one Chinese character in an English text"""
    assert gsm7.encode(text) is None


@given(texts)
def test_round_trip(text: str) -> None:
    septets = gsm7.encode(text)
    assert septets is not None
    assert gsm7.decode(septets) == (text, False)


@given(texts.filter(lambda text: not text.endswith("\r")), st.sampled_from([0, 1, 6]))
def test_round_trip_packed(text: str, fill: int) -> None:
    septets = gsm7.encode(text)
    assert septets is not None
    assert gsm7.unpack(gsm7.pack(septets, fill), fill) == septets


def test_packing_as_the_standard_writes_it() -> None:
    septets = gsm7.encode("hellohello")
    assert septets is not None
    assert gsm7.pack(septets).hex() == "e8329bfd4697d9ec37"
    assert gsm7.fill_bits(6) == 1
    assert gsm7.fill_bits(7) == 0


@given(texts.filter(bool), st.sampled_from([152, 153]))
def test_pieces_are_full_and_cut_no_escape(text: str, limit: int) -> None:
    """G-1, G-2"""
    pieces = gsm7.split(text, limit)
    sizes = [len(gsm7.encode(piece) or b"") for piece in pieces]
    assert "".join(pieces) == text
    assert all(size <= limit for size in sizes)
    assert all(size >= limit - 1 for size in sizes[:-1])


@given(st.binary(max_size=200))
def test_any_octets_can_be_read(octets: bytes) -> None:
    text, lost = gsm7.decode(octets)
    assert lost == any(octet > 0x7F for octet in octets)
    assert len(text) <= len(octets)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 305, 306, 307, 459, 460])
def test_part_counts_agree_with_a_library_that_nobody_here_wrote(length: int) -> None:
    """G-1"""
    text = "a" * length
    parts, _, _ = smpplib.gsm.make_parts(text)
    ours = gsm7.split(text, 153) if length > 160 else [text]
    assert len(ours) == len(parts)
