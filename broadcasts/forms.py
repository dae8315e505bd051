"""The form of a notice: fields to draft, draft to fields. No database."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broadcasts import audience
from broadcasts.content import Draft
from broadcasts.tables import Broadcast
from gateway.web.forms import Form

_IN_FORM = frozenset({"sms", "default", "subject"})
_TIME = "%Y-%m-%dT%H:%M"


def read(
    form: Form, zone: ZoneInfo, before: Broadcast | None
) -> tuple[Draft, dict[str, str]]:
    """The draft, and the times that can't be read. What the form doesn't show (other
    wordings, the expiry) stays as it was `before`."""
    faults: dict[str, str] = {}
    kept = {} if before is None else before.texts
    texts = {name: text for name, text in kept.items() if name not in _IN_FORM}
    texts |= {name: form.get(name) for name in _IN_FORM if form.get(name)}
    draft = Draft(
        title=form.get("title"),
        texts=texts,
        audience=_audience(form, before),
        rsvp=form.flag("rsvp"),
        event_at=_time(form, "event_at", zone, faults),
        place=form.get("place"),
        send_at=_time(form, "send_at", zone, faults),
        expires_at=None if before is None else before.expires_at,
        exclude_bad=form.flag("exclude_bad"),
    )
    return draft, faults


def _time(
    form: Form, name: str, zone: ZoneInfo, faults: dict[str, str]
) -> datetime | None:
    """What a `datetime-local` field holds, with or without seconds."""
    given = form.get(name)
    if not given:
        return None
    try:
        at = datetime.strptime(given[:16], _TIME).replace(tzinfo=zone)
    except ValueError:
        faults[name] = "请写成 2026-11-25T08:30 的样子"
        return None
    if not 2000 <= at.year <= 2100:
        faults[name] = "请核对年份"
        return None
    return at


def _audience(form: Form, before: Broadcast | None) -> Mapping[str, Any]:
    match form.get("audience_type"):
        case "organisation":
            code = form.get("audience_code")
            old = {} if before is None else before.audience
            whole = old.get("with_subtree", True) if old.get("code") == code else True
            return {"type": "organisation", "code": code, "with_subtree": whole}
        case "tag":
            return {"type": "tag", "tag": form.get("audience_tag")}
        case "list":
            return audience.from_lines(form.get("audience_members"))
    return {}


def typed(form: Form, id: int | None) -> dict[str, Any]:
    """What was typed, back into the fields."""
    return {
        "id": id,
        **{name: form.get(name) for name in ("title", *_IN_FORM, "place")},
        "event_at": form.get("event_at"),
        "send_at": form.get("send_at"),
        "rsvp": form.flag("rsvp"),
        "exclude_bad": form.flag("exclude_bad"),
        "audience": {
            "type": form.get("audience_type"),
            "code": form.get("audience_code"),
            "tag": form.get("audience_tag"),
            "members": form.get("audience_members"),
        },
    }


def shown(broadcast: Broadcast, zone: ZoneInfo) -> dict[str, Any]:
    """A stored draft in the fields."""
    described = broadcast.audience
    listed = described.get("type") == "list"
    return {
        "id": broadcast.id,
        "title": broadcast.title,
        **{name: broadcast.texts.get(name, "") for name in _IN_FORM},
        "place": broadcast.place,
        "event_at": _local(broadcast.event_at, zone),
        "send_at": _local(broadcast.send_at, zone),
        "rsvp": broadcast.rsvp,
        "exclude_bad": broadcast.exclude_bad,
        "audience": {
            "type": described.get("type", "organisation"),
            "code": described.get("code", ""),
            "tag": described.get("tag", ""),
            "members": audience.to_lines(described) if listed else "",
        },
    }


def _local(at: datetime | None, zone: ZoneInfo) -> str:
    return "" if at is None else at.astimezone(zone).strftime(_TIME)


def empty() -> dict[str, Any]:
    audience = {"type": "organisation", "code": "", "tag": "", "members": ""}
    texts = ("title", "subject", "sms", "default", "place", "event_at", "send_at")
    return {
        "id": None,
        **dict.fromkeys(texts, ""),
        "rsvp": True,
        "exclude_bad": False,
        "audience": audience,
    }
