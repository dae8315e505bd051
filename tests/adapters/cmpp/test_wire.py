"""PDUs octet by octet against the field tables, there and back, and mutated."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cmpp.pdus import (
    ActiveTest,
    ActiveTestResp,
    Cancel,
    CancelResp,
    Command,
    Connect,
    ConnectResp,
    Deliver,
    DeliverResp,
    Pdu,
    Query,
    QueryResp,
    Report,
    Submit,
    SubmitResp,
    Terminate,
    TerminateResp,
    Version,
)
from adapters.cmpp.wire import (
    HEADER,
    SubmitForm,
    WireError,
    decode,
    decode_report,
    encode,
    encode_report,
)
from tests.adapters.cmpp import tables
from tests.adapters.cmpp.tables import V2, V3, fields, pdu

DIGEST = bytes(range(16))
MSG_ID = 0xB5A0_C8F0_0419_0001
TEXT = "主题党日".encode("utf-16-be")

SUBMIT = Submit(
    service_id="LXFW",
    msg_src="901234",
    fee_code="0",
    src_id="1065700001",
    dest_terminal_ids=("13800138000",),
    content=TEXT,
)
DELIVER = Deliver(
    msg_id=MSG_ID,
    dest_id="1065700001",
    service_id="LXFW",
    src_terminal_id="8613800138000",
    content=TEXT,
)
QUERY_COUNTS = (10, 11, 12, 13, 14, 15, 16, 17)


def vectors(version: int) -> list[tuple[Pdu, bytes]]:
    """Every PDU between provider and gateway, with the octets of its field table."""
    status = tables.STATUS[version]
    return [
        (
            Connect(
                source_addr="901234",
                authenticator=DIGEST,
                version=version,
                timestamp=1120100000,
            ),
            tables.connect(9, "901234", DIGEST, version, 1120100000),
        ),
        (
            ConnectResp(status=3, authenticator=DIGEST, version=version),
            tables.connect_resp(9, 3, DIGEST, version),
        ),
        (Terminate(), pdu(0x00000002, 9)),
        (TerminateResp(), pdu(0x80000002, 9)),
        (
            SUBMIT,
            tables.submit(version, 9, number="13800138000", msg_fmt=8, content=TEXT),
        ),
        (
            SubmitResp(msg_id=MSG_ID, result=8),
            tables.submit_resp(version, 9, MSG_ID, 8),
        ),
        (
            DELIVER,
            tables.deliver(
                version, 9, msg_id=MSG_ID, sender="8613800138000", content=TEXT
            ),
        ),
        (DeliverResp(msg_id=MSG_ID), tables.deliver_resp(version, 9, MSG_ID)),
        (
            Query(time="20261120", query_type=1, query_code="LXFW"),
            pdu(6, 9, fields((8, "20261120"), (1, 1), (10, "LXFW"), (8, ""))),
        ),
        (
            QueryResp(
                time="20261120", query_type=1, query_code="LXFW", counts=QUERY_COUNTS
            ),
            pdu(
                0x80000006,
                9,
                fields((8, "20261120"), (1, 1), (10, "LXFW"))
                + fields(*((4, count) for count in QUERY_COUNTS)),
            ),
        ),
        (Cancel(msg_id=MSG_ID), pdu(7, 9, fields((8, MSG_ID)))),
        (CancelResp(success_id=1), pdu(0x80000007, 9, fields((status, 1)))),
        (ActiveTest(), pdu(8, 9)),
        (ActiveTestResp(), pdu(0x80000008, 9, b"\0")),
    ]


def of_both() -> list[tuple[int, Pdu, bytes]]:
    return [(version, *pair) for version in (V2, V3) for pair in vectors(version)]


@pytest.mark.parametrize(
    ("version", "said", "octets"),
    of_both(),
    ids=lambda value: type(value).__name__ if not isinstance(value, bytes) else "",
)
def test_a_pdu_has_the_octets_of_its_table(
    version: int, said: Pdu, octets: bytes
) -> None:
    assert encode(said, 9, Version(version)) == octets
    assert read(octets, Version(version)) == said


def read(frame: bytes, version: Version) -> Pdu:
    length, command, _ = HEADER.unpack_from(frame)
    assert length == len(frame)
    return decode(command, frame[HEADER.size :], version)


@pytest.mark.parametrize(("version", "octets"), [(V2, 60), (V3, 71)])
def test_a_report_has_the_octets_of_its_table(version: int, octets: int) -> None:
    said = Report(
        msg_id=MSG_ID,
        stat="DELIVRD",
        submit_time="2611201000",
        done_time="2611201001",
        dest_terminal_id="13800138000",
        smsc_sequence=7,
    )
    table = tables.report(version, MSG_ID, "DELIVRD", "13800138000")
    assert len(table) == octets
    assert encode_report(said, Version(version)) == table
    assert decode_report(table) == said


def test_version_2_1_has_the_layouts_of_2_0() -> None:
    assert encode(SUBMIT, 9, Version.V21) == encode(SUBMIT, 9, Version.V20)


@pytest.mark.parametrize("version", [Version.V20, Version.V30])
def test_a_submit_may_go_to_99_numbers(version: Version) -> None:
    numbers = tuple(f"138001380{index:02}" for index in range(99))
    said = replace(SUBMIT, dest_terminal_ids=numbers)
    assert read(encode(said, 1, version), version) == said


@pytest.mark.parametrize("version", [Version.V20, Version.V30])
def test_a_refusal_in_the_other_version_is_read(version: Version) -> None:
    """A gateway that doesn't speak ours says so in its own."""
    theirs = Version.V30 if version is Version.V20 else Version.V20
    for said in (
        ConnectResp(status=4, authenticator=DIGEST, version=theirs),
        SubmitResp(msg_id=MSG_ID, result=1),
    ):
        assert read(encode(said, 1, theirs), version) == said


