"""The promises, recounted from the rows: `run.py verify`, the API, and every drill.

Nothing here trusts a number that was kept on the way. What does not hold is named as
a deviation; what is open by its nature (an unknown send) is listed, and is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway import audit
from gateway.addresses import mask
from gateway.contract import Address, AddressKind
from gateway.database import Row, from_micros, to_micros
from gateway.snapshot import Read
from gateway.status import (
    BroadcastState,
    Bucket,
    OutboundState,
    count_as,
    standing,
)

DEAD_AFTER = timedelta(seconds=60)  # a process not seen so long; its sends are over
UNDECIDED_AFTER = timedelta(minutes=5)  # a message nobody has routed since
UNMATCHED_AFTER = timedelta(hours=72)  # a receipt without a message since (C-1)
NAMED = 200  # things listed for each kind of deviation; all are counted
_SENT = "('accepted', 'delivered', 'read')"
_FROZEN = ("running", "paused", "finished", "cancelled")


@dataclass(frozen=True, slots=True)
class Deviation:
    """A promise that does not hold: which one, where, and by how much."""

    code: str
    object: str  # `broadcast:7`, `outbox:12`
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Promise O of one broadcast: `planned` = the sum of the states."""

    broadcast_id: int
    state: str
    planned: int
    states: Mapping[OutboundState, int]  # recounted from the rows; none is zero
    tallied: Mapping[OutboundState, int]  # as the live numbers say

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def buckets(self) -> Mapping[Bucket, int]:
        found = dict.fromkeys(Bucket, 0)
        for state, number in self.states.items():
            found[count_as(state)] += number
        return found

    @property
    def standing(self) -> str:
        unknown = self.states.get(OutboundState.UNKNOWN, 0)
        return standing(BroadcastState(self.state), unknown)

    @property
    def holds(self) -> bool:
        return not self.deviations()

    def deviations(self) -> list[Deviation]:
        where = f"broadcast:{self.broadcast_id}"
        found = []
        if self.state in _FROZEN and self.total != self.planned:
            off = f"{self.planned} planned, {self.total} in all states"
            found.append(Deviation("sum", where, off))
        for state in sorted({*self.states, *self.tallied} if self.tallied else ()):
            rows, live = self.states.get(state, 0), self.tallied.get(state, 0)
            if rows != live:
                off = f"{state}: {rows} rows, {live} in the live numbers"
                found.append(Deviation("tally", where, off))
        return found


@dataclass(frozen=True, slots=True)
class Open:
    """A send of which nobody knows whether it reached its person."""

    id: int
    broadcast_id: int | None
    member_id: int | None
    channel: str
    to: str  # masked
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    balances: Sequence[Balance] = ()
    deviations: Sequence[Deviation] = ()
    unknown: Sequence[Open] = ()
    inbound: Mapping[str, int] = field(default_factory=dict)  # by state
    unmatched: int = 0  # receipts that found no message yet
    links: int = 0  # audit entries checked

    @property
    def holds(self) -> bool:
        return not self.deviations


async def verify(read: Read, now: datetime, broadcast_id: int | None = None) -> Report:
    """Everything, or what belongs to one broadcast. NotFound is an empty report."""
    balances = await _balances(read, broadcast_id)
    found = [one for balance in balances for one in balance.deviations()]
    found += await _left_open(read, now, broadcast_id)
    found += await _not_journalled(read, broadcast_id)
    unknown = await _unknown(read, broadcast_id)
    if broadcast_id is not None:
        return Report(balances=balances, deviations=found, unknown=unknown)
    links, broken = await audit.check(read)
    found += [Deviation("audit", f"audit:{id}", "the chain is broken") for id in broken]
    found += await _strays(read)
    found += await _undecided(read, now)
    states = await read("SELECT state, COUNT(*) AS n FROM inbound GROUP BY state")
    waiting = await read("SELECT COUNT(*) AS n FROM receipts WHERE effect = ''")
    return Report(
        balances=balances,
        deviations=found + await _unmatched(read, now),
        unknown=unknown,
        inbound={row["state"]: int(row["n"]) for row in states},
        unmatched=int(waiting[0]["n"]),
        links=links,
    )


