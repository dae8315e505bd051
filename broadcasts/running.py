"""A broadcast while it runs: start, pause, resume, cancel, finish.

Starting freezes the audience, opens the questions and moves the state in one
transaction: after a crash it has happened wholly or not at all.
"""

from dataclasses import asdict
from datetime import datetime, timedelta

import structlog

from broadcasts import content, notices, plan
from broadcasts.notices import announce, find, move, not_now
from broadcasts.plan import Bad, Freeze, Plan
from broadcasts.tables import Broadcast
from gateway import audit, tokens
from gateway import database as db
from gateway.actors import GATEWAY, Action, Actor
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import RequestError
from gateway.outbox.enqueue import PRIORITY
from gateway.phrases import phrase
from gateway.status import BroadcastState
from gateway.tables import Content, Hold

log = structlog.get_logger()

GRACE = timedelta(hours=1)  # a scheduled notice later than this waits for a person
# The first codes go to questions that are asked of one address alone.
_FIRST_CODE, _CODES = 99, 1089
_STARTABLE = frozenset({BroadcastState.APPROVED, BroadcastState.SCHEDULED})
_UNDER_WAY = frozenset(
    {BroadcastState.RUNNING, BroadcastState.PAUSED, BroadcastState.FINISHED}
)


async def start(core: Core, actor: Actor, id: int) -> Broadcast:
    """Send an approved notice now. A second call changes nothing (A-14).

    RequestError: not approved, its event or its time over, texts that can't be said,
    an audience that has grown since it was approved.
    """
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    if broadcast.state in _UNDER_WAY:
        return broadcast
    if broadcast.state not in _STARTABLE:
        raise not_now(broadcast, "开始发送")
    now = core.clock.now()
    expires_at = _expiry(core, broadcast, now)
    broadcast.code = _code(broadcast)
    planned = await notices.plan_of(core, broadcast)
    bad = await _try_texts(core, broadcast, planned)
    async with db.transaction():
        if not await move(broadcast, BroadcastState.RUNNING, now, started_at=now):
            return await _started_meanwhile(actor, id)
        people = await _freeze(core, broadcast, planned, expires_at)
        _refuse_growth(broadcast, people)
        await plan.exclude(id, bad, now)
        if broadcast.rsvp:
            until = broadcast.event_at or now + timedelta(
                days=core.settings.policy.prompt_days
            )
            await plan.open_rsvp(id, broadcast.code, broadcast.title, now, until)
        await audit.record(
            core.clock,
            actor,
            "broadcast.start",
            f"broadcast:{id}",
            path=await notices.path_of(broadcast),
            people=people,
            excluded=len(bad),
        )
    await changed(core, broadcast)
    return await find(actor, id)


async def _started_meanwhile(actor: Actor, id: int) -> Broadcast:
    broadcast = await find(actor, id)
    if broadcast.state not in _UNDER_WAY:
        raise not_now(broadcast, "开始发送")
    return broadcast


def _code(broadcast: Broadcast) -> str:
    """Told apart from every other notice whose answers are still awaited."""
    return tokens.short_code(_FIRST_CODE + broadcast.id % _CODES)


def _expiry(core: Core, broadcast: Broadcast, now: datetime) -> datetime:
    """A notice never arrives after its activity."""
    if notices.digest(broadcast) != broadcast.approved_hash:
        fault = "批准以后内容又有变动，请重新提请批准"
        raise RequestError("revision_changed", fault, status=409)
    hours = core.settings.policy.broadcast_expires_hours
    ends = [broadcast.expires_at or now + timedelta(hours=hours)]
    if broadcast.event_at is not None:
        ends.append(broadcast.event_at)
    if min(ends) <= now:
        fault = "活动时间或截止时间已过，不再发送。请修改后重新提请批准"
        raise RequestError("too_late", fault, status=409)
    return min(ends)


async def _try_texts(core: Core, broadcast: Broadcast, planned: Plan) -> list[Bad]:
    bad = await plan.check(core, planned)
    if bad and not broadcast.exclude_bad:
        raise notices.bad_texts(bad)
    return bad


async def _freeze(
    core: Core, broadcast: Broadcast, planned: Plan, expires_at: datetime
) -> int:
    now = core.clock.now()
    texts = dict(planned.texts)
    frozen = await Content.create(
        texts=texts, hash=content.digest(texts), created_at=now
    )
    people = await plan.freeze(
        core,
        planned,
        Freeze(
            broadcast_id=broadcast.id,
            content_id=frozen.id,
            priority=PRIORITY[planned.kind],
            now=now,
            expires_at=expires_at,
        ),
    )
    missed = [asdict(one) for one in await plan.left_out(planned)]
    await Broadcast.filter(id=broadcast.id).update(
        planned=people, left_out=missed, content_id=frozen.id, code=broadcast.code
    )
    return people


def _refuse_growth(broadcast: Broadcast, people: int) -> None:
    approved = broadcast.approved_people
    if people > approved + approved // 10 + 5:
        words = "批准时是{approved}人，现在是{n}人，请修改后重新提请批准"
        fault = phrase(words, approved=approved, n=people)
        raise RequestError("audience_grown", fault, status=409)
    if not people:
        raise RequestError("nobody", "名单里没有一个人能收到", status=409)


