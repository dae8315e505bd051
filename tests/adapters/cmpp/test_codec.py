"""What the session engine is told: messages as SUBMITs, frames as events."""

import hashlib
import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from adapters._sms import CodeMeaning
from adapters.carrier.codec import (
    Alive,
    Answer,
    Codec,
    Delivery,
    Farewell,
    LoginAnswer,
    Malformed,
    Reply,
    Segment,
)
from adapters.cmpp import codes
from adapters.cmpp.codec import CmppCodec
from adapters.cmpp.identity import compose_msg_id, time_of
from adapters.cmpp.settings import Settings
from gateway.clock import ManualClock
from gateway.contract import (
    Address,
    AddressKind,
    ChannelTrouble,
    DeliveryReceipt,
    InboundMessage,
    MessageKind,
    OutboundMessage,
    ReceiptState,
)
from gateway.errors import PermanentFailure, TransientFailure
from tests.adapters.cmpp import tables
from tests.adapters.cmpp.tables import V2, V3, pdu
from tests.adapters.cmpp.test_wire import mutated, of_both

SECRET = "a-shared-secret"
AT = datetime(2026, 11, 20, 10, 0, 30, tzinfo=ZoneInfo("Asia/Shanghai"))
NUMBER = "13800138000"
BOTH = pytest.mark.parametrize("version", [V2, V3])


def codec(version: int = V2, signature: str = "", **own: Any) -> CmppCodec:
    account: dict[str, Any] = {
        "host": "127.0.0.1",
        "version": "3.0" if version == V3 else "2.0",
        "sp_id": "901234",
        "secret": SecretStr(SECRET),
        "service_number": "10657",
        "extension": "00001",
        "service_id": "LXFW",
    }
    settings = Settings(**account | own)
    return CmppCodec(settings, signature, ManualClock(AT))


def message(text: str, to: str = "+86" + NUMBER) -> OutboundMessage:
    address = Address(AddressKind.PHONE, to)
    return OutboundMessage(id="m1", kind=MessageKind.NOTICE, to=address, text=text)


def frames(found: CmppCodec, text: str, to: str = "+86" + NUMBER) -> list[bytes]:
    bodies = found.bodies(message(text, to))
    return [found.submit(body, index) for index, body in enumerate(bodies, 1)]


def test_it_is_a_codec_of_the_engine() -> None:
    found: Codec = codec()
    assert (found.header_bytes, found.first_sequence) == (12, 1)
    assert found.last_sequence == 0x7FFFFFFF


# --- the session


@BOTH
def test_login_says_who_and_when(version: int) -> None:
    """The digest by the words of 8.4.1.1, in Beijing time."""
    digest = hashlib.md5(
        b"901234" + b"\0\0\0\0\0\0\0\0\0" + b"a-shared-secret" + b"1120100030"
    ).digest()
    expected = tables.connect(7, "901234", digest, version, 1120100030)
    assert codec(version).login(7) == expected


def test_a_time_stamp_before_october_has_nine_digits_on_the_wire() -> None:
    """The text that is hashed keeps its leading zero."""
    found = codec()
    found._clock = ManualClock(datetime(2026, 2, 3, 4, 5, 6, tzinfo=ZoneInfo("UTC")))
    frame = found.login(1)
    assert int.from_bytes(frame[-4:], "big") == 203120506
    plain = b"901234" + bytes(9) + SECRET.encode() + b"0203120506"
    assert frame[18:34] == hashlib.md5(plain).digest()


@BOTH
def test_heartbeats_and_good_byes(version: int) -> None:
    found = codec(version)
    assert found.heartbeat(5) == pdu(8, 5)
    assert found.logout(6) == pdu(2, 6)
    assert found.decode(pdu(8, 5)) == Reply(pdu(0x80000008, 5, b"\0"))
    assert found.decode(pdu(0x80000008, 5, b"\0")) == Alive()
    assert found.decode(pdu(0x80000008, 5)) == Alive()
    assert found.decode(pdu(2, 6)) == Farewell(pdu(0x80000002, 6))
    assert found.decode(pdu(0x80000002, 6)) == Farewell(b"")


@BOTH
def test_queries_and_cancellations_pass(version: int) -> None:
    found = codec(version)
    for command, body in ((6, bytes(27)), (7, bytes(8)), (0x80000006, bytes(51))):
        assert found.decode(pdu(command, 1, body)) == Alive()


