"""A broadcast whose recipients are frozen already, and how far it has come.

Written by statements, as freezing writes it: what is measured here begins when the
first chunk may be sent.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.clock import SystemClock
from gateway.database import to_micros
from gateway.tables import Content, Hold, Organisation, Outbound

CHUNK = 500
PRIORITY = 10  # of notices
LOOK_SECONDS = 0.2
WAITING = frozenset({"planned", "queued", "sending"})
ADDRESSES = {
    "phone": "'+86' || CAST(13800000000 + i AS TEXT)",
    "email": "'m' || CAST(i AS TEXT) || '@member.example'",
}
# A sender begins slowly after its first success: one message to nobody gives it one.
WARM = {"phone": "+8613000000000", "email": "warm@member.example"}
_SERIES = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a broadcast: seconds from the first journalled message to the
    last change of a row, and its recipients by state."""

    seconds: float
    states: Mapping[str, int]


async def freeze(
    url: str, kind: str, channels: Sequence[str], people: int, texts: Mapping[str, str]
) -> int:
    """Members with one address each, all of them in one broadcast that is held; its
    id. Several channels get equal shares, chunk by chunk."""
    async with db.opened(url), db.transaction():
        broadcast = await _broadcast(texts, people)
        await _members(kind, people)
        await _recipients(broadcast, kind, channels, people)
        await _warm(kind, channels)
        return int(broadcast.id)


async def warm_again(url: str, kind: str, channels: Sequence[str]) -> None:
    """Where an account went to another process, its sender begins anew."""
    async with db.opened(url), db.transaction():
        await _warm(kind, channels)


async def _warm(kind: str, channels: Sequence[str]) -> None:
    now = SystemClock().now()
    for channel in channels:
        await Outbound.create(
            message_kind="test",
            priority=0,
            channel=channel,
            kind=kind,
            value=WARM[kind],
            text="测试",
            state="queued",
            due_at=now,
            created_at=now,
            changed_at=now,
        )


async def _broadcast(texts: Mapping[str, str], people: int) -> Broadcast:
    now = SystemClock().now()
    organisation = await Organisation.create(
        code="0801", name="清禾县第三党支部", kind="branch", path="/1/"
    )
    content = await Content.create(texts=dict(texts), hash="", created_at=now)
    broadcast = await Broadcast.create(
        kind="notice",
        title="主题党日",
        organisation_id=organisation.id,
        state="running",
        texts=dict(texts),
        audience={"type": "organisation", "code": "0801"},
        created_by="",
        content_id=content.id,
        planned=people,
        people=people,
        created_at=now,
        changed_at=now,
        started_at=now,
        expires_at=now + timedelta(days=1),
    )
    await Hold.create(broadcast_id=broadcast.id, at=now)
    return broadcast


async def _members(kind: str, people: int) -> None:
    now = to_micros(SystemClock().now())
    await db.execute(
        "INSERT INTO members (name, organisation_id, joined_on, mobile_member, "
        "preferred_kind, note, created_at) "
        f"{_SERIES} SELECT '党员' || CAST(i AS TEXT), 1, '', FALSE, '', '', "
        "CAST(? AS BIGINT) FROM s ORDER BY i",
        people,
        now,
    )
    await db.execute(
        "INSERT INTO addresses (kind, value, member_id, verified_at, verified_how, "
        "display_name, created_at) "
        f"{_SERIES} SELECT CAST(? AS TEXT), {ADDRESSES[kind]}, i, "
        "CAST(? AS BIGINT), 'staff', '', CAST(? AS BIGINT) FROM s ORDER BY i",
        people,
        kind,
        now,
        now,
    )


