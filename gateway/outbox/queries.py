"""Asks providers what became of messages of unknown outcome: soon, then ever more
rarely, until they tell or a week has gone by.

What they tell is evidence: an end comes in as a receipt, "we have it" makes a message
accepted, and a denial, once it is said late enough and again, makes it failed. Nothing
is sent again for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway import audit
from gateway import database as db
from gateway.actors import GATEWAY, Actor
from gateway.channels import Channel
from gateway.contract import (
    Accept,
    Accepted,
    Address,
    AddressKind,
    DeliveryReceipt,
    DoubtfulMessage,
    Found,
    NotTaken,
    Queries,
)
from gateway.core import Core
from gateway.database import MICROSECOND, Row, from_micros, to_micros
from gateway.errors import DeliveryError, NotFound, RequestError, TransientFailure
from gateway.inquiries import words
from gateway.inquiries.history import Say
from gateway.outbox import follow, moves, unknown
from gateway.outbox.moves import Move, Moved
from gateway.supervisor import beat

log = structlog.get_logger()
FIRST = timedelta(minutes=1)  # in doubt; then each time at about twice the age
LAST = timedelta(days=7)  # providers keep records as long, the first of them at least
LAG = timedelta(minutes=30)  # of a provider's records behind what it took
DENIALS = 2  # after the lag, before they are believed ...
APART = timedelta(minutes=10)  # ... and so far apart
MOST = 100  # messages of one look
LOOK_SECONDS = 10.0
PACE_SECONDS = (
    0.1  # one account may ask some twenty times a second, all askers together
)
# What a provider said last of a message that is still in doubt.
ANSWERS: Mapping[str, str] = {
    "told": "服务商的说法看不懂",
    "denied": "没有查到这一条，但服务商的记录有时来得晚",
    "silent": "服务商还没有结果",
}
_DUE = """
SELECT o.id, o.kind, o.value, o.attempts, o.inquiry_id, t.journalled_at,
  COALESCE(q.asked, 0) AS asked, q.asked_at, COALESCE(q.denials, 0) AS denials
FROM outbox o
JOIN attempts t ON t.outbound_id = o.id AND t.number = o.attempts
LEFT JOIN queries q ON q.outbound_id = o.id AND q.attempt = o.attempts
WHERE o.channel = ? AND o.state = 'unknown' AND o.changed_at >= ?
  AND COALESCE(q.next_at, o.changed_at + ?) <= ?
ORDER BY o.id LIMIT ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A message to ask about, and how often its provider was asked before."""

    id: int
    to: Address
    attempt: int
    inquiry_id: int | None
    journalled_at: datetime
    asked: int
    asked_at: datetime | None
    denials: int

    def counts_denial(self, now: datetime) -> bool:
        """Whether one that is said now is said late enough."""
        again = self.asked_at is None or now - self.asked_at >= APART
        return again and now - self.journalled_at >= LAG

    @property
    def message(self) -> DoubtfulMessage:
        return DoubtfulMessage(
            id=str(self.id), to=self.to, journalled_at=self.journalled_at
        )


def asking(channel: str) -> str:
    """The name of the part that asks."""
    return f"queries:{channel}"


async def run(core: Core, channel: Channel, accept: Accept) -> None:
    """For ever, where the channel's provider can be asked."""
    while True:
        if not await step(core, channel, accept):
            await core.wakeups.wait(asking(channel.name), LOOK_SECONDS)


async def step(core: Core, channel: Channel, accept: Accept) -> bool:
    """Ask about what is due; whether there may be more. A failure of the asking ends
    the step: it hardly ever concerns one message only."""
    doubts = await due(core, channel.name)
    for doubt in doubts:
        beat()
        if not await _ask(core, channel, doubt, accept):
            return False
        await asyncio.sleep(PACE_SECONDS)
    return len(doubts) == MOST


async def due(core: Core, channel: str) -> Sequence[Doubt]:
    now = core.clock.now()
    found = await db.rows(
        _DUE, channel, to_micros(now - LAST), _micros(FIRST), to_micros(now), MOST
    )
    return [
        Doubt(
            id=row["id"],
            to=Address(AddressKind(row["kind"]), row["value"]),
            attempt=row["attempts"],
            inquiry_id=row["inquiry_id"],
            journalled_at=from_micros(row["journalled_at"]),
            asked=row["asked"],
            asked_at=_at(row["asked_at"]),
            denials=row["denials"],
        )
        for row in found
    ]


def _micros(spell: timedelta) -> int:
    return spell // MICROSECOND


