"""The daily Q&A: a queue of checked entries, one pushed a day to who wished for it.

The row of the instant and the work are one transaction: a restart or a second process
finds the instant taken (F-1). What was slept over waits for a person.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import structlog

from broadcasts import plan, planning
from broadcasts.audience import Subscribers
from broadcasts.check import as_outbound, fault_of
from broadcasts.freeze import Superseded
from broadcasts.notices import announce
from broadcasts.plan import Plan
from broadcasts.planning import Terms
from broadcasts.tables import Broadcast, DailyItem, Instant
from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.contract import AddressKind, MessageKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import NotFound, RequestError
from gateway.knowledge import message
from gateway.knowledge.message import Message
from gateway.status import BroadcastState
from gateway.tables import Entry, Organisation

log = structlog.get_logger()

SCHEDULE = "daily"
# Results of an instant for which a person may still push.
MISSED = frozenset({"missed", "empty", "unchecked", "nobody"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An entry in the queue, at its place."""

    id: int
    entry_id: int
    question: str
    answer: str
    basis: str
    matter: str
    sample: bool  # not checked by the centre yet: is not pushed


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    broadcast_id: int
    day: str
    question: str
    planned: int
    delivered: int


def instant_on(core: Core, day: date) -> datetime:
    zone = core.settings.centre.timezone
    return datetime.combine(day, core.settings.daily.at, zone)


def local_day(core: Core) -> date:
    return core.clock.now().astimezone(core.settings.centre.timezone).date()


def next_instant(core: Core) -> datetime:
    """When the next push is due, local."""
    at = instant_on(core, local_day(core))
    if at > core.clock.now():
        return at
    return instant_on(core, local_day(core) + timedelta(days=1))


async def queue() -> list[Item]:
    """What waits, in order; entries that were switched off are passed over."""
    found = await db.rows(
        "SELECT d.id, d.entry_id, e.question, e.answer, e.basis, e.matter, e.sample "
        "FROM daily_items d JOIN entries e ON e.id = d.entry_id "
        "WHERE d.state = 'queued' AND e.active ORDER BY d.position, d.id"
    )
    return [Item(**{**row, "sample": bool(row["sample"])}) for row in found]


async def next_item() -> Item | None:
    """The first checked entry of the queue."""
    return next((item for item in await queue() if not item.sample), None)


async def today(core: Core) -> tuple[str, str, str] | None:
    """Question, answer and basis for who asks for today's: what was pushed today,
    else what comes next, else what was pushed last."""
    day = local_day(core).isoformat()
    last = await DailyItem.filter(state="pushed").order_by("-pushed_on", "-id").first()
    entry = None
    if last is not None and last.pushed_on == day:
        entry = await Entry.get_or_none(id=last.entry_id)
    if entry is None and (item := await next_item()) is not None:
        return item.question, item.answer, item.basis
    if entry is None and last is not None:
        entry = await Entry.get_or_none(id=last.entry_id)
    return None if entry is None else (entry.question, entry.answer, entry.basis)


async def fire_due(core: Core) -> None:
    """Push today's entry if its time has come and nobody has; inside its grace only."""
    if not core.settings.daily.enabled:
        return
    at = instant_on(core, local_day(core))
    late = core.clock.now() - at
    if late < timedelta(0):
        return
    if await Instant.filter(schedule=SCHEDULE, instant=at).exists():
        return
    grace = timedelta(minutes=core.settings.daily.grace_minutes)
    async with db.transaction():
        taken = await db.rows(
            "INSERT INTO instants (schedule, instant, fired_at, result) "
            "VALUES (?, ?, ?, 'missed') ON CONFLICT (schedule, instant) DO NOTHING "
            "RETURNING id",
            SCHEDULE,
            to_micros(at),
            to_micros(core.clock.now()),
        )
        if not taken:
            return
        broadcast, result = None, "missed"
        if late <= grace:
            broadcast, result = await _push(core)
        await Instant.filter(id=taken[0]["id"]).update(result=result)
    log.info("daily.fired", result=result)
    await _send(core, broadcast)


async def state_of_today(core: Core) -> str:
    """pushed, or why not: missed, empty, unchecked, nobody; "" before the time."""
    at = instant_on(core, local_day(core))
    row = await Instant.get_or_none(schedule=SCHEDULE, instant=at)
    return "" if row is None else row.result


