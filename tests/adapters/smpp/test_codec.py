"""What leaves and what comes, checked by a codec that nobody here wrote (smpp34)."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.carrier import udh
from adapters.carrier.codec import (
    Alive,
    Answer,
    Delivery,
    Farewell,
    LoginAnswer,
    Malformed,
    Reply,
    Segment,
)
from adapters.smpp import gsm7, pdu
from adapters.smpp.codec import SmppCodec
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, InboundMessage
from gateway.errors import OutcomeUnknown, PermanentFailure
from gateway.text import clean, split_segments
from tests.labs.carrier import context
from tests.labs.smpp_lab import message, settings

NOW = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
plain_texts = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400
)


def codec(*, signature: str = "", **changes: object) -> SmppCodec:
    about = context("smpp", Path(), clock=ManualClock(NOW), signature=signature)
    return SmppCodec(settings(2775, **changes), about)


def submitted(dialect: SmppCodec, text: str, number: str = "") -> list[smpp34.SubmitSm]:
    """Our frames as the other codec reads them."""
    bodies = dialect.bodies(message(0, text, number))
    frames = [dialect.submit(body, seq) for seq, body in enumerate(bodies, 1)]
    found = [smpp34.decode(frame) for frame in frames]
    assert all(isinstance(f, smpp34.SubmitSm) for f in found)
    assert [f.sequence_number for f in found] == list(range(1, len(found) + 1))
    return found  # type: ignore[return-value]


def shown(parts: list[smpp34.SubmitSm]) -> str:
    """What a handset joins."""
    texts = []
    for part in parts:
        data = part.short_message
        if part.esm_class & 0x40:
            data = data[data[0] + 1 :]
        texts.append(data)
    match parts[0].data_coding:
        case 8:
            return b"".join(texts).decode("utf-16-be")
        case 3:
            return b"".join(texts).decode("latin-1")
    return gsm7.decode(b"".join(texts))[0]


def test_every_mandatory_field_of_submit_sm() -> None:
    """SMPP 3.4, 4.4.1"""
    dialect = codec(service_type="CMT", source_ton=5, source_npi=0, validity_hours=30)
    [found] = submitted(dialect, "您好")
    assert found.service_type == "CMT"
    assert (found.source_addr_ton, found.source_addr_npi) == (5, 0)
    assert found.source_addr == "10690000"
    assert (found.dest_addr_ton, found.dest_addr_npi) == (1, 1)
    assert found.destination_addr == "8613800138000"
    assert (found.esm_class, found.protocol_id, found.priority_flag) == (0, 0, 0)
    assert found.schedule_delivery_time == ""
    assert found.validity_period == "000001060000000R"
    assert (found.registered_delivery, found.replace_if_present_flag) == (1, 0)
    assert (found.data_coding, found.sm_default_msg_id) == (8, 0)
    assert found.short_message == "您好".encode("utf-16-be")
    assert found.tlvs == []


@pytest.mark.parametrize(
    ("written", "number", "expected"),
    [
        ("digits", "+8613800138000", "8613800138000"),
        ("plus", "+8613800138000", "+8613800138000"),
        ("national", "+8613800138000", "13800138000"),
        ("national", "+85251234567", "0085251234567"),
    ],
)
def test_number_formats(written: str, number: str, expected: str) -> None:
    [found] = submitted(codec(number_format=written), "a", number)
    assert found.destination_addr == expected


@pytest.mark.parametrize("number", ["+86138x", "+123456789012345678901", "+", ""])
def test_a_number_that_cannot_be_dialled_is_refused(number: str) -> None:
    to = Address(AddressKind.PHONE, number)
    bad = message(0)
    object.__setattr__(bad, "to", to)
    with pytest.raises(PermanentFailure):
        codec().bodies(bad)


def test_the_signature_is_put_in_front_and_counted() -> None:
    signature = "【清禾】"
    [found] = submitted(codec(signature=signature), "党" * 66)
    assert shown([found]) == signature + "党" * 66
    assert len(submitted(codec(signature=signature), "党" * 67)) == 2
    unsigned = codec(signature=signature, put_signature=False)
    assert shown(submitted(unsigned, "您好")) == "您好"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(PermanentFailure):
        codec().bodies(message(0, "a\ud800"))


@given(text=plain_texts, wide=st.booleans())
def test_long_texts_join_to_what_was_written(text: str, wide: bool) -> None:
    """G-2: no part ends inside a surrogate pair, and each part can be read alone."""
    parts = submitted(codec(wide_references=wide), text)
    assert shown(parts) == text
    expected = split_segments(text, (70, 66 if wide else 67))
    assert len(parts) == len(expected)
    if len(parts) > 1:
        for number, (part, alone) in enumerate(zip(parts, expected, strict=True), 1):
            place, body, sound = udh.taken_apart(part.short_message)
            assert sound
            assert place is not None
            assert (place.total, place.number) == (len(parts), number)
            assert body.decode("utf-16-be") == alone
            assert len(part.short_message) <= 140


@pytest.mark.parametrize("at", [66, 67, 133, 134])
@pytest.mark.parametrize("wide", [False, True])
def test_an_emoji_on_a_border_stays_whole(at: int, wide: bool) -> None:
    """G-2: emoji at position 67 and 134"""
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for cluster in ("😀", family, "🇨🇳", "👍🏽"):
        text = "党" * (at - 1) + cluster + "员" * 80
        parts = submitted(codec(wide_references=wide), text)
        alone = [udh.taken_apart(p.short_message)[1].decode("utf-16-be") for p in parts]
        assert "".join(alone) == text
        assert sum(cluster in part for part in alone) == 1


@pytest.mark.parametrize(
    ("text", "coding", "parts"),
    [
        ("a" * 160, 0, 1),
        ("a" * 161, 0, 2),
        ("a" * 306, 0, 2),
        ("a" * 307, 0, 3),
        ("€" * 80, 0, 1),
        ("€" * 81, 0, 2),
        ("€" * 152, 0, 2),
        ("€" * 153, 0, 3),
        ("a" * 159 + "党", 8, 3),
        ("党" * 70, 8, 1),
        ("党" * 71, 8, 2),
        ("党" * 134, 8, 2),
        ("党" * 135, 8, 3),
        ("😀" * 35, 8, 1),
        ("😀" * 36, 8, 2),
        ("😀" * 67, 8, 3),
    ],
)
def test_counts(text: str, coding: int, parts: int) -> None:
    """G-1: extension characters, one Chinese character in an English text"""
    found = submitted(codec(text_coding="auto"), text)
    assert [f.data_coding for f in found] == [coding] * parts
    assert shown(found) == text


def test_packed_gsm7_and_latin1() -> None:
    [found] = submitted(codec(text_coding="auto", gsm7_packed=True), "hellohello")
    assert found.short_message.hex() == "e8329bfd4697d9ec37"
    long = submitted(codec(text_coding="auto", gsm7_packed=True), "a" * 161)
    assert [len(f.short_message) for f in long] == [140, 14]
    found = submitted(codec(text_coding="latin1"), "çñ" * 100)[0]
    assert (found.data_coding, len(found.short_message)) == (3, 140)


@pytest.mark.parametrize("alphabet", ["latin1", "ascii"])
@pytest.mark.parametrize("wish", [{"text_coding": "auto"}, {"gsm7_packed": True}])
def test_gsm7_is_not_sent_where_0_means_something_else(
    alphabet: str, wish: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match="default_alphabet"):
        codec(default_alphabet=alphabet, **wish)
    assert len(submitted(codec(default_alphabet=alphabet), "@")) == 1


def test_300_long_messages_to_one_number_do_not_mix() -> None:
    """A-18: within 256 messages no reference comes twice; 65,536 with wide ones"""
    for wide, distinct in ((False, 256), (True, 300)):
        dialect = codec(wide_references=wide)
        places = [
            udh.taken_apart(submitted(dialect, "党" * 71)[0].short_message)[0]
            for _ in range(300)
        ]
        references = [place.reference for place in places if place]
        assert len(references) == 300
        assert len(set(references)) == distinct
        assert all(
            len(set(references[at : at + distinct])) == distinct
            for at in range(300 - distinct + 1)
        )


def test_more_parts_than_a_header_can_count_are_refused() -> None:
    with pytest.raises(PermanentFailure):
        codec().bodies(message(0, "党" * (67 * 255 + 1)))


def test_the_session_s_own_pdus() -> None:
    """4.1.5, 4.11, 4.2"""
    dialect = codec(system_type="SMPP")
    login = smpp34.decode(dialect.login(1))
    assert isinstance(login, smpp34.RawPdu)
    assert login.command_id == 9
    assert login.body == b"lianxin\0lab-pass\0SMPP\0\x34\0\1\0"
    assert dialect.heartbeat(7).hex() == "00000010000000150000000000000007"
    assert dialect.logout(8).hex() == "00000010000000060000000000000008"


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (pdu.frame(pdu.SUBMIT_SM_RESP, 3, b"42\0"), Answer(3, "42")),
        (pdu.frame(pdu.ENQUIRE_LINK_RESP, 3), Alive()),
        (pdu.frame(pdu.ALERT_NOTIFICATION, 3, b"x"), Alive()),
        (pdu.frame(0x80000123, 3), Alive()),
        (
            pdu.frame(pdu.ENQUIRE_LINK, 3),
            Reply(pdu.frame(pdu.ENQUIRE_LINK_RESP, 3)),
        ),
        (pdu.frame(pdu.UNBIND, 3), Farewell(pdu.frame(pdu.UNBIND_RESP, 3))),
        (pdu.frame(pdu.UNBIND_RESP, 3), Farewell(b"")),
        (pdu.frame(0x111, 3), Reply(pdu.frame(pdu.GENERIC_NACK, 3, status=3))),
        (pdu.frame(pdu.BIND_TRANSCEIVER_RESP, 1, b"x\0"), LoginAnswer()),
        (
            pdu.frame(pdu.BIND_TRANSCEIVER_RESP, 1, b"", 0x0E),
            LoginAnswer("ESME_RINVPASWD", True),
        ),
        (
            pdu.frame(pdu.BIND_TRANSCEIVER_RESP, 1, b"", 0x05),
            LoginAnswer("ESME_RALYBND", False),
        ),
    ],
)
def test_frames(frame: bytes, expected: object) -> None:
    assert codec().decode(frame) == expected


@pytest.mark.parametrize("body", [b"", b"no end", b"x" * 70 + b"\0", b"\xff\0"])
def test_an_acceptance_without_a_readable_id_is_unknown(body: bytes) -> None:
    found = codec().decode(pdu.frame(pdu.SUBMIT_SM_RESP, 3, body))
    assert isinstance(found, Answer)
    assert isinstance(found.outcome, OutcomeUnknown)


def said(
    short_message: bytes, *, codec_: SmppCodec | None = None, **fields: object
) -> Delivery:
    """A deliver_sm of the other codec, read by ours."""
    made = smpp34.DeliverSm(
        "8613800138000",
        "10690000",
        short_message,
        sequence_number=9,
        **fields,  # type: ignore[arg-type]
    )
    found = (codec_ or codec()).decode(made.encode())
    assert isinstance(found, Delivery)
    assert found.nameless
    return found


@pytest.mark.parametrize(
    ("coding", "data", "text"),
    [
        (0, b"Hello \x1b\x65 \x00", "Hello € @"),
        (1, b"Hello", "Hello"),
        (3, b"\xe7a", "ça"),
        (8, "参加😀".encode("utf-16-be"), "参加😀"),
        (15, "参加".encode("gbk"), "参加"),
        (0xF0, b"Hi\x00", "Hi@"),
        (0xC8, b"Hi\x00", "Hi@"),
        (0xE0, "参加".encode("utf-16-be"), "参加"),
        (0x10, b"Hi\x00", "Hi@"),
        (0x18, "参加".encode("utf-16-be"), "参加"),
        (0x49, "参加".encode("utf-16-be"), "参加"),
        (6, "Привет".encode("iso8859_5"), "Привет"),
    ],
)
def test_texts_from_members(coding: int, data: bytes, text: str) -> None:
    content = said(data, data_coding=coding).content
    assert isinstance(content, InboundMessage)
    assert content.text == text
    assert content.sender == Address(AddressKind.PHONE, "+8613800138000")
    assert content.to == "10690000"
    assert content.notes == ()


# What a member writes; a byte order mark in front would say something of its own.
written = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc", "Co", "Cn"], exclude_characters="\ufeff"
    ),
    max_size=63,
)
alphabets = st.one_of(
    st.tuples(st.sampled_from([8, 0x18, 0xE0]), written, st.just("utf-16-be")),
    *(
        st.tuples(
            st.just(coding),
            st.text(
                st.characters(codec=charset, exclude_categories=["Cc"]), max_size=254
            ).filter(lambda said: not said.startswith(("þÿ", "ÿþ", "ï»¿"))),
            st.just(charset),
        )
        for coding, charset in ((3, "latin-1"), (1, "ascii"))
    ),
)
octet = st.integers(0, 255)


@given(
    said_in=alphabets,
    source=st.from_regex("861[3-9][0-9]{9}", fullmatch=True),
    to=st.from_regex("106[0-9]{1,17}", fullmatch=True),
    priority=octet,
    in_payload=st.booleans(),
    sequence=st.integers(1, 0x7FFFFFFF),
)
def test_whatever_a_member_writes_is_read(
    said_in: tuple[int, str, str],
    source: str,
    to: str,
    priority: int,
    in_payload: bool,
    sequence: int,
) -> None:
    """Encoded by a codec that nobody here wrote."""
    coding, text, charset = said_in
    data = text.encode(charset)
    payload = [smpp34.Tlv(smpp34.TLV_MESSAGE_PAYLOAD, data)] if in_payload else []
    made = smpp34.DeliverSm(
        source,
        to,
        b"" if in_payload else data,
        data_coding=coding,
        priority_flag=priority,
        tlvs=[smpp34.Tlv(0x1402, b"?"), *payload],
        sequence_number=sequence,
    )
    found = codec().decode(made.encode())
    assert isinstance(found, Delivery)
    assert found.sequence == sequence
    assert isinstance(found.content, InboundMessage)
    assert found.content.text == clean(text)
    assert found.content.sender == Address(AddressKind.PHONE, f"+{source}")
    assert found.content.to == to
    assert found.content.notes == ()


def test_a_text_in_message_payload() -> None:
    """5.3.2.32"""
    payload = smpp34.Tlv(smpp34.TLV_MESSAGE_PAYLOAD, ("党" * 200).encode("utf-16-be"))
    content = said(b"", data_coding=8, tlvs=[smpp34.Tlv(0x1402, b"?"), payload]).content
    assert isinstance(content, InboundMessage)
    assert content.text == "党" * 200


def test_parts_by_header_and_by_tlv() -> None:
    header = udh.header(udh.Concatenation(77, 3, 2), wide=True)
    by_header = said(header + b"b", esm_class=0x40).content
    tlvs = [
        smpp34.Tlv(smpp34.TLV_SAR_MSG_REF_NUM, b"\0\x4d"),
        smpp34.Tlv(smpp34.TLV_SAR_TOTAL_SEGMENTS, b"\3"),
        smpp34.Tlv(smpp34.TLV_SAR_SEGMENT_SEQNUM, b"\2"),
    ]
    by_tlv = said(b"b", tlvs=tlvs).content
    for content in (by_header, by_tlv):
        assert isinstance(content, Segment)
        assert (content.number, content.total, content.body) == (2, 3, b"b")
        assert content.group == "8613800138000:10690000:77:3"


@pytest.mark.parametrize("coding", [0, 0x11, 0xF2])
def test_packed_parts_are_unpacked_before_they_are_joined(coding: int) -> None:
    dialect = codec(gsm7_packed=True)
    header = udh.header(udh.Concatenation(7, 2, 1), wide=False)
    data = header + gsm7.pack(b"abc", gsm7.fill_bits(6))
    content = said(data, codec_=dialect, esm_class=0x40, data_coding=coding).content
    assert isinstance(content, Segment)
    assert content.body == b"abc"


def test_an_odd_sender_is_kept_with_a_note() -> None:
    made = smpp34.DeliverSm("BANK", "10690000", b"hi", sequence_number=1)
    found = codec().decode(made.encode())
    assert isinstance(found, Delivery)
    assert isinstance(found.content, InboundMessage)
    assert found.content.sender.value == "BANK"
    assert found.content.notes == ("unreadable",)


@pytest.mark.parametrize("octets", [b"9" * 300, b"\xff" * 60_000])
def test_a_sender_of_any_length_can_be_stored(octets: bytes) -> None:
    """H-9: one that can't would be brought again for ever, with all beside it."""
    numbers = b"\0\1\1%b\0\1\1%b\0" % (octets, octets)
    frame = pdu.frame(pdu.DELIVER_SM, 1, numbers + b"\0" * 9 + b"\2hi")
    found = codec().decode(frame)
    assert isinstance(found, Delivery)
    assert isinstance(found.content, InboundMessage)
    assert len(found.content.sender.value) == 64
    assert found.content.text == "hi"
    assert found.content.raw == frame