@BOTH
def test_an_open_door(version: int) -> None:
    frame = tables.connect_resp(1, 0, bytes(16), version)
    assert codec(version).decode(frame) == LoginAnswer()


@BOTH
@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 177])
def test_a_refused_login_says_why_and_whether_it_lasts(
    version: int, status: int
) -> None:
    frame = tables.connect_resp(1, status, bytes(16), version)
    answer = codec(version).decode(frame)
    assert isinstance(answer, LoginAnswer)
    assert answer.lasting == (status < 5)
    assert f"（{status}）" in answer.refused
    # A trouble's code has 64 characters, "login_refused:" among them.
    assert len(answer.refused) <= 50


@BOTH
def test_h_8_a_secret_that_was_right_leaves_only_the_clocks(version: int) -> None:
    """H-8: the same status, and by then a plainer word."""
    found = codec(version)
    refusal = tables.connect_resp(1, 3, bytes(16), version)
    first = found.decode(refusal)
    found.decode(tables.connect_resp(1, 0, bytes(16), version))
    later = found.decode(refusal)
    assert isinstance(first, LoginAnswer)
    assert isinstance(later, LoginAnswer)
    assert "密码不对，或本机时钟" in first.refused
    assert later.refused == codes.CLOCKS_DIFFER
    assert later.lasting


@pytest.mark.parametrize("octets", [1, 4])
def test_a_gateway_may_have_to_show_that_it_knows_the_secret(octets: int) -> None:
    """Status goes into the digest with one octet, or with four: both are met."""
    version = V2 if octets == 1 else V3
    found = codec(version, verify_ismg=True)
    said = found.login(1)[18:34]
    right = hashlib.md5(bytes(octets) + said + SECRET.encode()).digest()
    wrong = hashlib.md5(bytes(octets) + said + b"guess").digest()
    assert found.decode(tables.connect_resp(1, 0, right, version)) == LoginAnswer()
    refused = found.decode(tables.connect_resp(1, 0, wrong, version))
    assert refused == LoginAnswer(codes.NOT_GENUINE, lasting=True)


# --- out


@BOTH
def test_a_short_text_is_one_submit(version: int) -> None:
    [frame] = frames(codec(version), "主题党日")
    content = "主题党日".encode("utf-16-be")
    assert frame == tables.submit(version, 1, number=NUMBER, msg_fmt=8, content=content)


@BOTH
def test_the_signature_goes_in_front(version: int) -> None:
    [frame] = frames(codec(version, "【连心】"), "您好")
    content = "【连心】您好".encode("utf-16-be")
    assert frame == tables.submit(version, 1, number=NUMBER, msg_fmt=8, content=content)


def test_a_carrier_may_put_the_signature_itself() -> None:
    [frame] = frames(codec(signature="【连心】", put_signature=False), "您好")
    content = "您好".encode("utf-16-be")
    assert frame == tables.submit(V2, 1, number=NUMBER, msg_fmt=8, content=content)


@pytest.mark.parametrize(
    ("characters", "parts"), [(66, 1), (67, 2), (130, 2), (131, 3)]
)
def test_the_signature_counts(characters: int, parts: int) -> None:
    """70 in one, 67 in each of several, four of them the signature's."""
    assert len(frames(codec(signature="【连心】"), "党" * characters)) == parts


@BOTH
def test_a_long_text_says_which_part_is_which(version: int) -> None:
    found = codec(version)
    first, second = frames(found, "党" * 67 + "日" * 10)
    reference = first[-20 if version == V3 else -8 :]
    assert reference == bytes(len(reference))
    at = len(first) - len(reference) - 140
    number = first[at + 3]
    assert first == tables.submit(
        version,
        1,
        number=NUMBER,
        msg_fmt=8,
        content=bytes((5, 0, 3, number, 2, 1)) + ("党" * 67).encode("utf-16-be"),
        total=2,
        index=1,
        udhi=1,
    )
    assert second == tables.submit(
        version,
        2,
        number=NUMBER,
        msg_fmt=8,
        content=bytes((5, 0, 3, number, 2, 2)) + ("日" * 10).encode("utf-16-be"),
        total=2,
        index=2,
        udhi=1,
    )


def test_wide_references_leave_66_characters() -> None:
    first, second = frames(codec(wide_references=True), "党" * 71)
    body = first[:-8]
    assert body[-132:] == ("党" * 66).encode("utf-16-be")
    assert body[-139:-135] == bytes((6, 8, 4, body[-136]))
    assert second[:-8].endswith(("党" * 5).encode("utf-16-be"))


