"""After a cancel: what had not left is counted as cancelled, its questions withdrawn.

The hold takes effect at once; this follows chunk by chunk, in short transactions. A
recipient up to the mark of a chunk may be on its way and is left to its answer.
"""

from collections.abc import Sequence
from datetime import datetime

from gateway import database as db
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.outbox import moves

AT_ONCE = 2  # transactions that who cancels waits for
_CHUNKS = 10  # in one transaction: a quarter of a second where each asks a question
WELL = ("planned", "accepted", "delivered", "read", "cancelled")


def noteworthy(prefix: str = "") -> str:
    """Of a row that is not over or not well: word for word what its index says.

    One comparison after another: of a list SQLite makes a table for each row written.
    """
    return " AND ".join(f"{prefix}state <> '{state}'" for state in WELL)


NOTEWORTHY = noteworthy()
_OPEN = "(state IN ('held', 'ready') OR (state = 'leased' AND journalled_to < last_id))"


async def left(core: Core) -> list[int]:
    """Cancelled broadcasts of which something still waits."""
    found = await db.rows(
        "SELECT b.id FROM broadcasts b WHERE b.state = 'cancelled' AND (EXISTS ("
        f"SELECT 1 FROM chunks WHERE broadcast_id = b.id AND {_OPEN}) OR EXISTS ("
        f"SELECT 1 FROM outbox WHERE broadcast_id = b.id AND {NOTEWORTHY} "
        "AND state = 'queued')) ORDER BY b.id"
    )
    return [row["id"] for row in found]


async def sweep(core: Core, broadcast_id: int, at_most: int | None = None) -> None:
    """Sweep all of it, or as much as `at_most` transactions do."""
    while at_most is None or at_most > 0:
        async with db.transaction():
            more = await _some(broadcast_id, core.clock.now())
        core.hub.publish("broadcast", broadcast_id)
        if not more:
            break
        at_most = None if at_most is None else at_most - 1
    async with db.transaction():
        await _queued(broadcast_id, core.clock.now())


async def _some(broadcast_id: int, now: datetime) -> bool:
    """Sweep the next chunks; whether there may be more."""
    lock = " FOR UPDATE" if db.is_postgres() else ""
    chunks = await db.rows(
        f"SELECT * FROM chunks WHERE broadcast_id = ? AND {_OPEN} "
        f"ORDER BY id LIMIT {_CHUNKS}{lock}",
        broadcast_id,
    )
    if not chunks:
        return False
    at = to_micros(now)
    statements = [one for chunk in chunks for one in _cancel(chunk, at)]
    changed = await db.run_all(statements)
    cancelled = sum(changed[:: len(statements) // len(chunks)])
    await moves.tally(
        {
            (broadcast_id, "planned"): -cancelled,
            (broadcast_id, "cancelled"): cancelled,
        },
        now,
    )
    return len(chunks) == _CHUNKS


def _cancel(chunk: Row, at: int) -> Sequence[tuple[str, Sequence[object]]]:
    """The plus keeps SQLite from reading the questions of the whole broadcast by their
    index, for each recipient: they are found by the address."""
    rows = (
        chunk["journalled_to"],
        chunk["last_id"],
        chunk["broadcast_id"],
        chunk["channel"],
    )
    return (
        (
            "UPDATE outbox SET state = 'cancelled', reason = 'cancelled', "
            "changed_at = ? WHERE id > ? AND id <= ? AND +broadcast_id = ? "
            "AND channel = ? AND state = 'planned'",
            (at, *rows),
        ),
        (
            "UPDATE prompts SET closed_at = ? WHERE id IN (SELECT p.id FROM outbox o "
            "CROSS JOIN prompts p WHERE o.id > ? AND o.id <= ? AND +o.broadcast_id = ? "
            "AND o.channel = ? AND o.state = 'cancelled' AND p.kind = o.kind "
            "AND p.value = o.value AND p.closed_at IS NULL "
            "AND +p.broadcast_id = o.broadcast_id)",
            (at, *rows),
        ),
        (
            "UPDATE chunks SET journalled_to = last_id, state = CASE WHEN "
            "state = 'leased' THEN 'leased' ELSE 'cancelled' END WHERE id = ?",
            (chunk["id"],),
        ),
    )


async def _queued(broadcast_id: int, now: datetime) -> None:
    """What waits alone: put off, or brought back by a refusal for the rate."""
    where = f"broadcast_id = ? AND {NOTEWORTHY} AND state = 'queued'"
    values = (broadcast_id,)
    if not await db.rows(f"SELECT 1 FROM outbox WHERE {where} LIMIT 1", *values):
        return
    await db.execute(
        "UPDATE prompts SET closed_at = ? WHERE id IN (SELECT p.id FROM outbox o "
        f"CROSS JOIN prompts p WHERE o.broadcast_id = ? AND {noteworthy('o.')} "
        "AND o.state = 'queued' AND p.kind = o.kind AND p.value = o.value "
        "AND p.closed_at IS NULL AND +p.broadcast_id = o.broadcast_id)",
        to_micros(now),
        broadcast_id,
    )
    await moves.advance_where(where, values, "cancelled", "cancelled", now)