async def changed(core: Core, broadcast: Broadcast) -> None:
    """Tell pages and senders; call it after the commit."""
    await announce(core, broadcast)
    core.wakeups.wake_all()


async def pause(core: Core, actor: Actor, id: int) -> Broadcast:
    """No further row leaves. What is on its way is settled as ever."""
    return await _move(core, actor, id, BroadcastState.PAUSED, "pause", "暂停")


async def resume(core: Core, actor: Actor, id: int) -> Broadcast:
    broadcast = await find(actor, id)
    if broadcast.state in (BroadcastState.APPROVED, BroadcastState.SCHEDULED):
        raise not_now(broadcast, "继续发送")
    return await _move(core, actor, id, BroadcastState.RUNNING, "resume", "继续发送")


async def cancel(core: Core, actor: Actor, id: int) -> Broadcast:
    """End it: what has not left doesn't leave, and is counted as cancelled."""
    return await _move(core, actor, id, BroadcastState.CANCELLED, "cancel", "取消")


async def _move(
    core: Core, actor: Actor, id: int, state: BroadcastState, act: str, name: str
) -> Broadcast:
    """A second call of the same act changes nothing."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    if broadcast.state == state:
        return broadcast
    now = core.clock.now()
    async with db.transaction():
        # Only a paused one resumes; `start` is the way from an approval.
        if not await move(broadcast, state, now):
            current = await find(actor, id)
            if current.state == state:
                return current
            raise not_now(current, name)
        await _hold(id, now, held=state is not BroadcastState.RUNNING)
        if state is BroadcastState.CANCELLED:
            await _cancel_rows(now, id)
        await audit.record(core.clock, actor, f"broadcast.{act}", f"broadcast:{id}")
    await changed(core, broadcast)
    return await find(actor, id)


async def _hold(id: int, now: datetime, held: bool) -> None:
    if held:
        await db.execute(
            "INSERT INTO holds (broadcast_id, at) VALUES (?, ?) "
            "ON CONFLICT (broadcast_id) DO NOTHING",
            id,
            to_micros(now),
        )
    else:
        await Hold.filter(broadcast_id=id).delete()


async def _cancel_rows(now: datetime, id: int) -> int:
    """What waits is cancelled, and its questions are withdrawn."""
    at = to_micros(now)
    moved = await db.execute(
        "UPDATE outbox SET state = 'cancelled', reason = 'cancelled', changed_at = ? "
        "WHERE broadcast_id = ? AND state = 'queued'",
        at,
        id,
    )
    if moved:
        await db.execute(
            "UPDATE prompts SET closed_at = ? WHERE broadcast_id = ? AND closed_at "
            "IS NULL AND (kind, value) IN (SELECT o.kind, o.value FROM outbox o "
            "WHERE o.broadcast_id = ? AND o.state = 'cancelled')",
            at,
            id,
            id,
        )
    return moved


async def start_due(core: Core) -> None:
    """Start scheduled notices; what can't start goes back to its drafter."""
    ready, late = await notices.due(core.clock.now(), GRACE)
    for id in ready:
        try:
            await start(core, GATEWAY, id)
        except RequestError as error:
            await _hand_back(core, id, error)
    for id in late:
        note = "已错过预定时间，没有自动发出。请确认后点“开始发送”，或者取消"
        if await Broadcast.filter(id=id, note="").update(note=note):
            log.warning("broadcast.missed", broadcast=id)
            core.hub.publish("broadcast", id)


async def _hand_back(core: Core, id: int, error: RequestError) -> None:
    broadcast = await find(GATEWAY, id)
    log.warning("broadcast.refused", broadcast=id, code=error.code)
    async with db.transaction():
        if broadcast.state == BroadcastState.SCHEDULED and await move(
            broadcast,
            BroadcastState.DRAFT,
            core.clock.now(),
            note=f"没有发出：{error.detail}",
            approved_hash="",
        ):
            await audit.record(
                core.clock,
                GATEWAY,
                "broadcast.refused",
                f"broadcast:{id}",
                path=await notices.path_of(broadcast),
                code=error.code,
            )
    await announce(core, broadcast)


async def settle(core: Core) -> None:
    """Finish runs of which no row is on its way; keep pages of the others fresh."""
    now = core.clock.now()
    found = await db.rows(
        "SELECT b.id, b.state, EXISTS (SELECT 1 FROM outbox o WHERE o.broadcast_id = "
        "b.id AND o.state IN ('queued', 'sending')) AS busy FROM broadcasts b "
        "WHERE b.state = 'running' OR (b.state = 'cancelled' AND EXISTS (SELECT 1 "
        "FROM outbox o WHERE o.broadcast_id = b.id AND o.state = 'queued'))"
    )
    for row in found:
        broadcast = await Broadcast.get(id=row["id"])
        async with db.transaction():
            if row["state"] == BroadcastState.CANCELLED:
                # A refusal for the rate may bring a row back after the cancel.
                await _cancel_rows(now, broadcast.id)
            elif not row["busy"]:
                await move(broadcast, BroadcastState.FINISHED, now, finished_at=now)
        await announce(core, broadcast)
