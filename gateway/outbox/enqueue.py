"""Puts messages into the outbox, in the transaction of the fact that causes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.channels import NoRoute, Reach, Route, choose
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import from_micros, marks, rows, to_micros
from gateway.status import OutboundState
from gateway.tables import Outbound

PRIORITY = {
    MessageKind.SYSTEM: 0,
    MessageKind.ANSWER: 0,
    MessageKind.RECEIPT: 0,
    MessageKind.TEST: 0,
    MessageKind.CALLBACK: 5,
    MessageKind.NOTICE: 10,
    MessageKind.DAILY: 20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One message to one person, before a channel is chosen.

    `extras` become fields of OutboundMessage: subject, in_reply_to, references,
    reply_token, mention, unsubscribe_url. `dedupe_key` makes a second enqueue of the
    same thing harmless, for ever.
    """

    kind: MessageKind
    text: str
    variables: Mapping[str, str] = field(default_factory=dict)
    member_id: int | None = None
    inquiry_id: int | None = None
    inbound_id: int | None = None
    dedupe_key: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    due_at: datetime | None = None
    expires_at: datetime | None = None


async def enqueue(core: Core, draft: Draft, route: Route) -> Outbound | None:
    """Store one message for the chosen route; None where it was stored before.

    Call it inside a transaction; after its commit wake the sender of the channel.
    """
    if draft.dedupe_key is not None:
        known = await Outbound.filter(dedupe_key=draft.dedupe_key).exists()
        if known:
            return None
    now = core.clock.now()
    extras = dict(draft.extras)
    if route.reach.mention:
        extras["mention"] = route.reach.mention
    if route.reach.in_reply_to:
        extras.setdefault("in_reply_to", route.reach.in_reply_to)
    return await Outbound.create(
        message_kind=draft.kind,
        priority=PRIORITY[draft.kind],
        dedupe_key=draft.dedupe_key,
        inquiry_id=draft.inquiry_id,
        inbound_id=draft.inbound_id,
        member_id=draft.member_id,
        channel=route.channel.name,
        kind=route.reach.address.kind,
        value=route.reach.address.value,
        text=draft.text,
        variables=dict(draft.variables),
        extras=extras,
        state=OutboundState.QUEUED,
        due_at=draft.due_at or now,
        expires_at=draft.expires_at or expiry(core, draft.kind, now),
        created_at=now,
        changed_at=now,
    )


def expiry(
    core: Core, kind: MessageKind, now: datetime, *ends: datetime | None
) -> datetime:
    """Until when a message that is stored, or let go again, now may leave; `ends` are
    those of its notice."""
    policy = core.settings.policy
    bulk = kind in (MessageKind.NOTICE, MessageKind.DAILY)
    hours = policy.broadcast_expires_hours if bulk else policy.answer_expires_hours
    return min([now + timedelta(hours=hours), *(end for end in ends if end)])


async def reaches(
    core: Core,
    member_id: int | None,
    first: Reach | None = None,
) -> list[Reach]:
    """Ways to reach a person: where they wrote first, then their other addresses.

    A member's own preference comes before the centre's `fallback_order`. Only
    verified addresses are used, besides the one just written from.
    """
    found = [first] if first is not None else []
    if member_id is None:
        return found
    known = await rows(
        "SELECT a.kind, a.value, a.last_inbound_at, m.preferred_kind "
        "FROM addresses a JOIN members m ON m.id = a.member_id "
        "WHERE a.member_id = ? AND a.verified_at IS NOT NULL ORDER BY a.id",
        member_id,
    )
    order = list(core.settings.policy.fallback_order)
    known.sort(key=lambda row: rank(row["kind"], row["preferred_kind"], order))
    for row in known:
        address = Address(AddressKind(row["kind"]), row["value"])
        if first is not None and address == first.address:
            continue
        last = row["last_inbound_at"]
        last_at = None if last is None else from_micros(last)
        found.append(Reach(address=address, last_inbound_at=last_at))
    return found


def rank(kind: str, preferred: str, order: Sequence[str]) -> tuple[bool, int]:
    """Sorts kinds of addresses: the member's own preference, then the centre's."""
    position = order.index(kind) if kind in order else len(order)
    return (kind != preferred, position)


async def route_for(
    core: Core, kind: MessageKind, ways: Sequence[Reach]
) -> Route | NoRoute:
    """Choose now, as the gate will choose again when the message leaves."""
    counted = ways
    if counts_replies(core):
        counted = [await _with_replies(way) for way in ways]
    return choose(core.channels, kind, counted, core.clock.now())


def counts_replies(core: Core) -> bool:
    """Whether any channel allows only so many replies to a message."""
    return any(
        one.capabilities.replies_per_message is not None for one in core.channels
    )


async def _with_replies(reach: Reach) -> Reach:
    if reach.last_inbound_at is None or not reach.channel:
        return reach
    used = await rows(
        "SELECT COUNT(*) AS n FROM attempts WHERE channel = ? AND kind = ? "
        "AND value = ? AND journalled_at >= ? "
        "AND outcome IN ('', 'accepted', 'unknown')",
        reach.channel,
        reach.address.kind.value,
        reach.address.value,
        to_micros(reach.last_inbound_at),
    )
    return replace(reach, replies_used=used[0]["n"])


async def opted_out(addresses: Sequence[Address], member_id: int | None) -> bool:
    """Whether a refusal is in force for any of these addresses or their member."""
    if member_id is not None and await rows(
        "SELECT 1 AS x FROM opt_outs WHERE member_id = ? AND ended_at IS NULL LIMIT 1",
        member_id,
    ):
        return True
    if not addresses:
        return False
    values = [address.value for address in addresses]
    found = await rows(
        "SELECT kind, value FROM opt_outs WHERE ended_at IS NULL "
        f"AND value IN ({marks(len(values))})",
        *values,
    )
    refused = {(row["kind"], row["value"]) for row in found}
    return any((a.kind.value, a.value) in refused for a in addresses)
