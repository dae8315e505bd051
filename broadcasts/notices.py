"""Activity notices until they may run: drafted, submitted, approved by another.

An approval is bound to the digest of what was approved. Every function is one
transaction and one audit line, and answers NotFound outside the actor's subtree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from broadcasts import audience as audiences
from broadcasts import check, content, plan
from broadcasts.audience import Audience, Listed, Subtree, Tagged
from broadcasts.check import Bad
from broadcasts.content import Draft
from broadcasts.plan import Plan
from broadcasts.stage import staged
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase, together
from gateway.status import BroadcastState, predecessors
from gateway.tables import Organisation

LARGE = 1000  # people; more, or ten times the usual, has to be confirmed
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Everybody's text was rendered and checked (A-11)."""

    people: int
    bad: int  # of them: to whom it can't be said, and who are left out
    confirmed: bool


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
    broadcast = await _drafted(core, actor, draft)
    async with db.transaction():
        await _store(core, actor, broadcast)
    await announce(core, broadcast)
    return broadcast


async def try_new(
    core: Core, actor: Actor, draft: Draft, *, confirmed: bool = False
) -> Tried:
    """Everybody's text, before `propose`. No transaction: it may take seconds."""
    broadcast = await _drafted(core, actor, draft)
    return await _refuse_unready(core, broadcast, confirmed)


async def propose(core: Core, actor: Actor, draft: Draft, tried: Tried) -> Broadcast:
    """Created and submitted: both or neither."""
    broadcast = await _drafted(core, actor, draft)
    async with db.transaction():
        await _store(core, actor, broadcast)
        await _submit(core, actor, broadcast, tried)
    await announce(core, broadcast)
    return await find(actor, broadcast.id)


async def _drafted(core: Core, actor: Actor, draft: Draft) -> Broadcast:
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


async def _store(core: Core, actor: Actor, broadcast: Broadcast) -> None:
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


async def usual_people(broadcast: Broadcast) -> int:
    """The median of this organisation's last twenty notices; 0 without any."""
    found: Any = (
        await Broadcast.filter(
            kind="notice",
            organisation_id=broadcast.organisation_id,
            started_at__isnull=False,
        )
        .order_by("-id")
        .limit(20)
        .values_list("planned", flat=True)
    )
    return int(median(found)) if found else 0


def is_large(people: int, usual: int) -> bool:
    return people > LARGE or (usual > 0 and people > 10 * usual)


async def _refuse_unready(core: Core, broadcast: Broadcast, confirmed: bool) -> Tried:
    """RequestError says what to do."""
    async with staged(await plan_of(core, broadcast)) as found:
        people = found.reached
        bad = await check.check(core, found)
        if bad and not broadcast.exclude_bad:
            raise bad_texts(core, bad, await check.first_bad(found, 5))
        # The last question: who has confirmed the number isn't asked anything more.
        await _refuse_number(broadcast, people, confirmed)
    return Tried(people=people, bad=bad, confirmed=confirmed)


async def _refuse_number(broadcast: Broadcast, people: int, confirmed: bool) -> None:
    if not people:
        raise RequestError(
            "nobody",
            "这份名单里没有一个人能收到，请核对对象和渠道",
            status=422,
            fields={"audience": "没有一个人能收到"},
        )
    usual = await usual_people(broadcast)
    if is_large(people, usual) and not confirmed:
        words = "这次发给{n}人，平时约{usual}人。请核对对象，确认后勾选“人数无误”"
        if not usual:
            words = "这次发给{n}人。请核对对象，确认后勾选“人数无误”"
        fault = phrase(words, n=people, usual=usual)
        raise RequestError(
            "large_audience", fault, status=409, fields={"confirmed": fault}
        )


BAD_REASONS = {
    "too_long": "正文太长",
    "value_missing": "缺少资料",
    "bad_text": "正文填不出来",
    "template_only": "这个渠道没有批准的模板",
    "no_channel": "没有这个渠道",
    "brackets": "短信里有【】",
    "invisible": "有看不见的控制字符",
    "empty": "正文是空的",
}


def bad_texts(core: Core, number: int, first: Sequence[Bad]) -> RequestError:
    """Names the first recipients by id, with the reason and the mend."""
    shown = together(
        phrase(
            "编号 {id} 的党员（{channel}）：{why}",
            id=one.member_id,
            channel=_label(core, one.channel),
            why=phrase(BAD_REASONS.get(one.code, one.code)),
        )
        for one in first
    )
    words = "有 {n} 人的正文发不出：{who}。请修改，或勾选“跳过他们，其余照发”"
    fault = phrase(words, n=number, who=shown)
    return RequestError("bad_texts", fault, status=422, fields={"exclude_bad": fault})


def _label(core: Core, channel: str) -> str:
    known = core.channels.get(channel)
    return channel if known is None else known.label


