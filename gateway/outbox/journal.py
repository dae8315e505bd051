"""The statements of the flow: what is due, its journal, its settlement.

A row that waits alone goes to `sending` with its attempt appended, just before its
bytes leave. Recipients in a chunk stay `planned`: their intent is the chunk's mark
`journalled_to`, see `chunks`. What either says of a process that is gone is `unknown`,
see `recovery`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway import batch
from gateway import database as db
from gateway.contract import DeliveryReceipt, Outcome
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.outbox import moves
from gateway.outbox.enqueue import PRIORITY
from gateway.outbox.facts import ADDRESS, Cap, gated, opened
from gateway.outbox.moves import Move
from gateway.text import clean

PRIORITIES = sorted(set(PRIORITY.values()))  # one range of the index each

_LOOKED_UP = 256  # rows
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


class Flying(NamedTuple):
    """A message between its journal and its answer."""

    row: Row
    number: int  # of the attempt, from 1
    journalled_at: int  # microseconds
    chunk_id: int  # 0: it was sent alone


class Answer(NamedTuple):
    """A message that was sent, and what its adapter said."""

    flying: Flying
    outcome: Outcome


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
    columns, facts = gated(cap)
    lock = " FOR UPDATE OF o SKIP LOCKED" if db.is_postgres() else ""
    found = await db.rows(
        f"SELECT {columns}, o.due_at FROM outbox o {ADDRESS}"
        f"WHERE o.state = 'queued' AND o.id IN ({db.marks(len(ids))}) "
        f"ORDER BY o.priority, o.due_at, o.id{lock}",
        *facts,
        *ids,
    )
    return opened(found)


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
    given, values = batch.table(
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


async def settle(
    done: Sequence[Settlement],
    channel: str,
    node_id: int,
    now: datetime,
    receipts: Mapping[int, DeliveryReceipt] = MappingProxyType({}),
) -> list[moves.Moved]:
    """Append outcomes, move messages forward. A late answer also ends `unknown`.

    `receipts`: by their ids, of messages that go where those say at once.
    """
    alone = [one for one in done if not one.chunk_id]
    of_chunks = [one for one in done if one.chunk_id]
    await _append(of_chunks, channel, node_id, to_micros(now))
    await _complete(alone, to_micros(now))
    await _keep_parts(done, channel)
    moved = await moves.advance([_move(one, receipts) for one in alone], now)
    broadcasts = {one.row["id"]: one.row["broadcast_id"] for one in of_chunks}
    planned = [_move(one, receipts) for one in of_chunks]
    return moved + await moves.settle_planned(planned, broadcasts, now)


def _move(one: Settlement, receipts: Mapping[int, DeliveryReceipt]) -> Move:
    row, number, _, _, _, state, code, detail, ids, due_at, throttled = one
    id = row["id"]
    if told := receipts.get(id):
        state, code = told.state.value, clean(told.code)
    return Move(
        id,
        state,
        code[:64],
        detail,
        ids[0] if len(ids) == 1 else "",  # a long message is found by its parts
        number,
        0 if due_at is None else to_micros(due_at),
        int(throttled),
    )


async def _append(
    done: Sequence[Settlement], channel: str, node_id: int, at: int
) -> None:
    """The attempts of recipients in chunks are written with their outcome.

    Once: a late answer finds the attempt there, and completes it.
    """
    if not done:
        return
    given, values = batch.table(_ATTEMPT, [_attempt(one) for one in done])
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
    row, number, journalled_at, _, outcome, _, code, detail, ids, _, _ = one
    return (
        row["id"],
        number,
        row["kind"],
        row["value"],
        journalled_at,
        outcome,
        code[:64],
        detail,
        _ids(ids),
    )


async def _complete(done: Sequence[Settlement], at: int) -> None:
    """The attempts of rows that were sent alone were written before they left.

    For more rows at once SQLite would read the whole table, to make an index.
    """
    for first in range(0, len(done), _LOOKED_UP):
        part = done[first : first + _LOOKED_UP]
        given, values = batch.table(_ATTEMPT, [_attempt(one) for one in part])
        await db.execute(
            "UPDATE attempts SET outcome = g.outcome, code = g.code, "
            "detail = g.detail, provider_ids = g.provider_ids, answered_at = ? "
            f"FROM {given} AS g WHERE attempts.outbound_id = g.outbound_id "
            "AND attempts.number = g.number",
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
        given, values = batch.table(columns, parts)
        await db.execute(
            "INSERT INTO parts (channel, provider_id, outbound_id, number, of_all, "
            "state, code) SELECT CAST(? AS TEXT), g.provider_id, g.outbound_id, "
            f"g.number, g.of_all, 'accepted', '' FROM {given} AS g",
            channel,
            *values,
        )


async def move(
    ids: Sequence[int], state: str, reason: str, now: datetime, detail: str = ""
) -> int:
    """Move queued rows to an end state; rows that have left meanwhile stay."""
    current = await moves.locked(ids)
    waiting = [id for id, row in current.items() if row["state"] == "queued"]
    found = [Move(id, state, reason, detail) for id in waiting]
    return len(await moves.advance(found, now))
