"""Receipts: text and TLVs, ids in every spelling, keys that stay."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.carrier.codec import Delivery
from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from adapters.smpp.receipts import ids
from adapters.smpp.settings import MessageIds
from gateway.contract import (
    Address,
    AddressKind,
    ChannelTrouble,
    DeliveryReceipt,
    ReceiptState,
)
from tests.labs.carrier import context
from tests.labs.smpp_lab import settings

USUAL = (
    "id:{id} sub:001 dlvrd:001 submit date:2611210930 done date:{done} "
    "stat:{stat} err:{err} text:hello"
)


def codec(**changes: object) -> SmppCodec:
    return SmppCodec(settings(2775, **changes), context("smpp", Path()))


def deliver(
    text: str, *, esm_class: int = 4, tlvs: bytes = b"", number: str = "8613800138000"
) -> bytes:
    body = f"\0\1\1{number}\0\0\1{10690000}\0".encode() + bytes([esm_class])
    data = text.encode()
    body += bytes(6) + b"\0\0" + bytes([len(data)]) + data + tlvs
    return pdu.frame(pdu.DELIVER_SM, 5, body)


def receipt(
    codec: SmppCodec,
    *,
    id: str = "42",
    stat: str = "DELIVRD",
    err: str = "000",
    done: str = "2611210931",
    tlvs: bytes = b"",
) -> DeliveryReceipt:
    text = USUAL.format(id=id, stat=stat, err=err, done=done)
    found = codec.decode(deliver(text, tlvs=tlvs))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, DeliveryReceipt)
    return found.content


def test_a_receipt_of_appendix_b() -> None:
    found = receipt(codec())
    assert found.provider_id == "42"
    assert found.state is ReceiptState.DELIVERED
    assert found.at == datetime(2026, 11, 21, 1, 31, tzinfo=UTC)
    assert found.address == Address(AddressKind.PHONE, "+8613800138000")
    assert found.code == "DELIVRD"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("DELIVRD", ReceiptState.DELIVERED),
        ("EXPIRED", ReceiptState.FAILED),
        ("DELETED", ReceiptState.FAILED),
        ("UNDELIV", ReceiptState.FAILED),
        ("REJECTD", ReceiptState.FAILED),
        ("ACCEPTD", ReceiptState.UNKNOWN),
        ("ENROUTE", ReceiptState.UNKNOWN),
        ("UNKNOWN", ReceiptState.UNKNOWN),
        ("MK:0001", ReceiptState.UNKNOWN),
        ("", ReceiptState.UNKNOWN),
    ],
)
def test_words(word: str, state: ReceiptState) -> None:
    found = receipt(codec(), stat=word)
    assert found.state is state
    assert found.code == (word or "missing")


@pytest.mark.parametrize(
    ("number", "word", "state"),
    [
        (1, "ENROUTE", ReceiptState.UNKNOWN),
        (2, "DELIVRD", ReceiptState.DELIVERED),
        (3, "EXPIRED", ReceiptState.FAILED),
        (4, "DELETED", ReceiptState.FAILED),
        (5, "UNDELIV", ReceiptState.FAILED),
        (6, "ACCEPTD", ReceiptState.UNKNOWN),
        (7, "UNKNOWN", ReceiptState.UNKNOWN),
        (8, "REJECTD", ReceiptState.FAILED),
        (99, "99", ReceiptState.UNKNOWN),
    ],
)
def test_tlvs_win_over_the_text(number: int, word: str, state: ReceiptState) -> None:
    tlvs = (
        pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, b"abc\0")
        + pdu.tlv(0x1401, b"vendor")
        + pdu.tlv(pdu.TAG_MESSAGE_STATE, bytes([number]))
    )
    found = receipt(codec(), stat="SOMETHING", tlvs=tlvs)
    assert (found.provider_id, found.state) == ("abc", state)
    assert found.code == word


def test_a_receipt_of_tlvs_alone_with_a_network_error() -> None:
    tlvs = (
        pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, b"abc\0")
        + pdu.tlv(pdu.TAG_MESSAGE_STATE, b"\5")
        + pdu.tlv(pdu.TAG_NETWORK_ERROR, b"\3\0\x16")
    )
    found = codec().decode(deliver("", esm_class=0, tlvs=tlvs))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, DeliveryReceipt)
    assert found.content.code == "UNDELIV:3:22"


def test_a_text_that_looks_like_a_receipt_is_what_a_member_wrote() -> None:
    """Anybody could write it."""
    text = USUAL.format(id="42", stat="DELIVRD", err="000", done="2611210931")
    found = codec().decode(deliver(text, esm_class=0))
    assert isinstance(found, Delivery)
    assert not isinstance(found.content, DeliveryReceipt)


@pytest.mark.parametrize("kind", [pdu.RECEIPT, pdu.INTERMEDIATE])
def test_a_receipt_that_names_no_message_is_kept_for_staff(kind: int) -> None:
    """It is nobody's text: one for each message of a broadcast would be an inquiry."""
    events = []
    for text in ("Delivered to 138!", "Delivered to 138!", "Delivered to 139!"):
        found = codec().decode(deliver(text, esm_class=kind))
        assert isinstance(found, Delivery)
        assert isinstance(found.content, ChannelTrouble)
        assert found.content.code == "unreadable_report"
        assert text.encode() in found.content.raw
        assert not found.nameless
        events.append(found.content.key)
    assert events[0] == events[1] != events[2]


