"""Delivery receipts: the text of Appendix B, and the TLVs that say it better."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from adapters.smpp import pdu
from adapters.smpp.settings import MessageIds
from gateway.contract import ReceiptState

# Appendix B, table B-2, and 5.2.28; what is on its way is no final state.
WORDS: Mapping[str, ReceiptState] = {
    "DELIVRD": ReceiptState.DELIVERED,
    "EXPIRED": ReceiptState.FAILED,
    "DELETED": ReceiptState.FAILED,
    "UNDELIV": ReceiptState.FAILED,
    "REJECTD": ReceiptState.FAILED,
}
# message_state, 5.2.28
STATES = (
    "",
    "ENROUTE",
    "DELIVRD",
    "EXPIRED",
    "DELETED",
    "UNDELIV",
    "ACCEPTD",
    "UNKNOWN",
    "REJECTD",
)
_USUAL = re.compile(
    rb"id:(\S*) sub:\S* dlvrd:\S* submit date:\d* done date:(\d*) "
    rb"stat:(\S*) err:(\S*)"
)
_FIELDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rb"\bid:\s*(\S*)",
        rb"done date:\s*(\d*)",
        rb"stat:\s*(\S*)",
        rb"err:\s*(\S*)",
    )
)


class Receipt(NamedTuple):
    id: str  # in the form in which the submit answer's id is kept
    word: str
    state: ReceiptState
    error: str
    done: str  # digits, as written


def read(
    short: pdu.Short, ids: "Ids", own: Mapping[str, ReceiptState]
) -> Receipt | None:
    """None where neither text nor TLVs name a message. `own` are this centre's words,
    whole or up to the colon."""
    said = _USUAL.match(short.user_data)
    if said:
        id, done, word, error = said.groups()
    else:
        id, done, word, error = (_field(f, short.user_data) for f in _FIELDS)
    found = ids.of_receipt(id.decode("ascii", "replace"))
    stated = word.decode("ascii", "replace").upper()
    failure = error.decode("ascii", "replace")
    if short.tlvs:
        found, stated, failure = _better(short.tlvs, ids, found, stated, failure)
    if not found:
        return None
    state = WORDS.get(stated, ReceiptState.UNKNOWN)
    if own:
        state = own.get(stated) or own.get(stated[:3]) or state
    if short.esm_class & pdu.MESSAGE_TYPE == pdu.INTERMEDIATE:
        state = ReceiptState.UNKNOWN  # an end it is not, whatever it says
    return Receipt(found, stated, state, failure, done.decode("ascii", "replace"))


def _better(
    tlvs: Mapping[int, bytes], ids: "Ids", id: str, word: str, error: str
) -> tuple[str, str, str]:
    """receipted_message_id is the id of the submit answer (5.3.2.12); message_state
    (5.3.2.35) and network_error_code (5.3.2.31) win over the text."""
    if given := tlvs.get(pdu.TAG_RECEIPTED_MESSAGE_ID):
        id = ids.of_answer(given.split(b"\0")[0].decode("ascii", "replace"))
    if given := tlvs.get(pdu.TAG_MESSAGE_STATE):
        word = STATES[given[0]] if 0 < given[0] < len(STATES) else str(given[0])
    network = tlvs.get(pdu.TAG_NETWORK_ERROR, b"")
    if len(network) == 3 and not error.strip("0"):
        error = f"{network[0]}:{int.from_bytes(network[1:], 'big')}"
    return id, word, error


def _field(pattern: re.Pattern[bytes], text: bytes) -> bytes:
    found = pattern.search(text)
    return found[1] if found else b""


class Ids(NamedTuple):
    """How a centre writes message ids, made alike."""

    of_answer: Callable[[str], str]
    of_receipt: Callable[[str], str]


def ids(written: MessageIds) -> Ids:
    match written:
        case MessageIds.AS_IS:
            return Ids(_verbatim, _verbatim)
        case MessageIds.HEX:
            return Ids(_from_hex, _from_hex)
        case MessageIds.DECIMAL:
            return Ids(_from_decimal, _from_decimal)
        case MessageIds.HEX_THEN_DECIMAL:
            return Ids(_from_hex, _from_decimal)
        case MessageIds.DECIMAL_THEN_HEX:
            return Ids(_from_decimal, _from_hex)


def _verbatim(id: str) -> str:
    return id.strip()


def _from_hex(id: str) -> str:
    """Any number in decimal without leading zeros; what is none stays as it is."""
    return _number(id, 16)


def _from_decimal(id: str) -> str:
    return _number(id, 10)


def _number(id: str, radix: int) -> str:
    id = id.strip()
    if not id.isalnum():
        return id
    try:
        return str(int(id, radix))
    except ValueError:
        return id


class Dates:
    """Times of receipts, YYMMDDhhmm or with seconds, in the centre's own zone. Few
    different ones come at a time: each is worked out once."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._known: dict[str, datetime | None] = {}

    def read(self, written: str) -> datetime | None:
        if written not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[written] = self._work_out(written)
        return self._known[written]

    def _work_out(self, written: str) -> datetime | None:
        layout = {10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S"}.get(len(written))
        if layout is None:
            return None
        try:
            local = datetime.strptime(written, layout)  # noqa: DTZ007 zone follows
        except ValueError:
            return None
        return local.replace(tzinfo=self._zone).astimezone(UTC)
