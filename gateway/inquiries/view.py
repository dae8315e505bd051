"""One inquiry, and a row of the stream, as the pages show them."""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway import sla, wording
from gateway.actors import GRANTS, Action, Actor, Role
from gateway.channels import NoRoute, Route
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import Row, from_micros, marks, rows, rows_at_once
from gateway.inquiries import history, words
from gateway.inquiries.history import Say, masked
from gateway.inquiries.matters import NAMES, Matter, Urgency
from gateway.inquiries.register import deadline_from
from gateway.inquiries.say import render, values_of, ways_to
from gateway.inquiries.work import find
from gateway.outbox.enqueue import opted_out, route_for
from gateway.status import InquiryState
from gateway.tables import Canned, Inquiry, Member, Organisation, Staff
from gateway.text import excerpt, length, segment_count
from gateway.texts import fill

_LONGEST_TITLE = 40
_LONGEST_LINE = 120
EXTENSIONS = (3, 5, 7, 10, 15)  # working days on offer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was typed in an act that was refused, so that nothing of it is lost."""

    act: str = ""  # reply, transfer, extend, close, reopen, assign, classify, bind
    errors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    typed: Mapping[str, str] = dataclasses.field(default_factory=dict)


NOTHING_REFUSED = Refused()


def row(core: Core, found: Row, say: Say) -> dict[str, Any]:
    """The `row` of templates/pages/rows.html."""
    who = found["member"] or found["contact_name"]
    return {
        "id": found["id"],
        "number": found["number"],
        "unread": bool(found["unread"]),
        "who": who or masked(found["kind"], found["value"]) or say("未留姓名"),
        "organisation": found["member_organisation"] or "",
        "text": excerpt(found["text"], _LONGEST_LINE),
        "channel": _source(core, found, say),
        "state": found["state"],
        "urgency": found["urgency"],
        "matter_label": matter_label(found["matter"], say),
        "owner": found["owner"] or "",
        "changed_at": from_micros(found["changed_at"]),
        "deadline": deadline(
            core,
            from_micros(found["deadline_at"]),
            bool(found["deadline_provisional"]),
            found["state"],
            say,
        ),
    }


def _source(core: Core, found: Mapping[str, Any], say: Say) -> dict[str, str]:
    if found["source"] == "message":
        return history.channel(core, found["channel"], found["kind"], say)
    icon = {"counter": "counter", "phone": "call"}.get(found["source"], "web")
    return {"kind": icon, "label": say(words.SOURCES.get(found["source"], ""))}


def matter_label(matter: str, say: Say) -> str:
    return say(NAMES[Matter(matter)])


def deadline(
    core: Core, at: datetime, provisional: bool, state: str, say: Say
) -> dict[str, Any]:
    """What the countdown chip shows; what is answered is no longer pressing."""
    zone = core.settings.centre.timezone
    left = sla.remaining(at, core.clock.now(), core.calendar, zone)
    level, text = _LEVELS[left.unit], _LEFT[left.unit]
    if left.unit is sla.Unit.WORKING_DAYS and left.amount > 2:
        level = "calm"
    if state in (InquiryState.CLOSED, InquiryState.ANSWERED):
        level, text = "done", "期限 {day}"
    day = (at - at.resolution).astimezone(zone)
    return {
        # The last moment of the last day, not the midnight after it.
        "at": at - at.resolution,
        "text": say(text, n=left.amount, day=f"{day:%m-%d}"),
        "level": level,
        "provisional": provisional,
    }


_LEFT = {
    sla.Unit.WORKING_DAYS: "还剩 {n} 个工作日",
    sla.Unit.HOURS: "还剩 {n} 小时",
    sla.Unit.OVERDUE_HOURS: "超期 {n} 小时",
    sla.Unit.OVERDUE_DAYS: "超期 {n} 个工作日",
}
_LEVELS = {
    sla.Unit.WORKING_DAYS: "soon",
    sla.Unit.HOURS: "today",
    sla.Unit.OVERDUE_HOURS: "over",
    sla.Unit.OVERDUE_DAYS: "over",
}


