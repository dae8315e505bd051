"""Frames: cut right wherever the network cuts; a length that can't be ends it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.carrier.frames import CEILING_BYTES, Frames

bodies = st.lists(st.binary(max_size=300), max_size=8)


def framed(body: bytes) -> bytes:
    return (len(body) + 16).to_bytes(4, "big") + b"h" * 12 + body


@given(bodies=bodies, cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_frames_come_out_as_they_went_in_however_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(map(framed, bodies))
    borders = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    frames = Frames(16)
    found: list[bytes] = []
    for start, end in itertools.pairwise(borders):
        found += frames.feed(stream[start:end])
    assert found == [framed(body) for body in bodies]
    assert not frames.fault


@pytest.mark.parametrize("length", [0, 2, 15, CEILING_BYTES + 1, 2**32 - 1])
def test_a_length_that_cannot_be_is_a_fault_after_what_was_good(length: int) -> None:
    """H-9, S-48"""
    frames = Frames(16)
    good = framed(b"good")
    assert frames.feed(good + length.to_bytes(4, "big") + b"x" * 40) == [good]
    assert frames.fault


def test_the_longest_frame_is_taken() -> None:
    frames = Frames(16)
    longest = framed(b"x" * (CEILING_BYTES - 16))
    assert frames.feed(longest[:5]) == []
    assert frames.feed(longest[5:]) == [longest]


def test_a_frame_that_comes_byte_by_byte_costs_no_more_than_itself() -> None:
    frames = Frames(16)
    longest = framed(b"x" * (CEILING_BYTES - 16))
    found = [f for byte in longest for f in frames.feed(bytes([byte]))]
    assert found == [longest]
