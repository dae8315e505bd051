"""What was acknowledged from the spool comes back whole, whatever tore the file."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import (
    Address,
    AddressKind,
    Attachment,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
    ReceiptState,
)
from gateway.database import from_micros
from gateway.errors import StorageUnavailable
from gateway.inbox.spool import Record, Spool, decode, encode, frame, scan

LIMIT = 2**20
ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # half pairs and NUL, too
INSTANTS = st.integers(0, 4 * 10**15).map(from_micros)
ADDRESSES = st.builds(Address, st.sampled_from(AddressKind), ANY_TEXT)
FILES = st.builds(Attachment, ANY_TEXT, ANY_TEXT, st.binary(max_size=50))
MESSAGES = st.builds(
    InboundMessage,
    key=ANY_TEXT,
    sender=ADDRESSES,
    text=ANY_TEXT,
    raw=st.binary(),
    sent_at=st.none() | INSTANTS,
    conversation=st.none() | ADDRESSES,
    subject=ANY_TEXT,
    answers_to=st.lists(ANY_TEXT, max_size=3).map(tuple),
    attachments=st.lists(FILES, max_size=2).map(tuple),
    automatic=st.booleans(),
    notes=st.lists(ANY_TEXT, max_size=2).map(tuple),
)
RECEIPTS = st.builds(
    DeliveryReceipt,
    key=ANY_TEXT,
    provider_id=ANY_TEXT,
    state=st.sampled_from(ReceiptState),
    raw=st.binary(),
    address=st.none() | ADDRESSES,
    at=st.none() | INSTANTS,
    opted_out=st.booleans(),
)
OTHERS = st.builds(
    OptOut, key=ANY_TEXT, address=ADDRESSES, raw=st.binary()
) | st.builds(
    ChannelTrouble,
    key=ANY_TEXT,
    code=ANY_TEXT,
    raw=st.binary(),
    address=st.none() | ADDRESSES,
)


def message(key: str) -> InboundMessage:
    sender = Address(AddressKind.PHONE, "+8619900000001")
    return InboundMessage(key=key, sender=sender, text="您好", raw=b"\0\xff")


def record(key: str) -> bytes:
    return encode("短信", [message(key)])


def everything(spool: Spool, most: int = 100) -> list[Record]:
    found: list[Record] = []
    while spool.waiting:
        records, end = spool.take(most)
        found += records
        spool.done(end)
    return found


def keys(records: list[Record]) -> list[str]:
    return [event.key for _, events in records for event in events]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@given(events=st.lists(MESSAGES | RECEIPTS | OTHERS, max_size=5), channel=ANY_TEXT)
def test_any_event_comes_back_as_it_was(events: list[Event], channel: str) -> None:
    data = encode(channel, events)
    ((start, end, body),) = scan(data)
    assert (start, end) == (0, len(data))
    assert body is not None
    assert decode(body) == (channel, tuple(events))


@pytest.mark.parametrize("most", [1, 100, 1000, 10**6])
def test_in_order_and_gone_when_done(folder: Path, most: int) -> None:
    spool = Spool(folder, LIMIT)
    for n in range(20):
        spool.append([record(f"{n}a"), record(f"{n}b")])
    expected = [f"{n}{half}" for n in range(20) for half in "ab"]
    assert keys(everything(spool, most)) == expected
    assert (folder / "0.spool").stat().st_size == 0
    spool.append([record("next")])
    assert keys(everything(spool)) == ["next"]
    spool.close()


def test_what_is_not_done_is_there_after_a_crash(folder: Path) -> None:
    spool = Spool(folder, LIMIT)
    spool.append([record("a"), record("b")])
    spool.take(10**6)
    spool.close()
    again = Spool(folder, LIMIT)
    again.open()
    assert keys(everything(again)) == ["a", "b"]
    again.close()


def test_a_torn_tail_is_set_aside_and_the_rest_loads(folder: Path) -> None:
    """B-6: cut at every byte of the last record."""
    first, last = record("first"), record("last")
    folder.mkdir()
    path = folder / "0.spool"
    for cut in range(1, len(last)):
        path.write_bytes(first + last[:cut])
        spool = Spool(folder, LIMIT)
        spool.open()
        assert keys(everything(spool)) == ["first"]
        spool.append([record("after")])
        assert keys(everything(spool)) == ["after"]
        spool.close()
        (aside,) = folder.glob("*.damaged")
        assert aside.read_bytes() == last[:cut]
        aside.unlink()


def test_a_flipped_bit_costs_its_record_only(folder: Path) -> None:
    """D-6: never silently another text."""
    whole = [record("a"), record("b"), record("c")]
    folder.mkdir()
    path = folder / "0.spool"
    for bit in range(0, len(whole[1]) * 8, 7):
        hurt = bytearray(whole[1])
        hurt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole[0] + bytes(hurt) + whole[2])
        spool = Spool(folder, LIMIT)
        spool.open()
        assert keys(everything(spool)) == ["a", "c"]
        spool.close()


def test_damage_while_it_runs_is_passed_over(folder: Path) -> None:
    spool = Spool(folder, LIMIT)
    spool.append([record("a"), record("b"), record("c")])
    with (folder / "0.spool").open("r+b") as file:
        file.seek(len(record("a")) + 40)
        file.write(b"????")
    assert keys(everything(spool)) == ["a", "c"]
    assert len(list(folder.glob("*.damaged"))) == 1
    spool.close()


def test_a_record_of_another_version_is_set_aside(folder: Path) -> None:
    spool = Spool(folder, LIMIT)
    strange = frame(b'["sms", [{"is": "massage", "key": "b"}]]')
    spool.append([record("a"), strange, record("c")])
    assert keys(everything(spool)) == ["a", "c"]
    spool.close()


def test_a_full_spool_keeps_what_it_has(folder: Path) -> None:
    spool = Spool(folder, len(record("a")) * 2 + 10)
    spool.append([record("a")])
    with pytest.raises(StorageUnavailable):
        spool.append([record("b"), record("c")])
    spool.append([record("d")])
    assert keys(everything(spool)) == ["a", "d"]
    spool.close()


def test_each_process_has_its_own_and_inherits(folder: Path) -> None:
    one, two = Spool(folder, LIMIT), Spool(folder, LIMIT)
    one.append([record("one")])
    two.append([record("two")])
    one.close()
    two.close()
    heir = Spool(folder, LIMIT)
    heir.open()
    assert keys(everything(heir)) == ["one", "two"]
    assert os.listdir(folder)
    heir.close()
    empty = Spool(folder, LIMIT)
    empty.open()
    assert empty.waiting == 0
    empty.close()