def _at(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


async def _ask(core: Core, channel: Channel, doubt: Doubt, accept: Accept) -> bool:
    """Whether an answer came, whatever it was."""
    adapter = channel.adapter
    assert isinstance(adapter, Queries)
    try:
        found = await adapter.query(doubt.message)
    except Exception as error:
        log.warning("query.failed", channel=channel.name, error=type(error).__name__)
        code = error.code if isinstance(error, DeliveryError) else type(error).__name__
        pause = error.retry_after if isinstance(error, TransientFailure) else None
        await _note(core, doubt, code, pause=pause)
        return False
    log.info("query.answered", channel=channel.name, outbound=doubt.id)
    if isinstance(found, DeliveryReceipt):
        await accept([found])
    await _heed(core, channel, doubt, found)
    return True


async def _heed(core: Core, channel: Channel, doubt: Doubt, found: Found) -> None:
    denied = isinstance(found, NotTaken) and doubt.counts_denial(core.clock.now())
    denials = doubt.denials + denied
    async with db.transaction():
        await _note(core, doubt, _word(found), denials=denials)
        moved = list[Moved]()
        if isinstance(found, Accepted):
            moved = await _move(core, channel, doubt, "accepted", "query_taken")
        elif denials >= DENIALS:
            moved = await _move(core, channel, doubt, "failed", "query_denied")
    await follow.announce_moved(core, moved)


def _word(found: Found) -> str:
    match found:
        case DeliveryReceipt():
            return "told"
        case Accepted():
            return "taken"
        case NotTaken():
            return "denied"
        case None:
            return "silent"


async def _move(
    core: Core, channel: Channel, doubt: Doubt, state: str, reason: str
) -> list[Moved]:
    """Unless other evidence or a person was faster."""
    move = Move(doubt.id, state, reason, attempt=doubt.attempt)
    moved = await moves.advance([move], core.clock.now())
    if moved:
        core.metrics.outbound.labels(channel.name, state).inc()
        await audit.record(
            core.clock,
            GATEWAY,
            "message.queried",
            f"outbox:{doubt.id}",
            answer=reason,
            asked=doubt.asked + 1,
        )
    if moved and state == "failed" and doubt.inquiry_id is not None:
        await follow.undelivered(core, doubt.inquiry_id, doubt.id, state, reason)
    return moved


async def _note(
    core: Core,
    doubt: Doubt,
    answer: str,
    *,
    denials: int | None = None,
    pause: timedelta | None = None,
) -> None:
    """What was answered, and when to ask again."""
    now = core.clock.now()
    wait = max(FIRST, now - doubt.journalled_at, pause or timedelta())
    await db.execute(
        "INSERT INTO queries (outbound_id, attempt, asked, asked_at, next_at, answer, "
        "denials) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (outbound_id) DO UPDATE SET "
        "attempt = excluded.attempt, asked = excluded.asked, "
        "asked_at = excluded.asked_at, next_at = excluded.next_at, "
        "answer = excluded.answer, denials = excluded.denials",
        doubt.id,
        doubt.attempt,
        doubt.asked + 1,
        to_micros(now),
        to_micros(now + wait),
        answer[:64],
        doubt.denials if denials is None else denials,
    )


# --- what people see and ask for ----------------------------------------------------


async def hurry(core: Core, actor: Actor, outbound_id: int) -> None:
    """Ask about a message now rather than when it is due.

    Raises NotFound for a foreign one or one that is settled, RequestError where its
    provider can't be asked.
    """
    if outbound_id not in await unknown.open_to(actor, [outbound_id]):
        raise NotFound("message")
    [row] = await db.rows(
        "SELECT channel, attempts FROM outbox WHERE id = ?", outbound_id
    )
    if not can_ask(core, row["channel"]):
        raise RequestError("mute", "这个渠道的服务商不能查询", status=409)
    async with db.transaction():
        await db.execute(
            "DELETE FROM queries WHERE outbound_id = ? AND attempt <> ?",
            outbound_id,
            row["attempts"],
        )
        await db.execute(
            "INSERT INTO queries (outbound_id, attempt, asked, next_at, answer, "
            "denials) VALUES (?, ?, 0, ?, '', 0) ON CONFLICT (outbound_id) "
            "DO UPDATE SET next_at = excluded.next_at",
            outbound_id,
            row["attempts"],
            to_micros(core.clock.now()),
        )
    core.wakeups.wake(asking(row["channel"]))


def can_ask(core: Core, channel: str) -> bool:
    found = core.channels.get(channel)
    return found is not None and isinstance(found.adapter, Queries)


def shown(core: Core, row: Row, say: Say) -> dict[str, Any] | None:
    """What page and list show of a row of `unknown`; None: nobody can be asked."""
    if not can_ask(core, row["channel"]):
        return None
    next_at = row["next_at"] or row["changed_at"] + _micros(FIRST)
    last_at = row["changed_at"] + _micros(LAST)
    is_over = max(next_at, to_micros(core.clock.now())) > last_at
    return {
        "times": row["asked"] or 0,
        "at": _at(row["asked_at"]),
        "answer": say(ANSWERS.get(row["answer"]) or words.reason(row["answer"] or "")),
        "next": None if is_over else from_micros(next_at),
    }


async def of_broadcast(
    core: Core, broadcast_id: int, noteworthy: str
) -> dict[str, Any] | None:
    """How many of its messages in doubt were asked about, and when the next is; None:
    none can be asked about any more. `noteworthy` is what its index holds."""
    able = [one.name for one in core.channels if can_ask(core, one.name)]
    if not able:
        return None
    [found] = await db.rows(
        "SELECT COUNT(q.outbound_id) AS asked, "
        "MIN(COALESCE(q.next_at, o.changed_at + ?)) AS next_at FROM outbox o "
        "LEFT JOIN queries q ON q.outbound_id = o.id AND q.attempt = o.attempts "
        f"WHERE o.broadcast_id = ? AND {noteworthy} AND state = 'unknown' "
        f"AND o.changed_at >= ? AND o.channel IN ({db.marks(len(able))})",
        _micros(FIRST),
        broadcast_id,
        to_micros(core.clock.now() - LAST),
        *able,
    )
    if found["next_at"] is None:
        return None
    return {"asked": found["asked"], "next": from_micros(found["next_at"])}
