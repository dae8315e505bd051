"""Activity notices as they are drafted and changed, and what every other module asks
of one: who may see it, what it says, whether it may move on.

Every act is one transaction and one audit line, and answers NotFound outside the
actor's subtree. `approval` does the rest until a notice may run.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from broadcasts import audience as audiences
from broadcasts import content, plan
from broadcasts.audience import Audience, Listed, Subtree, Tagged
from broadcasts.content import Draft
from broadcasts.plan import Plan
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase
from gateway.status import BroadcastState, predecessors
from gateway.tables import Organisation

_EDITABLE = frozenset(
    {
        BroadcastState.DRAFT,
        BroadcastState.SUBMITTED,
        BroadcastState.APPROVED,
        BroadcastState.SCHEDULED,
    }
)
_STATE_NAMES = {
    BroadcastState.DRAFT: "草稿",
    BroadcastState.SUBMITTED: "待批准",
    BroadcastState.APPROVED: "已批准",
    BroadcastState.SCHEDULED: "已定时",
    BroadcastState.PLANNING: "整理名单中",
    BroadcastState.RUNNING: "发送中",
    BroadcastState.PAUSED: "已暂停",
    BroadcastState.FINISHED: "已完成",
    BroadcastState.CANCELLED: "已取消",
}


async def path_of(broadcast: Broadcast) -> str:
    """The subtree it belongs to, and beyond which it never writes."""
    found = await Organisation.get_or_none(id=broadcast.organisation_id)
    return "/" if found is None else found.path


async def find(actor: Actor, id: int) -> Broadcast:
    """The broadcast, if the actor may see it. Raises NotFound."""
    found = await Broadcast.get_or_none(id=id) if 0 < id < 2**63 else None
    if found is None or not actor.sees(await path_of(found)):
        raise NotFound(f"broadcast {id}")
    return found


def digest(broadcast: Broadcast) -> str:
    """What an approval is bound to: everything that reaches people, and the draft."""
    names = (
        *("kind", "organisation_id", "title", "texts", "audience", "rsvp", "place"),
        *("event_at", "send_at", "expires_at", "exclude_bad", "revision"),
    )
    return content.digest({name: getattr(broadcast, name) for name in names})


def wrote(broadcast: Broadcast, actor: Actor) -> bool:
    """Whether the actor created, last edited or submitted it: then others approve."""
    hands = (
        (broadcast.created_by_id, broadcast.created_by),
        (broadcast.edited_by_id, broadcast.edited_by),
        (broadcast.submitted_by_id, broadcast.submitted_by),
    )
    if actor.staff_id is not None:
        return any(id == actor.staff_id for id, _ in hands)
    return any(id is None and name == actor.name for id, name in hands)


async def move(
    broadcast: Broadcast, state: BroadcastState, now: datetime, **changes: Any
) -> bool:
    """One update, only from a state that allows it and only of this very draft.

    False where somebody else was quicker. Inside a transaction.
    """
    before = [one.value for one in predecessors(state)]
    changed = await Broadcast.filter(
        id=broadcast.id, state__in=before, revision=broadcast.revision
    ).update(state=state, changed_at=now, **changes)
    return changed > 0


def not_now(broadcast: Broadcast, act: str) -> RequestError:
    name = _STATE_NAMES[BroadcastState(broadcast.state)]
    return RequestError(
        "wrong_state",
        phrase("通知{state}，不能{act}", state=phrase(name), act=phrase(act)),
        status=409,
    )


async def announce(core: Core, broadcast: Broadcast) -> None:
    core.hub.publish("broadcast", broadcast.id, await path_of(broadcast))


async def create(core: Core, actor: Actor, draft: Draft) -> Broadcast:
    """A new notice of the actor's own organisation. RequestError names each field."""
    broadcast = await drafted(core, actor, draft)
    async with db.transaction():
        await store(core, actor, broadcast)
    await announce(core, broadcast)
    return broadcast


async def drafted(core: Core, actor: Actor, draft: Draft) -> Broadcast:
    """The new notice, not stored yet."""
    actor.require(Action.BROADCAST)
    described = await _checked(core, actor.path, draft)
    now = core.clock.now()
    return Broadcast(
        kind="notice",
        organisation_id=actor.organisation_id,
        state=BroadcastState.DRAFT,
        created_by=actor.name,
        created_by_id=actor.staff_id,
        edited_by=actor.name,
        edited_by_id=actor.staff_id,
        created_at=now,
        changed_at=now,
        **_columns(draft, described),
    )


async def store(core: Core, actor: Actor, broadcast: Broadcast) -> None:
    """Inside a transaction."""
    await broadcast.save()
    await audit.record(
        core.clock, actor, "broadcast.create", f"broadcast:{broadcast.id}"
    )


