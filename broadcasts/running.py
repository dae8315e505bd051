"""A broadcast from its start to its end: pause, resume, cancel, finish.

Starting makes it `planning` (broadcasts.planning); it is `running` once everybody is
written and checked.
"""

from datetime import datetime, timedelta

import structlog

from broadcasts import again, canary, daily, notices, planning, sweep
from broadcasts.freeze import Superseded
from broadcasts.notices import announce, find, move, not_now
from broadcasts.planning import SMALL, Terms
from broadcasts.tables import Broadcast
from gateway import audit, tokens
from gateway import database as db
from gateway.actors import GATEWAY, Action, Actor
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import RequestError
from gateway.outbox import moves
from gateway.status import BroadcastState
from gateway.tables import Hold

log = structlog.get_logger()

GRACE = timedelta(hours=1)  # a scheduled notice later than this waits for a person
# The first codes go to questions that are asked of one address alone.
_FIRST_CODE, _CODES = 99, 1089
_STARTABLE = frozenset({BroadcastState.APPROVED, BroadcastState.SCHEDULED})
_UNDER_WAY = frozenset(
    {
        BroadcastState.PLANNING,
        BroadcastState.RUNNING,
        BroadcastState.PAUSED,
        BroadcastState.FINISHED,
    }
)


async def start(core: Core, actor: Actor, id: int) -> Broadcast:
    """Send an approved notice now. A second call changes nothing (A-14).

    A small one runs when this returns; a large one is `planning` for a while yet, and
    goes back to its drafter if it can't run after all.

    RequestError: not approved, its event or its time over, texts that can't be said,
    an audience that has grown since it was approved.
    """
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    if broadcast.state in _UNDER_WAY:
        return broadcast
    if broadcast.state not in _STARTABLE:
        raise not_now(broadcast, "开始发送")
    _expiry(core, broadcast, core.clock.now())
    before = BroadcastState(broadcast.state)
    if not await _begin(core, actor, broadcast):
        return await _started_meanwhile(actor, id)
    await changed(core, broadcast)
    if broadcast.plan_node is not None:
        try:
            await plan(core, broadcast)
        except Superseded:
            pass  # cancelled meanwhile
        except RequestError:
            await _back(core, broadcast, before)
            raise
    return await find(actor, id)


async def _begin(core: Core, actor: Actor, broadcast: Broadcast) -> bool:
    """False where somebody else was quicker."""
    is_small = broadcast.approved_people <= SMALL
    broadcast.code = _code(broadcast)
    broadcast.plan_token += 1
    broadcast.plan_node = core.node_id if is_small else None
    async with db.transaction():
        began = await move(
            broadcast,
            BroadcastState.PLANNING,
            core.clock.now(),
            code=broadcast.code,
            plan_token=broadcast.plan_token,
            plan_node=broadcast.plan_node,
        )
        if began:
            await audit.record(
                core.clock,
                actor,
                "broadcast.start",
                f"broadcast:{broadcast.id}",
                path=await notices.path_of(broadcast),
                people=broadcast.approved_people,
            )
    return began


async def plan(core: Core, broadcast: Broadcast) -> None:
    """Write and check everybody of a notice that is ours to plan, and let it run.
    Raises Superseded, or RequestError where it can't run."""
    terms = Terms(
        expires_at=_expiry(core, broadcast, core.clock.now()),
        exclude_bad=broadcast.exclude_bad,
        approved_people=broadcast.approved_people,
    )
    await planning.plan(core, broadcast, await notices.plan_of(core, broadcast), terms)


async def _back(core: Core, broadcast: Broadcast, state: BroadcastState) -> None:
    await Broadcast.filter(
        id=broadcast.id,
        state=BroadcastState.PLANNING,
        plan_token=broadcast.plan_token,
    ).update(state=state, changed_at=core.clock.now(), plan_node=None)
    await announce(core, broadcast)


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


async def changed(core: Core, broadcast: Broadcast) -> None:
    """Tell pages and senders; call it after the commit."""
    await announce(core, broadcast)
    core.wakeups.wake_all()


async def pause(core: Core, actor: Actor, id: int) -> Broadcast:
    """No further row leaves. What is on its way is settled as ever."""
    before = (BroadcastState.RUNNING,)
    return await _move(core, actor, id, before, BroadcastState.PAUSED, "pause", "暂停")


async def resume(core: Core, actor: Actor, id: int) -> Broadcast:
    """Also after the canary stopped it: then all others go."""
    before, to = (BroadcastState.PAUSED,), BroadcastState.RUNNING
    return await _move(core, actor, id, before, to, "resume", "继续发送")


async def cancel(core: Core, actor: Actor, id: int) -> Broadcast:
    """End it: what has not left doesn't leave, from this moment on. Counting it as
    cancelled takes a while with many."""
    before = tuple(
        state
        for state in BroadcastState
        if state not in (BroadcastState.FINISHED, BroadcastState.CANCELLED)
    )
    to = BroadcastState.CANCELLED
    await _move(core, actor, id, before, to, "cancel", "取消")
    await sweep.sweep(core, id, at_most=sweep.AT_ONCE)
    return await find(actor, id)


