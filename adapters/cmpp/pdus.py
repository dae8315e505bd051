"""What CMPP says, as data: one class for each message between provider and gateway.

SP is the service provider (us), ISMG the carrier's Internet Short Message Gateway.
Clause numbers are those of "China Mobile Peer to Peer, CMPP (V3.0.0)", 2003-06-30; in
V2.0 (2002-04) the same clauses begin with 7 instead of 8. Clause 11 lists what 3.0
changed.
"""

from dataclasses import dataclass, field
from enum import IntEnum


class Version(IntEnum):
    """The octet of CONNECT: major and minor version in four bits each (8.4.1.1).

    V2.1 has the layouts of 2.0 and more result codes.
    """

    V20 = 0x20
    V21 = 0x21
    V30 = 0x30

    @property
    def wide(self) -> bool:
        """Whether fields have the widths of 3.0."""
        return self >= Version.V30


class Command(IntEnum):
    """Command_Id (8.7.1), of what goes between provider (SP) and gateway (ISMG)."""

    CONNECT = 0x0000_0001
    CONNECT_RESP = 0x8000_0001
    TERMINATE = 0x0000_0002
    TERMINATE_RESP = 0x8000_0002
    SUBMIT = 0x0000_0004
    SUBMIT_RESP = 0x8000_0004
    DELIVER = 0x0000_0005
    DELIVER_RESP = 0x8000_0005
    QUERY = 0x0000_0006
    QUERY_RESP = 0x8000_0006
    CANCEL = 0x0000_0007
    CANCEL_RESP = 0x8000_0007
    ACTIVE_TEST = 0x0000_0008
    ACTIVE_TEST_RESP = 0x8000_0008


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    source_addr: str  # SP_Id, six characters
    authenticator: bytes
    version: int
    timestamp: int  # MMDDHHMMSS as a decimal number


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectResp:
    status: int
    authenticator: bytes = bytes(16)
    version: int


@dataclass(frozen=True, slots=True)
class Terminate:
    pass


@dataclass(frozen=True, slots=True)
class TerminateResp:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    msg_id: int = 0
    pk_total: int = 1
    pk_number: int = 1
    registered_delivery: int = 1
    msg_level: int = 0
    service_id: str = ""
    fee_user_type: int = 2  # the SP pays
    fee_terminal_id: str = ""
    fee_terminal_type: int = 0  # 3.0 only
    tp_pid: int = 0
    tp_udhi: int = 0
    msg_fmt: int = 8
    msg_src: str = ""
    fee_type: str = "01"
    fee_code: str = ""
    valid_time: str = ""
    at_time: str = ""
    src_id: str = ""
    dest_terminal_ids: tuple[str, ...]
    dest_terminal_type: int = 0  # 3.0 only
    content: bytes = b""
    link_id: str = ""  # 3.0; in 2.0 it is the eight octets kept in reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResp:
    msg_id: int
    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    msg_id: int
    dest_id: str = ""
    service_id: str = ""
    tp_pid: int = 0
    tp_udhi: int = 0
    msg_fmt: int = 8
    src_terminal_id: str = ""
    src_terminal_type: int = 0  # 3.0 only
    registered_delivery: int = 0  # 1: the content is a Report
    content: bytes = b""
    link_id: str = ""  # 3.0; in 2.0 it is the eight octets kept in reserve
    # Msg_Length promised more octets than came: what came is here.
    cut_short: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverResp:
    msg_id: int
    result: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    time: str  # YYYYMMDD
    query_type: int = 0
    query_code: str = ""
    reserve: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResp:
    time: str
    query_type: int = 0
    query_code: str = ""
    # MT_TLMsg, MT_Tlusr, MT_Scs, MT_WT, MT_FL, MO_Scs, MO_WT, MO_FL
    counts: tuple[int, ...] = (0,) * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    msg_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResp:
    success_id: int  # 0: cancelled, 1: not


@dataclass(frozen=True, slots=True)
class ActiveTest:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveTestResp:
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Msg_Content of a DELIVER that is a status report (8.4.5.1)."""

    msg_id: int  # of the SUBMIT_RESP
    stat: str
    submit_time: str  # YYMMDDHHMM, of the carrier's clock
    done_time: str
    dest_terminal_id: str
    smsc_sequence: int = 0


Pdu = (
    Connect
    | ConnectResp
    | Terminate
    | TerminateResp
    | Submit
    | SubmitResp
    | Deliver
    | DeliverResp
    | Query
    | QueryResp
    | Cancel
    | CancelResp
    | ActiveTest
    | ActiveTestResp
)
