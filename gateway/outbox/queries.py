"""Asks providers what became of messages of unknown outcome: soon, then ever more
rarely, until they tell or a week has gone by.

What they have is accepted, and an end that they tell counts like a receipt. That they
have no such message is shown to whoever decides on it, and moves nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway import addresses, audit
from gateway import database as db
from gateway.actors import GATEWAY, Actor
from gateway.channels import Channel
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    DoubtfulMessage,
    Ended,
    Found,
    NotTaken,
    Queries,
    ReceiptState,
)
from gateway.core import Core
from gateway.database import MICROSECOND, Row, from_micros, to_micros
from gateway.errors import DeliveryError, NotFound, RequestError, TransientFailure
from gateway.inquiries import words
from gateway.inquiries.history import Say
from gateway.members import consent
from gateway.outbox import follow, moves, unknown
from gateway.outbox.moves import Move, Moved
from gateway.supervisor import beat

log = structlog.get_logger()
FIRST = timedelta(minutes=1)  # in doubt; then each time at about twice the age
LAST = timedelta(days=7)  # providers keep records as long, the first of them at least
LAG = timedelta(minutes=30)  # of a provider's records behind what it took
MOST = 100  # messages of one look
LOOK_SECONDS = 10.0
ANSWER_SECONDS = 60.0  # for all calls about one message
PACE_SECONDS = 0.1  # Tencent lets an account ask twenty times a second, for all uses
# Of the errors that may be the account's, not the message's: asking goes on later.
_AWAY = ("no_answer", "timeout", "http_")
_DUE = f"""
SELECT o.id, o.kind, o.value, o.attempts, o.inquiry_id, t.journalled_at,
  COALESCE(q.asked, 0) AS asked
FROM outbox o
JOIN attempts t ON t.outbound_id = o.id AND t.number = o.attempts
LEFT JOIN queries q ON q.outbound_id = o.id AND q.attempt = o.attempts
WHERE o.channel = ? AND o.state = 'unknown' AND o.changed_at >= ?
  AND o.value NOT LIKE '{addresses.ERASED}%'
  AND COALESCE(q.next_at, o.changed_at + ?) <= ?
ORDER BY COALESCE(q.next_at, o.changed_at), o.id LIMIT ?
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

    @property
    def message(self) -> DoubtfulMessage:
        return DoubtfulMessage(
            id=str(self.id), to=self.to, journalled_at=self.journalled_at
        )


def asking(channel: str) -> str:
    """The name of the part that asks."""
    return f"queries:{channel}"


async def run(core: Core, channel: Channel) -> None:
    """For ever, where the channel's provider can be asked."""
    while True:
        pause = await step(core, channel)
        if pause is None:
            await core.wakeups.wait(asking(channel.name), LOOK_SECONDS)
            continue
        until = core.clock.monotonic() + pause.total_seconds()
        while (left := until - core.clock.monotonic()) > 0:
            beat()
            await asyncio.sleep(min(left, LOOK_SECONDS))


async def step(core: Core, channel: Channel) -> timedelta | None:
    """Ask about what is due. How long the account wants to be left alone, if it does;
    None: until somebody asks, or it is time to look again."""
    for doubt in await due(core, channel.name):
        beat()
        if not await _is_open(doubt):
            continue
        error = await _ask(core, channel, doubt)
        if error is not None and _is_accounts(error):
            return getattr(error, "retry_after", None)
        await asyncio.sleep(PACE_SECONDS)
    return None


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
        )
        for row in found
    ]


async def _is_open(doubt: Doubt) -> bool:
    """Whether nobody knew or decided meanwhile."""
    return bool(
        await db.rows(
            "SELECT id FROM outbox WHERE id = ? AND state = 'unknown' AND attempts = ?",
            doubt.id,
            doubt.attempt,
        )
    )


