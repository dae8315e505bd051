"""What the pages of broadcasts show: rows of the tables in the words of the desk."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from broadcasts import canary, notices, plot, preview, recipients, sweep
from broadcasts.again import Apart, apart
from broadcasts.approval import BAD_REASONS, usual_people
from broadcasts.notices import wrote
from broadcasts.plot import Moment
from broadcasts.preview import Preview
from broadcasts.recipients import (
    BUCKET_LABELS,
    LEFT_OUT,
    Overview,
    Recipient,
    Shortfall,
    reason_of,
)
from broadcasts.tables import Broadcast
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import Row, from_micros, marks, rows
from gateway.inquiries.words import KINDS
from gateway.outbox import account, queries
from gateway.outbox.receipts import WAITS
from gateway.outbox.report import Report, reports
from gateway.phrases import phrase
from gateway.status import BroadcastState, Bucket, OutboundState, count_as, standing
from gateway.tables import Member

_B = BroadcastState
TABS: Mapping[str, tuple[str, tuple[BroadcastState, ...]]] = {
    "": ("全部", ()),
    "draft": ("草稿", (_B.DRAFT,)),
    "submitted": ("待批准", (_B.SUBMITTED,)),
    "approved": ("待发送", (_B.APPROVED, _B.SCHEDULED)),
    "running": ("发送中", (_B.PLANNING, _B.RUNNING, _B.PAUSED)),
    "finished": ("已结束", (_B.FINISHED, _B.CANCELLED)),
}
BUCKETS = (
    *(Bucket.DELIVERED, Bucket.ACCEPTED, Bucket.WAITING, Bucket.REFUSED),
    *(Bucket.UNKNOWN, Bucket.SUPPRESSED, Bucket.EXPIRED, Bucket.CANCELLED),
)
_ACTS: Mapping[BroadcastState, tuple[str, ...]] = {
    _B.DRAFT: ("edit", "submit", "cancel"),
    _B.SUBMITTED: ("edit", "cancel"),
    _B.APPROVED: ("edit", "start", "cancel"),
    _B.SCHEDULED: ("edit", "start", "cancel"),
    _B.PLANNING: ("cancel",),
    _B.RUNNING: ("pause", "cancel"),
    _B.PAUSED: ("resume", "cancel"),
}
PAGE = 50
PAGE_UNKNOWN = 200  # who is decided on together: what a crash leaves is on one page
EMPTY = BAD_REASONS["empty"]
_VISIBLE = (
    "FROM broadcasts b LEFT JOIN organisations o ON o.id = b.organisation_id "
    "WHERE b.kind = 'notice' AND COALESCE(o.path, '/') LIKE ?"
)


def acts(broadcast: Broadcast, actor: Actor) -> list[str]:
    state = BroadcastState(broadcast.state)
    found = list(_ACTS.get(state, ())) if actor.may(Action.BROADCAST) else []
    approves = actor.may(Action.APPROVE) and not wrote(broadcast, actor)
    if state is _B.SUBMITTED and approves:
        found += ["approve", "reject"]
    return found


async def tab_numbers(actor: Actor) -> Mapping[str, int]:
    found = await rows(
        f"SELECT b.state, COUNT(*) AS n {_VISIBLE} GROUP BY b.state", f"{actor.path}%"
    )
    by_state = {row["state"]: int(row["n"]) for row in found}
    return {
        key: sum(n for state, n in by_state.items() if not states or state in states)
        for key, (_, states) in TABS.items()
    }


async def notice_list(
    core: Core, actor: Actor, tab: str, start: int
) -> list[dict[str, Any]]:
    states = TABS[tab][1]
    narrowed = f" AND b.state IN ({marks(len(states))})" if states else ""
    found = await rows(
        f"SELECT b.id {_VISIBLE}{narrowed} ORDER BY b.changed_at DESC, b.id DESC "
        f"LIMIT {PAGE} OFFSET {int(start)}",
        f"{actor.path}%",
        *[state.value for state in states],
    )
    return [
        await _notice_row(core, actor, await Broadcast.get(id=row["id"]))
        for row in found
    ]


async def _notice_row(core: Core, actor: Actor, broadcast: Broadcast) -> dict[str, Any]:
    counts = await recipients.counts(broadcast.id)
    said = await recipients.answers(broadcast.id) if broadcast.rsvp else None
    submitted = broadcast.state == _B.SUBMITTED
    approves = actor.may(Action.APPROVE) and not wrote(broadcast, actor)
    return {
        "id": broadcast.id,
        "title": broadcast.title,
        "state": standing(_B(broadcast.state), counts[Bucket.UNKNOWN]),
        "audience": await audience_text(broadcast),
        "author": broadcast.created_by,
        "changed_at": broadcast.changed_at,
        "send_at": broadcast.started_at or broadcast.send_at,
        "event_at": broadcast.event_at,
        "planned": broadcast.planned,
        "done": broadcast.planned - counts[Bucket.WAITING],
        "yes": said.yes if said and broadcast.started_at else None,
        "wants_me": submitted and approves,
    }


async def audience_text(broadcast: Broadcast) -> str:
    described = broadcast.audience
    match described.get("type"):
        case "organisation":
            found = await rows(
                "SELECT name FROM organisations WHERE code = ?", described["code"]
            )
            name = found[0]["name"] if found else described["code"]
            below = described.get("with_subtree", True)
            return phrase("{name}及其下级", name=str(name)) if below else str(name)
        case "tag":
            return phrase("标签“{tag}”", tag=described["tag"])
        case "list":
            size = len(described.get("addresses", ())) + len(described.get("ids", ()))
            return phrase("名单（{n} 人）", n=size)
        case "subscribers":
            return phrase("订阅每日一答的人")
    return ""


def channel_of(core: Core, name: str, kind: str) -> dict[str, str]:
    channel = core.channels.get(name)
    return {"kind": kind, "label": channel.label if channel else name}


_MOVES_ON = frozenset({_B.PLANNING, _B.RUNNING, _B.FINISHED})


async def head(core: Core, found: Overview) -> dict[str, Any]:
    broadcast = found.broadcast
    return {
        "id": broadcast.id,
        "title": broadcast.title,
        "state": found.standing,
        "author": broadcast.created_by or phrase("系统"),
        "audience": await audience_text(broadcast),
        "place": broadcast.place,
        "send_at": broadcast.started_at or broadcast.send_at,
        "event_at": broadcast.event_at,
        "revision": broadcast.revision,
        "note": phrase(_note(broadcast)),
        "texts": _texts(broadcast),
    }


def _note(broadcast: Broadcast) -> str:
    """Why it once stood still is no news of one that goes on, and whoever cancelled it
    has nothing left to do."""
    if broadcast.state == _B.CANCELLED:
        return canary.BEFORE if broadcast.note == canary.NOTE else ""
    return "" if broadcast.state in _MOVES_ON else str(broadcast.note)


_VARIANT_KINDS = {"sms": "phone", "default": "qq", "email": "email"}
_VARIANT_LABELS = {
    "sms": "短信",
    "default": "QQ 与邮件",
    "email": "邮件",
    "qq": "QQ",
    "wechat": "微信",
}


def _texts(broadcast: Broadcast) -> list[dict[str, Any]]:
    subject = broadcast.texts.get("subject", "")
    return [
        {
            "channel": {"kind": _VARIANT_KINDS.get(name, name), "label": phrase(label)},
            "subject": subject if name in ("default", "email") else "",
            "text": broadcast.texts[name],
        }
        for name, label in _VARIANT_LABELS.items()
        if broadcast.texts.get(name)
    ]


async def approval(
    core: Core, actor: Actor, broadcast: Broadcast
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The card of the approval, and whom nothing reaches."""
    needed = broadcast.state == _B.SUBMITTED
    found = Preview()
    waits = broadcast.state in (_B.DRAFT, _B.SUBMITTED, _B.APPROVED, _B.SCHEDULED)
    if waits:
        planned = await notices.plan_of(core, broadcast)
        usual = await usual_people(broadcast)
        found = await preview.of_plan(core, planned, usual=usual)
        missed = await left_out([asdict(one) for one in found.left_out])
    else:
        missed = await left_out(broadcast.left_out)
    return {
        "needed": needed,
        "hash": notices.digest(broadcast)[:12],
        "people": found.people,
        "price_fen": found.price_fen,
        "large": found.large,
        "opted_out": found.opted_out,
        "by": broadcast.approved_by,
        "at": broadcast.approved_at,
        "own": wrote(broadcast, actor),
        "preview": preview_of(found, ()) if waits else None,
    }, missed


