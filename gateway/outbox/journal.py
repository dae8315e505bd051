"""The statements of the flow: take what is due, journal, settle, recover.

A row goes to `sending` in the same transaction that appends its attempt, just before
its bytes leave. What is still `sending` when its process is gone is `unknown`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway import database as db
from gateway.database import Row, to_micros

DEAD_AFTER = timedelta(seconds=30)  # a process that has not been seen so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one attempt, and where its message goes from there."""

    outbound_id: int
    number: int
    outcome: str  # accepted, permanent, transient, unknown
    state: str  # the message's next state
    code: str = ""
    detail: str = ""
    provider_ids: tuple[str, ...] = ()
    due_at: datetime | None = None
    throttled: bool = False  # refused for the rate: costs no attempt


async def due(channel: str, now: datetime, limit: int) -> list[Row]:
    """Rows of one channel that may be looked at now, most urgent first, locked."""
    found = await db.rows(
        "SELECT o.* FROM outbox o WHERE o.channel = ? AND o.state = 'queued' "
        "AND o.due_at <= ? AND NOT EXISTS "
        "(SELECT 1 FROM holds h WHERE h.broadcast_id = o.broadcast_id) "
        f"ORDER BY o.priority, o.id LIMIT {int(limit)}{db.for_update()}",
        channel,
        to_micros(now),
    )
    for row in found:
        row["variables"] = json.loads(row["variables"])
        row["extras"] = json.loads(row["extras"])
    return found


async def next_due(channel: str) -> int | None:
    """The earliest instant (microseconds) at which a row of this channel is due."""
    found = await db.rows(
        "SELECT MIN(o.due_at) AS due FROM outbox o WHERE o.channel = ? "
        "AND o.state = 'queued' AND NOT EXISTS "
        "(SELECT 1 FROM holds h WHERE h.broadcast_id = o.broadcast_id)",
        channel,
    )
    value = found[0]["due"]
    return None if value is None else int(value)


async def queued(channel: str) -> int:
    """How many rows of this channel wait, due or not."""
    found = await db.rows(
        "SELECT COUNT(*) AS n FROM outbox WHERE channel = ? AND state = 'queued'",
        channel,
    )
    return int(found[0]["n"])


async def journal(rows: Sequence[Row], node_id: int, now: datetime) -> None:
    """Write the intent of each row; its `attempts` is counted up in the row too."""
    at = to_micros(now)
    for row in rows:
        row["attempts"] += 1
    await db.execute_many(
        "INSERT INTO attempts (outbound_id, number, channel, kind, value, node_id, "
        "journalled_at, outcome, code, detail, provider_ids) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, '', '', '', '[]')",
        [
            (
                row["id"],
                row["attempts"],
                row["channel"],
                row["kind"],
                row["value"],
                node_id,
                at,
            )
            for row in rows
        ],
    )
    await db.execute_many(
        "UPDATE outbox SET state = 'sending', attempts = ?, node_id = ?, "
        "channel = ?, kind = ?, value = ?, changed_at = ? WHERE id = ?",
        [
            (
                row["attempts"],
                node_id,
                row["channel"],
                row["kind"],
                row["value"],
                at,
                row["id"],
            )
            for row in rows
        ],
    )


async def settle(done: Sequence[Settlement], now: datetime) -> None:
    """Append outcomes, move messages forward. A late answer also ends `unknown`."""
    at = to_micros(now)
    await db.execute_many(
        "UPDATE attempts SET outcome = ?, code = ?, detail = ?, provider_ids = ?, "
        "answered_at = ? WHERE outbound_id = ? AND number = ?",
        [
            (
                one.outcome,
                one.code[:64],
                one.detail,
                json.dumps(one.provider_ids),
                at,
                one.outbound_id,
                one.number,
            )
            for one in done
        ],
    )
    await db.execute_many(
        "UPDATE outbox SET state = ?, reason = ?, detail = ?, provider_id = ?, "
        "due_at = COALESCE(?, due_at), throttled = throttled + ?, changed_at = ? "
        "WHERE id = ? AND attempts = ? AND state IN ('sending', 'unknown')",
        [
            (
                one.state,
                one.code[:64],
                one.detail,
                (one.provider_ids[0] if one.provider_ids else "")[:254],
                None if one.due_at is None else to_micros(one.due_at),
                int(one.throttled),
                at,
                one.outbound_id,
                one.number,
            )
            for one in done
        ],
    )


async def move(
    ids: Sequence[int], state: str, reason: str, now: datetime, detail: str = ""
) -> int:
    """Move queued rows to an end state; rows that have left meanwhile stay."""
    if not ids:
        return 0
    return await db.execute(
        "UPDATE outbox SET state = ?, reason = ?, detail = ?, changed_at = ? "
        f"WHERE state = 'queued' AND id IN ({db.marks(len(ids))})",
        state,
        reason,
        detail,
        to_micros(now),
        *ids,
    )


async def postpone(ids: Sequence[int], until: datetime, reason: str) -> None:
    if ids:
        await db.execute(
            "UPDATE outbox SET due_at = ?, reason = ? "
            f"WHERE state = 'queued' AND id IN ({db.marks(len(ids))})",
            to_micros(until),
            reason,
            *ids,
        )


async def recover(now: datetime, alone: bool) -> int:
    """Make `unknown` what a dead process had journalled and not settled.

    `alone`: no other process can be alive (SQLite), so every node but ours is dead.
    """
    dead = "" if alone else "AND (stopped_at IS NOT NULL OR seen_at < ?)"
    values: list[Any] = [] if alone else [to_micros(now - DEAD_AFTER)]
    return await db.execute(
        "UPDATE outbox SET state = 'unknown', reason = 'process_ended', "
        "changed_at = ? WHERE state = 'sending' AND node_id IN "
        f"(SELECT id FROM nodes WHERE 1 = 1 {dead})",
        to_micros(now),
        *values,
    )


async def disown(
    channel: str, node_id: int, flying: Sequence[int], now: datetime
) -> int:
    """Make `unknown` what this process journalled, but neither sends nor settles."""
    return await db.execute(
        "UPDATE outbox SET state = 'unknown', reason = 'not_settled', changed_at = ? "
        "WHERE channel = ? AND node_id = ? AND state = 'sending' "
        f"AND id NOT IN ({db.marks(len(flying)) or '0'})",
        to_micros(now),
        channel,
        node_id,
        *flying,
    )


async def counts(broadcast_id: int) -> Mapping[str, int]:
    """Rows of a broadcast by state."""
    found = await db.rows(
        "SELECT state, COUNT(*) AS n FROM outbox WHERE broadcast_id = ? GROUP BY state",
        broadcast_id,
    )
    return {row["state"]: int(row["n"]) for row in found}
