"""Messages whose outcome nobody knows: a named person says what shall become of them.

They leave the state `unknown` only by evidence or by this decision.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import Row, from_micros, rows, to_micros
from gateway.errors import NotFound, RequestError
from gateway.inquiries import timeline
from gateway.outbox import moves
from gateway.outbox.enqueue import expiry
from gateway.outbox.moves import Move
from gateway.phrases import phrase
from gateway.status import BroadcastState
from gateway.tables import Inquiry

MOST = 100  # messages listed at once, oldest first
# What a person may decide: the state it leads to, and the reason kept with it.
AGAIN = "again"
DECISIONS: Mapping[str, tuple[str, str]] = {
    "sent": ("accepted", "confirmed"),
    AGAIN: ("queued", "sent_again"),
    "give_up": ("dead", "given_up"),
}
_ROWS = """
SELECT x.id, x.state, x.channel, x.kind, x.value, x.message_kind, x.reason,
  x.changed_at, x.inquiry_id, x.broadcast_id, i.number, m.name AS member,
  q.asked, q.asked_at, q.next_at, q.answer
FROM outbox x
LEFT JOIN queries q ON q.outbound_id = x.id AND q.attempt = x.attempts
LEFT JOIN inquiries i ON i.id = x.inquiry_id
LEFT JOIN members m ON m.id = x.member_id
LEFT JOIN organisations o ON o.id = COALESCE(i.organisation_id, m.organisation_id)
WHERE (o.path LIKE ? OR (o.path IS NULL AND ? = 1))
"""
_NOTICES = """
FROM broadcasts b JOIN organisations p ON p.id = b.organisation_id WHERE p.path LIKE ?
"""
_TITLES = f"SELECT b.id, b.title {_NOTICES}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """How many messages a decision moved, and of how many evidence had come first."""

    decided: int
    settled: int


async def unknown(actor: Actor) -> list[Row]:
    """What the actor may decide on one by one; without a member or matter:
    administrators. What is of a notice of theirs is decided on there."""
    return await rows(
        f"{_ROWS} AND x.state = 'unknown' AND (x.broadcast_id IS NULL OR "
        f"x.broadcast_id NOT IN (SELECT b.id {_NOTICES})) ORDER BY x.id LIMIT {MOST}",
        *_scope(actor),
        f"{actor.path}%",
    )


async def notices(actor: Actor) -> list[Row]:
    """Those of the actor's notices with unknown messages: id, title, how many, and
    since when."""
    return await rows(
        "SELECT b.id, b.title, u.n, u.since FROM (SELECT broadcast_id, COUNT(*) AS n, "
        "MIN(changed_at) AS since FROM outbox WHERE state = 'unknown' "
        f"GROUP BY broadcast_id) u JOIN ({_TITLES}) b ON b.id = u.broadcast_id "
        "ORDER BY b.id DESC",
        f"{actor.path}%",
    )


async def open_to(actor: Actor, ids: Sequence[int]) -> frozenset[int]:
    """Which of these messages are unknown and the actor may decide on."""
    if not actor.may(Action.WORK):
        return frozenset()
    found = await _among(actor, ids)
    return frozenset(row["id"] for row in found if row["state"] == "unknown")


async def _among(actor: Actor, ids: Collection[int]) -> list[Row]:
    wanted = db.marks(len(ids)) or "NULL"
    return await rows(f"{_ROWS} AND x.id IN ({wanted})", *_scope(actor), *ids)


def _scope(actor: Actor) -> tuple[object, ...]:
    return f"{actor.path}%", int(actor.may(Action.ADMINISTER))


async def decide(
    core: Core, actor: Actor, outbound_id: int, decision: str, reason: str
) -> None:
    """Raises RequestError where evidence came first, or where it is to leave again and
    its notice is over; NotFound for a foreign one."""
    reason = _checked(actor, decision, reason)
    found = await _among(actor, [outbound_id])
    if not found or found[0]["state"] != "unknown":
        raise NotFound("message")
    if not await _move(core, actor, found, decision, reason):
        raise RequestError("settled", "刚刚有了结果，不用再处理", status=409)


async def decide_all(
    core: Core,
    actor: Actor,
    broadcast_id: int,
    ids: Collection[int],
    decision: str,
    reason: str,
) -> Decided:
    """The same for many messages of a broadcast, in one transaction: what has its
    evidence by now is left as it is. NotFound, and nothing done, where one is foreign.
    """
    reason = _checked(actor, decision, reason)
    wanted = set(ids)
    if not wanted:
        fault = "请先勾选要处理的人"
        raise RequestError("nobody", fault, status=422, fields={"chosen": fault})
    found = await _among(actor, wanted)
    if len([r for r in found if r["broadcast_id"] == broadcast_id]) < len(wanted):
        raise NotFound("message")
    done = await _move(core, actor, found, decision, reason)
    return Decided(decided=len(done), settled=len(found) - len(done))


def _checked(actor: Actor, decision: str, reason: str) -> str:
    actor.require(Action.WORK)
    reason = reason.strip()[:200]
    if decision not in DECISIONS or not reason:
        raise RequestError(
            "reason",
            "请选择怎样处理并写明依据",
            status=422,
            fields={"reason": "请写明依据"},
        )
    return reason


async def _move(
    core: Core, actor: Actor, found: Sequence[Row], decision: str, reason: str
) -> list[Row]:
    """Those that were still unknown, once nobody else could change them."""
    state, why = DECISIONS[decision]
    async with db.transaction():
        now = core.clock.now()
        if decision == AGAIN:
            await _renew(core, found, now)
        current = await moves.locked([row["id"] for row in found])
        still = {id for id, row in current.items() if row["state"] == "unknown"}
        done = [row for row in found if row["id"] in still]
        due_at = to_micros(now)
        await moves.advance(
            [Move(row["id"], state, why, reason, due_at=due_at) for row in done],
            now,
            current,
        )
        await _record(core, actor, done, decision, reason)
    await _tell(core, done)
    return done


async def _renew(core: Core, found: Sequence[Row], now: datetime) -> None:
    """They may leave as long as if they were new; their notices run again. RequestError
    where one is over: whoever perhaps has it would count as if it had not been sent."""
    ids = _named(found, "broadcast_id")
    lock = " FOR UPDATE" if db.is_postgres() else ""
    runs = {
        row["id"]: row
        for row in await db.rows(
            "SELECT id, state, event_at, expires_at FROM broadcasts "
            f"WHERE id IN ({db.marks(len(ids)) or 'NULL'}) ORDER BY id{lock}",
            *ids,
        )
    }
    for run in runs.values():
        _refuse_over(run, now)
    await db.execute(
        "UPDATE broadcasts SET state = 'running', finished_at = NULL, changed_at = ? "
        f"WHERE state = 'finished' AND id IN ({db.marks(len(runs)) or 'NULL'})",
        to_micros(now),
        *runs,
    )
    for row in found:
        kind, ends = MessageKind(row["message_kind"]), _ends(runs, row)
        await db.execute(
            "UPDATE outbox SET expires_at = ? WHERE id = ? AND state = 'unknown'",
            to_micros(expiry(core, kind, now, *ends)),
            row["id"],
        )


def _refuse_over(run: Row, now: datetime) -> None:
    if run["state"] == BroadcastState.CANCELLED:
        words = "通知{state}，不能{act}"
        said = phrase(words, state=phrase("已取消"), act=phrase("再发"))
        raise RequestError("wrong_state", said, status=409)
    ends = [run[name] for name in ("event_at", "expires_at") if run[name] is not None]
    if ends and min(ends) <= to_micros(now):
        raise RequestError("too_late", "活动时间或截止时间已过，不再发送", status=409)


def _ends(runs: Mapping[int, Row], row: Row) -> list[datetime]:
    run = runs.get(row["broadcast_id"], {})
    ends = [run.get("event_at"), run.get("expires_at")]
    return [from_micros(end) for end in ends if end is not None]


async def _record(
    core: Core, actor: Actor, done: Sequence[Row], decision: str, reason: str
) -> None:
    """The audit last: whoever works on an inquiry has it locked when he comes to it."""
    for row in done:
        inquiry = await Inquiry.get_or_none(id=row["inquiry_id"])
        if inquiry is not None:
            await timeline.note(
                core, inquiry, "decided", actor, reason, outbound_id=row["id"]
            )
    for row in done:
        await audit.record(
            core.clock,
            actor,
            "message.decided",
            f"outbox:{row['id']}",
            decision=decision,
            reason=reason,
        )


async def _tell(core: Core, done: Sequence[Row]) -> None:
    if not done:
        return
    core.wakeups.wake_all()
    for channel in {row["channel"] for row in done}:
        core.hub.publish("channel", channel)
    await timeline.announce(core, _named(done, "inquiry_id"))
    for id in _named(done, "broadcast_id"):
        core.hub.publish("broadcast", id)


def _named(done: Sequence[Row], column: str) -> set[int]:
    return {row[column] for row in done if row[column] is not None}
