"""The database's side of a drill, read while nobody works on it, or beside who does."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import asyncpg  # type: ignore[import-untyped]

from gateway.addresses import ERASED
from gateway.contract import AddressKind
from gateway.database import Row
from gateway.drill.checker import Message
from gateway.drill.peers import address
from gateway.drill.processes import until
from gateway.snapshot import APPLICATION, snapshot
from gateway.status import OutboundState
from gateway.verify import verify

SETTLED_WITHIN = 5.0  # seconds until a killed client's last transaction has ended
# Journalled and unanswered: single rows, and the planned ones below a chunk's mark.
_OPEN = """
SELECT o.id, o.channel FROM outbox o WHERE o.state = 'sending'
UNION ALL
SELECT o.id, o.channel FROM chunks c CROSS JOIN outbox o
WHERE o.id BETWEEN c.first_id AND c.journalled_to
AND o.broadcast_id = c.broadcast_id AND o.channel = c.channel
AND c.state IN ('leased', 'ready') AND o.state = 'planned'
"""
# An intent is an attempt, or a chunk's mark above the row.
_MESSAGES = """
SELECT o.id, o.channel, o.kind, o.value, o.member_id, o.state, o.broadcast_id, (
  EXISTS (SELECT 1 FROM attempts a WHERE a.outbound_id = o.id) OR
  EXISTS (SELECT 1 FROM chunks c WHERE c.broadcast_id = o.broadcast_id
          AND o.id BETWEEN c.first_id AND c.journalled_to)) AS journalled
FROM outbox o
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    messages: Sequence[Message]
    planned: int
    inbound: Mapping[str, int]
    unmatched: int
    erased: int  # members
    deviations: Sequence[str]


async def open_intents(url: str) -> Mapping[str, frozenset[int]]:
    """Message ids by channel, right after a kill."""
    if not url.startswith("sqlite://"):
        await until(partial(_let_go, url), SETTLED_WITHIN)
    async with snapshot(url) as read:
        found = await read(_OPEN)
    by_channel: dict[str, set[int]] = {}
    for row in found:
        by_channel.setdefault(row["channel"], set()).add(row["id"])
    return {channel: frozenset(ids) for channel, ids in by_channel.items()}


async def _let_go(url: str) -> bool:
    """PostgreSQL notices a killed client when it next looks at its socket."""
    async with snapshot(url) as read:
        found = await read(
            "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE "
            "datname = current_database() AND application_name <> ?",
            APPLICATION,
        )
    return not found[0]["n"]


async def end_leases(url: str) -> None:
    """As if a while had passed since a kill. Without it each kill on PostgreSQL would
    be followed by seconds in which nobody may send."""
    base = await asyncpg.connect(url)
    try:
        await base.execute("UPDATE leases SET until = 0")
        await base.execute(
            "UPDATE nodes SET stopped_at = seen_at WHERE stopped_at IS NULL"
        )
    finally:
        await base.close()


async def waiting(url: str) -> Mapping[str, int]:
    """What is still to come: messages to send, and inbound to route."""
    async with snapshot(url) as read:
        rows = await read(
            "SELECT COUNT(*) AS n FROM outbox "
            "WHERE state IN ('planned', 'queued', 'sending')"
        )
        stored = await read("SELECT COUNT(*) AS n FROM inbound WHERE state = 'stored'")
        receipts = await read(
            "SELECT channel, COUNT(*) AS n FROM outbox "
            "WHERE state IN ('accepted', 'unknown') GROUP BY channel"
        )
    return {
        "messages": rows[0]["n"],
        "inbound": stored[0]["n"],
        **{f"receipts of {row['channel']}": row["n"] for row in receipts},
    }


async def is_frozen(url: str, broadcast_id: int) -> bool:
    """Whether everybody meant has a row, so that messages leave."""
    async with snapshot(url) as read:
        found = await read(
            "SELECT planned FROM broadcasts WHERE id = ? AND state NOT IN "
            "('approved', 'planning')",
            broadcast_id,
        )
    return bool(found) and found[0]["planned"] > 0


async def journalled(url: str, broadcast_id: int) -> int:
    """For how many people of it the intent to write to them was written down, window
    by window."""
    async with snapshot(url) as read:
        found = await read(
            "SELECT COALESCE(SUM(journalled_to - first_id + 1), 0) AS n FROM chunks "
            "WHERE broadcast_id = ?",
            broadcast_id,
        )
    return int(found[0]["n"])


async def left(url: str, broadcast_id: int) -> int:
    """How many people of it no message has left for yet."""
    async with snapshot(url) as read:
        found = await read(
            "SELECT COUNT(*) AS n FROM outbox WHERE broadcast_id = ? "
            "AND state IN ('planned', 'queued')",
            broadcast_id,
        )
    return int(found[0]["n"])


async def books(url: str, now: datetime) -> Books:
    """Everything, for the verdict."""
    async with snapshot(url) as read:
        report = await verify(read, now)
        people = await read("SELECT detail FROM audit WHERE action = 'broadcast.start'")
        inbound = await read("SELECT text, COUNT(*) AS n FROM inbound GROUP BY text")
        rows = await read(_MESSAGES)
        erased = await read("SELECT COUNT(*) AS n FROM erasures")
    return Books(
        messages=[
            Message(
                row["id"],
                row["channel"],
                _address(row),
                OutboundState(row["state"]),
                bool(row["journalled"]),
                row["broadcast_id"],
            )
            for row in rows
        ],
        planned=sum(_people(row["detail"]) for row in people),
        inbound={row["text"]: row["n"] for row in inbound},
        unmatched=report.unmatched,
        erased=erased[0]["n"],
        deviations=[f"{d.code}: {d.object}: {d.detail}" for d in report.deviations],
    )


def _address(row: Row) -> str:
    """To whom it was; of the erased only the drill knows."""
    value = str(row["value"])
    if value.startswith(ERASED):
        return address(AddressKind(row["kind"]), row["member_id"])
    return value


def _people(detail: str) -> int:
    return int(json.loads(detail)["people"])