async def left_out(stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Reasons with the people behind them, by name."""
    ids = [id for one in stored for id in one["members"]]
    names = {m.id: m.name for m in await Member.filter(id__in=ids)} if ids else {}
    return [
        {
            "label": phrase(LEFT_OUT.get(one["reason"], one["reason"])),
            "number": one["count"],
            "people": [
                {"path": f"/members/{id}", "name": names[id]}
                for id in one["members"]
                if id in names
            ],
            "masked": list(one["masked"]),
        }
        for one in stored
    ]


async def shortfalls(id: int) -> list[dict[str, Any]]:
    """Why some were not reached: kinds of reasons, with how many."""
    return [
        {"label": _shortfall(one), "number": one.number}
        for one in await recipients.shortfalls(id)
    ]


def _shortfall(one: Shortfall) -> str:
    label = phrase(BUCKET_LABELS[count_as(one.state)])
    why = phrase(one.reason_text)
    return phrase("{channel}：{why}", channel=label, why=why) if why else label


_UNSERVED = "{channel}暂时没有进程负责，{n} 人在等；有进程接手后自动接着发。"
_REFUSED = "{channel}登录被对方拒绝，{n} 人在等；登录成功后自动接着发。"
_AWAY = "{channel}联系不上对方，{n} 人在等；恢复后自动接着发。"
_STATE_LABELS: Mapping[OutboundState, str] = {
    OutboundState.PLANNED: "还没轮到",
    OutboundState.QUEUED: "等待重发或推迟",
    OutboundState.SENDING: "已交出，等答复",
    OutboundState.READ: "已读",
    OutboundState.FAILED: "被渠道拒绝",
    OutboundState.DEAD: "多次失败",
}


async def progress(core: Core, found: Overview) -> dict[str, Any]:
    broadcast, said = found.broadcast, found.answers
    id = broadcast.id
    rate = 0.0
    if broadcast.started_at is not None:
        rate = plot.rate(found.changes, core.clock.now(), broadcast.started_at)
    planning = broadcast.state == _B.PLANNING
    running = broadcast.state == _B.RUNNING
    waiting = await _waiting(id) if running else []
    held_up = await _held_up(core, waiting)
    return {
        "planned": broadcast.planned,
        "planning": {"people": broadcast.people} if planning else None,
        "balanced": found.is_balanced,
        "rate": round(rate, 1) if _is_moving(broadcast) else 0,
        "left": "" if held_up else _left(core, found, rate, waiting),
        "held_up": held_up,
        "canary": broadcast.canary if running else "",
        "unanswered": found.states.get(OutboundState.SENDING, 0),
        "patience": core.settings.policy.canary_seconds,
        "buckets": [
            _number(id, bucket, BUCKET_LABELS[bucket], found.counts[bucket])
            for bucket in BUCKETS
        ],
        "states": [
            _number(id, state, label, found.states[state])
            for state, label in _STATE_LABELS.items()
            if found.states.get(state)
        ],
        "unknown": await _unknown(core, found),
        "plot": plot_of(plot.course(found.changes), broadcast.planned),
        "rsvp": None if said is None else asdict(said),
    }


def _number(id: int, state: str, label: str, number: int) -> dict[str, Any]:
    """One of the numbers of a run, with the way to its people."""
    path = f"/broadcasts/{id}?state={state}#people"
    return {"state": state, "label": phrase(label), "number": number, "path": path}


def plot_of(moments: Sequence[Moment], planned: int) -> dict[str, Any] | None:
    """What partials/_broadcast_plot.html shows; None before there is a course."""
    whole = plot.scale(moments, planned)
    lines = plot.lines(moments, whole)
    if not lines or not moments[-1].sent:
        return None
    begin, end = moments[0].at, moments[-1].at
    return {
        "width": plot.WIDTH,
        "height": plot.HEIGHT,
        "lines": lines,
        "marks": plot.marks(whole),
        "goal": plot.height(planned, whole) if whole == planned else None,
        "begin": begin,
        "middle": begin + (end - begin) / 2,
        "end": end,
        "short": end - begin <= plot.SHORT,
        "planned": planned,
        "last": moments[-1],
        "table": plot.table(moments),
    }


async def _unknown(core: Core, found: Overview) -> dict[str, Any] | None:
    """Of those of whom nobody knows: since when, whether a receipt may still tell
    (C-1), and how far their providers were asked."""
    number = found.counts[Bucket.UNKNOWN]
    if not number:
        return None
    known = await rows(
        f"SELECT MIN(changed_at) AS since FROM outbox WHERE broadcast_id = ? "
        f"AND {sweep.NOTEWORTHY} AND state = 'unknown'",
        found.broadcast.id,
    )
    since = known[0]["since"]
    if since is None:
        return None
    until = from_micros(since) + WAITS
    return {
        "number": number,
        "since": from_micros(since),
        "until": None if until <= core.clock.now() else until,
        "path": f"/broadcasts/{found.broadcast.id}?state=unknown#people",
        "queries": await queries.of_broadcast(
            core, found.broadcast.id, sweep.NOTEWORTHY
        ),
    }


def _is_moving(broadcast: Broadcast) -> bool:
    """While those ahead are waited for no speed tells when the others will be done."""
    return bool(broadcast.state == _B.RUNNING and broadcast.canary != canary.WAITING)


async def _held_up(core: Core, waiting: Sequence[Row]) -> list[dict[str, Any]]:
    """Channels for which some of the recipients wait and that nobody serves or that are
    out of reach: nobody need wonder why nothing leaves."""
    if not waiting:
        return []
    told = await reports()
    free = await account.unserved(core)
    found = [
        await _why_held_up(core, row, told.get(row["channel"], {}), free)
        for row in waiting
    ]
    return [one for one in found if one]


async def _why_held_up(
    core: Core, waiting: Row, told: Report, free: Collection[str]
) -> dict[str, Any]:
    name = waiting["channel"]
    label, n = channel_of(core, name, "")["label"], f"{int(waiting['n']):,}"
    if name in free:
        said, why = phrase(_UNSERVED, channel=label, n=n), ""
    elif told.get("open_since"):
        here = await account.outage(name, told)
        words = _REFUSED if here.refused else _AWAY
        said, why = phrase(words, channel=label, n=n), here.why
    else:
        return {}
    return {"text": said, "why": why, "path": f"/channels/{name}"}


def _left(core: Core, found: Overview, rate: float, waiting: Sequence[Row]) -> str:
    """When the last one will have left, in words; empty: nobody can say."""
    if not _is_moving(found.broadcast):
        return ""
    if not waiting:
        last = found.states.get(OutboundState.SENDING, 0)
        return phrase("已全部交出，在等最后 {n} 条的答复", n=last) if last else ""
    earliest = from_micros(min(row["due"] for row in waiting))
    if earliest > core.clock.now():
        zone = core.settings.centre.timezone
        at = f"{earliest.astimezone(zone):%m-%d %H:%M}"
        return phrase("{at} 继续发送", at=at)
    seconds = max(_seconds(core, row["channel"], int(row["n"])) for row in waiting)
    if rate > 0:
        seconds = int(sum(int(row["n"]) for row in waiting) / rate) + 1
    if seconds <= 60:
        return phrase("1 分钟内发完")
    if seconds < 7200:
        return phrase("约 {n} 分钟后发完", n=-(-seconds // 60))
    return phrase("约 {n} 小时后发完", n=-(-seconds // 3600))


async def _waiting(id: int) -> list[Row]:
    """By channel, from the chunks and from what waits alone: nobody is counted."""
    return await rows(
        "SELECT channel, SUM(n) AS n, MIN(due) AS due FROM ("
        "SELECT channel, SUM(CASE WHEN journalled_to < first_id THEN people "
        "ELSE last_id - journalled_to END) AS n, MIN(due_at) AS due FROM chunks "
        "WHERE broadcast_id = ? AND state IN ('held', 'ready', 'leased') "
        "AND journalled_to < last_id GROUP BY channel UNION ALL "
        "SELECT channel, COUNT(*) AS n, MIN(due_at) AS due FROM outbox "
        f"WHERE broadcast_id = ? AND {sweep.NOTEWORTHY} AND state = 'queued' "
        "GROUP BY channel) w GROUP BY channel",
        id,
        id,
    )


def _seconds(core: Core, name: str, messages: int) -> int:
    channel = core.channels.get(name)
    rate = channel.capabilities.rate_per_second if channel else 1.0
    return int(messages / rate) + 1


def filters() -> list[dict[str, str]]:
    """Everything a list can be narrowed to: what people count, and the fine states."""
    buckets = [(one.value, BUCKET_LABELS[one]) for one in BUCKETS]
    states = [(one.value, label) for one, label in _STATE_LABELS.items()]
    return [
        {"value": value, "label": phrase(label)} for value, label in buckets + states
    ]


async def again(found: Overview, actor: Actor) -> dict[str, int] | None:
    """How many could be sent to again; None where nobody can, or this person can't.
    While the run goes on it isn't offered: the number would be wrong a second later."""
    states = (_B.PAUSED, _B.FINISHED)
    failed, unknown = found.counts[Bucket.REFUSED], found.counts[Bucket.UNKNOWN]
    able = found.broadcast.state in states and actor.may(Action.BROADCAST)
    if not able or not (failed or unknown):
        return None
    others = await apart(found.broadcast.id) if failed else Apart()
    failed -= others.in_part + others.given_up
    if not (failed or others.in_part or unknown):
        return None
    return {"failed": failed, "in_part": others.in_part, "unknown": unknown}


def recipient(core: Core, one: Recipient) -> dict[str, Any]:
    return {
        "id": one.id,
        "member": one.name or phrase("未登记的号码"),
        "path": f"/members/{one.member_id}" if one.member_id else "#",
        "organisation": one.organisation,
        "channel": channel_of(core, one.channel, one.kind),
        "to": one.to,
        "state": one.state,
        "reason": phrase(reason_of(core, one)),
        "changed_at": one.changed_at,
        "rsvp": one.answer,
        "attended": one.attended,
    }


def preview_of(found: Preview, errors: Sequence[str]) -> dict[str, Any]:
    ways = []
    for way in found.ways:
        sample = way.samples[0] if way.samples else None
        ways.append(
            {
                "channel": {"kind": way.kind.value, "label": way.label},
                "people": way.people,
                "segments": way.segments,
                "price_fen": way.price_fen,
                "subject": sample.subject if sample else "",
                "text": sample.text if sample else "",
            }
        )
    problems = {
        phrase("{channel}：{why}", channel=way.label, why=phrase(sample.problem))
        for way in found.ways
        for sample in way.samples
        # What can't be filled in is not shown: that it is empty then is no news.
        if sample.problem and not (errors and sample.problem == EMPTY)
    }
    return {
        "people": found.people,
        "unreachable": found.unreachable,
        "opted_out": found.opted_out,
        "price_fen": found.price_fen,
        "ways": ways,
        "errors": [phrase(error) for error in (*errors, *sorted(problems))],
        "hints": [phrase(hint) for hint in found.hints],
        "repeated": found.repeated,
    }


async def tags(actor: Actor) -> list[dict[str, str]]:
    found = await rows(
        "SELECT t.tag, COUNT(*) AS n FROM member_tags t JOIN members m "
        "ON m.id = t.member_id JOIN organisations o ON o.id = m.organisation_id "
        "WHERE o.path LIKE ? GROUP BY t.tag ORDER BY n DESC, t.tag LIMIT 300",
        f"{actor.path}%",
    )
    return [
        {
            "value": row["tag"],
            "label": phrase("{tag}（{n} 人）", tag=row["tag"], n=row["n"]),
        }
        for row in found
    ]


def kind_label(kind: str) -> dict[str, str]:
    return {"kind": kind, "label": phrase(KINDS.get(kind, kind))}


def month_day(at: datetime) -> str:
    return phrase("{month}月{day}日", month=at.month, day=at.day)