async def push_now(core: Core, actor: Actor) -> Broadcast:
    """今天补发: what today's instant missed. Once, whoever else presses too."""
    actor.require(Action.BROADCAST)
    at = instant_on(core, local_day(core))
    async with db.transaction():
        changed = await Instant.filter(
            schedule=SCHEDULE, instant=at, result__in=list(MISSED)
        ).update(result="pushed", fired_at=core.clock.now())
        if not changed:
            raise RequestError("not_missed", "今天的不用补发", status=409)
        broadcast, result = await _push(core)
        if broadcast is None:
            raise RequestError(result, PROBLEMS[result], status=409)
        await audit.record(core.clock, actor, "daily.push", f"broadcast:{broadcast.id}")
    await _send(core, broadcast)
    return await Broadcast.get(id=broadcast.id)


PROBLEMS: Mapping[str, str] = {
    "missed": "到时没有发出，可以今天补发",
    "empty": "队列空着，没有可发的条目",
    "unchecked": "队列里的条目都还没有核对，请主任或审批人核对",
    "nobody": "还没有人订阅",
}


async def _send(core: Core, broadcast: Broadcast | None) -> None:
    """After the commit: plan a small one at once, leave a large one to the worker."""
    core.hub.publish("daily", "")
    if broadcast is None:
        return
    if broadcast.plan_node is not None:
        with suppress(Superseded):
            await plan_push(core, broadcast)
    await announce(core, broadcast)
    core.wakeups.wake_all()


async def plan_push(core: Core, broadcast: Broadcast) -> None:
    """Write everybody of a push that is ours to plan, and let it run. Whoever it
    can't be said to is left out: nobody is there to ask. Raises Superseded."""
    terms = Terms(
        expires_at=broadcast.expires_at or core.clock.now(),
        exclude_bad=True,
        approved_people=None,
    )
    await planning.plan(core, broadcast, await _plan_of(core, broadcast), terms)


async def _plan_of(core: Core, broadcast: Broadcast) -> Plan:
    return await _plan(core, await Entry.get(id=broadcast.entry_id))


async def _push(core: Core) -> tuple[Broadcast | None, str]:
    """Make the broadcast of the next entry. Inside the transaction of the instant."""
    if not await subscribers():
        return None, "nobody"
    while (item := await next_item()) is not None:
        taken = await DailyItem.filter(id=item.id, state="queued").update(
            state="pushed", pushed_on=local_day(core).isoformat()
        )
        if taken:
            return await _broadcast(core, item), "pushed"
    return None, "unchecked" if await queue() else "empty"


async def _broadcast(core: Core, item: Item) -> Broadcast:
    now = core.clock.now()
    root = await Organisation.filter(parent=None).order_by("path").first()
    planned = await _plan(core, item)
    hours = core.settings.policy.broadcast_expires_hours
    is_small = sum((await subscribers()).values()) <= planning.SMALL
    broadcast = await Broadcast.create(
        kind="daily",
        title=item.question[:120],
        organisation_id=0 if root is None else root.id,
        state=BroadcastState.PLANNING,
        texts=dict(planned.texts),
        audience={"type": "subscribers"},
        created_by="",
        entry_id=item.entry_id,
        expires_at=now + timedelta(hours=hours),
        plan_node=core.node_id if is_small else None,
        plan_token=1,
        created_at=now,
        changed_at=now,
    )
    await DailyItem.filter(id=item.id).update(broadcast_id=broadcast.id)
    return broadcast


async def _plan(core: Core, item: Item | Entry) -> Plan:
    whole = message.compose(core, item.question, item.answer, item.basis)
    planned = await _prepared(core, whole)
    if not _too_long(core, planned):
        return planned
    return await _prepared(core, message.shortened(whole))


async def _prepared(core: Core, said: Message) -> Plan:
    kind = MessageKind.DAILY
    return await plan.prepare(core, Subscribers(), "/", kind, said.texts, said.values)


def _too_long(core: Core, planned: Plan) -> bool:
    """For a text message to anybody: it says the same to all."""
    nobody = dict.fromkeys(("name", "organisation", "value", "member_id"))
    names = plan.fields(core, planned)
    for way in planned.ways:
        row = {**nobody, "kind": way.kind.value, "channel": way.channel}
        found = fault_of(core, planned, as_outbound(planned, names, row))
        if way.kind is AddressKind.PHONE and found and found.code == "too_long":
            return True
    return False


