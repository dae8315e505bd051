"""CMPP 2.0 and 3.0 on the wire: bytes to PDUs and back. No I/O, no policy.

The field tables are those of clause 8.4; see pdus.py about the texts.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

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

HEADER = struct.Struct(">III")  # Total_Length, Command_Id, Sequence_Id (8.3)


class WireError(ValueError):
    """Bytes that are no PDU; the text names the field, never its content."""


_CONNECT = struct.Struct(">6s16sBI")
# The numbers' width differs (11.3, 3 and 5), 3.0 says what kind of number it is.
_SUBMIT = {
    False: struct.Struct(">QBBBB10sB21sBBB6s2s6s17s17s21sB"),
    True: struct.Struct(">QBBBB10sB32sBBBB6s2s6s17s17s21sB"),
}
_DELIVER = {
    False: struct.Struct(">Q21s10sBBB21sBB"),
    True: struct.Struct(">Q21s10sBBB32sBBB"),
}
_UDHI = {False: 45, True: 57}  # where TP_udhi stands in a SUBMIT
_FLAG = {False: 63, True: 75}  # where Registered_Delivery stands in a DELIVER
_NUMBER = {False: 21, True: 32}  # octets of one Dest_terminal_Id
_TAIL = {False: 8, True: 20}  # octets of Reserve, of LinkID
_RESULT = {False: struct.Struct(">B"), True: struct.Struct(">I")}  # 11.3, 16
_QUERY = struct.Struct(">8sB10s8s")
_QUERY_RESP = struct.Struct(">8sB10s8I")
_REPORT = struct.Struct(">Q7s10s10s")
_MSG_ID = struct.Struct(">Q")


def encode(pdu: Pdu, sequence: int, version: Version) -> bytes:
    """One PDU with its header. Raises WireError for a field that is too long."""
    command, body = encode_body(pdu, version)
    return framed(command, sequence, body)


def encode_body(pdu: Pdu, version: Version) -> tuple[Command, bytes]:
    command, write = _WRITERS[type(pdu)]
    return command, write(pdu, version.wide)


def framed(command: int, sequence: int, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), command, sequence) + body


def decode(command: int, body: bytes, version: Version) -> Pdu:
    """What follows a header. Raises WireError for what is none of our PDUs.

    Octets behind the last field are passed over; answers are read by their length,
    because a gateway refuses in the version that it speaks itself.
    """
    read = _READERS.get(command)
    if read is None:
        raise WireError(f"Command_Id 0x{command:08X} is not known")
    return read(body, version.wide)


def _octets(value: str, width: int, name: str) -> bytes:
    """An Octet String, filled up with zero octets on the right (8.1)."""
    encoded = value.encode("latin-1")
    if len(encoded) > width:
        raise WireError(f"{name} has more than {width} octets")
    return encoded.ljust(width, b"\0")


def _text(octets: bytes) -> str:
    """An Octet String as read: a zero octet ends it, blanks at the end are filling."""
    return octets.partition(b"\0")[0].decode("latin-1").rstrip(" ")


def _unpack(form: struct.Struct, body: bytes, name: str) -> tuple[Any, ...]:
    if len(body) < form.size:
        raise WireError(f"{name} has {len(body)} octets instead of {form.size}")
    return form.unpack_from(body)


def _write_connect(pdu: Connect, wide: bool) -> bytes:
    source = _octets(pdu.source_addr, 6, "Source_Addr")
    return _CONNECT.pack(source, pdu.authenticator, pdu.version, pdu.timestamp)


def _read_connect(body: bytes, wide: bool) -> Connect:
    source, authenticator, version, timestamp = _unpack(_CONNECT, body, "CONNECT")
    return Connect(
        source_addr=_text(source),
        authenticator=authenticator,
        version=version,
        timestamp=timestamp,
    )


def _write_connect_resp(pdu: ConnectResp, wide: bool) -> bytes:
    return _RESULT[wide].pack(pdu.status) + pdu.authenticator + bytes([pdu.version])


def _read_connect_resp(body: bytes, wide: bool) -> ConnectResp:
    """Status has one octet, or four where the body is long enough (8.4.1.2)."""
    status = _RESULT[len(body) >= 21]
    if len(body) < status.size:
        raise WireError("CONNECT_RESP is empty")
    authenticator, version = body[status.size :][:16], body[status.size + 16 :][:1]
    return ConnectResp(
        status=status.unpack_from(body)[0],
        authenticator=authenticator.ljust(16, b"\0"),
        version=version[0] if version else 0,
    )


def _write_submit(pdu: Submit, wide: bool) -> bytes:
    kind_of_fee = (pdu.fee_terminal_type,) if wide else ()
    numbers, width = pdu.dest_terminal_ids, _NUMBER[wide]
    head = _SUBMIT[wide].pack(
        pdu.msg_id,
        pdu.pk_total,
        pdu.pk_number,
        pdu.registered_delivery,
        pdu.msg_level,
        _octets(pdu.service_id, 10, "Service_Id"),
        pdu.fee_user_type,
        _octets(pdu.fee_terminal_id, width, "Fee_terminal_Id"),
        *kind_of_fee,
        pdu.tp_pid,
        pdu.tp_udhi,
        pdu.msg_fmt,
        _octets(pdu.msg_src, 6, "Msg_src"),
        _octets(pdu.fee_type, 2, "FeeType"),
        _octets(pdu.fee_code, 6, "FeeCode"),
        _octets(pdu.valid_time, 17, "ValId_Time"),
        _octets(pdu.at_time, 17, "At_Time"),
        _octets(pdu.src_id, 21, "Src_Id"),
        len(numbers),
    )
    listed = b"".join(_octets(one, width, "Dest_terminal_Id") for one in numbers)
    kind = bytes([pdu.dest_terminal_type]) if wide else b""
    return head + listed + kind + _write_content(pdu.content, pdu.link_id, wide)


class SubmitForm:
    """SUBMITs of one account, each to one number: everything but what differs is packed
    once, which makes each some twenty times as fast as `encode_body`."""

    def __init__(self, pdu: Submit, version: Version) -> None:
        empty = replace(pdu, dest_terminal_ids=("",), content=b"")
        _, body = encode_body(empty, version)
        number = _SUBMIT[version.wide].size
        udhi = _UDHI[version.wide]
        self._width = _NUMBER[version.wide]
        self._head = body[:8]  # Msg_Id; Pk_total and Pk_number follow
        self._before = body[10:udhi]  # TP_udhi and Msg_Fmt follow
        self._between = body[udhi + 2 : number]  # the number follows
        self._after = body[number + self._width : -_TAIL[version.wide] - 1]
        self._tail = body[-_TAIL[version.wide] :]

    def body(
        self, number: str, msg_fmt: int, content: bytes, place: tuple[int, int, int]
    ) -> bytes:
        """`place`: Pk_total, Pk_number and TP_udhi; at most 255 octets of content."""
        total, index, udhi = place
        return b"%b%c%c%b%c%c%b%b%b%c%b%b" % (
            self._head,
            total,
            index,
            self._before,
            udhi,
            msg_fmt,
            self._between,
            number.encode().ljust(self._width, b"\0"),
            self._after,
            len(content),
            content,
            self._tail,
        )


def _read_submit(body: bytes, wide: bool) -> Submit:
    head = list(_unpack(_SUBMIT[wide], body, "SUBMIT"))
    kind_of_fee = head.pop(8) if wide else 0
    end, width = _SUBMIT[wide].size, _NUMBER[wide]
    after = end + head[-1] * width
    if len(body) < after + wide + 1:
        raise WireError("SUBMIT ends within its numbers")
    numbers = [body[at : at + width] for at in range(end, after, width)]
    content, link_id, cut_short = _read_content(body, after + wide, wide)
    if cut_short:
        raise WireError("SUBMIT ends within Msg_Content")
    return Submit(
        msg_id=head[0],
        pk_total=head[1],
        pk_number=head[2],
        registered_delivery=head[3],
        msg_level=head[4],
        service_id=_text(head[5]),
        fee_user_type=head[6],
        fee_terminal_id=_text(head[7]),
        fee_terminal_type=kind_of_fee,
        tp_pid=head[8],
        tp_udhi=head[9],
        msg_fmt=head[10],
        msg_src=_text(head[11]),
        fee_type=_text(head[12]),
        fee_code=_text(head[13]),
        valid_time=_text(head[14]),
        at_time=_text(head[15]),
        src_id=_text(head[16]),
        dest_terminal_ids=tuple(map(_text, numbers)),
        dest_terminal_type=body[after] if wide else 0,
        content=content,
        link_id=link_id,
    )


def _write_content(content: bytes, link_id: str, wide: bool) -> bytes:
    """Msg_Length, Msg_Content and what stands behind it."""
    if len(content) > 255:
        raise WireError("Msg_Content has more than 255 octets")
    tail = _octets(link_id, _TAIL[wide], "LinkID" if wide else "Reserve")
    return bytes([len(content)]) + content + tail


def _read_content(body: bytes, at: int, wide: bool) -> tuple[bytes, str, bool]:
    """Content and LinkID from Msg_Length on; whether the content is cut short.

    A missing LinkID or Reserve is none: some gateways leave it out.
    """
    end = at + 1 + body[at]
    return body[at + 1 : end], _text(body[end : end + _TAIL[wide]]), len(body) < end


def _write_answer(pdu: SubmitResp | DeliverResp, wide: bool) -> bytes:
    return _MSG_ID.pack(pdu.msg_id) + _RESULT[wide].pack(pdu.result)


def _read_answer(body: bytes, name: str) -> tuple[int, int]:
    """Msg_Id and Result, one octet or four (8.4.3.2, 8.4.5.2)."""
    (msg_id,) = _unpack(_MSG_ID, body, name)
    form = _RESULT[len(body) >= 12]
    (result,) = _unpack(form, body[8:], name)
    return msg_id, result


def _read_submit_resp(body: bytes, wide: bool) -> SubmitResp:
    msg_id, result = _read_answer(body, "SUBMIT_RESP")
    return SubmitResp(msg_id=msg_id, result=result)


def _read_deliver_resp(body: bytes, wide: bool) -> DeliverResp:
    msg_id, result = _read_answer(body, "DELIVER_RESP")
    return DeliverResp(msg_id=msg_id, result=result)


def _write_deliver(pdu: Deliver, wide: bool) -> bytes:
    kind = (pdu.src_terminal_type,) if wide else ()
    head = _DELIVER[wide].pack(
        pdu.msg_id,
        _octets(pdu.dest_id, 21, "Dest_Id"),
        _octets(pdu.service_id, 10, "Service_Id"),
        pdu.tp_pid,
        pdu.tp_udhi,
        pdu.msg_fmt,
        _octets(pdu.src_terminal_id, _NUMBER[wide], "Src_terminal_Id"),
        *kind,
        pdu.registered_delivery,
        len(pdu.content) & 0xFF,
    )
    return head[:-1] + _write_content(pdu.content, pdu.link_id, wide)


def _read_deliver(body: bytes, wide: bool) -> Deliver:
    head = list(_unpack(_DELIVER[wide], body, "DELIVER"))
    kind = head.pop(7) if wide else 0
    content, link_id, cut_short = _read_content(body, _DELIVER[wide].size - 1, wide)
    return Deliver(
        msg_id=head[0],
        dest_id=_text(head[1]),
        service_id=_text(head[2]),
        tp_pid=head[3],
        tp_udhi=head[4],
        msg_fmt=head[5],
        src_terminal_id=_text(head[6]),
        src_terminal_type=kind,
        registered_delivery=head[7],
        content=content,
        link_id=link_id,
        cut_short=cut_short,
    )


def report_in(body: bytes, version: Version) -> bytes | None:
    """Msg_Content of a DELIVER that is a status report; None where it is none. As many
    of them come as messages leave, so no field is read that is not needed."""
    flag = _FLAG[version.wide]
    if len(body) < flag + 2 or body[flag] != 1:
        return None
    return body[flag + 2 : flag + 2 + body[flag + 1]]


def _write_query(pdu: Query, wide: bool) -> bytes:
    return _QUERY.pack(
        _octets(pdu.time, 8, "Time"),
        pdu.query_type,
        _octets(pdu.query_code, 10, "Query_Code"),
        _octets(pdu.reserve, 8, "Reserve"),
    )


def _read_query(body: bytes, wide: bool) -> Query:
    time, kind, code, reserve = _unpack(_QUERY, body, "QUERY")
    return Query(
        time=_text(time),
        query_type=kind,
        query_code=_text(code),
        reserve=_text(reserve),
    )


def _write_query_resp(pdu: QueryResp, wide: bool) -> bytes:
    return _QUERY_RESP.pack(
        _octets(pdu.time, 8, "Time"),
        pdu.query_type,
        _octets(pdu.query_code, 10, "Query_Code"),
        *pdu.counts,
    )


def _read_query_resp(body: bytes, wide: bool) -> QueryResp:
    time, kind, code, *counts = _unpack(_QUERY_RESP, body, "QUERY_RESP")
    return QueryResp(
        time=_text(time), query_type=kind, query_code=_text(code), counts=tuple(counts)
    )


def _write_cancel(pdu: Cancel, wide: bool) -> bytes:
    return _MSG_ID.pack(pdu.msg_id)


def _read_cancel(body: bytes, wide: bool) -> Cancel:
    return Cancel(msg_id=_unpack(_MSG_ID, body, "CANCEL")[0])


def _write_cancel_resp(pdu: CancelResp, wide: bool) -> bytes:
    return _RESULT[wide].pack(pdu.success_id)


def _read_cancel_resp(body: bytes, wide: bool) -> CancelResp:
    return CancelResp(
        success_id=_unpack(_RESULT[len(body) >= 4], body, "CANCEL_RESP")[0]
    )


def _write_nothing(pdu: Pdu, wide: bool) -> bytes:
    return b""


def _write_active_test_resp(pdu: ActiveTestResp, wide: bool) -> bytes:
    return bytes([pdu.reserved])


def _read_active_test_resp(body: bytes, wide: bool) -> ActiveTestResp:
    return ActiveTestResp(reserved=body[0] if body else 0)


_WRITERS: Mapping[type[Any], tuple[Command, Callable[[Any, bool], bytes]]] = {
    Connect: (Command.CONNECT, _write_connect),
    ConnectResp: (Command.CONNECT_RESP, _write_connect_resp),
    Terminate: (Command.TERMINATE, _write_nothing),
    TerminateResp: (Command.TERMINATE_RESP, _write_nothing),
    Submit: (Command.SUBMIT, _write_submit),
    SubmitResp: (Command.SUBMIT_RESP, _write_answer),
    Deliver: (Command.DELIVER, _write_deliver),
    DeliverResp: (Command.DELIVER_RESP, _write_answer),
    Query: (Command.QUERY, _write_query),
    QueryResp: (Command.QUERY_RESP, _write_query_resp),
    Cancel: (Command.CANCEL, _write_cancel),
    CancelResp: (Command.CANCEL_RESP, _write_cancel_resp),
    ActiveTest: (Command.ACTIVE_TEST, _write_nothing),
    ActiveTestResp: (Command.ACTIVE_TEST_RESP, _write_active_test_resp),
}

_READERS: Mapping[int, Callable[[bytes, bool], Pdu]] = {
    Command.CONNECT: _read_connect,
    Command.CONNECT_RESP: _read_connect_resp,
    Command.TERMINATE: lambda body, wide: Terminate(),
    Command.TERMINATE_RESP: lambda body, wide: TerminateResp(),
    Command.SUBMIT: _read_submit,
    Command.SUBMIT_RESP: _read_submit_resp,
    Command.DELIVER: _read_deliver,
    Command.DELIVER_RESP: _read_deliver_resp,
    Command.QUERY: _read_query,
    Command.QUERY_RESP: _read_query_resp,
    Command.CANCEL: _read_cancel,
    Command.CANCEL_RESP: _read_cancel_resp,
    Command.ACTIVE_TEST: lambda body, wide: ActiveTest(),
    Command.ACTIVE_TEST_RESP: _read_active_test_resp,
}


def encode_report(report: Report, version: Version) -> bytes:
    """Msg_Content of a status report: 60 octets, in 3.0 71 (8.4.5.1; 11.3, 28)."""
    head = _REPORT.pack(
        report.msg_id,
        _octets(report.stat, 7, "Stat"),
        _octets(report.submit_time, 10, "Submit_time"),
        _octets(report.done_time, 10, "Done_time"),
    )
    number = _octets(report.dest_terminal_id, _NUMBER[version.wide], "Dest_terminal_Id")
    return head + number + report.smsc_sequence.to_bytes(4, "big")


def decode_report(content: bytes) -> Report:
    """Read by its length: gateways of 3.0 are met that send the 60 octets of 2.0.

    The number and what follows may be missing; Msg_Id and Stat may not.
    """
    if len(content) < 15:
        raise WireError(f"a report has {len(content)} octets instead of 60")
    head = content[: _REPORT.size].ljust(_REPORT.size, b"\0")
    msg_id, stat, submitted, done = _REPORT.unpack(head)
    width = _NUMBER[len(content) >= _REPORT.size + 32 + 4]
    rest = content[_REPORT.size :]
    return Report(
        msg_id=msg_id,
        stat=_text(stat),
        submit_time=_text(submitted),
        done_time=_text(done),
        dest_terminal_id=_text(rest[:width]),
        smsc_sequence=int.from_bytes(rest[width : width + 4], "big"),
    )