def test_a_tlv_without_an_id_is_no_person_s_text() -> None:
    tlvs = pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, b"\0")
    found = codec().decode(deliver("?", esm_class=0, tlvs=tlvs))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, ChannelTrouble)


@pytest.mark.parametrize(
    "text",
    [
        "id:42 stat:DELIVRD",
        "ID:42 Stat:delivrd done date: 2611210931",
        "id: 42 sub:001 dlvrd:001 done date:2611210931 stat: DELIVRD err:",
    ],
)
def test_other_spellings(text: str) -> None:
    found = codec().decode(deliver(text))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, DeliveryReceipt)
    assert found.content.provider_id == "42"
    assert found.content.state is ReceiptState.DELIVERED


@pytest.mark.parametrize(
    ("written", "answer", "in_receipt"),
    [
        ("as_is", "A1b-7", "A1b-7"),
        ("as_is", "0000000042", "0000000042"),
        ("hex", "1a2B3c", "001A2B3C"),
        ("decimal", "42", "0000000042"),
        ("hex_then_decimal", "1A2B3C", "0001715004"),
        ("decimal_then_hex", "1715004", "1a2b3c"),
        ("hex", "not-a-number", "not-a-number"),
    ],
)
def test_ids_of_answer_and_receipt_meet(
    written: str, answer: str, in_receipt: str
) -> None:
    """C-4: hex and decimal, leading zeros, case"""
    dialect = codec(message_ids=written)
    body = answer.encode() + b"\0"
    accepted = dialect.decode(pdu.frame(pdu.SUBMIT_SM_RESP, 1, body))
    found = receipt(dialect, id=in_receipt)
    assert accepted.outcome == found.provider_id  # type: ignore[union-attr]
    tlv = pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, answer.encode() + b"\0")
    assert receipt(dialect, id=in_receipt, tlvs=tlv).provider_id == found.provider_id


WRITTEN = {
    MessageIds.HEX: ("x", "x"),
    MessageIds.DECIMAL: ("d", "d"),
    MessageIds.HEX_THEN_DECIMAL: ("x", "d"),
    MessageIds.DECIMAL_THEN_HEX: ("d", "x"),
}
numbers = st.integers(0, 2**64 - 1)
zeros = st.integers(0, 4).map(lambda count: "0" * count)
case = st.sampled_from([str.upper, str.lower])


@given(st.sampled_from(list(WRITTEN)), st.tuples(numbers, numbers), zeros, zeros, case)
def test_any_two_ids_meet_just_where_they_are_one_number(
    written: MessageIds,
    of: tuple[int, int],
    before: str,
    before_its_receipt: str,
    case: Callable[[str], str],
) -> None:
    """C-4"""
    sent, told = WRITTEN[written]
    spelling = ids(written)
    answers = [spelling.of_answer(before + format(n, sent)) for n in of]
    receipts = [
        spelling.of_receipt(case(before_its_receipt + format(n, told))) for n in of
    ]
    assert answers == receipts
    assert (answers[0] == receipts[1]) == (of[0] == of[1])


def test_ids_that_are_verbatim_stay_apart() -> None:
    """C-4: with as_is nothing is guessed"""
    assert receipt(codec(), id="0042").provider_id != receipt(codec()).provider_id


def test_keys_are_the_same_for_a_repetition_and_differ_for_anything_else() -> None:
    dialect = codec()
    keys = {
        receipt(dialect).key,
        receipt(dialect, id="43").key,
        receipt(dialect, stat="UNDELIV").key,
        receipt(dialect, done="2611210932").key,
        receipt(dialect, err="001").key,
    }
    assert len(keys) == 5
    assert receipt(codec()).key in keys


def test_an_error_that_means_the_blacklist_is_an_opt_out() -> None:
    dialect = codec(blacklist_errors=["205"])
    assert receipt(dialect, stat="REJECTD", err="205").opted_out
    assert not receipt(dialect, stat="REJECTD", err="206").opted_out


def test_a_centre_s_own_words() -> None:
    dialect = codec(
        stats={"MA:": "failed", "MA:0054": "unknown", "ARRIVED": "delivered"},
        blacklist_stats=["MK:0001"],
    )
    for word, state in (
        ("MA:0001", ReceiptState.FAILED),
        ("ma:0001", ReceiptState.FAILED),
        ("MA:0054", ReceiptState.UNKNOWN),
        ("ARRIVED", ReceiptState.DELIVERED),
        ("DELIVRD", ReceiptState.DELIVERED),
        ("MK:0001", ReceiptState.UNKNOWN),
    ):
        found = receipt(dialect, stat=word)
        assert found.state is state
        assert found.opted_out == (word == "MK:0001")


@pytest.mark.parametrize("word", ["DELIVRD", "UNDELIV", "ENROUTE"])
def test_a_notification_in_between_is_no_end(word: str) -> None:
    """C-2, 5.2.12: the first end stands, so this must not be taken for one."""
    text = USUAL.format(id="42", stat=word, err="000", done="2611210931")
    found = codec().decode(deliver(text, esm_class=pdu.INTERMEDIATE))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, DeliveryReceipt)
    assert (found.content.code, found.content.state) == (word, ReceiptState.UNKNOWN)


@pytest.mark.parametrize(
    ("done", "at"),
    [
        ("261121093105", datetime(2026, 11, 21, 1, 31, 5, tzinfo=UTC)),
        ("2613990931", None),
        ("", None),
        ("26", None),
    ],
)
def test_dates(done: str, at: datetime | None) -> None:
    assert receipt(codec(), done=done).at == at