async def balance(read: Read, broadcast_id: int) -> Balance | None:
    """The sum of one broadcast, for its page; None where there is no such one."""
    found = await _balances(read, broadcast_id)
    return found[0] if found else None


async def _balances(read: Read, broadcast_id: int | None) -> list[Balance]:
    one, values = ("WHERE id = ?", [broadcast_id]) if broadcast_id else ("", [])
    found = await read(f"SELECT id, state, planned FROM broadcasts {one}", *values)
    return [
        Balance(
            broadcast_id=row["id"],
            state=row["state"],
            planned=row["planned"],
            states=await _states(read, row["id"]),
            tallied=await _tallied(read, row["id"]),
        )
        for row in sorted(found, key=lambda row: int(row["id"]))
    ]


async def _states(read: Read, broadcast_id: int) -> Mapping[OutboundState, int]:
    """Recipients by state. Those in the range of the chunks are read in the order of
    the table: by the index 2.5 million rows would be looked up one by one."""
    where = await read(
        "SELECT MIN(first_id) AS first, MAX(last_id) AS last FROM chunks "
        "WHERE broadcast_id = ?",
        broadcast_id,
    )
    first, last = where[0]["first"], where[0]["last"]
    counts = ", ".join(
        f"COUNT(*) FILTER (WHERE state = '{state}') AS n_{state}"
        for state in OutboundState
    )
    outside = "broadcast_id = ?"
    if first is None:
        found = await read(f"SELECT {counts} FROM outbox WHERE {outside}", broadcast_id)
    else:
        inside = "id BETWEEN ? AND ? AND +broadcast_id = ?"
        outside += " AND NOT (id BETWEEN ? AND ?)"
        found = [
            *await read(
                f"SELECT {counts} FROM outbox WHERE {inside}", first, last, broadcast_id
            ),
            *await read(
                f"SELECT {counts} FROM outbox WHERE {outside}",
                *(broadcast_id, first, last),
            ),
        ]
    total = {state: sum(row[f"n_{state}"] for row in found) for state in OutboundState}
    return {state: number for state, number in total.items() if number}


async def _tallied(read: Read, broadcast_id: int) -> Mapping[OutboundState, int]:
    found = await read(
        "SELECT state, SUM(n) AS n FROM tallies WHERE broadcast_id = ? GROUP BY state",
        broadcast_id,
    )
    return {OutboundState(row["state"]): int(row["n"]) for row in found if row["n"]}


async def _left_open(
    read: Read, now: datetime, broadcast_id: int | None
) -> list[Deviation]:
    """Journalled by a process that is gone, and still not unknown."""
    one, values = _only(broadcast_id, "o")
    at = to_micros(now - DEAD_AFTER)
    gone = "(n.id IS NULL OR n.stopped_at IS NOT NULL OR n.seen_at < ?)"
    rows = await read(
        "SELECT o.id, o.node_id FROM outbox o LEFT JOIN nodes n ON n.id = o.node_id "
        f"WHERE o.state = 'sending' AND {gone} {one}",
        *(at, *values),
    )
    of_chunks, values = _only(broadcast_id, "c")
    # CROSS JOIN: the few open chunks first, then their rows by id, on both engines.
    rows += await read(
        "SELECT o.id, c.node_id FROM chunks c LEFT JOIN nodes n ON n.id = c.node_id "
        "CROSS JOIN outbox o WHERE o.id BETWEEN c.first_id AND c.journalled_to "
        "AND o.broadcast_id = c.broadcast_id AND o.channel = c.channel "
        f"AND c.state <> 'done' AND o.state = 'planned' AND {gone} {of_chunks}",
        *(at, *values),
    )
    return _named("left_open", rows, "journalled by process {node_id}, which is gone")


