"""A stage becomes recipients: rows of the outbox, slice by slice, in chunks to send.

Each slice is a short transaction of its own, so that nobody waits long for SQLite's
one writer. Nothing leaves before the last: until then all chunks are held. Each try
has a token; a slice of a try that is over finds another one there and writes nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broadcasts.plan import OWN, Sql, fields
from broadcasts.stage import Run, Stage, joined
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.core import Core
from gateway.database import is_postgres, to_micros
from gateway.outbox import moves

# By the ids: with the index of the broadcast (a plain `=`) each chunk would cost as
# much as all of them.
RANGE = "{0}.id BETWEEN ? AND ? AND +{0}.broadcast_id = ?"
CHUNK = 500  # recipients that a sender takes at once
_SMALLEST, _LARGEST = 2_000, 50_000  # recipients of one slice
_LONG, _SHORT = 0.12, 0.05  # seconds: a slice that took so long is made smaller, larger


class Superseded(Exception):
    """Cancelled, or taken over by another try: whoever works for this one stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What each recipient is asked, all with the same code."""

    code: str
    data: str  # JSON
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """What the rows of one run have in common."""

    broadcast_id: int
    token: int
    content_id: int
    priority: int
    canary: int  # recipients on each channel that go ahead; 0: none
    now: datetime
    expires_at: datetime
    question: Question | None


async def write(core: Core, stage: Stage, run: Freeze) -> None:
    """Write everybody of the stage. Raises Superseded."""
    size = 10_000
    async with joined(stage):
        for channel in stage.runs:
            for first, last, canary in _slices(channel, run.canary):
                at = first
                while at <= last:
                    to = min(last, at + size - 1)
                    started = time.monotonic()
                    async with db.transaction():
                        await _slice(core, stage, run, (at, to), canary)
                    size = _resized(size, time.monotonic() - started)
                    core.hub.publish("broadcast", run.broadcast_id)
                    at = to + 1


def _slices(run: Run, canary: int) -> Iterator[tuple[int, int, bool]]:
    """The rows of one channel: those that go ahead, then the others."""
    ahead = min(run.last, run.first + canary - 1)
    if canary:
        yield run.first, ahead, True
    yield ahead + 1, run.last, False


def _resized(size: int, seconds: float) -> int:
    """Of the next slice; whole chunks, so that none is cut."""
    if seconds > _LONG:
        return max(_SMALLEST, size // 2 // CHUNK * CHUNK)
    return min(_LARGEST, size * 2) if seconds < _SHORT else size


async def claim(broadcast_id: int, token: int, changes: str = "", *values: Any) -> None:
    """Inside a transaction: this try goes on, and nobody ends it meanwhile."""
    more = f"{changes}, " if changes else ""
    changed = await db.execute(
        f"UPDATE broadcasts SET {more}plan_token = plan_token "
        "WHERE id = ? AND state = 'planning' AND plan_token = ?",
        *values,
        broadcast_id,
        token,
    )
    if not changed:
        raise Superseded


async def _slice(
    core: Core, stage: Stage, run: Freeze, rows: tuple[int, int], canary: bool
) -> None:
    people = rows[1] - rows[0] + 1
    await claim(run.broadcast_id, run.token, "planned = planned + ?", people)
    bad = await db.rows(
        f"SELECT COUNT(*) AS n FROM {stage.bad} WHERE n BETWEEN ? AND ?", *rows
    )
    refused = int(bad[0]["n"])
    first, last = await _insert(core, stage, run, rows, some_bad=refused > 0)
    await _chunks(run, first, last, canary)
    if run.question is not None:
        await _ask(run, run.question, first, last)
    id = run.broadcast_id
    await moves.tally(
        {(id, "planned"): people - refused, (id, "suppressed"): refused}, run.now
    )


_COLUMNS = (
    "message_kind, priority, broadcast_id, member_id, channel, kind, value, "
    "content_id, variables, extras, state, reason, detail, due_at, expires_at, "
    "attempts, throttled, provider_id, created_at, changed_at"
)


async def _insert(
    core: Core, stage: Stage, run: Freeze, rows: tuple[int, int], *, some_bad: bool
) -> tuple[int, int]:
    """The ids of the first and the last row."""
    now = to_micros(run.now)
    head = Sql(
        f"INSERT INTO outbox ({_COLUMNS}) SELECT CAST(? AS TEXT), CAST(? AS INTEGER), "
        "CAST(? AS BIGINT), s.member_id, s.channel, s.kind, s.value, "
        "CAST(? AS BIGINT), ",
        (stage.plan.kind.value, run.priority, run.broadcast_id, run.content_id),
    )
    rest = Sql(
        f", '{{}}', {_STATE if some_bad else _PLANNED}, "
        "CAST(? AS BIGINT), CAST(? AS BIGINT), 0, 0, '', CAST(? AS BIGINT), "
        f"CAST(? AS BIGINT) FROM {stage.people} s",
        (now, to_micros(run.expires_at), now, now),
    )
    if some_bad:
        rest += f" LEFT JOIN {stage.bad} b ON b.n = s.n"
    rest += Sql(" WHERE s.n BETWEEN ? AND ? ORDER BY s.n", rows)
    sql = head + _variables(core, stage) + rest
    if is_postgres():
        found = await db.rows(
            f"WITH written AS ({sql.text} RETURNING id) "
            "SELECT MIN(id) AS first, MAX(id) AS last FROM written",
            *sql.values,
        )
        return int(found[0]["first"]), int(found[0]["last"])
    await db.execute(sql.text, *sql.values)
    found = await db.rows("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    last = int(found[0]["seq"])
    return last - (rows[1] - rows[0]), last


_PLANNED = "'planned', '', ''"
_STATE = (
    "CASE WHEN b.n IS NULL THEN 'planned' ELSE 'suppressed' END, "
    "CASE WHEN b.n IS NULL THEN '' ELSE 'bad_text' END, "
    "CASE WHEN b.n IS NULL THEN '' ELSE TRIM(b.code || ' ' || b.detail) END"
)


def _variables(core: Core, stage: Stage) -> Sql:
    """A JSON object of just the values that the texts use."""
    plan = stage.plan
    pieces: list[str] = []
    values: list[str] = []
    for field in sorted(fields(core, plan)):
        if field in OWN:
            pieces.append(f"'{field}', s.{field}")
        elif field in plan.values:
            pieces.append(f"'{field}', CAST(? AS TEXT)")
            values.append(plan.values[field])
    build = "json_build_object" if is_postgres() else "json_object"
    return Sql(f"CAST({build}({', '.join(pieces)}) AS TEXT)", tuple(values))


async def _chunks(run: Freeze, first: int, last: int, canary: bool) -> None:
    """Held until the run starts. Ranges of ids: on PostgreSQL others may have taken
    some in between, which then are simply not of this broadcast and channel."""
    now = to_micros(run.now)
    await db.execute(
        "INSERT INTO chunks (broadcast_id, channel, priority, first_id, last_id, "
        "people, canary, state, due_at, journalled_to, epoch) "
        "SELECT CAST(? AS BIGINT), MIN(channel), CAST(? AS INTEGER), MIN(id), MAX(id), "
        "COUNT(CASE WHEN state = 'planned' THEN 1 END), "
        f"{_truth(canary)}, 'held', CAST(? AS BIGINT), MIN(id) - 1, 0 FROM outbox "
        f"WHERE {RANGE.format('outbox')} GROUP BY (id - ?) / {CHUNK} ORDER BY 4",
        run.broadcast_id,
        run.priority,
        now,
        first,
        last,
        run.broadcast_id,
        first,
    )


def _truth(value: bool) -> str:
    return "TRUE" if value else "FALSE"


async def _ask(run: Freeze, question: Question, first: int, last: int) -> None:
    await db.execute(
        "INSERT INTO prompts (kind, value, prompt, code, options, broadcast_id, "
        "member_id, data, opened_at, expires_at, answer) "
        "SELECT o.kind, o.value, 'rsvp', CAST(? AS TEXT), '[]', o.broadcast_id, "
        "o.member_id, CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), '' "
        f"FROM outbox o WHERE {RANGE.format('o')} AND o.state = 'planned'",
        question.code,
        question.data,
        to_micros(run.now),
        to_micros(question.until),
        first,
        last,
        run.broadcast_id,
    )


async def open_chunks(run: Freeze) -> None:
    """Inside the transaction that starts the run: senders may take what is ready."""
    ahead = "AND canary" if run.canary else ""
    await db.execute(
        f"UPDATE chunks SET state = 'ready' WHERE broadcast_id = ? {ahead}",
        run.broadcast_id,
    )


async def take_back(core: Core, broadcast_id: int, token: int) -> None:
    """Remove what a try that died has written. Nothing of it can have left: all its
    chunks are held. Raises Superseded."""
    while True:
        async with db.transaction():
            await claim(broadcast_id, token)
            chunks = await db.rows(
                "SELECT id, first_id, last_id FROM chunks WHERE broadcast_id = ? "
                "ORDER BY id LIMIT 10",
                broadcast_id,
            )
            if not chunks:
                await _forget(broadcast_id)
                break
            found = [tuple(chunk.values()) for chunk in chunks]
            await _remove(broadcast_id, token, found, core.clock.now())
        core.hub.publish("broadcast", broadcast_id)


async def _remove(
    broadcast_id: int, token: int, chunks: Sequence[tuple[int, ...]], now: datetime
) -> None:
    gone: Counter[tuple[int, str]] = Counter()
    for _, first, last in chunks:
        await db.execute(
            "DELETE FROM prompts WHERE id IN (SELECT p.id FROM outbox o "
            f"CROSS JOIN prompts p WHERE {RANGE.format('o')} "
            "AND p.kind = o.kind AND p.value = o.value "
            "AND +p.broadcast_id = o.broadcast_id)",  # as in `sweep`
            first,
            last,
            broadcast_id,
        )
        rows = (first, last, broadcast_id)
        where = RANGE.format("outbox")
        for state in await db.rows(
            f"SELECT state, COUNT(*) AS n FROM outbox WHERE {where} GROUP BY state",
            *rows,
        ):
            gone[broadcast_id, state["state"]] -= int(state["n"])
        await db.execute(f"DELETE FROM outbox WHERE {where}", *rows)
    ids = [chunk[0] for chunk in chunks]
    await db.execute(f"DELETE FROM chunks WHERE id IN ({db.marks(len(ids))})", *ids)
    await moves.tally(gone, now)
    await claim(broadcast_id, token, "planned = planned + ?", gone.total())


async def _forget(broadcast_id: int) -> None:
    await db.execute("DELETE FROM tallies WHERE broadcast_id = ?", broadcast_id)
    await Broadcast.filter(id=broadcast_id).update(planned=0, people=0)
