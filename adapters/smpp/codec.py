"""SMPP 3.4 for the session engine: messages become PDUs, PDUs become events."""

import hashlib
from collections.abc import Sequence

from adapters._sms import e164
from adapters.carrier import udh
from adapters.carrier.codec import (
    Alive,
    Answer,
    Delivery,
    Farewell,
    Incoming,
    LoginAnswer,
    Malformed,
    NotBound,
    Reply,
    Segment,
)
from adapters.carrier.references import References
from adapters.smpp import gsm7, pdu, receipts, status
from adapters.smpp.settings import Alphabet, NumberFormat, Settings, TextCoding
from gateway.contract import (
    Address,
    AddressKind,
    ChannelContext,
    ChannelTrouble,
    DeliveryReceipt,
    InboundMessage,
    OutboundMessage,
)
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.text import clean, decode, split_segments

# data_coding, 5.2.19; 15 is what Chinese centres took over from CMPP for GBK.
DEFAULT, ASCII, BINARY, LATIN1, UCS2, GBK = 0, 1, 2, 3, 8, 15
_CHARSETS = {
    ASCII: "us-ascii",
    LATIN1: "latin-1",
    5: "shift_jis",
    UCS2: "utf-16-be",
    10: "iso-2022-jp",
    14: "euc-kr",
    GBK: "gbk",
}
_DIRECT_CHARSETS = {6: "iso8859_5", 7: "iso8859_8"}
MAX_PARTS = 255
LONGEST_ADDRESS = 64  # octets of data_sm's source_addr (4.7.1); deliver_sm has 20
_ALIVE = Alive()
_RECEIPT_ON = 1  # registered_delivery, 5.2.17: success or failure


