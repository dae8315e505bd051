"""The statements of the flow: take what is due, journal, settle, recover.

A row that waits alone goes to `sending` with its attempt appended, just before its
bytes leave. Recipients in a chunk stay `planned`: their intent is the chunk's mark
`journalled_to`, one write for a whole window. What either says of a process that is
gone is `unknown`.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway import database as db
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.outbox import moves
from gateway.outbox.moves import Move

DEAD_AFTER = timedelta(seconds=30)  # a process that has not been seen so long
PRIORITIES = (0, 5, 10, 20)  # see enqueue.PRIORITY; one range of the index each
_ATTEMPT = {
    "outbound_id": "BIGINT",
    "number": "BIGINT",
    "kind": "TEXT",
    "value": "TEXT",
    "journalled_at": "BIGINT",
    "outcome": "TEXT",
    "code": "TEXT",
    "detail": "TEXT",
    "provider_ids": "TEXT",
}


class Settlement(NamedTuple):
    """What became of one attempt, and where its message goes from there.

    `row` is the row that was sent, `journalled_at` its instant in microseconds, and
    `chunk_id` its chunk, 0 for one that was sent alone.
    """

    row: Row
    number: int
    journalled_at: int
    chunk_id: int
    outcome: str  # accepted, permanent, transient, unknown
    state: str  # the message's next state
    code: str = ""
    detail: str = ""
    provider_ids: tuple[str, ...] = ()
    due_at: datetime | None = None
    throttled: bool = False  # refused for the rate, or nobody there: costs no attempt

    @property
    def outbound_id(self) -> int:
        return int(self.row["id"])


@dataclass(frozen=True, slots=True)
class Cap:
    """How many broadcasts a person gets in a day, and which ones ran in that time."""

    most: int
    since: int  # microseconds
    recent: tuple[int, ...]


async def cap(core: Core) -> Cap:
    """Read once in a while: what has been written to nobody yet caps nobody."""
    since = to_micros(core.clock.now() - timedelta(days=1))
    found = await db.rows(
        "SELECT DISTINCT broadcast_id AS id FROM chunks WHERE journalled_at >= ?", since
    )
    most = core.settings.policy.broadcasts_per_day
    return Cap(most, since, tuple(row["id"] for row in found))


def _gated(cap: Cap) -> tuple[str, list[Any]]:
    """Columns of a row and what the gate has to know of it, with their values."""
    capped, values = _capped(cap)
    columns = (
        "o.id, o.message_kind, o.priority, o.broadcast_id, o.inquiry_id, o.member_id, "
        "o.channel, o.kind, o.value, o.text, o.content_id, o.variables, o.extras, "
        "o.state, o.expires_at, o.attempts, o.throttled, a.id AS address_id, "
        "a.last_inbound_at, "
        "(EXISTS (SELECT 1 FROM opt_outs x WHERE x.kind = o.kind "
        "AND x.value = o.value AND x.ended_at IS NULL) OR EXISTS (SELECT 1 "
        "FROM opt_outs x WHERE x.member_id = o.member_id AND x.ended_at IS NULL)) "
        "AS refused, (o.message_kind <> 'daily' OR EXISTS (SELECT 1 "
        "FROM subscriptions s WHERE s.topic = 'daily' AND s.kind = o.kind "
        f"AND s.value = o.value AND s.ended_at IS NULL)) AS subscribed, {capped} "
        "AS capped"
    )
    return columns, values


def _capped(cap: Cap) -> tuple[str, list[Any]]:
    """Whether a person got as many other broadcasts in a day as the centre allows.

    Nobody did where there were no more than that: mostly nothing is looked up. Else
    by the index that keeps a person from being in one broadcast twice.
    """
    if not cap.most or len(cap.recent) < cap.most:
        return "(1 = 0)", []
    counted = (
        "(o.message_kind IN ('notice', 'daily') AND (SELECT COUNT(*) FROM outbox p "
        f"WHERE p.broadcast_id IN ({db.marks(len(cap.recent))}) "
        "AND p.value = o.value AND p.kind = o.kind "
        "AND p.broadcast_id <> o.broadcast_id AND p.state IN "
        "('sending', 'accepted', 'delivered', 'read', 'unknown') "
        "AND p.changed_at >= ?) >= ?)"
    )
    return counted, [*cap.recent, cap.since, cap.most]


_GATED = (
    "id",
    "message_kind",
    "priority",
    "broadcast_id",
    "inquiry_id",
    "member_id",
    "channel",
    "kind",
    "value",
    "text",
    "content_id",
    "variables",
    "extras",
    "state",
    "expires_at",
    "attempts",
    "throttled",
    "address_id",
    "last_inbound_at",
    "refused",
    "subscribed",
    "capped",
)
_ADDRESS = "LEFT JOIN addresses a ON a.kind = o.kind AND a.value = o.value "


def _opened(found: list[Row]) -> list[Row]:
    for row in found:
        row["variables"] = json.loads(row["variables"])
        row["extras"] = {} if row["extras"] == "{}" else json.loads(row["extras"])
    return found


async def due(core: Core, channel: str, limit: int, cap: Cap) -> list[Row]:
    """Rows that wait alone and may be looked at now, most urgent first, locked.

    Of one person's messages outside broadcasts a later one waits for the earlier.
    """
    now = to_micros(core.clock.now())
    one = (
        "SELECT * FROM (SELECT q.id, q.priority, q.due_at FROM outbox q "
        "WHERE q.channel = ? AND q.priority = ? AND q.state = 'queued' "
        "AND q.due_at <= ? AND NOT EXISTS (SELECT 1 FROM holds h "
        "WHERE h.broadcast_id = q.broadcast_id) AND NOT EXISTS (SELECT 1 "
        "FROM outbox e WHERE e.kind = q.kind AND e.value = q.value "
        "AND e.state IN ('queued', 'sending') AND e.broadcast_id IS NULL "
        "AND q.broadcast_id IS NULL AND e.channel = q.channel "
        "AND e.priority <= q.priority AND e.id < q.id) "
        "ORDER BY q.due_at, q.id LIMIT ?) p{}"
    )
    parts = " UNION ALL ".join(one.format(number) for number in PRIORITIES)
    chosen = f"SELECT id FROM ({parts}) every ORDER BY priority, due_at, id LIMIT ?"
    values: list[Any] = []
    for priority in PRIORITIES:
        values += [channel, priority, now, limit]
    ids = [row["id"] for row in await db.rows(chosen, *values, limit)]
    if not ids:
        return []
    columns, facts = _gated(cap)
    lock = " FOR UPDATE OF o SKIP LOCKED" if db.is_postgres() else ""
    found = await db.rows(
        f"SELECT {columns}, o.due_at FROM outbox o {_ADDRESS}"
        f"WHERE o.state = 'queued' AND o.id IN ({db.marks(len(ids))}) "
        f"ORDER BY o.priority, o.due_at, o.id{lock}",
        *facts,
        *ids,
    )
    return _opened(found)


async def next_due(channel: str) -> int | None:
    """The earliest instant (microseconds) at which something of a channel is due."""
    earliest = " UNION ALL ".join(
        f"SELECT MIN(o.due_at) AS due FROM outbox o WHERE o.channel = ? "
        f"AND o.priority = {priority} AND o.state = 'queued' AND NOT EXISTS "
        "(SELECT 1 FROM holds h WHERE h.broadcast_id = o.broadcast_id)"
        for priority in PRIORITIES
    )
    found = await db.rows(
        f"SELECT MIN(due) AS due FROM ({earliest} UNION ALL "
        "SELECT MIN(c.due_at) AS due FROM chunks c WHERE c.channel = ? "
        "AND (c.state = 'ready' OR (c.state = 'leased' "
        "AND c.journalled_to < c.last_id)) AND NOT EXISTS "
        "(SELECT 1 FROM holds h WHERE h.broadcast_id = c.broadcast_id)) x",
        *([channel] * (len(PRIORITIES) + 1)),
    )
    value = found[0]["due"]
    return None if value is None else int(value)


async def queued(channel: str) -> int:
    """How many messages of this channel wait, due or not."""
    found = await db.rows(
        "SELECT (SELECT COUNT(*) FROM outbox WHERE channel = ? AND state = 'queued') "
        "+ COALESCE((SELECT SUM(CASE WHEN journalled_to < first_id THEN people "
        "ELSE last_id - journalled_to END) FROM chunks WHERE channel = ? "
        "AND state IN ('held', 'ready', 'leased')), 0) AS n",
        channel,
        channel,
    )
    return int(found[0]["n"])


async def journal(rows: Sequence[Row], node_id: int, now: datetime) -> None:
    """Write the intent of rows that go out alone: `sending`, attempt appended."""
    if not rows:
        return
    at = to_micros(now)
    given, values = db.table(
        {"id": "BIGINT", "number": "BIGINT"},
        [(row["id"], row["attempts"] + 1) for row in rows],
    )
    await db.execute(
        "INSERT INTO attempts (outbound_id, number, channel, kind, value, node_id, "
        "journalled_at, outcome, code, detail, provider_ids) "
        "SELECT o.id, g.number, o.channel, o.kind, o.value, CAST(? AS BIGINT), "
        f"CAST(? AS BIGINT), '', '', '', '[]' FROM {given} AS g "
        "JOIN outbox o ON o.id = g.id",
        node_id,
        at,
        *values,
    )
    await db.execute(
        "UPDATE outbox SET state = 'sending', attempts = g.number, node_id = ?, "
        f"changed_at = ? FROM {given} AS g WHERE outbox.id = g.id",
        node_id,
        at,
        *values,
    )
    of_broadcasts = [r["broadcast_id"] for r in rows if r["broadcast_id"] is not None]
    await _forget_parts([row["id"] for row in rows if row["attempts"]])
    deltas: dict[tuple[int, str], int] = {}
    for id in set(of_broadcasts):
        deltas[id, "queued"] = -of_broadcasts.count(id)
        deltas[id, "sending"] = of_broadcasts.count(id)
    await moves.tally(deltas, now)


async def _forget_parts(ids: Sequence[int]) -> None:
    """What became of the parts sent before says nothing of those sent now."""
    if ids:
        marks = db.marks(len(ids))
        await db.execute(f"DELETE FROM parts WHERE outbound_id IN ({marks})", *ids)


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


async def window(chunk: Row, room: int, cap: Cap) -> Window:
    """The next `room` recipients of a chunk that are still planned. The lock on the
    chunk is theirs as well: one for each would be a write for each."""
    columns, facts = _gated(cap)
    # The plus keeps SQLite from reading the whole broadcast by its index, each time.
    found = await db.rows_at_once(
        _GATED,
        f"SELECT {columns} FROM outbox o {_ADDRESS}"
        "WHERE o.id > ? AND o.id <= ? AND +o.broadcast_id = ? AND o.channel = ? "
        "AND o.state = 'planned' ORDER BY o.id LIMIT ?",
        *facts,
        chunk["journalled_to"],
        chunk["last_id"],
        chunk["broadcast_id"],
        chunk["channel"],
        room,
    )
    return Window(chunk_id=chunk["id"], rows=_opened(found), is_last=len(found) < room)


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
    rest = await db.rows(
        "SELECT MIN(id) AS first, COUNT(*) AS people FROM outbox WHERE id > ? "
        "AND id <= ? AND +broadcast_id = ? AND channel = ? AND state = 'planned'",
        chunk["journalled_to"],
        chunk["last_id"],
        chunk["broadcast_id"],
        chunk["channel"],
    )
    first, people = rest[0]["first"], int(rest[0]["people"])
    cut = await db.execute(
        f"UPDATE chunks SET last_id = journalled_to, people = people - ? WHERE id = ? "
        f"AND {theirs}",
        people,
        chunk["id"],
        *owner,
    )
    if cut and people:
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


class Onward(NamedTuple):
    """What a receipt says that came with the answer."""

    state: str
    code: str


async def settle(
    done: Sequence[Settlement],
    channel: str,
    node_id: int,
    now: datetime,
    onward: Mapping[int, Onward] = MappingProxyType({}),
) -> list[moves.Moved]:
    """Append outcomes, move messages forward. A late answer also ends `unknown`.

    `onward`: by their ids where messages go at once that have a receipt already.
    """
    alone = [one for one in done if not one.chunk_id]
    of_chunks = [one for one in done if one.chunk_id]
    await _append(of_chunks, channel, node_id, to_micros(now))
    await _complete(alone, to_micros(now))
    await _keep_parts(done, channel)
    moved = await moves.advance([_move(one, onward) for one in alone], now)
    broadcasts = {one.outbound_id: one.row["broadcast_id"] for one in of_chunks}
    planned = [_move(one, onward) for one in of_chunks]
    return moved + await moves.settle_planned(planned, broadcasts, now)


def _move(one: Settlement, onward: Mapping[int, Onward]) -> Move:
    told = onward.get(one.outbound_id)
    return Move(
        one.outbound_id,
        told.state if told else one.state,
        told.code if told else one.code[:64],
        one.detail,
        # A long message is found by its parts.
        one.provider_ids[0] if len(one.provider_ids) == 1 else "",
        one.number,
        0 if one.due_at is None else to_micros(one.due_at),
        int(one.throttled),
    )


async def _append(
    done: Sequence[Settlement], channel: str, node_id: int, at: int
) -> None:
    """The attempts of recipients in chunks are written with their outcome.

    Once: a late answer finds the attempt there, and completes it.
    """
    if not done:
        return
    given, values = db.table(_ATTEMPT, [_attempt(one) for one in done])
    await db.execute(
        "INSERT INTO attempts (outbound_id, number, channel, kind, value, node_id, "
        "journalled_at, outcome, code, detail, provider_ids, answered_at) "
        "SELECT g.outbound_id, g.number, CAST(? AS TEXT), g.kind, g.value, "
        "CAST(? AS BIGINT), g.journalled_at, g.outcome, g.code, g.detail, "
        f"g.provider_ids, CAST(? AS BIGINT) FROM {given} AS g",
        channel,
        node_id,
        at,
        *values,
    )


def _ids(ids: tuple[str, ...]) -> str:
    if len(ids) == 1 and ids[0].isalnum() and ids[0].isascii():
        return f'["{ids[0]}"]'  # what the line below would say
    return json.dumps(ids)


def _attempt(one: Settlement) -> tuple[Any, ...]:
    return (
        one.row["id"],
        one.number,
        one.row["kind"],
        one.row["value"],
        one.journalled_at,
        one.outcome,
        one.code[:64],
        one.detail,
        _ids(one.provider_ids),
    )


async def _complete(done: Sequence[Settlement], at: int) -> None:
    """The attempts of rows that were sent alone were written before they left."""
    if not done:
        return
    given, values = db.table(_ATTEMPT, [_attempt(one) for one in done])
    await db.execute(
        "UPDATE attempts SET outcome = g.outcome, code = g.code, detail = g.detail, "
        f"provider_ids = g.provider_ids, answered_at = ? FROM {given} AS g "
        "WHERE attempts.outbound_id = g.outbound_id AND attempts.number = g.number",
        at,
        *values,
    )


async def _keep_parts(done: Sequence[Settlement], channel: str) -> None:
    """Each part of a long message has an id of its own at its provider."""
    parts = [
        (id, one.outbound_id, number, len(one.provider_ids))
        for one in done
        if len(one.provider_ids) > 1
        for number, id in enumerate(one.provider_ids, start=1)
    ]
    if parts:
        columns = {
            "provider_id": "TEXT",
            "outbound_id": "BIGINT",
            "number": "BIGINT",
            "of_all": "BIGINT",
        }
        given, values = db.table(columns, parts)
        await db.execute(
            "INSERT INTO parts (channel, provider_id, outbound_id, number, of_all, "
            "state, code) SELECT CAST(? AS TEXT), g.provider_id, g.outbound_id, "
            f"g.number, g.of_all, 'accepted', '' FROM {given} AS g",
            channel,
            *values,
        )


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


async def move(
    ids: Sequence[int], state: str, reason: str, now: datetime, detail: str = ""
) -> int:
    """Move queued rows to an end state; rows that have left meanwhile stay."""
    current = await moves.locked(ids)
    waiting = [id for id, row in current.items() if row["state"] == "queued"]
    found = [Move(id, state, reason, detail) for id in waiting]
    return len(await moves.advance(found, now))


async def counts(broadcast_id: int) -> Mapping[str, int]:
    """Rows of a broadcast by state, one by one: what its tallies must agree with."""
    found = await db.rows(
        "SELECT state, COUNT(*) AS n FROM outbox WHERE broadcast_id = ? GROUP BY state",
        broadcast_id,
    )
    return {row["state"]: int(row["n"]) for row in found}