def test_gbk_where_gbk_can_say_it() -> None:
    found = codec(charset="gbk")
    [frame] = frames(found, "主题党日 3pm")
    content = bytes.fromhex("d6f7cce2b5b3c8d5") + b" 3pm"
    assert frame == tables.submit(V2, 1, number=NUMBER, msg_fmt=15, content=content)
    [frame] = frames(found, "党😀")
    content = bytes.fromhex("515ad83dde00")
    assert frame == tables.submit(V2, 1, number=NUMBER, msg_fmt=8, content=content)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_parts_put_together_give_the_text(text: str) -> None:
    """No part is cut within a pair of surrogates or a GBK character, none is over."""
    for charset in ("ucs2", "gbk"):
        found = codec(charset=charset)
        bodies = [frame[12:] for frame in frames(found, text)]
        parts = [body[139 : 139 + body[138]] for body in bodies]
        if len(parts) > 1:
            parts = [part[6:] for part in parts]
        assert all(len(part) <= (134 if len(parts) > 1 else 140) for part in parts)
        encoding = {8: "utf-16-be", 15: "gbk"}[bodies[0][46]]
        assert "".join(part.decode(encoding) for part in parts) == text


@pytest.mark.parametrize(
    ("prefix", "written"),
    [("", NUMBER), ("86", "86" + NUMBER), ("+86", "+86" + NUMBER)],
)
def test_numbers_as_the_carrier_wants_them(prefix: str, written: str) -> None:
    [frame] = frames(codec(number_prefix=prefix), "x")
    content = "x".encode("utf-16-be")
    assert frame == tables.submit(V2, 1, number=written, msg_fmt=8, content=content)


@pytest.mark.parametrize("number", ["+85251234567", "10086", "", "+86"])
def test_a_number_that_the_carrier_does_not_serve(number: str) -> None:
    with pytest.raises(PermanentFailure, match="not_a_mainland_number"):
        codec().bodies(message("x", number))


def test_g_4_no_field_holds_a_line_end() -> None:
    """G-4: nothing of a message gets into a field but number and text."""
    with pytest.raises(PermanentFailure, match="not_a_mainland_number"):
        codec().bodies(message("x", "+8613800138000\r\nX"))
    with pytest.raises(ValidationError, match="service_id"):
        codec(service_id="LX\r\n")


def test_a_18_references_of_one_number_do_not_mix() -> None:
    """A-18: 300 long messages to one number, and others in between."""
    found = codec()
    taken = []
    for index in range(300):
        taken.append(frames(found, "党" * 71)[0][12 + 139 + 3])
        frames(found, "党" * 71, f"+86139{index:08}")
    assert all(len(set(taken[at : at + 256])) == 256 for at in range(300 - 255))


# --- answers

RESULT_TABLE = {
    1: PermanentFailure,
    2: PermanentFailure,
    3: TransientFailure,
    4: PermanentFailure,
    5: TransientFailure,
    6: PermanentFailure,
    7: TransientFailure,
    8: TransientFailure,
    9: PermanentFailure,
    10: TransientFailure,
    11: TransientFailure,
    12: TransientFailure,
    13: PermanentFailure,
}


@BOTH
def test_c_4_an_id_is_one_decimal_number_wherever_it_stands(version: int) -> None:
    """C-4: eight octets in the answer and in the report; never hexadecimal, no sign,
    no zeros in front."""
    found = codec(version)
    for id in (1, 0xFF, 10**18, 2**63, 2**64 - 1):
        answer = found.decode(tables.submit_resp(version, 5, id, 0))
        assert answer == Answer(5, str(id))
        content = tables.report(version, id, "DELIVRD", NUMBER)
        receipt = received(version, content, report=1)
        assert isinstance(receipt, DeliveryReceipt)
        assert receipt.provider_id == str(id)


@BOTH
@pytest.mark.parametrize("result", RESULT_TABLE)
def test_every_documented_result_has_its_meaning(version: int, result: int) -> None:
    found = codec(version).decode(tables.submit_resp(version, 5, 0, result))
    assert isinstance(found, Answer)
    assert isinstance(found.outcome, RESULT_TABLE[result])
    assert found.outcome.code.endswith(f"result_{result}")
    throttled = getattr(found.outcome, "throttled", False)
    assert throttled == (result == 8)
    assert set(codes.RESULTS) == set(RESULT_TABLE)


