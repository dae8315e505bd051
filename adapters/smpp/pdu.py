"""SMPP 3.4 on the wire: commands, the fields of what we send and read, TLVs.

Clauses are those of "Short Message Peer to Peer Protocol Specification v3.4",
12-Oct-1999, Issue 1.2.
"""

from struct import Struct, unpack_from
from struct import error as StructError
from typing import NamedTuple

# 5.1.2.1, table 5-1
GENERIC_NACK = 0x80000000
BIND_RECEIVER = 0x00000001
BIND_RECEIVER_RESP = 0x80000001
BIND_TRANSMITTER = 0x00000002
BIND_TRANSMITTER_RESP = 0x80000002
SUBMIT_SM = 0x00000004
SUBMIT_SM_RESP = 0x80000004
DELIVER_SM = 0x00000005
DELIVER_SM_RESP = 0x80000005
UNBIND = 0x00000006
UNBIND_RESP = 0x80000006
BIND_TRANSCEIVER = 0x00000009
BIND_TRANSCEIVER_RESP = 0x80000009
OUTBIND = 0x0000000B
ENQUIRE_LINK = 0x00000015
ENQUIRE_LINK_RESP = 0x80000015
ALERT_NOTIFICATION = 0x00000102
DATA_SM = 0x00000103
DATA_SM_RESP = 0x80000103
RESPONSE = 0x80000000  # the bit that marks answers

INTERFACE_VERSION = 0x34  # 5.2.4
FIRST_SEQUENCE, LAST_SEQUENCE = 0x00000001, 0x7FFFFFFF  # 5.1.4

# esm_class, 5.2.12
MESSAGE_TYPE = 0x3C
RECEIPT, INTERMEDIATE = 0x04, 0x20
UDHI = 0x40

# 5.3.2, table 5-7
TAG_RECEIPTED_MESSAGE_ID = 0x001E
TAG_SAR_REFERENCE = 0x020C
TAG_SAR_TOTAL = 0x020E
TAG_SAR_NUMBER = 0x020F
TAG_NETWORK_ERROR = 0x0423
TAG_PAYLOAD = 0x0424
TAG_MESSAGE_STATE = 0x0427

HEADER = Struct(">IIII")
HEADER_BYTES = 16
_TLV = Struct(">HH")


class BadBody(Exception):
    """A body that does not hold the fields it has to."""


class Short(NamedTuple):
    """What deliver_sm (4.6.1), submit_sm (4.4.1) and data_sm (4.7.1) carry."""

    source: bytes
    destination: bytes
    esm_class: int
    data_coding: int
    user_data: bytes  # short_message, or message_payload where that is empty
    tlvs: dict[int, bytes]


def frame(command: int, sequence: int, body: bytes = b"", status: int = 0) -> bytes:
    return HEADER.pack(HEADER_BYTES + len(body), command, status, sequence) + body


def c_octets(value: str) -> bytes:
    """A C-Octet String (3.1); the caller keeps it short enough and free of NUL."""
    return value.encode("ascii") + b"\0"


def tlv(tag: int, value: bytes) -> bytes:
    return _TLV.pack(tag, len(value)) + value


def tlvs(data: bytes, start: int) -> dict[int, bytes]:
    """Optional parameters (3.2.4), the unknown ones too; a torn rest is left out."""
    found: dict[int, bytes] = {}
    while start + 4 <= len(data):
        tag, length = _TLV.unpack_from(data, start)
        start += 4
        if start + length > len(data):
            break
        found[tag] = data[start : start + length]
        start += length
    return found


def short(data: bytes) -> Short:
    """Read deliver_sm and submit_sm, whose mandatory fields are alike.

    Raises BadBody where a field is missing, or sm_length says more than there is.
    """
    try:
        return _short(data)
    except (ValueError, IndexError):
        raise BadBody("fields") from None


def _short(data: bytes) -> Short:
    end = data.index
    source = end(0, HEADER_BYTES) + 3  # after service_type, source ton and npi
    source_end = end(0, source)
    destination = source_end + 3
    destination_end = end(0, destination)
    esm_class = data[destination_end + 1]
    schedule_end = end(0, destination_end + 4)
    at = end(0, schedule_end + 1) + 1  # after validity_period
    data_coding, length = data[at + 2], data[at + 4]
    start = at + 5
    if start + length > len(data):
        raise BadBody("sm_length")
    user_data = data[start : start + length]
    found = tlvs(data, start + length) if start + length < len(data) else {}
    return Short(
        data[source:source_end],
        data[destination:destination_end],
        esm_class,
        data_coding,
        user_data or found.get(TAG_PAYLOAD, b""),
        found,
    )


def data_sm(data: bytes) -> Short:
    try:
        end = data.index
        source = end(0, HEADER_BYTES) + 3
        source_end = end(0, source)
        destination = source_end + 3
        at = end(0, destination)
        found = tlvs(data, at + 4)
        return Short(
            data[source:source_end],
            data[destination:at],
            data[at + 1],
            data[at + 3],
            found.get(TAG_PAYLOAD, b""),
            found,
        )
    except (ValueError, IndexError):
        raise BadBody("fields") from None


def message_id(data: bytes) -> str | None:
    """The id of a submit_sm_resp (4.4.2); None where there is nothing readable."""
    end = data.find(0, HEADER_BYTES)
    if end < 0 or end > HEADER_BYTES + 64:
        return None
    try:
        return data[HEADER_BYTES:end].decode("ascii")
    except UnicodeDecodeError:
        return None


class Bind(NamedTuple):
    """The fields of a bind (4.1.1, 4.1.3, 4.1.5) that say who comes."""

    system_id: str
    password: str


def bind(data: bytes) -> Bind:
    try:
        name_end = data.index(0, HEADER_BYTES)
        password_end = data.index(0, name_end + 1)
    except ValueError:
        raise BadBody("fields") from None
    return Bind(
        data[HEADER_BYTES:name_end].decode("latin-1"),
        data[name_end + 1 : password_end].decode("latin-1"),
    )


def sar(tlvs: dict[int, bytes]) -> tuple[int, int, int] | None:
    """Reference, number of parts and number of this part (5.3.2.22 to 5.3.2.25)."""
    try:
        (reference,) = unpack_from(">H", tlvs[TAG_SAR_REFERENCE])
        return reference, tlvs[TAG_SAR_TOTAL][0], tlvs[TAG_SAR_NUMBER][0]
    except (KeyError, IndexError, StructError):
        return None
