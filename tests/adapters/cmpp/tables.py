"""The field tables of CMPP, written down a second time: bytes that no codec of ours
has made. Widths and order from clause 8.4 of V3.0.0 and 7.4 of V2.0.
"""

V2, V3 = 0x20, 0x30
NUMBER = {V2: 21, V3: 32}
STATUS = {V2: 1, V3: 4}


def fields(*table: tuple[int, int | str | bytes]) -> bytes:
    """Each field as (octets, value): integers big-endian, texts filled with zeros."""
    found = b""
    for width, value in table:
        if isinstance(value, int):
            found += value.to_bytes(width, "big")
            continue
        octets = value.encode("ascii") if isinstance(value, str) else value
        assert len(octets) <= width
        found += octets + b"\x00" * (width - len(octets))
    return found


def pdu(command: int, sequence: int, body: bytes = b"") -> bytes:
    """8.3"""
    return fields((4, 12 + len(body)), (4, command), (4, sequence)) + body


def connect(sequence: int, source: str, digest: bytes, version: int, at: int) -> bytes:
    """8.4.1.1"""
    return pdu(1, sequence, fields((6, source), (16, digest), (1, version), (4, at)))


def connect_resp(sequence: int, status: int, digest: bytes, version: int) -> bytes:
    """8.4.1.2"""
    body = fields((STATUS[version], status), (16, digest), (1, version))
    return pdu(0x80000001, sequence, body)


def submit(
    version: int,
    sequence: int,
    *,
    number: str,
    msg_fmt: int,
    content: bytes,
    total: int = 1,
    index: int = 1,
    udhi: int = 0,
) -> bytes:
    """8.4.3.1, as the account of the tests fills it in."""
    wide = version == V3
    body = fields(
        (8, 0),  # Msg_Id
        (1, total),  # Pk_total
        (1, index),  # Pk_number
        (1, 1),  # Registered_Delivery
        (1, 0),  # Msg_level
        (10, "LXFW"),  # Service_Id
        (1, 2),  # Fee_UserType
        (32 if wide else 21, ""),  # Fee_terminal_Id
        *([(1, 0)] if wide else []),  # Fee_terminal_type
        (1, 0),  # TP_pId
        (1, udhi),  # TP_udhi
        (1, msg_fmt),  # Msg_Fmt
        (6, "901234"),  # Msg_src
        (2, "01"),  # FeeType
        (6, "0"),  # FeeCode
        (17, ""),  # ValId_Time
        (17, ""),  # At_Time
        (21, "1065700001"),  # Src_Id
        (1, 1),  # DestUsr_tl
        (32 if wide else 21, number),  # Dest_terminal_Id
        *([(1, 0)] if wide else []),  # Dest_terminal_type
        (1, len(content)),  # Msg_Length
        (len(content), content),  # Msg_Content
        (20 if wide else 8, ""),  # LinkID, Reserve
    )
    return pdu(4, sequence, body)


def submit_resp(version: int, sequence: int, msg_id: int, result: int) -> bytes:
    """8.4.3.2"""
    body = fields((8, msg_id), (STATUS[version], result))
    return pdu(0x80000004, sequence, body)


def deliver(
    version: int,
    sequence: int,
    *,
    msg_id: int,
    sender: str,
    content: bytes,
    msg_fmt: int = 8,
    udhi: int = 0,
    report: int = 0,
    to: str = "1065700001",
) -> bytes:
    """8.4.5.1"""
    wide = version == V3
    body = fields(
        (8, msg_id),  # Msg_Id
        (21, to),  # Dest_Id
        (10, "LXFW"),  # Service_Id
        (1, 0),  # TP_pid
        (1, udhi),  # TP_udhi
        (1, msg_fmt),  # Msg_Fmt
        (32 if wide else 21, sender),  # Src_terminal_Id
        *([(1, 0)] if wide else []),  # Src_terminal_type
        (1, report),  # Registered_Delivery
        (1, len(content)),  # Msg_Length
        (len(content), content),  # Msg_Content
        (20 if wide else 8, ""),  # LinkID, Reserve
    )
    return pdu(5, sequence, body)


def report(
    version: int,
    msg_id: int,
    stat: str,
    number: str,
    *,
    submitted: str = "2611201000",
    done: str = "2611201001",
    smsc: int = 7,
) -> bytes:
    """Msg_Content of a status report, 8.4.5.1: 60 octets, in 3.0 71."""
    return fields(
        (8, msg_id),  # Msg_Id
        (7, stat),  # Stat
        (10, submitted),  # Submit_time
        (10, done),  # Done_time
        (NUMBER[version], number),  # Dest_terminal_Id
        (4, smsc),  # SMSC_sequence
    )


def deliver_resp(version: int, sequence: int, msg_id: int, result: int = 0) -> bytes:
    """8.4.5.2"""
    body = fields((8, msg_id), (STATUS[version], result))
    return pdu(0x80000005, sequence, body)
