"""User data headers and reference numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.carrier import udh
from adapters.carrier.references import References


@given(
    reference=st.integers(0, 0xFFFF),
    total=st.integers(2, 255),
    number=st.integers(1, 255),
    wide=st.booleans(),
    body=st.binary(max_size=134),
)
def test_a_header_reads_as_written(
    reference: int, total: int, number: int, wide: bool, body: bytes
) -> None:
    number = min(number, total)
    place = udh.Concatenation(reference & (0xFFFF if wide else 0xFF), total, number)
    header = udh.header(place, wide=wide)
    assert len(header) == udh.header_bytes(wide=wide)
    assert udh.taken_apart(header + body) == (place, body, True)


@pytest.mark.parametrize("total_and_number", [(255, 0), (0, 0), (0, 1), (2, 3), (1, 1)])
def test_a_place_that_cannot_be_belongs_to_no_long_message(
    total_and_number: tuple[int, int],
) -> None:
    """S-48: concat 255/0"""
    data = bytes([5, 0, 3, 9, *total_and_number]) + b"text"
    assert udh.taken_apart(data) == (None, b"text", True)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x05\x00\x03\x01\x02", b"\xffabc"])
def test_a_header_longer_than_the_body_is_text_with_a_note(data: bytes) -> None:
    """S-48: UDH length beyond the body"""
    assert udh.taken_apart(data) == (None, data, False)


@given(st.binary(max_size=200))
def test_nothing_makes_it_raise(data: bytes) -> None:
    _, body, _ = udh.taken_apart(data)
    assert data.endswith(body)


@pytest.mark.parametrize(("wide", "all_numbers"), [(False, 256), (True, 65_536)])
def test_a_destination_meets_a_number_again_only_after_all_others(
    wide: bool, all_numbers: int
) -> None:
    """A-18"""
    references = References(wide=wide, start=1234)
    found = []
    for index in range(all_numbers):
        found.append(references.next("one"))
        if index % 3 == 0:
            references.next(f"other {index}")
    assert len(set(found)) == all_numbers
    assert references.next("one") == found[0]


def test_forgotten_destinations_cost_no_memory() -> None:
    references = References(wide=False)
    for index in range(70_000):
        references.next(str(index))
    assert len(references._last) <= 65_536
