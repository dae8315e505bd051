"""Every command_status has one meaning: SMPP 3.4, 5.1.3, table 5-2."""

import pytest

from adapters._sms import Means
from adapters.smpp import status
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

# The table's codes, copied from the specification by hand.
DOCUMENTED = {
    *range(0x01, 0x09), *range(0x0A, 0x10), 0x11, *range(0x13, 0x16), 0x33, 0x34,
    0x40, *range(0x42, 0x46), 0x48, 0x49, 0x50, 0x51, *range(0x53, 0x56), 0x58,
    *range(0x61, 0x68), *range(0xC0, 0xC5), 0xFE, 0xFF,
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert set(status.NAMES) == DOCUMENTED
    names = [name for name, _ in status.NAMES.values()]
    assert len(set(names)) == len(names)


TOO_FAST = {0x14, 0x58}
AGAIN = {0x04, 0x45, 0x64}
ACCOUNT = {0x05, 0x0D, 0x0E, 0x0F, 0x53}
UNCLEAR = {0x08, 0xFF}


@pytest.mark.parametrize("code", sorted(DOCUMENTED))
def test_every_documented_code_has_its_meaning(code: int) -> None:
    """A-7, A-8: certainly not sent, refused for good, or nobody knows."""
    found = status.refusal(code, {})
    name = status.NAMES[code][0]
    assert found.code == name
    assert name.startswith(("ESME_R", "ESME_RX_"))
    if code in UNCLEAR:
        assert type(found) is OutcomeUnknown
    elif code in TOO_FAST | AGAIN | ACCOUNT:
        assert isinstance(found, TransientFailure)
        assert found.throttled == (code in TOO_FAST)
        assert (found.retry_after is not None) == (code in ACCOUNT)
    else:
        assert type(found) is PermanentFailure
        assert not found.opted_out


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (0x0B, PermanentFailure, "ESME_RINVDSTADR"),
        (0x14, TransientFailure, "ESME_RMSGQFUL"),
        (0x58, TransientFailure, "ESME_RTHROTTLED"),
        (0x64, TransientFailure, "ESME_RX_T_APPN"),
        (0x04, TransientFailure, "ESME_RINVBNDSTS"),
        (0x0E, TransientFailure, "ESME_RINVPASWD"),
        (0x08, OutcomeUnknown, "ESME_RSYSERR"),
        (0xFF, OutcomeUnknown, "ESME_RUNKNOWNERR"),
        (0x411, PermanentFailure, "unmapped:0x00000411"),
    ],
)
def test_meanings(code: int, kind: type[DeliveryError], name: str) -> None:
    found = status.refusal(code, {})
    assert type(found) is kind
    assert found.code == name


@pytest.mark.parametrize("code", [0x14, 0x58])
def test_too_fast_uses_no_attempt(code: int) -> None:
    """A-7"""
    found = status.refusal(code, {})
    assert isinstance(found, TransientFailure)
    assert found.throttled


def test_a_centre_s_own_codes_come_from_the_settings() -> None:
    own = {0x411: Means.TOO_FAST, 0x412: Means.OPTED_OUT}
    throttled, refused = status.refusal(0x411, own), status.refusal(0x412, own)
    assert isinstance(throttled, TransientFailure)
    assert throttled.throttled
    assert isinstance(refused, PermanentFailure)
    assert refused.opted_out


PASSES = {0x05, 0x08, 0x0D, 0x14, 0x58, 0x64, 0xFF}


@pytest.mark.parametrize("code", [*sorted(DOCUMENTED), 0x400])
def test_a_refused_login_is_tried_again_soon_where_it_passes(code: int) -> None:
    """H-6, H-8: after a half-open connection the centre still thinks we are bound; a
    wrong password is a wrong password in a second too."""
    assert status.is_lasting(code) == (code not in PASSES)