def test_a_deliver_without_its_last_field_is_read() -> None:
    frame = tables.deliver(V2, 1, msg_id=MSG_ID, sender="8613800138000", content=TEXT)
    assert decode(Command.DELIVER, frame[12:-8], Version.V20) == DELIVER


def test_a_deliver_cut_short_gives_what_is_there() -> None:
    """S-48: Msg_Length says 255, three octets follow."""
    frame = tables.deliver(V2, 1, msg_id=MSG_ID, sender="8613800138000", content=b"abc")
    body = bytearray(frame[12:-8])
    body[-4] = 255
    found = decode(Command.DELIVER, bytes(body), Version.V20)
    assert isinstance(found, Deliver)
    assert (found.content, found.cut_short) == (b"abc", True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_id", "12345678901"),
        ("msg_src", "1234567"),
        ("src_id", "1" * 22),
        ("dest_terminal_ids", ("1" * 33,)),
        ("content", bytes(256)),
    ],
)
def test_a_field_that_is_too_long_is_refused(field: str, value: object) -> None:
    with pytest.raises(WireError, match="has more than"):
        encode(replace(SUBMIT, **{field: value}), 1, Version.V30)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [Version.V20, Version.V30])
@pytest.mark.parametrize("command", [Command.CONNECT, Command.SUBMIT, Command.DELIVER])
def test_h_9_a_pdu_that_ends_early_is_refused(
    command: Command, version: Version
) -> None:
    with pytest.raises(WireError, match="octets instead of"):
        decode(command, bytes(20), version)


def test_h_9_an_unknown_command_is_refused() -> None:
    with pytest.raises(WireError, match="0x00000017"):
        decode(0x17, b"", Version.V20)


# A zero octet ends a text and blanks are filling: what can't come back isn't drawn.
octet = st.integers(0, 0xFF)
word = st.integers(0, 0xFFFF_FFFF)
msg_id = st.integers(0, 2**64 - 1)
versions = st.sampled_from([Version.V20, Version.V21, Version.V30])


def text(width: int) -> st.SearchStrategy[str]:
    letters = st.characters(min_codepoint=0x21, max_codepoint=0xFF)
    return st.text(letters, max_size=width)


