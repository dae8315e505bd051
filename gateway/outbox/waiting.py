"""Whether something waits for a channel that should have left long ago (A-9)."""

from datetime import datetime, timedelta

from gateway import database as db
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.outbox.enqueue import PRIORITY
from gateway.outbox.gate import UNASKED

LONGEST = timedelta(minutes=15)
_UNASKED = frozenset(PRIORITY[kind] for kind in UNASKED)
_HELD = "NOT EXISTS (SELECT 1 FROM holds h WHERE h.broadcast_id = {}.broadcast_id)"
# Each finds its row at the head of an index, however much waits behind it.
_ROW = (
    "SELECT * FROM (SELECT q.due_at, CASE WHEN q.broadcast_id IS NULL THEN 0 ELSE 1 "
    "END AS many FROM outbox q WHERE q.channel = ? AND q.state = 'queued' "
    f"AND q.priority = ? AND q.due_at <= ? AND {_HELD.format('q')} "
    "ORDER BY q.due_at LIMIT 1) r{}"
)
_CHUNK = (
    "SELECT MIN(c.due_at) AS due_at, MAX((SELECT MAX(x.journalled_at) FROM chunks x "
    "WHERE x.broadcast_id = c.broadcast_id AND x.channel = c.channel)) AS moved_at "
    "FROM (SELECT broadcast_id, channel, MIN(due_at) AS due_at FROM chunks "
    "WHERE channel = ? AND state IN ('ready', 'leased') "
    "AND journalled_to < last_id AND due_at <= ? "
    f"GROUP BY broadcast_id, channel) c WHERE {_HELD.format('c')}"
)


async def stuck_since(
    core: Core, channel: str, now: datetime, last_success: datetime | None
) -> datetime | None:
    """Since when the oldest message waits, where that is too long.

    What is held, planned for later, put off by quiet hours or by a failure has its
    time still before it. A broadcast takes as long as it takes: there it counts since
    when none of it leaves any more.
    """
    limit = to_micros(now - LONGEST)
    moved = 0 if last_success is None else to_micros(last_success)
    found = [await _chunk(channel, limit)] if not _is_quiet(core, now) else []
    for row in await _rows(core, channel, now, limit):
        found.append(max(row["due_at"], moved if row["many"] else 0))
    oldest = min((one for one in found if one and one <= limit), default=None)
    return None if oldest is None else from_micros(oldest)


def _is_quiet(core: Core, now: datetime) -> bool:
    return core.quiet_hours.is_quiet(now, core.settings.centre.timezone)


async def _rows(core: Core, channel: str, now: datetime, limit: int) -> list[db.Row]:
    """The oldest of each priority."""
    asked = set(PRIORITY.values()) - (_UNASKED if _is_quiet(core, now) else set())
    parts = [_ROW.format(place) for place in range(len(asked))]
    values = [value for one in sorted(asked) for value in (channel, one, limit)]
    return await db.rows(" UNION ALL ".join(parts), *values)


async def _chunk(channel: str, limit: int) -> int:
    [row] = await db.rows(_CHUNK, channel, limit)
    return max(row["due_at"] or 0, row["moved_at"] or 0) if row["due_at"] else 0
