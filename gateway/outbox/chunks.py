"""Chunks of recipients: leased, read by windows, marked, closed.

The mark `journalled_to` is the journal of a chunk: one write for a whole window.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway import database as db
from gateway.database import Row, to_micros
from gateway.outbox.facts import ADDRESS, COLUMNS, Cap, gated, opened

_NOT_HELD = "NOT EXISTS (SELECT 1 FROM holds h WHERE h.broadcast_id = c.broadcast_id)"


class ChunkTaken(Exception):
    """A chunk is not ours any more: what we know of it is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The next recipients of a leased chunk, and whether they are its last."""

    chunk_id: int
    rows: Sequence[Row]
    is_last: bool


async def lease_chunk(
    channel: str, node_id: int, epoch: int, now: datetime
) -> Row | None:
    """The chunk to go on with, locked: ours, else the most urgent that is ready."""
    at = to_micros(now)
    lock = " FOR UPDATE OF c" if db.is_postgres() else ""
    found = await db.rows(
        "SELECT c.* FROM chunks c WHERE c.channel = ? AND c.state = 'leased' "
        "AND c.node_id = ? AND c.epoch = ? AND c.journalled_to < c.last_id "
        f"AND c.due_at <= ? AND {_NOT_HELD} ORDER BY c.priority, c.id LIMIT 1{lock}",
        channel,
        node_id,
        epoch,
        at,
    )
    if found:
        return found[0]
    lock = db.for_update()
    ready = await db.rows(
        "SELECT c.* FROM chunks c WHERE c.channel = ? AND c.state = 'ready' "
        f"AND c.due_at <= ? AND {_NOT_HELD} ORDER BY c.priority, c.id LIMIT 1{lock}",
        channel,
        at,
    )
    if not ready:
        return None
    await db.execute(
        "UPDATE chunks SET state = 'leased', node_id = ?, epoch = ? WHERE id = ?",
        node_id,
        epoch,
        ready[0]["id"],
    )
    return {**ready[0], "node_id": node_id, "epoch": epoch}


async def held_fast(chunk: Row) -> Row | None:
    """The chunk as it is now, locked: whoever else changes recipients beyond its mark
    locks it, too. None: paused, cancelled, at its end, or somebody else's meanwhile.
    """
    lock = " FOR UPDATE OF c" if db.is_postgres() else ""
    found = await db.rows(
        "SELECT c.* FROM chunks c WHERE c.id = ? AND c.state = 'leased' "
        "AND c.node_id = ? AND c.epoch = ? AND c.journalled_to < c.last_id "
        f"AND {_NOT_HELD}{lock}",
        chunk["id"],
        chunk["node_id"],
        chunk["epoch"],
    )
    return found[0] if found else None


async def window(chunk: Row, room: int, cap: Cap) -> Window:
    """The next `room` recipients of a chunk that are still planned. The lock on the
    chunk is theirs as well: one for each would be a write for each."""
    columns, facts = gated(cap)
    # The plus keeps SQLite from reading the whole broadcast by its index, each time.
    found = await db.rows_at_once(
        COLUMNS,
        f"SELECT {columns} FROM outbox o {ADDRESS}"
        "WHERE o.id > ? AND o.id <= ? AND +o.broadcast_id = ? AND o.channel = ? "
        "AND o.state = 'planned' ORDER BY o.id LIMIT ?",
        *facts,
        chunk["journalled_to"],
        chunk["last_id"],
        chunk["broadcast_id"],
        chunk["channel"],
        room,
    )
    return Window(chunk_id=chunk["id"], rows=opened(found), is_last=len(found) < room)


async def mark(chunk: Row, seen: Window, now: datetime) -> Row:
    """Move the chunk's mark behind the window; the chunk as it is then.

    Raises ChunkTaken where somebody else has it meanwhile.
    """
    to = chunk["last_id"] if seen.is_last else seen.rows[-1]["id"]
    marked = await db.execute(
        "UPDATE chunks SET journalled_to = ?, journalled_at = ? WHERE id = ? "
        "AND state = 'leased' AND node_id = ? AND epoch = ?",
        to,
        to_micros(now),
        chunk["id"],
        chunk["node_id"],
        chunk["epoch"],
    )
    if not marked:
        raise ChunkTaken(str(chunk["id"]))
    return {**chunk, "journalled_to": to}


async def postpone_chunks(channel: str, broadcast_id: int, until: datetime) -> None:
    """Quiet hours hold for all recipients of a broadcast alike."""
    await db.execute(
        "UPDATE chunks SET due_at = ? WHERE channel = ? AND broadcast_id = ? "
        "AND state IN ('ready', 'leased') AND journalled_to < last_id AND due_at < ?",
        to_micros(until),
        channel,
        broadcast_id,
        to_micros(until),
    )


async def let_go(chunk: Row) -> None:
    """Others may take what is not journalled of a chunk of ours: as one of its own."""
    theirs = "state = 'leased' AND node_id = ? AND epoch = ?"
    owner = chunk["node_id"], chunk["epoch"]
    if chunk["journalled_to"] < chunk["first_id"]:
        await db.execute(
            f"UPDATE chunks SET state = 'ready', node_id = NULL WHERE id = ? "
            f"AND {theirs}",
            chunk["id"],
            *owner,
        )
        return
    [rest] = await db.rows(
        "SELECT MIN(id) AS first, COUNT(*) AS people FROM outbox WHERE id > ? "
        "AND id <= ? AND +broadcast_id = ? AND channel = ? AND state = 'planned'",
        chunk["journalled_to"],
        chunk["last_id"],
        chunk["broadcast_id"],
        chunk["channel"],
    )
    cut = await db.execute(
        f"UPDATE chunks SET last_id = journalled_to, people = people - ? WHERE id = ? "
        f"AND {theirs}",
        int(rest["people"]),
        chunk["id"],
        *owner,
    )
    if cut and rest["people"]:
        await _add_rest(chunk, rest["first"], int(rest["people"]))


async def _add_rest(chunk: Row, first: int, people: int) -> None:
    """What was cut off a chunk, ready for anybody."""
    await db.execute(
        "INSERT INTO chunks (broadcast_id, channel, priority, first_id, last_id, "
        "people, canary, state, due_at, journalled_to, epoch) SELECT broadcast_id, "
        "channel, priority, CAST(? AS BIGINT), CAST(? AS BIGINT), "
        "CAST(? AS INTEGER), canary, 'ready', due_at, CAST(? AS BIGINT), 0 "
        "FROM chunks WHERE id = ?",
        first,
        chunk["last_id"],
        people,
        first - 1,
        chunk["id"],
    )


async def close_chunks(ids: Iterable[int]) -> None:
    """Every recipient of these was journalled and is settled."""
    chosen = sorted(ids)
    if chosen:
        await db.execute(
            "UPDATE chunks SET state = 'done' WHERE state = 'leased' "
            f"AND journalled_to >= last_id AND id IN ({db.marks(len(chosen))})",
            *chosen,
        )
