"""Delivery receipts move messages forward by rank; early ones wait for theirs."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from gateway import database as db
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.members import consent
from gateway.status import RANK, OutboundState, can_move

MATCHED_WITHIN = timedelta(days=7)  # providers use their ids again (C-8)
WAITS = timedelta(hours=72)  # for the message it belongs to (C-1)
BATCH = 500  # receipts of one transaction
_OWN_ID = re.compile("[0-9]{1,18}")  # what fits a key of ours


class Sent(Protocol):
    """What has just been settled."""

    @property
    def outbound_id(self) -> int: ...
    @property
    def provider_ids(self) -> tuple[str, ...]: ...


async def apply_new(core: Core, channel: str, after: int) -> tuple[list[int], int]:
    """Match receipts that came in after the receipt `after`, at most BATCH.

    Returns the ids of the messages that moved, and the last receipt looked at.
    """
    new = await db.rows(
        "SELECT * FROM receipts WHERE channel = ? AND effect = '' AND id > ? "
        f"ORDER BY id LIMIT {BATCH}",
        channel,
        after,
    )
    last = new[-1]["id"] if new else after
    return await _apply_all(core, channel, new), last


async def apply_early(core: Core, channel: str, sent: Sequence[Sent]) -> list[int]:
    """Match receipts that came before the answer to their message."""
    ids = [one.outbound_id for one in sent]
    theirs = [one for message in sent for one in message.provider_ids]
    early = await db.rows(
        "SELECT * FROM receipts WHERE channel = ? AND effect = '' AND "
        f"(reference IN ({db.marks(len(ids)) or 'NULL'}) "
        f"OR provider_id IN ({db.marks(len(theirs)) or 'NULL'})) ORDER BY id",
        channel,
        *map(str, ids),
        *theirs,
    )
    return await _apply_all(core, channel, early)


async def apply_waiting(core: Core, channel: str) -> list[int]:
    """Match all that still wait, of the last days: after a crash, and now and then."""
    oldest = to_micros(core.clock.now() - WAITS)
    waiting = await db.rows(
        "SELECT * FROM receipts WHERE channel = ? AND effect = '' "
        "AND received_at >= ? ORDER BY id",
        channel,
        oldest,
    )
    return await _apply_all(core, channel, waiting)


async def _apply_all(core: Core, channel: str, waiting: Sequence[Row]) -> list[int]:
    """Ids of the messages that moved."""
    moved = []
    for receipt in waiting:
        message = await _message_of(core, channel, receipt)
        if message is not None and await _apply(core, receipt, message):
            moved.append(message["id"])
    return moved


async def _message_of(core: Core, channel: str, receipt: Row) -> Row | None:
    """By our reference, else by the provider's id; only of this account (C-5)."""
    oldest = to_micros(core.clock.now() - MATCHED_WITHIN)
    if _OWN_ID.fullmatch(receipt["reference"]):
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