async def _move(
    core: Core,
    actor: Actor,
    id: int,
    before: tuple[BroadcastState, ...],
    state: BroadcastState,
    act: str,
    name: str,
) -> Broadcast:
    """A second call of the same act changes nothing."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    if broadcast.state == state:
        return broadcast
    now = core.clock.now()
    async with db.transaction():
        if broadcast.state not in before or not await move(broadcast, state, now):
            current = await find(actor, id)
            if current.state == state:
                return current
            raise not_now(current, name)
        await hold(id, now, held=state is not BroadcastState.RUNNING)
        if state is BroadcastState.RUNNING and broadcast.canary == canary.STOPPED:
            await canary.release(core, broadcast)
        await audit.record(core.clock, actor, f"broadcast.{act}", f"broadcast:{id}")
    await changed(core, broadcast)
    return await find(actor, id)


async def hold(id: int, now: datetime, held: bool) -> None:
    """Senders ask for it in the transaction in which they write an intent."""
    if held:
        await db.execute(
            "INSERT INTO holds (broadcast_id, at) VALUES (?, ?) "
            "ON CONFLICT (broadcast_id) DO NOTHING",
            id,
            to_micros(now),
        )
    else:
        await Hold.filter(broadcast_id=id).delete()


async def resend(
    core: Core,
    actor: Actor,
    id: int,
    *,
    unknown: bool = False,
    in_part: bool = False,
    reason: str = "",
) -> tuple[Broadcast, int]:
    """Send once more to those it failed for; with a reason also to those of whom nobody
    knows (`unknown`) and to those who got some parts (`in_part`). The broadcast, and to
    how many."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    people = await again.send(
        core, actor, broadcast, unknown=unknown, in_part=in_part, reason=reason
    )
    await changed(core, broadcast)
    return await find(actor, id), people


async def start_due(core: Core) -> None:
    """Start scheduled notices; what can't start goes back to its drafter."""
    ready, late = await notices.due(core.clock.now(), GRACE)
    for id in ready:
        try:
            await start(core, GATEWAY, id)
        except RequestError as error:
            await hand_back(core, id, error)
    for id in late:
        note = "已错过预定时间，没有自动发出。请确认后点“开始发送”，或者取消"
        if await Broadcast.filter(id=id, note="").update(note=note):
            log.warning("broadcast.missed", broadcast=id)
            core.hub.publish("broadcast", id)


async def hand_back(core: Core, id: int, error: RequestError) -> None:
    broadcast = await find(GATEWAY, id)
    log.warning("broadcast.refused", broadcast=id, code=error.code)
    async with db.transaction():
        waits = (BroadcastState.SCHEDULED, BroadcastState.PLANNING)
        if broadcast.state in waits and await move(
            broadcast,
            BroadcastState.DRAFT,
            core.clock.now(),
            note=f"没有发出：{error.detail}",
            approved_hash="",
            plan_node=None,
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


_RUNS = (
    "SELECT b.id, b.state, b.canary, EXISTS (SELECT 1 FROM chunks c "
    "WHERE c.broadcast_id = b.id AND c.state IN ('held', 'ready', 'leased')) "
    "OR EXISTS (SELECT 1 FROM outbox o WHERE o.broadcast_id = b.id "
    f"AND {sweep.NOTEWORTHY} AND o.state IN ('queued', 'sending')) AS busy "
    "FROM broadcasts b"
)


async def settle(core: Core) -> None:
    """Judge canaries, finish runs of which nothing is on its way, and keep pages of
    the others fresh. Nobody is counted: an index holds just what is under way."""
    found = await db.rows(f"{_RUNS} WHERE b.state = 'running'")
    for row in found:
        broadcast = await Broadcast.get(id=row["id"])
        if row["canary"] == canary.WAITING:
            await canary.judge(core, broadcast)
        elif not row["busy"]:
            await _finish(core, broadcast)
        async with db.transaction():
            await moves.compact(broadcast.id, core.clock.now())
        await announce(core, broadcast)


async def _finish(core: Core, broadcast: Broadcast) -> None:
    """Looked at once more, while nobody can add to it: some may have been sent to
    again since."""
    now = core.clock.now()
    async with db.transaction():
        await Broadcast.select_for_update().get(id=broadcast.id)
        [row] = await db.rows(f"{_RUNS} WHERE b.id = ?", broadcast.id)
        if row["state"] != BroadcastState.RUNNING or row["busy"]:
            return
        await Broadcast.filter(id=broadcast.id).update(
            state=BroadcastState.FINISHED, changed_at=now, finished_at=now
        )
    log.info("broadcast.finished", broadcast=broadcast.id)


async def work_off(core: Core) -> None:
    """What takes long: plan large audiences, count the cancelled as cancelled."""
    while (broadcast := await planning.adopt(core)) is not None:
        await _plan_adopted(core, broadcast)
    for id in await sweep.left(core):
        await sweep.sweep(core, id)


async def _plan_adopted(core: Core, broadcast: Broadcast) -> None:
    try:
        if broadcast.kind == "daily":
            await daily.plan_push(core, broadcast)
        else:
            await plan(core, broadcast)
    except Superseded:
        log.info("broadcast.superseded", broadcast=broadcast.id)
    except RequestError as error:
        await hand_back(core, broadcast.id, error)