class SmppCodec:
    """One account's dialect. Keeps nothing but counters."""

    header_bytes = pdu.HEADER_BYTES
    first_sequence = pdu.FIRST_SEQUENCE
    last_sequence = pdu.LAST_SEQUENCE

    def __init__(
        self,
        settings: Settings,
        context: ChannelContext,
        bind: int = pdu.BIND_TRANSCEIVER,
    ) -> None:
        self._settings = settings
        self._bind = bind
        self._ids = receipts.ids(settings.message_ids)
        self._dates = receipts.Dates(context.timezone)
        self._own_codes = settings.own_codes
        self._wide = settings.wide_references
        start = int(context.clock.now().timestamp())
        self._references = References(wide=self._wide, start=start)
        self._signature = context.signature if settings.put_signature else ""
        self._before = _before(settings)
        self._plain = _between(settings, esm_class=0)
        self._headed = _between(settings, esm_class=pdu.UDHI)
        self._part_bytes = udh.USER_DATA_BYTES - udh.header_bytes(wide=self._wide)

    def login(self, sequence: int) -> bytes:
        settings = self._settings
        body = (
            pdu.c_octets(settings.system_id)
            + pdu.c_octets(settings.password.get_secret_value())
            + pdu.c_octets(settings.system_type)
            + bytes([pdu.INTERFACE_VERSION, settings.source_ton, settings.source_npi])
            + b"\0"  # address_range: whatever the centre routes to us
        )
        return pdu.frame(self._bind, sequence, body)

    def heartbeat(self, sequence: int) -> bytes:
        return pdu.frame(pdu.ENQUIRE_LINK, sequence)

    def logout(self, sequence: int) -> bytes:
        return pdu.frame(pdu.UNBIND, sequence)

    def bodies(self, message: OutboundMessage) -> Sequence[bytes]:
        """submit_sm bodies (4.4.1) of one message."""
        head = self._before + self._number(message.to.value)
        text = self._signature + message.text
        try:
            user_data = text.encode("utf-16-be")
        except UnicodeEncodeError:
            raise PermanentFailure("unencodable_text") from None
        if self._settings.text_coding is not TextCoding.UCS2:
            return self._narrow(head, message.to.value, text)
        if len(user_data) <= udh.USER_DATA_BYTES:
            return [_body(head, self._plain, UCS2, user_data)]
        return self._long_ucs2(head, message.to.value, text)

    def submit(self, body: bytes, sequence: int) -> bytes:
        head = pdu.HEADER.pack(16 + len(body), pdu.SUBMIT_SM, 0, sequence)
        return head + body

    def _number(self, value: str) -> bytes:
        digits = value.removeprefix("+")
        match self._settings.number_format:
            case NumberFormat.PLUS:
                digits = "+" + digits
            case NumberFormat.NATIONAL if digits.startswith("86"):
                digits = digits[2:]
            case NumberFormat.NATIONAL:
                digits = "00" + digits
        if len(digits) > 20 or not digits.isascii() or not digits[1:].isdigit():
            raise PermanentFailure("bad_number")
        return digits.encode() + b"\0"

    def _narrow(self, head: bytes, to: str, text: str) -> Sequence[bytes]:
        """One octet or septet a character where the alphabet has them all."""
        if self._settings.text_coding is TextCoding.LATIN1:
            try:
                octets = text.encode("latin-1")
            except UnicodeEncodeError:
                return self._ucs2(head, to, text)
            return self._long_latin1(head, to, octets)
        septets = gsm7.encode(text)
        if septets is None:
            return self._ucs2(head, to, text)
        if len(septets) <= 160:
            data = gsm7.pack(septets) if self._settings.gsm7_packed else septets
            return [_body(head, self._plain, DEFAULT, data)]
        return self._long_gsm7(head, to, text)

    def _ucs2(self, head: bytes, to: str, text: str) -> Sequence[bytes]:
        user_data = text.encode("utf-16-be")
        if len(user_data) <= udh.USER_DATA_BYTES:
            return [_body(head, self._plain, UCS2, user_data)]
        return self._long_ucs2(head, to, text)

    def _long_ucs2(self, head: bytes, to: str, text: str) -> Sequence[bytes]:
        parts = split_segments(text, self._settings.segments)
        data = [part.encode("utf-16-be") for part in parts]
        return self._numbered(head, to, UCS2, data)

    def _long_latin1(self, head: bytes, to: str, octets: bytes) -> Sequence[bytes]:
        if len(octets) <= udh.USER_DATA_BYTES:
            return [_body(head, self._plain, LATIN1, octets)]
        size = self._part_bytes
        data = [octets[at : at + size] for at in range(0, len(octets), size)]
        return self._numbered(head, to, LATIN1, data)

    def _long_gsm7(self, head: bytes, to: str, text: str) -> Sequence[bytes]:
        pieces = gsm7.split(text, self._part_bytes * 8 // 7)
        data = [gsm7.encode(piece) or b"" for piece in pieces]
        if self._settings.gsm7_packed:
            fill = gsm7.fill_bits(udh.header_bytes(wide=self._wide))
            data = [gsm7.pack(septets, fill) for septets in data]
        return self._numbered(head, to, DEFAULT, data)

    def _numbered(
        self, head: bytes, to: str, coding: int, data: Sequence[bytes]
    ) -> Sequence[bytes]:
        total = len(data)
        if total > MAX_PARTS:
            raise PermanentFailure("too_long")
        reference = self._references.next(to)
        wide = self._wide
        headers = (
            udh.header(udh.Concatenation(reference, total, number), wide=wide)
            for number in range(1, total + 1)
        )
        pairs = zip(headers, data, strict=True)
        return [_body(head, self._headed, coding, h + part) for h, part in pairs]

    def decode(self, frame: bytes) -> Incoming:
        _, command, code, sequence = pdu.HEADER.unpack_from(frame)
        if command == pdu.SUBMIT_SM_RESP:
            return self._answer(frame, code, sequence)
        if command == pdu.DELIVER_SM:
            return self._deliver(frame, sequence)
        if command == pdu.ENQUIRE_LINK:
            return Reply(pdu.frame(pdu.ENQUIRE_LINK_RESP, sequence))
        return self._seldom(frame, command, code, sequence)

    def _seldom(self, frame: bytes, command: int, code: int, sequence: int) -> Incoming:
        match command:
            case pdu.DATA_SM:
                return self._data(frame, sequence)
            case (
                pdu.BIND_TRANSCEIVER_RESP
                | pdu.BIND_TRANSMITTER_RESP
                | pdu.BIND_RECEIVER_RESP
            ):
                if code == status.OK:
                    return LoginAnswer()
                return LoginAnswer(status.name(code), status.is_lasting(code))
            case pdu.GENERIC_NACK:
                return self._refused(sequence, code or 0xFF)
            case pdu.UNBIND:
                return Farewell(pdu.frame(pdu.UNBIND_RESP, sequence))
            case pdu.UNBIND_RESP:
                return Farewell(b"")
            case pdu.OUTBIND | pdu.ALERT_NOTIFICATION:  # neither has an answer
                return _ALIVE
        if command & pdu.RESPONSE:
            return _ALIVE
        nack = pdu.frame(
            pdu.GENERIC_NACK, sequence, status=status.INVALID_COMMAND_ID
        )  # 4.3.1
        return Reply(nack)

    def _answer(self, frame: bytes, code: int, sequence: int) -> Answer | NotBound:
        if code != status.OK:
            return self._refused(sequence, code)
        id = pdu.message_id(frame)
        if id is None:
            return Answer(sequence, OutcomeUnknown("unreadable_answer"))
        return Answer(sequence, self._ids.of_answer(id))

    def _refused(self, sequence: int, code: int) -> Answer | NotBound:
        if code == status.INVALID_BIND_STATUS and code not in self._own_codes:
            return NotBound(sequence, TransientFailure(status.name(code), free=True))
        return Answer(sequence, status.refusal(code, self._own_codes))

    def _deliver(self, frame: bytes, sequence: int) -> Delivery:
        try:
            short = pdu.short(frame)
        except pdu.BadBody as fault:
            code = status.INVALID_MESSAGE_LENGTH
            raise Malformed(
                f"deliver_sm:{fault}",
                pdu.frame(pdu.DELIVER_SM_RESP, sequence, b"\0", code),
            ) from None
        return self._delivery(short, frame, sequence, _FOR_DELIVER)

    def _data(self, frame: bytes, sequence: int) -> Delivery:
        try:
            short = pdu.data_sm(frame)
        except pdu.BadBody as fault:
            code = status.INVALID_MESSAGE_LENGTH
            raise Malformed(
                f"data_sm:{fault}", pdu.frame(pdu.DATA_SM_RESP, sequence, b"\0", code)
            ) from None
        return self._delivery(short, frame, sequence, _FOR_DATA)

    def _delivery(
        self, short: pdu.Short, frame: bytes, sequence: int, token: bytes
    ) -> Delivery:
        """A receipt is what esm_class or a TLV says is one, never what a text says:
        anybody could write such a text. Nor is one that can't be read what a person
        wrote: it would open an inquiry and be answered, message by message."""
        kind = short.esm_class & pdu.MESSAGE_TYPE
        is_receipt = kind == pdu.RECEIPT or kind == pdu.INTERMEDIATE
        if not is_receipt and pdu.TAG_RECEIPTED_MESSAGE_ID not in short.tlvs:
            return Delivery(sequence, token, self._said(short, frame), nameless=True)
        found = receipts.read(short, self._ids, self._settings.stats)
        if found is not None:
            return Delivery(sequence, token, self._receipt(found, short, frame))
        return Delivery(sequence, token, _unreadable(short, frame))

    def acknowledge(self, delivery: Delivery, *, stored: bool) -> bytes:
        """deliver_sm_resp (4.6.2): its message_id is unused and empty."""
        command = pdu.DATA_SM_RESP if delivery.token else pdu.DELIVER_SM_RESP
        code = status.OK if stored else status.TRY_AGAIN
        return pdu.HEADER.pack(17, command, code, delivery.sequence) + b"\0"

    def _receipt(
        self, found: receipts.Receipt, short: pdu.Short, frame: bytes
    ) -> DeliveryReceipt:
        number = short.source.decode("ascii", "replace")
        address = _phone(number)
        id, word, state, error, done = found
        return DeliveryReceipt(
            key=f"{id}:{word}:{error}:{done}:{number}",
            provider_id=id,
            state=state,
            raw=frame,
            code=f"{word}:{error}" if error.strip("0") else word or "missing",
            address=Address(AddressKind.PHONE, address) if address else None,
            at=self._dates.read(done),
            opted_out=error in self._settings.blacklist_errors
            or word in self._settings.blacklist_stats,
        )

    def _said(self, short: pdu.Short, frame: bytes) -> InboundMessage | Segment:
        place, body, sound = _place(short)
        body = self._unpacked(short, body)
        text, lost = self.text(short.data_coding, body)
        number = short.source.decode("ascii", "replace")
        sender = _phone(number)
        # A part may end inside a character: only the joined text can tell.
        lost = lost and place is None
        notes = ("unreadable",) if lost or not sound or not sender else ()
        to = _shown(short.destination.decode("ascii", "replace"))
        message = InboundMessage(
            key=_content_key(short),
            sender=Address(AddressKind.PHONE, sender or _shown(number) or "unknown"),
            text=text,
            raw=frame,
            to=to,
            notes=notes,
        )
        if place is None:
            return message
        return Segment(
            group=f"{number}:{to}:{place.reference}:{place.total}",
            number=place.number,
            total=place.total,
            coding=short.data_coding,
            body=body,
            message=message,
        )

    def _unpacked(self, short: pdu.Short, body: bytes) -> bytes:
        if not self._settings.gsm7_packed or _alphabet(short.data_coding) != DEFAULT:
            return body
        header = len(short.user_data) - len(body)
        return gsm7.unpack(body, gsm7.fill_bits(header) if header else 0)

    def text(self, coding: int, body: bytes) -> tuple[str, bool]:
        coding = _alphabet(coding)
        if coding == DEFAULT:
            return self._default(body)
        if coding in _DIRECT_CHARSETS:
            return clean(body.decode(_DIRECT_CHARSETS[coding], "replace")), False
        return decode(body, _CHARSETS.get(coding))

    def _default(self, body: bytes) -> tuple[str, bool]:
        match self._settings.default_alphabet:
            case Alphabet.LATIN1:
                return decode(body, "latin-1")
            case Alphabet.ASCII:
                return decode(body, "us-ascii")
        text, lost = gsm7.decode(body)
        return clean(text), lost


_FOR_DELIVER, _FOR_DATA = b"", b"data_sm"


def _before(settings: Settings) -> bytes:
    """submit_sm up to the destination's number."""
    return (
        pdu.c_octets(settings.service_type)
        + bytes([settings.source_ton, settings.source_npi])
        + pdu.c_octets(settings.source)
        + bytes([settings.destination_ton, settings.destination_npi])
    )


def _between(settings: Settings, *, esm_class: int) -> bytes:
    """submit_sm from esm_class to replace_if_present_flag."""
    return (
        bytes([esm_class, 0, 0])  # protocol_id, priority_flag
        + b"\0"  # schedule_delivery_time: now
        + pdu.c_octets(_validity(settings.validity_hours))
        + bytes([_RECEIPT_ON, 0])
    )


def _validity(hours: int) -> str:
    """Relative time (7.1.1.2): YYMMDDhhmmsstnnp with p = R."""
    days, hours = divmod(hours, 24)
    return f"0000{days:02}{hours:02}0000000R" if days or hours else ""


def _body(head: bytes, middle: bytes, coding: int, user_data: bytes) -> bytes:
    # data_coding, sm_default_msg_id, sm_length, short_message
    return b"%b%b%c\0%c%b" % (head, middle, coding, len(user_data), user_data)


def _alphabet(coding: int) -> int:
    """One of table 5.2.19 also for what that keeps in reserve: centres pass on what
    handsets said, with message classes and waiting messages (3GPP TS 23.038, 4)."""
    if 0x10 <= coding < 0x80:
        return (DEFAULT, BINARY, UCS2, coding)[coding >> 2 & 3]
    if coding >= 0xF0:
        return BINARY if coding & 4 else DEFAULT
    if coding >= 0xE0:
        return UCS2
    return DEFAULT if coding >= 0xC0 else coding


def _place(short: pdu.Short) -> tuple[udh.Concatenation | None, bytes, bool]:
    if short.esm_class & pdu.UDHI:
        return udh.taken_apart(short.user_data)
    numbers = pdu.sar(short.tlvs) if short.tlvs else None
    if numbers is None:
        return None, short.user_data, True
    return udh.checked(*numbers), short.user_data, True


def _phone(number: str) -> str | None:
    """E.164. Mainland mobiles, nearly all that come, without a look at the plan."""
    digits = number.removeprefix("+")
    if len(digits) == 13 and digits.startswith("861") and digits.isdigit():
        return "+" + digits
    return e164(number)


def _shown(number: str) -> str:
    """What is no number we know, as far as the protocol has room for it: what is
    longer is garbage, and one that no column takes would be brought for ever."""
    return clean(number)[:LONGEST_ADDRESS]


def _unreadable(short: pdu.Short, frame: bytes) -> ChannelTrouble:
    """Kept for staff, so that the centre may forget it."""
    code = "unreadable_report"
    return ChannelTrouble(key=f"{code}:{_content_key(short)}", code=code, raw=frame)


def _content_key(short: pdu.Short) -> str:
    """What makes two deliveries say the same."""
    kind = bytes((short.esm_class, short.data_coding))
    said = b"\0".join((short.source, short.destination, kind + short.user_data))
    if short.tlvs:
        said += repr(sorted(short.tlvs.items())).encode()
    return hashlib.sha256(said).hexdigest()[:32]
