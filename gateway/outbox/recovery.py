"""What a process that is gone had journalled and not settled is unknown: named, message
by message."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway import database as db
from gateway.database import Row, to_micros
from gateway.outbox import moves
from gateway.outbox.journal import Settlement, settle

DEAD_AFTER = timedelta(seconds=30)  # a process that has not been seen so long


async def recover(now: datetime, alone: bool) -> int:
    """Make `unknown` what a dead process had journalled and not settled.

    `alone`: no other process can be alive (SQLite), so every node but ours is dead.
    """
    dead = "" if alone else "AND (stopped_at IS NOT NULL OR seen_at < ?)"
    values: list[Any] = [] if alone else [to_micros(now - DEAD_AFTER)]
    nodes = f"node_id IN (SELECT id FROM nodes WHERE 1 = 1 {dead})"
    found = await moves.advance_where(
        f"state = 'sending' AND {nodes}", values, "unknown", "process_ended", now
    )
    for chunk in await _leased(nodes, values):
        found += await _unknown(chunk, "process_ended", now)
        await _give_back(chunk)
    return found


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may write to a channel's account now: a process, under an epoch."""

    node_id: int
    epoch: int
    is_alone: bool  # by its lease nobody else may write there


async def disown(
    channel: str,
    owner: Owner,
    flying: Sequence[int],
    chunks: Collection[int],
    now: datetime,
) -> int:
    """Make `unknown` what was journalled on a channel that `owner` now has, and that
    it neither sends nor settles: by an owner before it, or by a lost commit.

    `flying` are its messages on their way, `chunks` those with any of them.
    """
    theirs = "channel = ?" if owner.is_alone else "channel = ? AND node_id = ?"
    values = [channel] if owner.is_alone else [channel, owner.node_id]
    found = await moves.advance_where(
        f"{theirs} AND state = 'sending' "
        f"AND id NOT IN ({db.marks(len(flying)) or '0'})",
        [*values, *flying],
        "unknown",
        "not_settled",
        now,
    )
    for chunk in await _leased(theirs, values):
        found += await _unknown(chunk, "not_settled", now, flying)
        if chunk["id"] in chunks:
            await db.execute(
                "UPDATE chunks SET node_id = ?, epoch = ? WHERE id = ?",
                owner.node_id,
                owner.epoch,
                chunk["id"],
            )
        else:
            await _give_back(chunk)
    return found


async def _leased(condition: str, values: Sequence[Any]) -> list[Row]:
    lock = db.for_update()
    return await db.rows(
        f"SELECT * FROM chunks WHERE state = 'leased' AND {condition}{lock}", *values
    )


async def _give_back(chunk: Row) -> None:
    """Ready for somebody else from its mark on."""
    await db.execute(
        "UPDATE chunks SET state = CASE WHEN journalled_to >= last_id THEN 'done' "
        "ELSE 'ready' END, node_id = NULL WHERE id = ?",
        chunk["id"],
    )


async def _unknown(
    chunk: Row, reason: str, now: datetime, flying: Sequence[int] = ()
) -> int:
    """Name every recipient of whom nobody knows, with the attempt it was."""
    held = frozenset(flying)
    rows = await db.rows(
        "SELECT id, kind, value, broadcast_id FROM outbox WHERE id BETWEEN ? AND ? "
        "AND +broadcast_id = ? AND channel = ? AND state = 'planned'",
        chunk["first_id"],
        chunk["journalled_to"],
        chunk["broadcast_id"],
        chunk["channel"],
    )
    done = [
        Settlement(
            row=row,
            number=1,
            journalled_at=chunk["journalled_at"],
            chunk_id=chunk["id"],
            outcome="",
            state="unknown",
            code=reason,
        )
        for row in rows
        if row["id"] not in held
    ]
    return len(await settle(done, chunk["channel"], chunk["node_id"], now))
