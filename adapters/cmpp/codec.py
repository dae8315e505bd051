"""CMPP for the session engine: messages to SUBMITs, frames to answers and events."""

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from struct import Struct

from adapters._push import key
from adapters._sms import e164
from adapters.carrier.codec import (
    Alive,
    Answer,
    Delivery,
    Farewell,
    Incoming,
    LoginAnswer,
    Malformed,
    Reply,
    Segment,
)
from adapters.carrier.references import References
from adapters.carrier.udh import Concatenation, header, taken_apart
from adapters.cmpp import codes, content
from adapters.cmpp.identity import (
    CARRIER_ZONE,
    authenticator_ismg,
    authenticator_source,
    time_of,
    timestamp,
)
from adapters.cmpp.pdus import (
    Command,
    Connect,
    ConnectResp,
    Deliver,
    Submit,
    Version,
)
from adapters.cmpp.settings import Settings
from adapters.cmpp.wire import (
    HEADER,
    SubmitForm,
    WireError,
    decode,
    decode_report,
    encode,
    framed,
    report_in,
)
from gateway.clock import Clock
from gateway.contract import (
    Address,
    AddressKind,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OutboundMessage,
)
from gateway.errors import PermanentFailure
from gateway.text import clean

_MAINLAND = "+86"
_MAINLAND_NUMBER = re.compile(r"\+86([0-9]{5,15})")
_SUBMIT_RESP = {21: Struct(">12xQB"), 24: Struct(">12xQI")}  # by octets of the frame
_MOST_PARTS = 255