async def _ask(core: Core, channel: Channel, doubt: Doubt) -> Exception | None:
    """The error where no answer came."""
    adapter = channel.adapter
    assert isinstance(adapter, Queries)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await adapter.query(doubt.message)
    except Exception as error:
        log.warning("query.failed", channel=channel.name, error=type(error).__name__)
        await _settle(core, channel, doubt, None, _code(error))
        return error
    log.info("query.answered", channel=channel.name, outbound=doubt.id)
    await _settle(core, channel, doubt, found, _word(found))
    return None


def _code(error: Exception) -> str:
    if isinstance(error, DeliveryError):
        return error.code
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def _is_accounts(error: Exception) -> bool:
    return isinstance(error, TransientFailure) or _code(error).startswith(_AWAY)


def _word(found: Found) -> str:
    match found:
        case Ended():
            return "ended"
        case Accepted():
            return "taken"
        case NotTaken():
            return "denied"
        case None:
            return "silent"


async def _settle(
    core: Core, channel: Channel, doubt: Doubt, found: Found, answer: str
) -> None:
    """What was answered is kept, and moves the message where it decides; unless other
    evidence or a person was faster."""
    moved = list[Moved]()
    async with db.transaction():
        if isinstance(found, Ended) and found.opted_out:
            await consent.hold_gate(alone=True)  # before any row is locked
        row = (await moves.locked([doubt.id])).get(doubt.id)
        if not row or (row["state"], row["attempts"]) != ("unknown", doubt.attempt):
            return
        await _note(core, doubt, answer)
        move = _move(doubt, found)
        if move is not None:
            moved = await moves.advance([move], core.clock.now(), {doubt.id: row})
            await _follow(core, channel, doubt, move, found)
    await follow.announce_moved(core, moved)


def _move(doubt: Doubt, found: Found) -> Move | None:
    """A failure may be that of an earlier attempt, whose record has the same id."""
    match found:
        case Accepted(ids):
            provider_id = ids[0] if len(ids) == 1 else ""
            return Move(doubt.id, "accepted", "query_taken", provider_id=provider_id)
        case Ended(state=ReceiptState.UNKNOWN):
            return None
        case Ended(state=ReceiptState.FAILED) if doubt.attempt > 1:
            return None
        case Ended(state=state, code=code):
            return Move(doubt.id, state, code)
    return None


async def _follow(
    core: Core, channel: Channel, doubt: Doubt, move: Move, found: Found
) -> None:
    core.metrics.outbound.labels(channel.name, move.state).inc()
    if isinstance(found, Ended) and found.opted_out:
        await consent.opt_out(core, doubt.to, how="provider", evidence=found.code)
    if move.state == "failed" and doubt.inquiry_id is not None:
        await follow.undelivered(
            core, doubt.inquiry_id, doubt.id, move.state, move.reason
        )
    # Last: whoever works on an inquiry has it locked when he comes to the audit.
    await audit.record(
        core.clock,
        GATEWAY,
        "message.queried",
        f"outbox:{doubt.id}",
        state=move.state,
        answer=move.reason,
        asked=doubt.asked + 1,
    )


async def _note(core: Core, doubt: Doubt, answer: str) -> None:
    """What was answered, and when to ask again."""
    now = core.clock.now()
    wait = max(FIRST, now - doubt.journalled_at)
    await db.execute(
        "INSERT INTO queries (outbound_id, attempt, asked, asked_at, next_at, answer) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (outbound_id) DO UPDATE SET "
        "attempt = excluded.attempt, asked = excluded.asked, "
        "asked_at = excluded.asked_at, next_at = excluded.next_at, "
        "answer = excluded.answer",
        doubt.id,
        doubt.attempt,
        doubt.asked + 1,
        to_micros(now),
        to_micros(now + wait),
        answer[:64],
    )


def _micros(spell: timedelta) -> int:
    return spell // MICROSECOND


# --- what people see and ask for ----------------------------------------------------