async def edit(core: Core, actor: Actor, id: int, draft: Draft) -> Broadcast:
    """Change what is not running yet. A change voids approval and submission."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    described = await _checked(core, await path_of(broadcast), draft)
    async with db.transaction():
        broadcast = await Broadcast.select_for_update().get(id=id)
        if broadcast.kind != "notice" or broadcast.state not in _EDITABLE:
            raise not_now(broadcast, "修改")
        before = digest(broadcast)
        broadcast.update_from_dict(_columns(draft, described))
        if digest(broadcast) == before:
            return broadcast
        voided = bool(broadcast.approved_hash)
        _void(broadcast)
        broadcast.revision += 1
        broadcast.edited_by = actor.name
        broadcast.edited_by_id = actor.staff_id
        broadcast.changed_at = core.clock.now()
        await broadcast.save()
        await audit.record(
            core.clock,
            actor,
            "broadcast.edit",
            f"broadcast:{id}",
            revision=broadcast.revision,
            approval_voided=voided,
        )
    await announce(core, broadcast)
    return broadcast


def _void(broadcast: Broadcast) -> None:
    broadcast.state = BroadcastState.DRAFT
    broadcast.submitted_by = ""
    broadcast.submitted_by_id = None
    broadcast.approved_by = ""
    broadcast.approved_by_id = None
    broadcast.approved_at = None
    broadcast.approved_hash = ""
    broadcast.approved_people = 0
    broadcast.note = ""


def _columns(draft: Draft, described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": draft.title.strip(),
        "texts": {n: t.strip() for n, t in draft.texts.items() if t.strip()},
        "audience": dict(described),
        "rsvp": draft.rsvp,
        "event_at": draft.event_at,
        "place": draft.place.strip(),
        "send_at": draft.send_at,
        "expires_at": draft.expires_at,
        "exclude_bad": draft.exclude_bad,
    }


async def _checked(core: Core, scope: str, draft: Draft) -> Mapping[str, Any]:
    """The canonical audience; RequestError with every wrong field at once."""
    found = content.faults(draft) | _wrong_times(core, draft)
    described: Mapping[str, Any] = {}
    try:
        audience = audiences.parse(draft.audience)
        if not isinstance(audience, Subtree | Tagged | Listed):
            raise RequestError("audience", fields={"audience": "请选择对象"})
        await plan.prepare(core, audience, scope, MessageKind.NOTICE, {}, {})
        described = audiences.describe(audience)
    except RequestError as error:
        found |= error.fields
    if found:
        first = next(iter(found.values()))
        raise RequestError("draft", first, status=422, fields=found)
    return described


def _wrong_times(core: Core, draft: Draft) -> dict[str, str]:
    found = {}
    now = core.clock.now()
    if draft.send_at is not None and draft.send_at <= now:
        found["send_at"] = "发送时间已经过去，请改晚些，或者留空"
    starts = draft.send_at or now
    if draft.event_at is not None and draft.event_at <= starts:
        found["event_at"] = "活动时间要晚于发送时间"
    if draft.expires_at is not None and draft.expires_at <= starts:
        found["expires_at"] = "截止时间要晚于发送时间"
    if draft.send_at is not None and draft.send_at > now + timedelta(days=400):
        found["send_at"] = "发送时间太远，请核对年份"
    return found


async def plan_of(core: Core, broadcast: Broadcast) -> Plan:
    """Who would get it now, and what is said."""
    audience: Audience = audiences.parse(broadcast.audience)
    return await draft_plan(
        core,
        audience,
        broadcast.organisation_id,
        await path_of(broadcast),
        title=broadcast.title,
        texts=broadcast.texts,
        event_at=broadcast.event_at,
        place=broadcast.place,
        code=broadcast.code,
    )


async def draft_plan(
    core: Core,
    audience: Audience,
    organisation_id: int,
    scope: str,
    *,
    title: str,
    texts: Mapping[str, str],
    event_at: datetime | None,
    place: str,
    code: str = "",
) -> Plan:
    centre = await Organisation.get_or_none(id=organisation_id)
    values = {
        "title": title,
        "place": place,
        "time": content.event_time(event_at, core.settings.centre.timezone),
        "centre": core.settings.centre.name if centre is None else centre.name,
        "code": code or "AA1",
    }
    frozen = content.frozen(texts)
    return await plan.prepare(core, audience, scope, MessageKind.NOTICE, frozen, values)


async def due(now: datetime, grace: timedelta) -> tuple[list[int], list[int]]:
    """Ids of notices whose time has come, and of those whose grace has passed."""
    found = await db.rows(
        "SELECT id, send_at FROM broadcasts WHERE state = 'scheduled' "
        "AND send_at <= ? ORDER BY send_at, id LIMIT 100",
        to_micros(now),
    )
    border = to_micros(now - grace)
    ready = [row["id"] for row in found if row["send_at"] >= border]
    return ready, [row["id"] for row in found if row["send_at"] < border]