class CmppCodec:
    """One account's dialect. It remembers its logins and counts references."""

    header_bytes = HEADER.size
    first_sequence = 1
    last_sequence = 0x7FFF_FFFF  # some gateways read Sequence_Id with a sign

    def __init__(self, settings: Settings, signature: str, clock: Clock) -> None:
        self._settings = settings
        self._version = settings.spoken
        self._signature = signature if settings.put_signature else ""
        self._clock = clock
        self._codes, self._segments = settings.own_codes, settings.segments
        self._wide_references = settings.wide_references
        self._form = _form(settings)
        start = int(clock.now().timestamp())
        self._references = References(wide=settings.wide_references, start=start)
        self._said: deque[bytes] = deque(maxlen=64)  # AuthenticatorSource of logins
        self._was_in = False
        self._minute: tuple[str, datetime | None] = ("", None)

    def login(self, sequence: int) -> bytes:
        at = timestamp(self._clock.now().astimezone(CARRIER_ZONE))
        source, secret = self._settings.sp_id, self._settings.secret.get_secret_value()
        said = authenticator_source(source, secret, at)
        self._said.append(said)
        pdu = Connect(
            source_addr=source,
            authenticator=said,
            version=self._version,
            timestamp=int(at),
        )
        return encode(pdu, sequence, self._version)

    def heartbeat(self, sequence: int) -> bytes:
        return framed(Command.ACTIVE_TEST, sequence)

    def logout(self, sequence: int) -> bytes:
        return framed(Command.TERMINATE, sequence)

    def bodies(self, message: OutboundMessage) -> Sequence[bytes]:
        number = self._number(message.to)
        msg_fmt, parts = content.encoded(
            self._signature + message.text,
            self._settings.charset,
            self._segments,
        )
        if len(parts) == 1:
            return [self._form.body(number, msg_fmt, parts[0], (1, 1, 0))]
        if len(parts) > _MOST_PARTS:
            raise PermanentFailure("too_many_parts")
        reference, wide = self._references.next(number), self._wide_references
        total = len(parts)
        return [
            self._form.body(number, msg_fmt, head + part, (total, index, 1))
            for index, part in enumerate(parts, 1)
            for head in (header(Concatenation(reference, total, index), wide=wide),)
        ]

    def submit(self, body: bytes, sequence: int) -> bytes:
        return framed(Command.SUBMIT, sequence, body)

    def decode(self, frame: bytes) -> Incoming:
        _, command, sequence = HEADER.unpack_from(frame)
        if command == Command.SUBMIT_RESP:
            return self._answer(frame, sequence)
        body = frame[HEADER.size :]
        try:
            if command == Command.DELIVER:
                return self._delivery(body, sequence)
            pdu = decode(command, body, self._version)
        except WireError as error:
            raise Malformed(str(error), self._no(command, sequence, body)) from None
        match command:
            case Command.CONNECT_RESP:
                assert isinstance(pdu, ConnectResp)
                return self._login_answer(pdu)
            case Command.ACTIVE_TEST:
                return Reply(framed(Command.ACTIVE_TEST_RESP, sequence, b"\0"))
            case Command.TERMINATE:
                return Farewell(framed(Command.TERMINATE_RESP, sequence))
            case Command.TERMINATE_RESP:
                return Farewell(b"")
            case _:
                return Alive()

    def acknowledge(self, delivery: Delivery, *, stored: bool) -> bytes:
        """DELIVER_RESP, or silence: without an answer the gateway sends again after a
        minute, three times in all (7.1). Any other Result would be the end of it: the
        sender's handset then hears SB (8.4.5.1)."""
        if not stored:
            return b""
        result = bytes(4 if self._version.wide else 1)
        return framed(Command.DELIVER_RESP, delivery.sequence, delivery.token + result)

    def text(self, coding: int, body: bytes) -> tuple[str, bool]:
        return content.read(coding, body)

    def _number(self, to: Address) -> str:
        found = _MAINLAND_NUMBER.fullmatch(to.value)
        if found is None:
            raise PermanentFailure("not_a_mainland_number")
        return self._settings.number_prefix + found[1]

    def _answer(self, frame: bytes, sequence: int) -> Answer:
        form = _SUBMIT_RESP.get(len(frame))
        if form is None:
            raise Malformed("SUBMIT_RESP has an odd length")
        msg_id, result = form.unpack(frame)
        if result == 0:
            # Taken, and not numbered: a report may not find it by a 0 of many.
            return Answer(sequence, str(msg_id) if msg_id else "")
        return Answer(sequence, codes.refusal(result, self._codes, self._version))

    def _login_answer(self, pdu: ConnectResp) -> LoginAnswer:
        if pdu.status:
            refused = codes.login_refusal(pdu.status, was_in=self._was_in)
            return LoginAnswer(refused, lasting=pdu.status in codes.LOGINS)
        if self._settings.verify_ismg and not self._is_genuine(pdu):
            return LoginAnswer(codes.NOT_GENUINE, lasting=True)
        self._was_in = True
        return LoginAnswer()

    def _is_genuine(self, pdu: ConnectResp) -> bool:
        secret = self._settings.secret.get_secret_value()
        return any(
            pdu.authenticator == authenticator_ismg(pdu.status, said, secret, version)
            for said in self._said
            for version in (Version.V20, Version.V30)
        )

    def _delivery(self, body: bytes, sequence: int) -> Delivery:
        """What is kept as raw has Sequence_Id 0: pushed again it has another, and is
        the same event."""
        raw = framed(Command.DELIVER, 0, body)
        report = report_in(body, self._version)
        if report is not None:
            return Delivery(sequence, body[:8], self._receipt(report, raw))
        pdu = decode(Command.DELIVER, body, self._version)
        assert isinstance(pdu, Deliver)
        # Gateways that don't number what comes in: the same words may be said twice.
        nameless = pdu.msg_id == 0
        return Delivery(sequence, body[:8], self._written(pdu, raw), nameless)

    def _receipt(self, octets: bytes, raw: bytes) -> Event:
        try:
            report = decode_report(octets)
        except WireError:
            return _trouble("unreadable_report", raw)
        if not report.msg_id:
            return _trouble("unreadable_report", raw)  # names no message
        id, stat = str(report.msg_id), report.stat
        if not stat.isprintable():
            stat = "".join(filter(str.isprintable, stat))
        number = _phone(report.dest_terminal_id)
        return DeliveryReceipt(
            # Msg_Id has no year, Submit_time has.
            key=f"report:{id}:{stat}:{report.submit_time}:{report.done_time}:{number}",
            provider_id=id,
            state=codes.state_of(stat, self._settings.stats),
            raw=raw,
            code=stat,
            address=Address(AddressKind.PHONE, number) if number else None,
            at=self._done_at(report.done_time),
            opted_out=stat in self._settings.blacklist_stats,
        )

    def _no(self, command: int, sequence: int, body: bytes) -> bytes:
        """What a peer hears whose PDU can't be read; only DELIVER has an answer that
        can say so: Result 1."""
        if command != Command.DELIVER:
            return b""
        result = (1).to_bytes(4 if self._version.wide else 1, "big")
        token = body[:8].ljust(8, b"\0")
        return framed(Command.DELIVER_RESP, sequence, token + result)

    def _done_at(self, done_time: str) -> datetime | None:
        """Reports come in minutes full of them."""
        if done_time != self._minute[0]:
            self._minute = (done_time, _instant(done_time))
        return self._minute[1]

    def _written(self, pdu: Deliver, raw: bytes) -> Event | Segment:
        number = clean(pdu.src_terminal_id)
        sender = _phone(number)
        place, octets, understood = None, pdu.content, True
        if pdu.tp_udhi & 1:
            place, octets, understood = taken_apart(pdu.content)
        text, unreadable = content.read(pdu.msg_fmt, octets)
        lost = unreadable or not understood or sender is None
        sent_at = time_of(pdu.msg_id, self._clock.now())
        message = InboundMessage(
            key=key(
                "mo",
                str(pdu.msg_id),
                str(sent_at and sent_at.year),
                number,
                pdu.dest_id,
                pdu.content,
            ),
            # A pseudonym (Src_terminal_type 1) or a service's number: shown as it came.
            sender=Address(AddressKind.PHONE, sender or number or "unknown"),
            text=text,
            raw=raw,
            sent_at=sent_at,
            to=pdu.dest_id,
            notes=("unreadable",) * lost + ("truncated",) * pdu.cut_short,
        )
        if place is None:
            return message
        group = f"{number} {pdu.dest_id} {place.reference} {place.total}"
        return Segment(
            group=group,
            number=place.number,
            total=place.total,
            coding=pdu.msg_fmt,
            body=octets,
            message=message,
        )