# What a provider said last of a message that is still in doubt.
ANSWERS: Mapping[str, str] = {
    "ended": "服务商的说法定不了结果",
    "denied": "没有查到这一条",
    "silent": "服务商还没有结果",
}
EARLY = "没有查到这一条，但服务商的记录有时来得晚"


async def hurry(core: Core, actor: Actor, outbound_id: int) -> None:
    """Ask about a message now rather than when it is due.

    Raises NotFound for a foreign one or one that is settled, RequestError where its
    provider can't be asked, or not any more.
    """
    if outbound_id not in await unknown.open_to(actor, [outbound_id]):
        raise NotFound("message")
    [row] = await db.rows(
        "SELECT channel, value, attempts, changed_at FROM outbox WHERE id = ?",
        outbound_id,
    )
    if not _can_ask(core, row):
        raise RequestError("mute", "这个渠道的服务商不能查询", status=409)
    if row["changed_at"] < to_micros(core.clock.now() - LAST):
        raise RequestError("over", "已经过了一周，不再查询", status=409)
    async with db.transaction():
        await db.execute(
            "DELETE FROM queries WHERE outbound_id = ? AND attempt <> ?",
            outbound_id,
            row["attempts"],
        )
        # Before all that are merely due, however many they are.
        await db.execute(
            "INSERT INTO queries (outbound_id, attempt, asked, next_at, answer) "
            "VALUES (?, ?, 0, 0, '') ON CONFLICT (outbound_id) DO UPDATE SET "
            "next_at = excluded.next_at",
            outbound_id,
            row["attempts"],
        )
    core.wakeups.wake(asking(row["channel"]))


def _can_ask(core: Core, row: Row) -> bool:
    found = core.channels.get(row["channel"])
    erased = row["value"].startswith(addresses.ERASED)
    return found is not None and isinstance(found.adapter, Queries) and not erased


def shown(core: Core, row: Row, say: Say) -> dict[str, Any] | None:
    """What the page shows of a row of `unknown`; None: nobody can be asked."""
    if not _can_ask(core, row):
        return None
    now, since = to_micros(core.clock.now()), row["changed_at"]
    next_at = since + _micros(FIRST) if row["next_at"] is None else row["next_at"]
    return {
        "times": row["asked"] or 0,
        "at": None if row["asked_at"] is None else from_micros(row["asked_at"]),
        "answer": say(_said(row)),
        "is_over": max(next_at, now) > since + _micros(LAST),
        "next": None if next_at <= now else from_micros(next_at),
    }


def _said(row: Row) -> str:
    answer = row["answer"] or ""
    if answer == "denied" and row["asked_at"] < row["changed_at"] + _micros(LAG):
        return EARLY
    return ANSWERS.get(answer) or words.reason(answer)


async def of_broadcast(
    core: Core, broadcast_id: int, noteworthy: str
) -> dict[str, Any] | None:
    """How many of its messages in doubt were asked about, and when the next is; None:
    none can be asked about any more. `noteworthy` is what its index holds."""
    able = [one.name for one in core.channels if isinstance(one.adapter, Queries)]
    if not able:
        return None
    now = core.clock.now()
    [found] = await db.rows(
        "SELECT COUNT(CASE WHEN q.asked > 0 THEN 1 END) AS asked, "
        "MIN(CASE WHEN q.next_at IS NULL THEN o.changed_at + ? "
        "WHEN q.next_at <= o.changed_at + ? THEN q.next_at END) AS next_at "
        "FROM outbox o "
        "LEFT JOIN queries q ON q.outbound_id = o.id AND q.attempt = o.attempts "
        f"WHERE o.broadcast_id = ? AND {noteworthy} AND state = 'unknown' "
        f"AND o.changed_at >= ? AND o.channel IN ({db.marks(len(able))})",
        _micros(FIRST),
        _micros(LAST),
        broadcast_id,
        to_micros(now - LAST),
        *able,
    )
    if found["next_at"] is None:
        return None
    return {"asked": found["asked"], "next": max(from_micros(found["next_at"]), now)}
