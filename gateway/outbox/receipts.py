"""Delivery receipts move messages forward by rank; early ones wait for theirs."""

import json
from datetime import timedelta

from gateway import database as db
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.members import consent
from gateway.status import RANK, OutboundState, can_move

MATCHED_WITHIN = timedelta(days=7)  # providers use their ids again (C-8)


async def apply_waiting(core: Core, channel: str) -> list[int]:
    """Match every waiting receipt of a channel; ids of the messages that moved."""
    waiting = await db.rows(
        "SELECT * FROM receipts WHERE channel = ? AND effect = '' ORDER BY id",
        channel,
    )
    moved = []
    for receipt in waiting:
        message = await _message_of(core, channel, receipt)
        if message is not None and await _apply(core, receipt, message):
            moved.append(message["id"])
    return moved


async def _message_of(core: Core, channel: str, receipt: Row) -> Row | None:
    """By our reference, else by the provider's id; only of this account (C-5)."""
    oldest = to_micros(core.clock.now() - MATCHED_WITHIN)
    if receipt["reference"].isascii() and receipt["reference"].isdecimal():
        found = await db.rows(
            "SELECT * FROM outbox WHERE id = ? AND channel = ?",
            int(receipt["reference"]),
            channel,
        )
        if found:
            return found[0]
    if not receipt["provider_id"]:
        return None
    found = await db.rows(
        "SELECT * FROM outbox WHERE channel = ? AND provider_id = ? "
        "AND changed_at >= ? ORDER BY id DESC LIMIT 1",
        channel,
        receipt["provider_id"],
        oldest,
    )
    return found[0] if found else None


async def _apply(core: Core, receipt: Row, message: Row) -> bool:
    before = OutboundState(message["state"])
    if message["state"] in ("queued", "sending"):
        return False  # first its own answer; then this receipt again
    effect = "unknown_word"
    after: OutboundState = before
    if receipt["state"] != "unknown":
        after = OutboundState(receipt["state"])
        effect = _effect(before, after)
    if effect == "applied":
        await db.execute(
            "UPDATE outbox SET state = ?, reason = ?, changed_at = ? "
            "WHERE id = ? AND state = ?",
            after.value,
            receipt["code"],
            to_micros(core.clock.now()),
            message["id"],
            before.value,
        )
        core.metrics.outbound.labels(message["channel"], after.value).inc()
    if receipt["opted_out"]:
        address = Address(AddressKind(message["kind"]), message["value"])
        await consent.opt_out(core, address, how="provider", evidence=receipt["code"])
    await db.execute(
        "UPDATE receipts SET outbound_id = ?, effect = ? WHERE id = ?",
        message["id"],
        effect,
        receipt["id"],
    )
    return effect == "applied"


def _effect(before: OutboundState, after: OutboundState) -> str:
    if before is after:
        return "repeated"
    if can_move(before, after) and RANK[after] > RANK[before]:
        return "applied"
    return "conflict" if RANK[after] == RANK[before] else "late"


def provider_ids(row: Row) -> list[str]:
    """The provider's ids of one attempt row."""
    found = json.loads(row["provider_ids"])
    return [str(one) for one in found]