async def preview(core: Core, item: Item) -> Plan:
    """How an entry would go out now."""
    return await _plan(core, item)


async def add(core: Core, actor: Actor, entry_id: int) -> None:
    """Put an entry at the end of the queue; one that waits already stays there."""
    actor.require(Action.BROADCAST)
    if await Entry.get_or_none(id=entry_id, active=True) is None:
        raise NotFound(f"entry {entry_id}")
    async with db.transaction():
        if await DailyItem.filter(entry_id=entry_id, state="queued").exists():
            raise RequestError("queued_already", "这一条已经在队列里", status=409)
        last = await DailyItem.all().order_by("-position").first()
        await DailyItem.create(
            entry_id=entry_id, position=1 if last is None else last.position + 1
        )
        await audit.record(core.clock, actor, "daily.add", f"entry:{entry_id}")
    core.hub.publish("daily", "")


async def remove(core: Core, actor: Actor, item_id: int) -> None:
    await _act(core, actor, item_id, "remove", "removed")


async def skip(core: Core, actor: Actor, item_id: int) -> None:
    """Not this one: it leaves the queue, the history keeps that it was skipped."""
    await _act(core, actor, item_id, "skip", "skipped")


async def _act(core: Core, actor: Actor, item_id: int, act: str, state: str) -> None:
    actor.require(Action.BROADCAST)
    async with db.transaction():
        changed = await DailyItem.filter(id=item_id, state="queued").update(state=state)
        if not changed:
            raise NotFound(f"daily item {item_id}")
        await audit.record(core.clock, actor, f"daily.{act}", f"daily:{item_id}")
    core.hub.publish("daily", "")


async def shift(core: Core, actor: Actor, item_id: int, *, up: bool) -> None:
    """Change places with the neighbour; the first stays first, the last last."""
    actor.require(Action.BROADCAST)
    async with db.transaction():
        ids = [item.id for item in await queue()]
        if item_id not in ids:
            raise NotFound(f"daily item {item_id}")
        place = ids.index(item_id)
        other = place - 1 if up else place + 1
        if not 0 <= other < len(ids):
            return
        here = await DailyItem.get(id=item_id)
        there = await DailyItem.get(id=ids[other])
        await DailyItem.filter(id=here.id).update(position=there.position)
        await DailyItem.filter(id=there.id).update(position=here.position)
        await audit.record(core.clock, actor, "daily.move", f"daily:{item_id}", up=up)
    core.hub.publish("daily", "")


async def subscribers() -> Mapping[AddressKind, int]:
    """Wishes in force, by kind of address."""
    found = await db.rows(
        "SELECT kind, COUNT(*) AS n FROM subscriptions WHERE topic = 'daily' "
        "AND ended_at IS NULL GROUP BY kind ORDER BY kind"
    )
    return {AddressKind(row["kind"]): int(row["n"]) for row in found}


async def history(limit: int = 30) -> list[Past]:
    found = await db.rows(
        "SELECT b.id, b.title, b.planned, d.pushed_on, COALESCE((SELECT SUM(t.n) "
        "FROM tallies t WHERE t.broadcast_id = b.id "
        "AND t.state IN ('accepted', 'delivered', 'read')), 0) AS delivered "
        "FROM broadcasts b JOIN daily_items d ON d.broadcast_id = b.id "
        f"WHERE b.kind = 'daily' ORDER BY b.id DESC LIMIT {int(limit)}"
    )
    return [
        Past(
            broadcast_id=row["id"],
            day=row["pushed_on"],
            question=row["title"],
            planned=row["planned"],
            delivered=int(row["delivered"]),
        )
        for row in found
    ]


async def entries_to_add() -> Sequence[Mapping[str, Any]]:
    """Entries that don't wait in the queue, those never pushed first."""
    found = await db.rows(
        "SELECT e.id, e.question, e.sample, (SELECT COUNT(*) FROM daily_items p "
        "WHERE p.entry_id = e.id AND p.state = 'pushed') AS times FROM entries e "
        "WHERE e.active AND e.id NOT IN (SELECT d.entry_id FROM daily_items d "
        "WHERE d.state = 'queued') ORDER BY times, e.id LIMIT 500"
    )
    return found


async def fill_queue(entry_ids: Sequence[int]) -> None:
    """Queue entries in this order; for the demonstration data."""
    await DailyItem.bulk_create(
        [DailyItem(entry_id=id, position=n) for n, id in enumerate(entry_ids, 1)]
    )
