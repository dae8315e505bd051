"""What may leave at this very moment. Pure: facts in, decision out.

The facts are read in the transaction that journals the intent, so a refusal or an
erasure that was committed before it is honoured.
"""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway.consent import QuietHours
from gateway.contract import MessageKind

# What a person did not ask for just now: opt-out and quiet hours hold.
UNASKED = frozenset({MessageKind.NOTICE, MessageKind.DAILY, MessageKind.CALLBACK})
ERASED = "erased"  # why a message to a member whose data was erased is cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    kind: MessageKind
    now: datetime
    expires_at: datetime | None
    erased: bool  # whom it is for is gone
    opted_out: bool
    subscribed: bool  # true for kinds that need no subscription
    capped: bool  # as many unasked messages came as the centre allows in a day
    refusal: str | None  # why the row's channel can't carry it now


@dataclass(frozen=True, slots=True)
class Send:
    pass


@dataclass(frozen=True, slots=True)
class Drop:
    """Ends here: `state` is suppressed, expired or cancelled, `reason` says why."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Postpone:
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Reroute:
    """This channel can't carry it; the caller looks for the next permitted one."""

    reason: str


Decision = Send | Drop | Postpone | Reroute


def decide(facts: Facts, quiet: QuietHours, timezone: ZoneInfo) -> Decision:
    """Erasure, expiry, then consent and the daily cap, quiet hours, the channel's own
    limits."""
    if facts.erased:
        return Drop("cancelled", ERASED)
    if facts.expires_at is not None and facts.now >= facts.expires_at:
        return Drop("expired", "expired")
    if facts.kind in UNASKED:
        if facts.opted_out:
            return Drop("suppressed", "opted_out")
        if not facts.subscribed:
            return Drop("suppressed", "unsubscribed")
        if facts.capped:
            return Drop("suppressed", "frequency_cap")
        if quiet.is_quiet(facts.now, timezone):
            until = quiet.next_allowed(facts.now, timezone)
            return Postpone(until, "quiet_hours")
    return Send() if facts.refusal is None else Reroute(facts.refusal)