@pytest.mark.parametrize(
    ("version", "result"), [(V2, 9), (V2, 255), (V3, 14), (V3, 1000)]
)
def test_a_result_that_nobody_explained_is_marked(version: int, result: int) -> None:
    found = codec(version).decode(tables.submit_resp(version, 5, 0, result))
    assert isinstance(found, Answer)
    assert isinstance(found.outcome, PermanentFailure)
    assert found.outcome.code == f"unmapped:result_{result}"


@pytest.mark.parametrize("meaning", CodeMeaning)
def test_a_carriers_own_results_win(meaning: CodeMeaning) -> None:
    found = codec(codes={9: meaning, 100: meaning})
    for result in (9, 100):
        answer = found.decode(tables.submit_resp(V2, 5, 0, result))
        assert isinstance(answer, Answer)
        assert not isinstance(answer.outcome, str)
        assert answer.outcome.code == f"result_{result}"


@BOTH
@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 6, 255])
def test_every_refused_login_is_told_and_lasts_or_passes(
    version: int, status: int
) -> None:
    """H-8: 1 to 4 are the protocol's own; from 5 on each gateway's."""
    answer = tables.connect_resp(1, status, bytes(16), version)
    said = codec(version).decode(answer)
    assert isinstance(said, LoginAnswer)
    assert f"（{status}）" in said.refused
    assert said.lasting == (status <= 4)


# --- what comes in


def received(
    version: int, content: bytes, found: CmppCodec | None = None, **own: Any
) -> object:
    own = {"msg_id": msg_id(), "sender": "86" + NUMBER} | own
    frame = tables.deliver(version, 77, content=content, **own)
    item = (found or codec(version)).decode(frame)
    assert isinstance(item, Delivery)
    assert (item.sequence, item.token) == (77, frame[12:20])
    return item.content


def msg_id(counter: int = 1, at: datetime = AT) -> int:
    return compose_msg_id(at, 10657, counter)


@BOTH
def test_a_text_comes_in(version: int) -> None:
    found = received(version, "组织关系怎么转？".encode("utf-16-be"))
    assert isinstance(found, InboundMessage)
    assert found.text == "组织关系怎么转？"
    assert found.sender == Address(AddressKind.PHONE, "+86" + NUMBER)
    assert found.to == "1065700001"
    assert found.sent_at == AT.astimezone(UTC)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("msg_fmt", "octets", "text"),
    [
        (0, b"TD", "TD"),
        (0, "退订".encode("gb18030"), "退订"),  # labelled wrongly, and met
        (8, "退订😀".encode("utf-16-be"), "退订😀"),
        (0x18, "退订".encode("utf-16-be"), "退订"),
        (15, "退订".encode("gbk"), "退订"),
        (15, "㐀".encode("gb18030"), "㐀"),
        (4, b"", ""),
    ],
)
def test_every_format_is_read(msg_fmt: int, octets: bytes, text: str) -> None:
    found = received(V2, octets, msg_fmt=msg_fmt)
    assert isinstance(found, InboundMessage)
    assert (found.text, found.notes) == (text, ())


@pytest.mark.parametrize(
    ("own", "octets"),
    [
        ({"msg_fmt": 4}, b"\x01\x02"),
        ({"msg_fmt": 8}, b"\x51"),
        ({"msg_fmt": 8, "udhi": 1}, b"\xff\x00\x03"),
        ({"msg_fmt": 0, "sender": "pseudonym"}, b"hi"),
    ],
)
def test_what_can_not_be_read_is_kept_and_marked(
    own: dict[str, Any], octets: bytes
) -> None:
    found = received(V2, octets, **own)
    assert isinstance(found, InboundMessage)
    assert found.notes == ("unreadable",)
    assert octets in found.raw


@BOTH
@pytest.mark.parametrize("head", ["0500032a0201", "06080401 2a0201"])
def test_parts_come_in_as_parts(version: int, head: str) -> None:
    header = bytes.fromhex(head)
    first = received(version, header + "组织".encode("utf-16-be"), udhi=1)
    assert isinstance(first, Segment)
    assert (first.number, first.total) == (1, 2)
    assert first.message.text == "组织"
    second = received(
        version, header[:-1] + b"\x02" + "关系".encode("utf-16-be"), udhi=1
    )
    assert isinstance(second, Segment)
    assert second.group == first.group
    joined = codec().text(first.coding, first.body + second.body)
    assert joined == ("组织关系", False)


