"""《党员服务受（办）理表》: an inquiry as the printed form (B3, B7)."""

from typing import Any

from gateway import audit
from gateway import database as db
from gateway.actors import Actor
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.inquiries import history, words
from gateway.inquiries.matters import NAMES, Matter
from gateway.inquiries.work import find
from gateway.tables import (
    AddressRow,
    Inquiry,
    InquiryEvent,
    Member,
    Organisation,
    Staff,
)
from gateway.text import excerpt

_LONGEST_STEP = 160
_TOLD = frozenset({"answer", "told", "callback"})


async def form(core: Core, actor: Actor, number: str) -> dict[str, Any]:
    """The `form` of templates/pages/inquiry_print.html, always in Chinese.

    It shows the telephone in full, so each look at it is audited.
    """
    inquiry = await find(actor, number)
    async with db.transaction():
        await audit.record(
            core.clock, actor, "inquiry.printed", f"inquiry:{inquiry.number}"
        )
    member = await Member.get_or_none(id=inquiry.member_id).prefetch_related(
        "organisation"
    )
    first = await Organisation.get(id=inquiry.first_organisation_id)
    owner = await Staff.get_or_none(id=inquiry.owner_id)
    steps = await history.timeline(core, inquiry, _chinese)
    return {
        "number": inquiry.number,
        "centre": first.name,
        "name": inquiry.contact_name,
        "organisation": member.organisation.name if member else "",
        "phone": await _phone(inquiry),
        "joined": member.joined_on if member else "",
        "source_label": _source(core, inquiry),
        "matter_label": NAMES[Matter(inquiry.matter)],
        "urgency_label": words.URGENCIES.get(inquiry.urgency, inquiry.urgency),
        "received_at": inquiry.received_at,
        "deadline_at": inquiry.deadline_at - inquiry.deadline_at.resolution,
        "provisional": inquiry.deadline_provisional,
        "receiver": await _receiver(inquiry, first),
        "owner": owner.name if owner else "",
        "text": inquiry.text,
        "steps": [_step(one) for one in steps if one["type"] != "note"],
        "extension": await _last_text(inquiry, "extended"),
        "outcome": inquiry.outcome,
        "closed_at": inquiry.closed_at,
        "told": _told(core, steps),
        "rating": words.RATINGS.get(inquiry.rating or 0, ""),
        "printed_at": core.clock.now(),
        "printed_by": actor.name,
    }


def _chinese(text: str, /, **values: object) -> str:
    return text.format(**values) if values else text


def _source(core: Core, inquiry: Inquiry) -> str:
    if inquiry.source != "message":
        return words.SOURCES.get(inquiry.source, inquiry.source)
    return history.channel(core, inquiry.channel, inquiry.kind, _chinese)["label"]


async def _phone(inquiry: Inquiry) -> str:
    if inquiry.kind == AddressKind.PHONE:
        return inquiry.value.removeprefix("+86")
    row = await AddressRow.filter(
        member_id=inquiry.member_id or -1, kind=AddressKind.PHONE
    ).first()
    return row.value.removeprefix("+86") if row else ""


async def _receiver(inquiry: Inquiry, first: Organisation) -> str:
    """Who took it first: the person where one did, else the centre."""
    took = (
        await InquiryEvent.filter(inquiry_id=inquiry.id, staff_id__isnull=False)
        .order_by("at", "id")
        .first()
    )
    return took.actor if took else first.name


def _step(entry: dict[str, Any]) -> dict[str, Any]:
    who = entry["author"] or "系统自动"
    if entry["kind"] in ("registered", "received"):  # its words stand above already
        return {"at": entry["at"], "who": who, "text": "受理登记"}
    reason = f"：{entry['reason']}" if entry["reason"] else ""
    text = excerpt(f"{entry['text']}{reason}", _LONGEST_STEP)
    return {"at": entry["at"], "who": who, "text": text}


async def _last_text(inquiry: Inquiry, kind: str) -> str:
    found = (
        await InquiryEvent.filter(inquiry_id=inquiry.id, kind=kind)
        .order_by("-at", "-id")
        .first()
    )
    return found.text if found else ""


def _told(core: Core, steps: list[dict[str, Any]]) -> str:
    """How the member was told last, by a person."""
    for entry in reversed(steps):
        if entry["type"] == "out" and entry["channel"] and entry["kind"] in _TOLD:
            day = entry["at"].astimezone(core.settings.centre.timezone)
            return f"{entry['channel']['label']} {day:%Y-%m-%d}"
    return ""
