"""Send again to the failed, and to nobody else: those of whom nobody knows, and those
who got some parts of a long message, only where a person says so and why. Whom a person
gave up stays given up."""

from dataclasses import dataclass
from datetime import datetime

from broadcasts import notices
from broadcasts.sweep import NOTEWORTHY
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import Actor
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import RequestError
from gateway.outbox import moves
from gateway.outbox.enqueue import expiry
from gateway.outbox.moves import Move
from gateway.status import BroadcastState

_BATCH = 2_000
_SENDABLE = frozenset(
    {BroadcastState.RUNNING, BroadcastState.PAUSED, BroadcastState.FINISHED}
)
# Some parts of a long message were taken, and may have been read.
_PARTLY = (
    "(state = 'failed' AND (reason = 'partly_refused' OR EXISTS (SELECT 1 FROM parts p "
    "WHERE p.outbound_id = outbox.id AND p.state <> 'failed')))"
)
# It was unknown, and somebody decided that it is not to leave again.
_GIVEN_UP = "(state = 'dead' AND reason = 'given_up')"


@dataclass(frozen=True, slots=True)
class Apart:
    """Of those who count as refused: who is not simply sent to again."""

    in_part: int = 0
    given_up: int = 0


async def apart(broadcast_id: int) -> Apart:
    """Looks at all the failed."""
    [found] = await db.rows(
        f"SELECT COUNT(CASE WHEN {_PARTLY} THEN 1 END) AS in_part, "
        f"COUNT(CASE WHEN {_GIVEN_UP} THEN 1 END) AS given_up FROM outbox "
        f"WHERE broadcast_id = ? AND {NOTEWORTHY} AND state IN ('failed', 'dead')",
        broadcast_id,
    )
    return Apart(int(found["in_part"]), int(found["given_up"]))


async def send(
    core: Core,
    actor: Actor,
    broadcast: Broadcast,
    *,
    unknown: bool = False,
    in_part: bool = False,
    reason: str = "",
) -> int:
    """To how many. RequestError: nobody, its event is over, no reason given."""
    reason, now = reason.strip()[:200], core.clock.now()
    if (unknown or in_part) and not reason:
        fault = "请写明为什么可以再发给也许已经收到的人"
        raise RequestError("reason", fault, status=422, fields={"reason": fault})
    _refuse_over(core, broadcast, now)
    states = ("failed", "dead", "unknown") if unknown else ("failed", "dead")
    people = await _number(broadcast.id, states, in_part)
    if people <= 0:
        raise RequestError("nobody", "没有发送失败的人", status=409)
    async with db.transaction():
        if not await _claim(broadcast, now):
            raise notices.not_now(await notices.find(actor, broadcast.id), "再发")
        await audit.record(
            core.clock,
            actor,
            "broadcast.again",
            f"broadcast:{broadcast.id}",
            path=await notices.path_of(broadcast),
            people=people,
            unknown=unknown,
            in_part=in_part,
            reason=reason,
        )
        which = f"state IN {states} AND NOT {_GIVEN_UP}"
        which += "" if in_part else f" AND NOT {_PARTLY}"
        after = await _queue(core, broadcast, which, reason, now, 0)
    while after:
        async with db.transaction():
            if not await _claim(broadcast, now):
                break  # cancelled meanwhile
            after = await _queue(core, broadcast, which, reason, now, after)
    return people


def _refuse_over(core: Core, broadcast: Broadcast, now: datetime) -> None:
    if broadcast.state not in _SENDABLE:
        raise notices.not_now(broadcast, "再发")
    if _expiry(core, broadcast, now) <= now:
        fault = "活动时间或截止时间已过，不再发送"
        raise RequestError("too_late", fault, status=409)


async def _number(broadcast_id: int, states: tuple[str, ...], in_part: bool) -> int:
    counted = await moves.counts(broadcast_id)
    people = sum(counted.get(state, 0) for state in states)
    if not (counted.get("failed") or counted.get("dead")):
        return people
    found = await apart(broadcast_id)
    return people - found.given_up - (0 if in_part else found.in_part)


async def _claim(broadcast: Broadcast, now: datetime) -> bool:
    """Inside a transaction: it runs again, and nobody ends it meanwhile. A paused one
    stays paused: whoever resumes it lets these go too. False: it was cancelled."""
    return bool(
        await db.execute(
            "UPDATE broadcasts SET finished_at = NULL, changed_at = ?, state = CASE "
            "WHEN state = 'paused' THEN 'paused' ELSE 'running' END "
            f"WHERE id = ? AND state IN ({db.marks(len(_SENDABLE))})",
            to_micros(now),
            broadcast.id,
            *_SENDABLE,
        )
    )


async def _queue(
    core: Core,
    broadcast: Broadcast,
    which: str,
    reason: str,
    now: datetime,
    after: int,
) -> int:
    """The next that failed until `now`; the last one's id, 0 when there are no more.
    One that fails again meanwhile is not taken twice."""
    found = await db.rows(
        f"SELECT id FROM outbox WHERE broadcast_id = ? AND {NOTEWORTHY} "
        f"AND {which} AND id > ? AND changed_at <= ? "
        f"ORDER BY id LIMIT {_BATCH}",
        broadcast.id,
        after,
        to_micros(now),
    )
    due = to_micros(now)
    moved = await moves.advance(
        [Move(r["id"], "queued", "sent_again", reason, due_at=due) for r in found],
        core.clock.now(),
    )
    ends_at = _expiry(core, broadcast, core.clock.now())
    await _renew([one.id for one in moved], to_micros(ends_at))
    return int(found[-1]["id"]) if len(found) == _BATCH else 0


def _expiry(core: Core, broadcast: Broadcast, now: datetime) -> datetime:
    """As long as a fresh run would have, but never after the event or the end that was
    approved."""
    kind = MessageKind(broadcast.kind)
    return expiry(core, kind, now, broadcast.event_at, broadcast.expires_at)


async def _renew(ids: list[int], expires_at: int) -> None:
    if ids:
        given, values = db.table({"id": "BIGINT"}, [(id,) for id in ids])
        await db.execute(
            "UPDATE outbox SET expires_at = ? WHERE id IN "
            f"(SELECT g.id FROM {given} AS g)",
            expires_at,
            *values,
        )