def test_a_repeated_push_has_the_key_of_the_first_also_in_the_new_year() -> None:
    late = datetime(2026, 12, 31, 23, 59, 50, tzinfo=ZoneInfo("Asia/Shanghai"))
    found = codec()
    keys = []
    for now in (late, datetime(2027, 1, 1, 0, 1, tzinfo=ZoneInfo("Asia/Shanghai"))):
        found._clock = ManualClock(now)
        event = received(V2, b"R", found, msg_fmt=0, msg_id=msg_id(1, late))
        assert isinstance(event, InboundMessage)
        assert event.sent_at == late
        keys.append(event.key)
    assert keys[0] == keys[1]


def test_c_8_an_id_that_comes_again_next_year_is_another_message() -> None:
    """C-8: Msg_Id has no year."""
    keys = set()
    for year in (2026, 2027):
        found = codec()
        found._clock = ManualClock(AT.replace(year=year))
        event = received(V2, b"R", found, msg_fmt=0)
        assert isinstance(event, InboundMessage)
        keys.add(event.key)
    assert len(keys) == 2


def test_a_message_without_an_id_is_nameless() -> None:
    frame = tables.deliver(V2, 1, msg_id=0, sender=NUMBER, content=b"R", msg_fmt=0)
    item = codec().decode(frame)
    assert isinstance(item, Delivery)
    assert item.nameless


@pytest.mark.parametrize("id", [0, 2**64 - 1, 0xF << 60])
def test_an_id_without_a_time_tells_none(id: int) -> None:
    assert time_of(id, AT) is None


STATS = {
    "DELIVRD": ReceiptState.DELIVERED,
    "EXPIRED": ReceiptState.FAILED,
    "DELETED": ReceiptState.FAILED,
    "UNDELIV": ReceiptState.FAILED,
    "REJECTD": ReceiptState.FAILED,
    "ACCEPTD": ReceiptState.UNKNOWN,
    "UNKNOWN": ReceiptState.UNKNOWN,
    "MA:0001": ReceiptState.FAILED,
    "MA:0054": ReceiptState.UNKNOWN,
    "MB:1077": ReceiptState.FAILED,
    "MC:0055": ReceiptState.UNKNOWN,
    "CA:0051": ReceiptState.FAILED,
    "CB:0007": ReceiptState.FAILED,
    "DA:0054": ReceiptState.FAILED,
    "DB:0140": ReceiptState.FAILED,
    "IA:0051": ReceiptState.FAILED,
    "IA:0054": ReceiptState.UNKNOWN,
    "IB:0064": ReceiptState.FAILED,
    "IC:0055": ReceiptState.UNKNOWN,
    "MI:0013": ReceiptState.FAILED,
    "MJ:0001": ReceiptState.FAILED,
    "MK:0012": ReceiptState.FAILED,
    "ML:0001": ReceiptState.UNKNOWN,
    "MM:0001": ReceiptState.UNKNOWN,
    "MN:0001": ReceiptState.FAILED,
    "SA:0001": ReceiptState.UNKNOWN,
    "SB:0001": ReceiptState.UNKNOWN,
    "HD:31": ReceiptState.UNKNOWN,
    "": ReceiptState.UNKNOWN,
}


@BOTH
@pytest.mark.parametrize("stat", STATS)
def test_every_documented_stat_has_its_meaning(version: int, stat: str) -> None:
    content = tables.report(version, msg_id(), stat, NUMBER)
    found = received(version, content, report=1)
    assert isinstance(found, DeliveryReceipt)
    assert (found.state, found.code) == (STATS[stat], stat)
    assert found.address == Address(AddressKind.PHONE, "+86" + NUMBER)
    # Done_time in Beijing, 10:01.
    assert found.at == datetime(2026, 11, 20, 2, 1, tzinfo=UTC)


def test_a_carriers_own_stats_win() -> None:
    found = codec(
        stats={"MA:0001": "unknown", "HD:": "failed"}, blacklist_stats=["HD:0001"]
    )
    for stat, state, opted_out in (
        ("MA:0001", ReceiptState.UNKNOWN, False),
        ("HD:0001", ReceiptState.FAILED, True),
        ("HD:31", ReceiptState.FAILED, False),
    ):
        content = tables.report(V2, msg_id(), stat, NUMBER)
        receipt = received(V2, content, found, report=1)
        assert isinstance(receipt, DeliveryReceipt)
        assert (receipt.state, receipt.opted_out) == (state, opted_out)


