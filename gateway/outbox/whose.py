"""Whose receipts are: by our reference, by the provider's id, by the number alone.

An id counts only on the account it came from (C-5), and where a provider gave it twice
it means the newest message (C-8).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from gateway import batch
from gateway import database as db
from gateway.core import Core
from gateway.database import MICROSECOND, Row, to_micros
from gateway.outbox.moves import Move, locked

MATCHED_WITHIN = timedelta(days=7)  # providers use their ids again (C-8)
CLOCKS_DIFFER = timedelta(minutes=5) // MICROSECOND  # theirs and ours
_OWN_ID = re.compile("[0-9]{1,18}")  # what fits a key of ours


class Told(NamedTuple):
    """What a receipt says. `id` is its row, 0 where it has none yet."""

    id: int
    provider_id: str
    reference: str
    state: str
    code: str
    opted_out: bool
    at: int | None  # microseconds
    kind: str = ""
    value: str = ""


def by_index(table: str, index: str) -> str:
    """SQLite knows no sizes: for some hundred rows of ours it would rather read the
    whole table, to make an index of its own."""
    return table if db.is_postgres() else f"{table} INDEXED BY {index}"


@dataclass(slots=True)
class Known:
    """The messages that a batch of receipts is about, as the batch changes them."""

    by_provider: Mapping[str, int]
    parts: Mapping[str, Row]  # by the provider's id of the part
    of_message: Mapping[int, Sequence[Row]]  # all parts of a long message
    rows: dict[int, Row]
    states: dict[int, str]
    moves: dict[int, Move] = field(default_factory=dict)
    changed_parts: dict[int, Row] = field(default_factory=dict)


async def find(core: Core, channel: str, told: Sequence[Told]) -> Known:
    """By our reference, else by the provider's id; only of this account (C-5), and
    of the newest message where an id came again (C-8)."""
    by_provider: dict[str, int] = {}
    rows: dict[int, Row] = {}
    of_message: dict[int, list[Row]] = {}
    oldest = to_micros(core.clock.now() - MATCHED_WITHIN)
    theirs = list({one.provider_id for one in told if one.provider_id})
    if theirs:
        for row in await _of_provider(channel, theirs, oldest):
            by_provider[row["provider_id"]] = row["id"]  # the newest comes last
            rows[row["id"]] = row
        for part in await _parts_of(channel, theirs, oldest):
            of_message.setdefault(part["outbound_id"], []).append(part)
    ours = {int(one.reference) for one in told if _OWN_ID.fullmatch(one.reference)}
    missing = (ours | of_message.keys()) - rows.keys()
    found = await locked(sorted(missing))
    rows |= {id: row for id, row in found.items() if row["channel"] == channel}
    return Known(
        by_provider=by_provider,
        parts={p["provider_id"]: p for all in of_message.values() for p in all},
        of_message=of_message,
        rows=rows,
        states={id: row["state"] for id, row in rows.items()},
    )


def can_tell_of(one: Told, row: Row) -> bool:
    """Nothing arrives before it was sent; clocks differ, and some tell minutes only."""
    return one.at is None or one.at >= row["journalled_at"] - CLOCKS_DIFFER


# Whoever has a message on its way: a receipt may be about that one, and be early. What
# the partial index on open ones says stands there word by word, for SQLite.
_UNDER_WAY = """
EXISTS (SELECT 1 FROM outbox u WHERE u.kind = o.kind AND u.value = o.value
  AND u.channel = o.channel AND u.state IN ('queued', 'sending')
  AND u.state = 'sending')
OR EXISTS (SELECT 1 FROM chunks c CROSS JOIN outbox u WHERE c.channel = o.channel
  AND c.state = 'leased' AND u.broadcast_id = c.broadcast_id AND u.value = o.value
  AND u.kind = o.kind AND u.id BETWEEN c.first_id AND c.journalled_to
  AND u.state = 'planned')
"""


async def doubted(channel: str, values: Collection[str], oldest: int) -> list[Row]:
    """Messages to these numbers or mailboxes that are in doubt since `oldest`, in
    microseconds, where no other to the same is on its way; locked."""
    if not values:
        return []
    given, cells = batch.table(
        {"value": "TEXT"}, [(value,) for value in sorted(values)]
    )
    lock = " FOR UPDATE OF o" if db.is_postgres() else ""
    return await db.rows(
        "SELECT o.id, o.state, o.attempts, o.broadcast_id, o.channel, o.kind, o.value, "
        f"t.journalled_at FROM {given} AS g CROSS JOIN "
        f"{by_index('outbox o', 'outbox_unknown')} CROSS JOIN attempts t "
        "WHERE o.channel = ? AND o.state = 'unknown' AND o.value = g.value "
        "AND o.provider_id = '' AND o.changed_at >= ? AND t.outbound_id = o.id "
        f"AND t.number = o.attempts AND NOT ({_UNDER_WAY}) ORDER BY o.id{lock}",
        *cells,
        channel,
        oldest,
    )


async def _of_provider(channel: str, ids: Sequence[str], oldest: int) -> list[Row]:
    given, values = batch.table({"provider_id": "TEXT"}, [(id,) for id in ids])
    found = await db.rows_at_once(
        ("id", "state", "attempts", "broadcast_id", "channel", "provider_id"),
        f"SELECT o.id, o.state, o.attempts, o.broadcast_id, o.channel, o.provider_id "
        f"FROM {given} AS g CROSS JOIN {_BY_PROVIDER[db.is_postgres()]} ORDER BY o.id",
        *values,
        channel,
        oldest,
    )
    if not db.is_postgres():
        return found
    # Locked by their ids, in their order: two batches can't wait for each other.
    now = await locked([row["id"] for row in found])
    return [{**row, **now[row["id"]]} for row in found if row["id"] in now]


_WANTED = (
    "o.channel = ? AND o.provider_id = g.provider_id AND o.provider_id <> '' "
    "AND o.changed_at >= ?"
)
# One look into the index for each id. PostgreSQL's planner thinks a fresh table has few
# settled rows, and would read them all; what has an OFFSET it leaves alone.
_BY_PROVIDER = {
    False: f"outbox o INDEXED BY outbox_provider WHERE {_WANTED}",
    True: f"LATERAL (SELECT * FROM outbox o WHERE {_WANTED} OFFSET 0) o",
}


async def _parts_of(channel: str, ids: Sequence[str], oldest: int) -> list[Row]:
    """All parts of every long message one of whose parts has one of these ids."""
    if not ids:
        return []
    given, values = batch.table({"provider_id": "TEXT"}, [(id,) for id in ids])
    return await db.rows(
        "SELECT * FROM parts WHERE outbound_id IN (SELECT p.outbound_id "
        f"FROM {given} AS g CROSS JOIN parts p CROSS JOIN outbox o "
        "WHERE p.channel = ? AND p.provider_id = g.provider_id "
        "AND o.id = p.outbound_id AND o.changed_at >= ?) ORDER BY id",
        *values,
        channel,
        oldest,
    )


def message_of(one: Told, known: Known) -> int | None:
    """Its id; None: it is not among the known."""
    if one.reference and _OWN_ID.fullmatch(one.reference):
        id = int(one.reference)
        if id in known.rows:
            return id
    alone = known.by_provider.get(one.provider_id)
    if known.parts:
        part = known.parts.get(one.provider_id)
        if part is not None and part["outbound_id"] in known.rows:
            return max(int(part["outbound_id"]), alone or 0)
    return alone
