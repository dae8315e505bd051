"""The approval of a notice by somebody else: asked for, given, or refused.

Everybody's text is tried before it is asked for and again before it is given (A-11).
It is bound to the digest of what was approved: an edit voids it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from broadcasts import check, content, notices
from broadcasts.check import Bad
from broadcasts.content import Draft
from broadcasts.stage import staged
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import RequestError
from gateway.phrases import phrase, together
from gateway.status import BroadcastState

LARGE = 1000  # people; more, or ten times the usual, has to be confirmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Everybody's text was rendered and checked (A-11)."""

    people: int
    bad: int  # of them: to whom it can't be said, and who are left out
    confirmed: bool


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
    async with staged(await notices.plan_of(core, broadcast)) as found:
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


async def try_new(
    core: Core, actor: Actor, draft: Draft, *, confirmed: bool = False
) -> Tried:
    """Everybody's text, before `propose`. No transaction: it may take seconds."""
    broadcast = await notices.drafted(core, actor, draft)
    return await _refuse_unready(core, broadcast, confirmed)


async def propose(core: Core, actor: Actor, draft: Draft, tried: Tried) -> Broadcast:
    """Created and submitted: both or neither."""
    broadcast = await notices.drafted(core, actor, draft)
    async with db.transaction():
        await notices.store(core, actor, broadcast)
        await _submit(core, actor, broadcast, tried)
    await notices.announce(core, broadcast)
    return await notices.find(actor, broadcast.id)


async def submit(
    core: Core, actor: Actor, id: int, *, confirmed: bool = False
) -> Broadcast:
    """Ask for approval. Everybody's text is tried first (A-11)."""
    actor.require(Action.BROADCAST)
    broadcast = await notices.find(actor, id)
    tried = await _refuse_unready(core, broadcast, confirmed)
    async with db.transaction():
        await _submit(core, actor, broadcast, tried)
    await notices.announce(core, broadcast)
    return await notices.find(actor, id)


async def _submit(core: Core, actor: Actor, broadcast: Broadcast, tried: Tried) -> None:
    if not await notices.move(
        broadcast,
        BroadcastState.SUBMITTED,
        core.clock.now(),
        submitted_by=actor.name,
        submitted_by_id=actor.staff_id,
        note="",
    ):
        raise notices.not_now(await notices.find(actor, broadcast.id), "提请批准")
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
    broadcast = await notices.find(actor, id)
    if notices.wrote(broadcast, actor):
        raise RequestError("own_draft", "自己起草或提交的通知要由别人批准", status=403)
    if len(hash) < 12 or not notices.digest(broadcast).startswith(hash.lower()):
        fault = "这份通知在您打开以后又改过，请重新看过再批准"
        raise RequestError("revision_changed", fault, status=409)
    if broadcast.state != BroadcastState.SUBMITTED:
        raise notices.not_now(broadcast, "批准")
    return broadcast


async def approve_tried(
    core: Core, actor: Actor, id: int, hash: str, tried: Tried
) -> Broadcast:
    """Approve what `try_approval` found sayable."""
    broadcast = await _approvable(actor, id, hash)
    full, now = notices.digest(broadcast), core.clock.now()
    async with db.transaction():
        if not await notices.move(
            broadcast,
            BroadcastState.APPROVED,
            now,
            approved_by=actor.name,
            approved_by_id=actor.staff_id,
            approved_at=now,
            approved_hash=full,
            approved_people=tried.people,
        ):
            raise notices.not_now(await notices.find(actor, id), "批准")
        if broadcast.send_at is not None and broadcast.send_at > now:
            await notices.move(broadcast, BroadcastState.SCHEDULED, now)
        await audit.record(
            core.clock,
            actor,
            "broadcast.approve",
            f"broadcast:{id}",
            hash=full,
            people=tried.people,
        )
    await notices.announce(core, broadcast)
    return await notices.find(actor, id)


async def reject(core: Core, actor: Actor, id: int, reason: str) -> Broadcast:
    """Back to the drafter, with what has to change."""
    actor.require(Action.APPROVE)
    broadcast = await notices.find(actor, id)
    reason = reason.strip()
    if not reason or not content.storable(reason) or len(reason) > 500:
        fault = "请写上退回的意见，最多500字"
        raise RequestError("reason", fault, status=422, fields={"reason": fault})
    async with db.transaction():
        if broadcast.state != BroadcastState.SUBMITTED or not await notices.move(
            broadcast, BroadcastState.DRAFT, core.clock.now(), note=reason
        ):
            raise notices.not_now(await notices.find(actor, id), "退回")
        await audit.record(
            core.clock, actor, "broadcast.reject", f"broadcast:{id}", reason=reason
        )
    await notices.announce(core, broadcast)
    return await notices.find(actor, id)


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