async def matter(
    core: Core,
    actor: Actor,
    number: str,
    say: Say,
    refused: Refused = NOTHING_REFUSED,
) -> dict[str, Any]:
    """The `matter` of templates/pages/partials/_inquiry.html. Raises NotFound."""
    inquiry = await find(actor, number)
    owner = await Staff.get_or_none(id=inquiry.owner_id)
    first = await Organisation.get(id=inquiry.first_organisation_id)
    member = await _member(inquiry, say)
    found = _as_row(inquiry)
    return {
        "id": inquiry.id,
        "number": inquiry.number,
        "title": excerpt(inquiry.text, _LONGEST_TITLE),
        "state": inquiry.state,
        "urgency": inquiry.urgency,
        "attention": inquiry.attention,
        "rating": say(words.RATINGS.get(inquiry.rating or 0, "")),
        "outcome": inquiry.outcome,
        "matter_code": inquiry.matter,
        "matter_label": matter_label(inquiry.matter, say),
        "text": inquiry.text,
        "reopened": inquiry.reopened,
        "source_label": _source(core, found, say)["label"],
        "received_at": inquiry.received_at,
        "deadline": deadline(
            core,
            inquiry.deadline_at,
            inquiry.deadline_provisional,
            inquiry.state,
            say,
        ),
        "owner": owner.name if owner else "",
        "first_receiver": first.name,
        "organisation": inquiry.organisation.name,
        "timeline": await history.timeline(core, inquiry, say),
        "acts": _acts(actor, inquiry),
        "way": await way(core, inquiry, say),
        "member": member,
        "sender": masked(inquiry.kind, inquiry.value) or inquiry.contact_name,
        "candidates": [] if member else await _candidates(actor, inquiry),
        "canned": await _canned(core, inquiry),
        "draft": refused.typed.get("text", ""),
        "errors": refused.errors,
        "refused": refused.act,
        "typed": refused.typed,
        "form": secrets.token_hex(16),
        "choices": await _choices(actor, inquiry, say),
        "places": await _places(actor, inquiry, say)
        if refused.act == "transfer"
        else [],
        "extend": {"days": await _extensions(core, inquiry, say)},
        "call_back": True,
    }


def _as_row(inquiry: Inquiry) -> dict[str, Any]:
    return {"source": inquiry.source, "channel": inquiry.channel, "kind": inquiry.kind}


def _acts(actor: Actor, inquiry: Inquiry) -> list[str]:
    """What this person may do with it in its state."""
    if not actor.may(Action.WORK):
        return []
    if inquiry.state == InquiryState.CLOSED:
        return ["note", "reopen", "classify", "rate"]
    acts = ["answer", "note", "tell", "transfer", "close", "assign", "classify"]
    if inquiry.owner_id != actor.staff_id and actor.staff_id is not None:
        acts.append("claim")
    if inquiry.attention:
        acts.append("seen")
    if actor.may(Action.EXTEND):
        acts.append("extend")
    return acts


async def way(core: Core, inquiry: Inquiry, say: Say) -> dict[str, Any] | None:
    """How an answer would travel now, and why not otherwise."""
    if inquiry.state == InquiryState.CLOSED:
        return None
    route = await route_for(core, MessageKind.ANSWER, await ways_to(core, inquiry))
    if isinstance(route, NoRoute):
        return None
    limits = route.channel.capabilities
    passed = [f"{one.channel}:{one.code}" for one in route.refusals]
    reasons = history.refusals(core, passed, say)
    if reasons:
        reasons.append(say("改走{channel}", channel=route.channel.label))
    return {
        "channel": {"kind": route.reach.address.kind, "label": route.channel.label},
        "to": masked(route.reach.address.kind, route.reach.address.value),
        "reason": say("，").join(reasons),
        "unit": limits.encoding,
        "limit": limits.max_length,
        "segments": limits.segments,
        "signature": await _around(core, inquiry, route),
    }


async def _around(core: Core, inquiry: Inquiry, route: Route) -> str:
    """What leaves with every answer besides its words; counted while one types."""
    values = {**await values_of(core, inquiry), "answer": ""}
    said, _ = render(core, "answer", route, values)
    return route.channel.common.signature + said


async def preview(
    core: Core, actor: Actor, number: str, text: str, say: Say
) -> dict[str, Any]:
    """The answer as the member would read it, its segments and its price."""
    inquiry = await find(actor, number)
    route = await route_for(core, MessageKind.ANSWER, await ways_to(core, inquiry))
    if isinstance(route, NoRoute) or not text.strip():
        return {"text": "", "note": ""}
    values = {**await values_of(core, inquiry), "answer": text.strip()}
    try:
        said, _ = render(core, "answer", route, values)
    except (wording.WordingError, wording.MissingValue, wording.OutputTooLong) as error:
        return {"text": "", "note": str(error)}
    return {"text": said, "note": _price(route, said, say)}


def _price(route: Route, said: str, say: Say) -> str:
    limits, common = route.channel.capabilities, route.channel.common
    whole = common.signature + said
    over = length(whole, limits.encoding) - limits.max_length
    if over > 0:
        return say("超出上限 {n} 字", n=over)
    if limits.segments is None:
        return say("{n} 字", n=len(said))
    count = segment_count(whole, limits.segments)
    price = f"{count * common.price_fen / 100:.3f}".rstrip("0").rstrip(".")
    return say(
        "{n} 字 · {count} 条短信 · {price} 元", n=len(whole), count=count, price=price
    )


async def _member(inquiry: Inquiry, say: Say) -> dict[str, Any] | None:
    """The member's card; addresses stay masked."""
    member = await Member.get_or_none(id=inquiry.member_id).prefetch_related(
        "organisation", "tags", "addresses"
    )
    if member is None:
        return None
    others = (
        await Inquiry.filter(member_id=member.id).exclude(id=inquiry.id).order_by("-id")
    )[:5]
    return {
        "name": member.name,
        "path": f"/members/{member.id}",
        "organisation": member.organisation.name,
        "joined": member.joined_on,
        "tags": [one.tag for one in member.tags],
        "mobile": member.mobile_member,
        "note": member.note,
        "addresses": [
            {
                "kind": one.kind,
                "label": say(words.KINDS.get(one.kind, one.kind)),
                "value": masked(one.kind, one.value),
                "verified": one.verified_at is not None,
                "opted_out": await opted_out(
                    [Address(AddressKind(one.kind), one.value)], member.id
                ),
            }
            for one in member.addresses
        ],
        "open_inquiries": [
            {
                "number": one.number,
                "title": excerpt(one.text, _LONGEST_TITLE),
                "state": one.state,
            }
            for one in others
        ],
    }