def test_a_header_beyond_the_body_is_text_with_a_note() -> None:
    """S-48"""
    content = said(b"\xffabc", esm_class=0x40).content
    assert isinstance(content, InboundMessage)
    assert content.notes == ("unreadable",)


def test_a_deliver_sm_that_says_more_than_it_has_is_answered_so() -> None:
    """S-48: sm_length 255 and 3 bytes"""
    body = b"\0\1\1138\0\0\1106\0" + bytes(8) + b"\0" + b"\xff" + b"abc"
    with pytest.raises(Malformed) as caught:
        codec().decode(pdu.frame(pdu.DELIVER_SM, 9, body))
    answer = smpp34.decode(caught.value.reply)
    assert isinstance(answer, smpp34.RawPdu)
    assert (answer.command_id, answer.command_status) == (0x80000005, 1)
    assert answer.sequence_number == 9


def test_a_data_sm_is_read_and_acknowledged_as_such() -> None:
    """4.7"""
    payload = pdu.tlv(pdu.TAG_PAYLOAD, "参加".encode("utf-16-be"))
    body = b"\0\1\x018613800138000\0\0\x0110690000\0" + bytes([0, 0, 8]) + payload
    found = codec().decode(pdu.frame(pdu.DATA_SM, 6, body))
    assert isinstance(found, Delivery)
    assert isinstance(found.content, InboundMessage)
    assert found.content.text == "参加"
    assert codec().acknowledge(found, stored=True)[4:8].hex() == "80000103"


@pytest.mark.parametrize(("stored", "code"), [(True, 0), (False, 0x64)])
def test_acknowledgements(stored: bool, code: int) -> None:
    answer = smpp34.decode(codec().acknowledge(said(b"hi"), stored=stored))
    assert isinstance(answer, smpp34.RawPdu)
    assert (answer.command_id, answer.command_status) == (0x80000005, code)
    assert (answer.sequence_number, answer.body) == (9, b"\0")