def _form(own: Settings) -> SubmitForm:
    """What all our submissions say alike."""
    pdu = Submit(
        msg_level=own.msg_level,
        service_id=own.service_id,
        fee_user_type=own.fee_user_type,
        fee_terminal_id=own.fee_terminal_id,
        msg_src=own.msg_src or own.sp_id,
        fee_type=own.fee_type,
        fee_code=own.fee_code,
        src_id=own.src_id,
        dest_terminal_ids=(),
    )
    return SubmitForm(pdu, own.spoken)


def _trouble(code: str, raw: bytes) -> ChannelTrouble:
    """Kept for staff, so that the gateway may forget it."""
    return ChannelTrouble(key=key(code, raw), code=code, raw=raw)


def _phone(number: str) -> str | None:
    """E.164. Mainland mobiles, nearly all that come, without a look at the plan."""
    digits = number.removeprefix("+").removeprefix("86")
    if len(digits) == 11 and digits.isdecimal() and "13" <= digits[:2] <= "19":
        return _MAINLAND + digits
    return e164(number)


def _instant(value: str) -> datetime | None:
    """Done_time, YYMMDDHHMM of the carrier's clock; None where it is not one."""
    if len(value) != 10 or not (value.isascii() and value.isdigit()):
        return None
    try:
        # The zone is set in the same expression, as the field has none.
        naive = datetime.strptime(value, "%y%m%d%H%M")  # noqa: DTZ007
    except ValueError:
        return None
    return naive.replace(tzinfo=CARRIER_ZONE).astimezone(UTC)
