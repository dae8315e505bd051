"""What each command_status says about a message (SMPP 3.4, 5.1.3, table 5-2)."""

from collections.abc import Mapping

from adapters._sms import Means, meaning
from gateway.errors import DeliveryError, PermanentFailure

OK = 0x00
INVALID_MESSAGE_LENGTH = 0x01
INVALID_COMMAND_LENGTH = 0x02
INVALID_COMMAND_ID = 0x03
INVALID_BIND_STATUS = 0x04
THROTTLED = 0x58
TRY_AGAIN = 0x64  # ESME_RX_T_APPN: the receiver's temporary trouble

NAMES: Mapping[int, tuple[str, Means]] = {
    # The message itself, its addresses or its fields.
    0x01: ("ESME_RINVMSGLEN", Means.REFUSED),
    0x02: ("ESME_RINVCMDLEN", Means.REFUSED),
    0x03: ("ESME_RINVCMDID", Means.REFUSED),
    0x06: ("ESME_RINVPRTFLG", Means.REFUSED),
    0x07: ("ESME_RINVREGDLVFLG", Means.REFUSED),
    0x0A: ("ESME_RINVSRCADR", Means.REFUSED),
    0x0B: ("ESME_RINVDSTADR", Means.REFUSED),
    0x0C: ("ESME_RINVMSGID", Means.REFUSED),
    0x11: ("ESME_RCANCELFAIL", Means.REFUSED),
    0x13: ("ESME_RREPLACEFAIL", Means.REFUSED),
    0x15: ("ESME_RINVSERTYP", Means.REFUSED),
    0x33: ("ESME_RINVNUMDESTS", Means.REFUSED),
    0x34: ("ESME_RINVDLNAME", Means.REFUSED),
    0x40: ("ESME_RINVDESTFLAG", Means.REFUSED),
    0x42: ("ESME_RINVSUBREP", Means.REFUSED),
    0x43: ("ESME_RINVESMCLASS", Means.REFUSED),
    0x44: ("ESME_RCNTSUBDL", Means.REFUSED),
    0x48: ("ESME_RINVSRCTON", Means.REFUSED),
    0x49: ("ESME_RINVSRCNPI", Means.REFUSED),
    0x50: ("ESME_RINVDSTTON", Means.REFUSED),
    0x51: ("ESME_RINVDSTNPI", Means.REFUSED),
    0x54: ("ESME_RINVREPFLAG", Means.REFUSED),
    0x55: ("ESME_RINVNUMMSGS", Means.REFUSED),
    0x61: ("ESME_RINVSCHED", Means.REFUSED),
    0x62: ("ESME_RINVEXPIRY", Means.REFUSED),
    0x63: ("ESME_RINVDFTMSGID", Means.REFUSED),
    0x65: ("ESME_RX_P_APPN", Means.REFUSED),
    0x66: ("ESME_RX_R_APPN", Means.REFUSED),
    0x67: ("ESME_RQUERYFAIL", Means.REFUSED),
    0xC0: ("ESME_RINVOPTPARSTREAM", Means.REFUSED),
    0xC1: ("ESME_ROPTPARNOTALLWD", Means.REFUSED),
    0xC2: ("ESME_RINVPARLEN", Means.REFUSED),
    0xC3: ("ESME_RMISSINGOPTPARAM", Means.REFUSED),
    0xC4: ("ESME_RINVOPTPARAMVAL", Means.REFUSED),
    0xFE: ("ESME_RDELIVERYFAILURE", Means.REFUSED),
    # "Message queue full" and "exceeded allowed message limits".
    0x14: ("ESME_RMSGQFUL", Means.TOO_FAST),
    0x58: ("ESME_RTHROTTLED", Means.TOO_FAST),
    # Failed for certain, for a reason that may pass.
    0x04: ("ESME_RINVBNDSTS", Means.AGAIN),  # after a new bind: see the codec
    0x45: ("ESME_RSUBMITFAIL", Means.AGAIN),
    0x64: ("ESME_RX_T_APPN", Means.AGAIN),
    # The session or the account.
    0x05: ("ESME_RALYBND", Means.ACCOUNT),
    0x0D: ("ESME_RBINDFAIL", Means.ACCOUNT),
    0x0E: ("ESME_RINVPASWD", Means.ACCOUNT),
    0x0F: ("ESME_RINVSYSID", Means.ACCOUNT),
    0x53: ("ESME_RINVSYSTYP", Means.ACCOUNT),
    # Broke inside the centre: nothing says that the message was not taken.
    0x08: ("ESME_RSYSERR", Means.UNCLEAR),
    0xFF: ("ESME_RUNKNOWNERR", Means.UNCLEAR),
}

# Refused logins that may be tried again soon: still bound (which some call a failed
# bind), overloaded, broken.
_PASSING = {0x05, 0x08, 0x0D, 0x14, 0x58, 0x64, 0xFF}


def name(status: int) -> str:
    """The table's word; codes outside it (0x400 to 0x4FF are the vendor's) as hex."""
    return NAMES[status][0] if status in NAMES else f"0x{status:08X}"


def refusal(status: int, own: Mapping[int, Means]) -> DeliveryError:
    """What a status other than OK says; `own` are this centre's vendor codes."""
    if status in own:
        return meaning(name(status), own[status])
    if status in NAMES:
        return meaning(*NAMES[status])
    return PermanentFailure(f"unmapped:0x{status:08X}")


def is_lasting(status: int) -> bool:
    """Whether a refused login would be refused again soon."""
    return status not in _PASSING