async def _recipients(
    broadcast: Broadcast, kind: str, channels: Sequence[str], people: int
) -> None:
    now = to_micros(SystemClock().now())
    which = f"(i - 1) / {CHUNK} % {len(channels)}"
    cases = " ".join(f"WHEN {n} THEN '{name}'" for n, name in enumerate(channels))
    await db.execute(
        "INSERT INTO outbox (message_kind, priority, broadcast_id, member_id, channel, "
        "kind, value, content_id, variables, extras, state, reason, detail, due_at, "
        "expires_at, attempts, throttled, provider_id, created_at, changed_at) "
        f"{_SERIES} SELECT 'notice', {PRIORITY}, CAST(? AS BIGINT), i, "
        f"CASE {which} {cases} END, CAST(? AS TEXT), {ADDRESSES[kind]}, "
        'CAST(? AS BIGINT), \'{"name": "党员\' || CAST(i AS TEXT) || '
        "'\", \"organisation\": \"清禾县第三党支部\"}', '{}', 'planned', '', '', "
        "CAST(? AS BIGINT), CAST(? AS BIGINT), 0, 0, '', CAST(? AS BIGINT), "
        "CAST(? AS BIGINT) FROM s ORDER BY i",
        people,
        broadcast.id,
        kind,
        broadcast.content_id,
        now,
        now + 86_400_000_000,
        now,
        now,
    )
    await db.execute(
        "INSERT INTO chunks (broadcast_id, channel, priority, first_id, last_id, "
        "people, canary, state, due_at, journalled_to, epoch) "
        f"SELECT broadcast_id, MIN(channel), {PRIORITY}, MIN(id), MAX(id), COUNT(*), "
        "FALSE, 'ready', CAST(? AS BIGINT), MIN(id) - 1, 0 FROM outbox "
        f"GROUP BY broadcast_id, (id - 1) / {CHUNK} ORDER BY 4",
        now,
    )
    await db.execute(
        "INSERT INTO tallies (broadcast_id, slot, state, n) "
        "VALUES (?, 0, 'planned', ?)",
        broadcast.id,
        people,
    )


class Reader:
    """Looks at the database from outside, without the product's connection."""

    def __init__(self, found: Any) -> None:
        self._found = found

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if isinstance(self._found, sqlite3.Connection):
            return [tuple(row) for row in self._found.execute(sql).fetchall()]
        return [tuple(row) for row in await self._found.fetch(sql)]

    async def execute(self, sql: str) -> None:
        if isinstance(self._found, sqlite3.Connection):
            self._found.execute(sql)
        else:
            await self._found.execute(sql)


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    if url.startswith("sqlite://"):
        file = sqlite3.connect(
            url.removeprefix("sqlite://"), timeout=30, isolation_level=None
        )
        try:
            yield Reader(file)
        finally:
            file.close()
        return
    server = await asyncpg.connect(url)
    try:
        yield Reader(server)
    finally:
        await server.close()


async def run(
    reader: Reader,
    broadcast_id: int,
    seconds: float,
    waiting: Collection[str] = WAITING,
) -> Outcome:
    """Release the broadcast; return when none of its rows is in a state of `waiting`.

    Raises TimeoutError after `seconds`, with the states as they are then.
    """
    await reader.execute(f"DELETE FROM holds WHERE broadcast_id = {broadcast_id}")
    until = time.monotonic() + seconds
    while await _left(reader, broadcast_id, waiting):
        if time.monotonic() > until:
            raise TimeoutError(str(await _states(reader, broadcast_id)))
        await asyncio.sleep(LOOK_SECONDS)
    return Outcome(
        seconds=await _span(reader, broadcast_id),
        states=await _states(reader, broadcast_id),
    )


async def _left(reader: Reader, broadcast_id: int, waiting: Collection[str]) -> int:
    found = await reader.rows(
        f"SELECT state, SUM(n) FROM tallies WHERE broadcast_id = {broadcast_id} "
        "GROUP BY state"
    )
    return sum(int(n) for state, n in found if state in waiting)


async def _states(reader: Reader, broadcast_id: int) -> dict[str, int]:
    """Counted, not tallied: the benchmark does not believe the product."""
    found = await reader.rows(
        f"SELECT state, COUNT(*) FROM outbox WHERE broadcast_id = {broadcast_id} "
        "GROUP BY state"
    )
    return {str(state): int(n) for state, n in found}


async def _span(reader: Reader, broadcast_id: int) -> float:
    [(first,)] = await reader.rows(
        "SELECT MIN(a.journalled_at) FROM outbox o JOIN attempts a "
        f"ON a.outbound_id = o.id WHERE o.broadcast_id = {broadcast_id}"
    )
    [(last,)] = await reader.rows(
        f"SELECT MAX(changed_at) FROM outbox WHERE broadcast_id = {broadcast_id}"
    )
    return (int(last) - int(first)) / 1e6