async def submit(
    core: Core, actor: Actor, id: int, *, confirmed: bool = False
) -> Broadcast:
    """Ask for approval. Everybody's text is tried first (A-11)."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    tried = await _refuse_unready(core, broadcast, confirmed)
    async with db.transaction():
        await _submit(core, actor, broadcast, tried)
    await announce(core, broadcast)
    return await find(actor, id)


async def _submit(core: Core, actor: Actor, broadcast: Broadcast, tried: Tried) -> None:
    if not await move(
        broadcast,
        BroadcastState.SUBMITTED,
        core.clock.now(),
        submitted_by=actor.name,
        submitted_by_id=actor.staff_id,
        note="",
    ):
        raise not_now(await find(actor, broadcast.id), "提请批准")
    await audit.record(
        core.clock,
        actor,
        "broadcast.submit",
        f"broadcast:{broadcast.id}",
        people=tried.people,
        bad=tried.bad,
        confirmed=tried.confirmed,
    )


async def approve(
    core: Core, actor: Actor, id: int, hash: str, *, confirmed: bool = False
) -> Broadcast:
    """Approve the draft with this digest (at least its first 12 characters).

    RequestError: own_draft for who wrote it, revision_changed where it was edited
    since. One with `send_at` is scheduled at once.
    """
    tried = await try_approval(core, actor, id, hash, confirmed=confirmed)
    return await approve_tried(core, actor, id, hash, tried)


async def try_approval(
    core: Core, actor: Actor, id: int, hash: str, *, confirmed: bool = False
) -> Tried:
    """Everybody's text once more. No transaction: it may take seconds."""
    broadcast = await _approvable(actor, id, hash)
    return await _refuse_unready(core, broadcast, confirmed)


async def _approvable(actor: Actor, id: int, hash: str) -> Broadcast:
    actor.require(Action.APPROVE)
    broadcast = await find(actor, id)
    if wrote(broadcast, actor):
        raise RequestError("own_draft", "自己起草或提交的通知要由别人批准", status=403)
    if len(hash) < 12 or not digest(broadcast).startswith(hash.lower()):
        fault = "这份通知在您打开以后又改过，请重新看过再批准"
        raise RequestError("revision_changed", fault, status=409)
    if broadcast.state != BroadcastState.SUBMITTED:
        raise not_now(broadcast, "批准")
    return broadcast


async def approve_tried(
    core: Core, actor: Actor, id: int, hash: str, tried: Tried
) -> Broadcast:
    """Approve what `try_approval` found sayable."""
    broadcast = await _approvable(actor, id, hash)
    full, now = digest(broadcast), core.clock.now()
    async with db.transaction():
        if not await move(
            broadcast,
            BroadcastState.APPROVED,
            now,
            approved_by=actor.name,
            approved_by_id=actor.staff_id,
            approved_at=now,
            approved_hash=full,
            approved_people=tried.people,
        ):
            raise not_now(await find(actor, id), "批准")
        if broadcast.send_at is not None and broadcast.send_at > now:
            await move(broadcast, BroadcastState.SCHEDULED, now)
        await audit.record(
            core.clock,
            actor,
            "broadcast.approve",
            f"broadcast:{id}",
            hash=full,
            people=tried.people,
        )
    await announce(core, broadcast)
    return await find(actor, id)


async def reject(core: Core, actor: Actor, id: int, reason: str) -> Broadcast:
    """Back to the drafter, with what has to change."""
    actor.require(Action.APPROVE)
    broadcast = await find(actor, id)
    reason = reason.strip()
    if not reason or not content.storable(reason) or len(reason) > 500:
        fault = "请写上退回的意见，最多500字"
        raise RequestError("reason", fault, status=422, fields={"reason": fault})
    async with db.transaction():
        if broadcast.state != BroadcastState.SUBMITTED or not await move(
            broadcast, BroadcastState.DRAFT, core.clock.now(), note=reason
        ):
            raise not_now(await find(actor, id), "退回")
        await audit.record(
            core.clock, actor, "broadcast.reject", f"broadcast:{id}", reason=reason
        )
    await announce(core, broadcast)
    return await find(actor, id)


async def approvals(actor: Actor) -> int:
    """How many notices wait for this very person's approval."""
    if not actor.may(Action.APPROVE):
        return 0
    found = await db.rows(
        "SELECT COUNT(*) AS n FROM broadcasts b LEFT JOIN organisations o "
        "ON o.id = b.organisation_id WHERE b.state = 'submitted' "
        "AND COALESCE(o.path, '/') LIKE ? AND COALESCE(b.created_by_id, 0) <> ? "
        "AND COALESCE(b.edited_by_id, 0) <> ? AND COALESCE(b.submitted_by_id, 0) <> ?",
        f"{actor.path}%",
        *[actor.staff_id or -1] * 3,
    )
    return int(found[0]["n"])


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
