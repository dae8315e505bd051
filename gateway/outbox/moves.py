"""Changes of an outbound message's state after it was stored, and the tallies.

A move reads the states of its rows, locked, decides by the table of legal moves, and
writes all of them in one statement. What is not allowed any more is left as it is: a
late or repeated event. The journal and the sweep of cancelled recipients, which know
what they find, write their one change themselves and tally it here.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gateway import batch
from gateway import database as db
from gateway.database import Row, to_micros
from gateway.status import OUTBOUND_MOVES

SLOT_SECONDS = 10
QUIET = timedelta(minutes=2)  # after it no transaction adds to a slot any more
_MOST = 2000  # rows of one statement
_UNSETTLED = frozenset({"planned", "sending", "unknown"})
# Why it came on another channel stays of interest when nothing went wrong after it.
_KEPT = "g.reason = '' AND outbox.reason = 'rerouted'"
_COLUMNS = {
    "id": "BIGINT",
    "state": "TEXT",
    "reason": "TEXT",
    "detail": "TEXT",
    "provider_id": "TEXT",
    "attempts": "BIGINT",
    "due_at": "BIGINT",
    "throttled": "BIGINT",
}


class Move(NamedTuple):
    """Where one message goes.

    `attempt` is set where the move settles that attempt: a later one has taken over
    otherwise. Empty and zero values leave their columns as they are, but for `reason`
    and `detail`.
    """

    id: int
    state: str
    reason: str = ""
    detail: str = ""
    provider_id: str = ""
    attempt: int = 0
    due_at: int = 0  # microseconds
    throttled: int = 0


class Moved(NamedTuple):
    """A message that moved."""

    id: int
    before: str
    after: str
    broadcast_id: int | None


async def advance(
    moves: Sequence[Move], now: datetime, rows: Mapping[int, Row] | None = None
) -> list[Moved]:
    """Move messages as far as they may go; those that did. Inside a transaction.

    `rows`: what `locked` gave the caller for these messages in this transaction.
    """
    once, again = _once(moves)
    done: list[Moved] = []
    for first in range(0, len(once), _MOST):
        done += await _advance(once[first : first + _MOST], now, rows)
    return done + await advance(again, now) if again else done


def _once(moves: Sequence[Move]) -> tuple[Sequence[Move], Sequence[Move]]:
    """The first move of each message, and what comes after it: a silent one may be
    given up and answered late between two commits, and one statement moves a row once.
    """
    if len({move.id for move in moves}) == len(moves):
        return moves, ()
    first: dict[int, Move] = {}
    later = [move for move in moves if first.setdefault(move.id, move) is not move]
    return list(first.values()), later


async def _advance(
    moves: Sequence[Move], now: datetime, rows: Mapping[int, Row] | None
) -> list[Moved]:
    found = await locked([move.id for move in moves]) if rows is None else rows
    legal = [m for m in moves if m.id in found and _may(found[m.id], m)]
    if not legal:
        return []
    await _write(legal, now)
    moved = [
        Moved(m.id, found[m.id]["state"], m.state, found[m.id]["broadcast_id"])
        for m in legal
    ]
    await tally_all(moved, now)
    return moved


async def settle_planned(
    moves: Sequence[Move], broadcast_ids: Mapping[int, int], now: datetime
) -> list[Moved]:
    """`advance` for first answers of recipients in chunks: nearly always they are
    still planned, and one statement finds out and moves them."""
    once, again = _once(moves)
    done: list[Moved] = []
    for first in range(0, len(once), _MOST):
        part = once[first : first + _MOST]
        planned, others = await _settle_if_planned(part, now)
        here = [
            Moved(move.id, "planned", move.state, broadcast_ids[move.id])
            for move in planned
        ]
        await tally_all(here, now)
        done += here
        done += await advance(others, now)
    return done + await advance(again, now) if again else done


_TOLD = {name: _COLUMNS[name] for name in ("id", "state", "reason", "detail")}
_SET = (
    f"state = g.state, reason = CASE WHEN {_KEPT} "
    "THEN outbox.reason ELSE g.reason END, "
    f"detail = CASE WHEN {_KEPT} THEN outbox.detail ELSE g.detail END, changed_at = ?"
)
_SET_ALL = (
    f"{_SET}, provider_id = CASE WHEN g.provider_id = '' THEN outbox.provider_id "
    "ELSE g.provider_id END, attempts = CASE WHEN g.attempts = 0 "
    "THEN outbox.attempts ELSE g.attempts END, due_at = CASE WHEN g.due_at = 0 "
    "THEN outbox.due_at ELSE g.due_at END, "
    "throttled = outbox.throttled + g.throttled"
)


def _update(moves: Sequence[Move], now: datetime) -> tuple[str, list[Any]]:
    """A column that is set costs the upkeep of its indexes, also where it stays the
    same: what receipts don't tell is not set."""
    only_told = all(move[4:] == ("", 0, 0, 0) for move in moves)
    columns, changes = (_TOLD, _SET) if only_told else (_COLUMNS, _SET_ALL)
    cells = [move[:4] for move in moves] if only_told else moves
    given, values = batch.table(columns, cells)
    sql = f"UPDATE outbox SET {changes} FROM {given} AS g WHERE outbox.id = g.id"
    return sql, [to_micros(now), *values]


async def _write(moves: Sequence[Move], now: datetime) -> None:
    if moves:
        sql, values = _update(moves, now)
        await db.execute(sql, *values)