def test_a_report_of_2_0_inside_3_0_is_read() -> None:
    content = tables.report(V2, msg_id(), "DELIVRD", NUMBER)
    found = received(V3, content, report=1)
    assert isinstance(found, DeliveryReceipt)
    assert found.address == Address(AddressKind.PHONE, "+86" + NUMBER)


def test_two_reports_that_contradict_have_two_keys_and_a_repeated_one_has_one() -> None:
    keys = [
        received(V2, tables.report(V2, msg_id(), stat, NUMBER), report=1).key  # type: ignore[attr-defined]
        for stat in ("DELIVRD", "DELIVRD", "UNDELIV")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_report_that_can_not_be_read_is_kept_for_staff() -> None:
    found = received(V2, b"short", report=1)
    assert isinstance(found, ChannelTrouble)
    assert found.code == "unreadable_report"
    assert b"short" in found.raw


@BOTH
def test_a_0_is_no_number_of_a_message(version: int) -> None:
    """C-4: two that are taken without one are not mixed up by a report without one."""
    answer = codec(version).decode(tables.submit_resp(version, 5, 0, 0))
    assert answer == Answer(5, "")
    told = received(version, tables.report(version, 0, "DELIVRD", NUMBER), report=1)
    assert isinstance(told, ChannelTrouble)
    assert told.code == "unreadable_report"


@pytest.mark.parametrize("done", ["", "26112010", "2613201001", "²²²²²²²²²²"])
def test_a_time_that_is_none_tells_none(done: str) -> None:
    table = bytearray(tables.report(V2, msg_id(), "DELIVRD", NUMBER))
    table[25:35] = done.encode("latin-1").ljust(10, b"\0")
    found = received(V2, bytes(table), report=1)
    assert isinstance(found, DeliveryReceipt)
    assert found.at is None


# --- acknowledgement


@BOTH
def test_what_is_stored_is_acknowledged_and_nothing_else(version: int) -> None:
    """Silence makes the gateway come again (7.1); an error would end it."""
    found = codec(version)
    frame = tables.deliver(version, 77, msg_id=5, sender=NUMBER, content=b"")
    item = found.decode(frame)
    assert isinstance(item, Delivery)
    stored = found.acknowledge(item, stored=True)
    assert stored == tables.deliver_resp(version, 77, 5)
    assert found.acknowledge(item, stored=False) == b""


# --- garbage


@BOTH
def test_h_9_a_deliver_that_can_not_be_read_hears_so(version: int) -> None:
    """H-9: Result 1, the structure is wrong."""
    with pytest.raises(Malformed, match="DELIVER has 20 octets") as caught:
        codec(version).decode(pdu(5, 6, bytes(20)))
    assert caught.value.reply == tables.deliver_resp(version, 6, 0, 1)


def test_h_9_unknown_commands_and_odd_answers_are_malformed() -> None:
    for frame in (pdu(0x99, 1), pdu(0x80000004, 1, bytes(10)), pdu(0x80000001, 1)):
        with pytest.raises(Malformed) as caught:
            codec().decode(frame)
        assert caught.value.reply == b""


def test_h_9_100_000_mutated_frames_are_malformed_or_read() -> None:
    """H-9: the codec raises Malformed, and nothing else, ever."""
    dice = random.Random(20261121)
    codecs = {version: codec(version) for version in (V2, V3)}
    material = [(version, octets) for version, _, octets in of_both()]
    for version in (V2, V3):
        content = tables.report(version, msg_id(), "DELIVRD", NUMBER)
        frame = tables.deliver(
            version, 1, msg_id=1, sender=NUMBER, content=content, report=1
        )
        long = tables.deliver(
            version,
            1,
            msg_id=1,
            sender=NUMBER,
            content=bytes.fromhex("0500032a0201") + b"\x51\x5a",
            udhi=1,
        )
        material += [(version, frame), (version, long)] * 4
    malformed = 0
    for _ in range(100_000):
        version, octets = dice.choice(material)
        frame = mutated(octets, dice).ljust(12, b"\0")
        try:
            codecs[version].decode(frame)
        except Malformed:
            malformed += 1
    assert 10_000 < malformed < 90_000


# --- settings


def test_the_number_shown_has_21_digits_at_most() -> None:
    with pytest.raises(ValidationError, match="more than 21 digits"):
        codec(service_number="1" * 20)