async def _not_journalled(read: Read, broadcast_id: int | None) -> list[Deviation]:
    """Sent, says its state; but nobody wrote the intent before.

    By the attempts first, which an index finds: few are left to look for in chunks.
    """
    one, values = _only(broadcast_id, "o")
    rows = await read(
        "WITH bare AS MATERIALIZED (SELECT o.id, o.state, o.broadcast_id "
        f"FROM outbox o WHERE o.state IN {_SENT} {one} AND NOT EXISTS "
        "(SELECT 1 FROM attempts a WHERE a.outbound_id = o.id)) "
        "SELECT o.id, o.state FROM bare o WHERE NOT EXISTS (SELECT 1 FROM chunks c "
        "WHERE c.broadcast_id = o.broadcast_id "
        "AND o.id BETWEEN c.first_id AND c.journalled_to)",
        *values,
    )
    return _named("not_journalled", rows, "{state}, but no intent was written")


async def _strays(read: Read) -> list[Deviation]:
    rows = await read(
        "SELECT a.outbound_id AS id, a.number FROM attempts a "
        "WHERE NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = a.outbound_id)"
    )
    return _named("stray_attempt", rows, "attempt {number} of a message not there")


async def _undecided(read: Read, now: datetime) -> list[Deviation]:
    """Promise I: what was acknowledged is filed, before staff, or handled."""
    rows = await read(
        "SELECT id, channel FROM inbound WHERE state = 'stored' AND received_at < ?",
        to_micros(now - UNDECIDED_AFTER),
    )
    lost = await read(
        "SELECT id, inquiry_id FROM inbound m WHERE state = 'filed' AND NOT EXISTS "
        "(SELECT 1 FROM inquiries i WHERE i.id = m.inquiry_id)"
    )
    return [
        *_named("undecided", rows, "acknowledged, not routed ({channel})", "inbound"),
        *_named(
            "no_inquiry", lost, "filed, but inquiry {inquiry_id} is gone", "inbound"
        ),
    ]


async def _unmatched(read: Read, now: datetime) -> list[Deviation]:
    rows = await read(
        "SELECT id, channel FROM receipts WHERE effect = '' AND received_at < ?",
        to_micros(now - UNMATCHED_AFTER),
    )
    return _named("unmatched", rows, "no message on {channel} since 72 h", "receipt")


async def _unknown(read: Read, broadcast_id: int | None) -> list[Open]:
    one, values = _only(broadcast_id, "o")
    found = await read(
        "SELECT o.id, o.broadcast_id, o.member_id, o.channel, o.kind, o.value, "
        f"o.reason, o.changed_at FROM outbox o WHERE o.state = 'unknown' {one}",
        *values,
    )
    return [_open(row) for row in sorted(found, key=lambda row: int(row["id"]))]


def _open(row: Row) -> Open:
    return Open(
        id=row["id"],
        broadcast_id=row["broadcast_id"],
        member_id=row["member_id"],
        channel=row["channel"],
        to=mask(Address(AddressKind(row["kind"]), row["value"])),
        reason=row["reason"],
        since=from_micros(row["changed_at"]),
    )


def _only(broadcast_id: int | None, alias: str) -> tuple[str, list[int]]:
    if broadcast_id is None:
        return "", []
    return f"AND {alias}.broadcast_id = ?", [broadcast_id]


def _named(
    code: str, rows: Sequence[Row], detail: str, table: str = "outbox"
) -> list[Deviation]:
    """The first by name; the rest in one line, so that no list has to be endless."""
    found = [
        Deviation(code, f"{table}:{row['id']}", detail.format(**row))
        for row in rows[:NAMED]
    ]
    if len(rows) > NAMED:
        found.append(Deviation(code, table, f"and {len(rows) - NAMED} more"))
    return found