async def _settle_if_planned(
    moves: Sequence[Move], now: datetime
) -> tuple[Sequence[Move], Sequence[Move]]:
    """Move those whose rows nobody settled yet; those, and the others."""
    if db.is_postgres():
        # By their ids, as all who lock several: two can't wait for each other.
        sql, values = _update(sorted(moves), now)
        told = "AND outbox.state = 'planned' RETURNING outbox.id"
        found = await db.rows(f"{sql} {told}", *values)
        return _parted(moves, {row["id"] for row in found})
    planned, others = await _still_planned(moves)
    await _write(planned, now)
    return planned, others


async def _still_planned(
    moves: Sequence[Move],
) -> tuple[Sequence[Move], Sequence[Move]]:
    """On SQLite, where nobody else writes and each row told costs a step: nearly always
    all of them are."""
    given, values = batch.table({"id": "BIGINT"}, [(move.id,) for move in moves])
    planned = (
        f"{given} AS g CROSS JOIN outbox o WHERE o.id = g.id AND o.state = 'planned'"
    )
    [count] = await db.rows(f"SELECT COUNT(*) AS n FROM {planned}", *values)
    if count["n"] == len(moves):
        return moves, ()
    found = await db.rows_at_once(("id",), f"SELECT o.id FROM {planned}", *values)
    return _parted(moves, {row["id"] for row in found})


def _parted(
    moves: Sequence[Move], ids: Collection[int]
) -> tuple[Sequence[Move], Sequence[Move]]:
    within = [move for move in moves if move.id in ids]
    return within, [move for move in moves if move.id not in ids]


async def locked(ids: Sequence[int]) -> Mapping[int, Row]:
    """The rows with these ids as they are now; nobody changes them meanwhile."""
    if not ids:
        return {}
    given, values = batch.table({"id": "BIGINT"}, [(id,) for id in ids])
    lock = " FOR UPDATE OF o" if db.is_postgres() else ""
    found = await db.rows_at_once(
        ("id", "state", "attempts", "broadcast_id", "channel"),
        "SELECT o.id, o.state, o.attempts, o.broadcast_id, o.channel "
        f"FROM {given} AS g CROSS JOIN outbox o WHERE o.id = g.id ORDER BY o.id{lock}",
        *values,
    )
    return {row["id"]: row for row in found}


def _may(row: Row, move: Move) -> bool:
    before = row["state"]
    if move.state not in OUTBOUND_MOVES[before]:
        return False
    if not move.attempt:
        return True
    # A planned row has its first attempt on the wire: its chunk's mark says so.
    current = row["attempts"] + (before == "planned")
    return before in _UNSETTLED and bool(current == move.attempt)


async def advance_where(
    condition: str, values: Sequence[object], state: str, reason: str, now: datetime
) -> int:
    """Move every row that fulfils `condition` (over `outbox`); how many did.

    `condition` must not hold for a row any more once it is in `state`.
    """
    total = 0
    while True:
        found = await db.rows(
            f"SELECT id FROM outbox WHERE {condition} ORDER BY id LIMIT {_MOST}",
            *values,
        )
        moved = await advance([Move(r["id"], state, reason) for r in found], now)
        total += len(moved)
        if len(moved) < _MOST:
            return total


async def tally_all(moved: Iterable[Moved], now: datetime) -> None:
    deltas: Counter[tuple[int, str]] = Counter()
    # Nearly all go the same way: each way is looked at once.
    ways = Counter([(one.broadcast_id, one.before, one.after) for one in moved])
    for (broadcast_id, before, after), n in ways.items():
        if broadcast_id is not None:
            deltas[broadcast_id, before] -= n
            deltas[broadcast_id, after] += n
    await tally(deltas, now)


async def tally(deltas: Mapping[tuple[int, str], int], now: datetime) -> None:
    """Append how the counts of (broadcast, state) change; in the same transaction."""
    slot = int(now.timestamp()) // SLOT_SECONDS * SLOT_SECONDS
    changes = [(id, slot, state, n) for (id, state), n in deltas.items() if n]
    if changes:
        columns = {
            "broadcast_id": "BIGINT",
            "slot": "BIGINT",
            "state": "TEXT",
            "n": "BIGINT",
        }
        given, values = batch.table(columns, changes)
        await db.execute(
            "INSERT INTO tallies (broadcast_id, slot, state, n) "
            f"SELECT g.broadcast_id, g.slot, g.state, g.n FROM {given} AS g",
            *values,
        )


async def counts(broadcast_id: int) -> Mapping[str, int]:
    """Recipients of a broadcast by state, as told by the tallies."""
    found = await db.rows(
        "SELECT state, SUM(n) AS n FROM tallies WHERE broadcast_id = ? GROUP BY state",
        broadcast_id,
    )
    return {row["state"]: int(row["n"]) for row in found if row["n"]}


async def compact(broadcast_id: int, now: datetime) -> None:
    """Put the rows of each quiet slot together. Inside a transaction."""
    before = int((now - QUIET).timestamp())
    crowded = await db.rows(
        "SELECT slot, state FROM tallies WHERE broadcast_id = ? "
        "AND slot < ? GROUP BY slot, state HAVING COUNT(*) > 1",
        broadcast_id,
        before,
    )
    for row in crowded:
        # Added up is what was deleted: somebody slow may have added more meanwhile.
        gone = await db.rows(
            "DELETE FROM tallies WHERE broadcast_id = ? AND slot = ? AND state = ? "
            "RETURNING n",
            broadcast_id,
            row["slot"],
            row["state"],
        )
        await db.execute(
            "INSERT INTO tallies (broadcast_id, slot, state, n) VALUES (?, ?, ?, ?)",
            broadcast_id,
            row["slot"],
            row["state"],
            sum(int(one["n"]) for one in gone),
        )