submits = st.builds(
    Submit,
    msg_id=msg_id,
    pk_total=octet,
    pk_number=octet,
    registered_delivery=octet,
    msg_level=octet,
    service_id=text(10),
    fee_user_type=octet,
    fee_terminal_id=text(21),
    tp_pid=octet,
    tp_udhi=octet,
    msg_fmt=octet,
    msg_src=text(6),
    fee_type=text(2),
    fee_code=text(6),
    valid_time=text(17),
    at_time=text(17),
    src_id=text(21),
    dest_terminal_ids=st.lists(text(21), max_size=5).map(tuple),
    content=st.binary(max_size=255),
    link_id=text(8),
)
delivers = st.builds(
    Deliver,
    msg_id=msg_id,
    dest_id=text(21),
    service_id=text(10),
    tp_pid=octet,
    tp_udhi=octet,
    msg_fmt=octet,
    src_terminal_id=text(21),
    registered_delivery=octet,
    content=st.binary(max_size=255),
    link_id=text(8),
    cut_short=st.just(False),
)
small = st.one_of(
    st.builds(
        Connect,
        source_addr=text(6),
        authenticator=st.binary(min_size=16, max_size=16),
        version=octet,
        timestamp=word,
    ),
    st.builds(
        ConnectResp,
        status=octet,
        authenticator=st.binary(min_size=16, max_size=16),
        version=octet,
    ),
    st.builds(SubmitResp, msg_id=msg_id, result=octet),
    st.builds(DeliverResp, msg_id=msg_id, result=octet),
    st.builds(
        Query, time=text(8), query_type=octet, query_code=text(10), reserve=text(8)
    ),
    st.builds(
        QueryResp,
        time=text(8),
        query_type=octet,
        query_code=text(10),
        counts=st.tuples(*[word] * 8),
    ),
    st.builds(Cancel, msg_id=msg_id),
    st.builds(CancelResp, success_id=octet),
    st.builds(ActiveTestResp, reserved=octet),
)


@given(st.one_of(small, submits, delivers), st.integers(0, 2**32 - 1), versions)
def test_what_is_encoded_is_decoded(said: Pdu, sequence: int, version: Version) -> None:
    frame = encode(said, sequence, version)
    assert HEADER.unpack_from(frame)[2] == sequence
    assert read(frame, version) == said


@given(submits, st.text("+0123456789", max_size=21), versions)
def test_a_form_says_the_same_as_its_pdu(
    said: Submit, number: str, version: Version
) -> None:
    said = replace(said, dest_terminal_ids=(number,), msg_id=0)
    place = said.pk_total, said.pk_number, said.tp_udhi
    body = SubmitForm(said, version).body(number, said.msg_fmt, said.content, place)
    assert body == encode(said, 1, version)[HEADER.size :]


@given(st.binary(max_size=300), st.sampled_from(list(Command)), versions)
def test_what_is_decoded_can_be_said_again(
    body: bytes, command: Command, version: Version
) -> None:
    try:
        said = decode(command, body, version)
    except WireError:
        return
    if isinstance(said, ConnectResp | SubmitResp | DeliverResp | CancelResp):
        version = Version.V30  # the answer's own length had decided
    assert read(encode(said, 1, version), version) == said


def mutated(octets: bytes, dice: random.Random) -> bytes:
    """One to four octets changed, then perhaps cut, or made longer."""
    found = bytearray(octets)
    for _ in range(dice.randint(1, 4)):
        if found:
            found[dice.randrange(len(found))] = dice.randrange(256)
    match dice.randrange(4):
        case 0:
            del found[dice.randrange(len(found) + 1) :]
        case 1:
            found += dice.randbytes(dice.randrange(40))
    return bytes(found)


def test_h_9_100_000_mutated_pdus_raise_nothing_else() -> None:
    """H-9: a WireError, or a PDU; never anything else."""
    dice = random.Random(20261120)
    material = of_both()
    read_well = 0
    for _ in range(100_000):
        version, _, octets = dice.choice(material)
        frame = mutated(octets, dice)
        command = int.from_bytes(frame[4:8], "big")
        try:
            decode(command, frame[12:], Version(version))
            read_well += 1
        except WireError:
            pass
    assert 10_000 < read_well < 90_000