async def _candidates(actor: Actor, inquiry: Inquiry) -> list[dict[str, Any]]:
    """Members who may have written: of this name, or who claimed this address."""
    found = await rows(
        "SELECT m.id, m.name, o.name AS organisation FROM members m "
        "JOIN organisations o ON o.id = m.organisation_id "
        "WHERE m.id IN (SELECT member_id FROM addresses WHERE kind = ? AND value = ? "
        "UNION SELECT id FROM members WHERE name = ?) AND o.path LIKE ? "
        "ORDER BY m.id LIMIT 20",
        inquiry.kind,
        inquiry.value,
        inquiry.contact_name,
        f"{actor.path}%",
    )
    return [
        {"value": one["id"], "label": f"{one['name']}　{one['organisation']}"}
        for one in found
    ]


async def _canned(core: Core, inquiry: Inquiry) -> list[dict[str, str]]:
    """Canned answers with their placeholders filled as far as they can be."""
    values = await values_of(core, inquiry)
    found = []
    for one in await Canned.all().order_by("position", "id"):
        try:
            text = fill(one.text, values)
        except (wording.WordingError, wording.MissingValue, wording.OutputTooLong):
            text = one.text
        found.append({"title": one.title, "text": text})
    return found


async def _choices(actor: Actor, inquiry: Inquiry, say: Say) -> dict[str, Any]:
    return {
        "matters": matters(say),
        "urgencies": urgencies(say),
        "colleagues": [
            {"value": one["username"], "label": f"{one['name']}　{one['place']}"}
            for one in await _colleagues(actor, inquiry)
        ],
    }


async def places(actor: Actor, number: str, say: Say) -> list[dict[str, str]]:
    """Whom a matter may be handed to. A province has more than a thousand: they are
    fetched when somebody wants to, not with every matter. Raises NotFound."""
    return await _places(actor, await find(actor, number), say)


async def _places(actor: Actor, inquiry: Inquiry, say: Say) -> list[dict[str, str]]:
    people = await _colleagues(actor, inquiry)
    return [*_directors(inquiry, people, say), *await _offices(inquiry)]


def matters(say: Say) -> list[dict[str, str]]:
    return [{"value": code, "label": say(name)} for code, name in NAMES.items()]


def urgencies(say: Say) -> list[dict[str, str]]:
    return [{"value": one, "label": say(words.URGENCIES[one])} for one in Urgency]


async def _colleagues(actor: Actor, inquiry: Inquiry) -> Sequence[Row]:
    """Who may work it: people of its organisation and of the actor's subtree."""
    workers = [role for role in Role if Action.WORK in GRANTS[role]]
    return await rows_at_once(
        ("username", "name", "role", "organisation_id", "place"),
        "SELECT t.username, t.name, t.role, t.organisation_id, o.name AS place "
        "FROM staff t JOIN organisations o ON o.id = t.organisation_id "
        "WHERE t.active = ? AND (t.organisation_id = ? OR o.path LIKE ?) "
        f"AND t.role IN ({marks(len(workers))}) ORDER BY o.path, t.id LIMIT 200",
        True,
        inquiry.organisation_id,
        f"{actor.path}%",
        *workers,
    )


def _directors(
    inquiry: Inquiry, people: Sequence[Row], say: Say
) -> list[dict[str, str]]:
    return [
        {
            "value": f"staff:{one['username']}",
            "label": say(
                "主任 {name}（{place}）", name=one["name"], place=one["place"]
            ),
        }
        for one in people
        if one["role"] == Role.DIRECTOR
        and one["organisation_id"] == inquiry.organisation_id
    ]


async def _offices(inquiry: Inquiry) -> list[dict[str, str]]:
    found = await rows_at_once(
        ("code", "name"),
        "SELECT code, name FROM organisations WHERE id <> ? "
        "AND kind IN ('county', 'centre', 'office') ORDER BY path",
        inquiry.organisation_id,
    )
    return [
        {"value": one["code"], "label": f"{one['name']}　{one['code']}"}
        for one in found
    ]


async def _extensions(
    core: Core, inquiry: Inquiry, say: Say
) -> list[dict[str, object]]:
    """Days on offer, each with the day it leads to."""
    base = max(inquiry.deadline_at - inquiry.deadline_at.resolution, core.clock.now())
    return [
        {
            "value": days,
            "label": say(
                "{n} 个工作日，到 {day}",
                n=days,
                day=deadline_from(core, base, days).day.isoformat(),
            ),
        }
        for days in EXTENSIONS
    ]
