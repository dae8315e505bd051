"""An inquiry's timeline as the page and the printed form show it."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway import addresses
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import Row, from_micros, rows, to_micros
from gateway.inquiries import words
from gateway.inquiries.matters import NAMES
from gateway.tables import Inquiry

Say = Callable[..., str]
"""Translates words of the desk, and fills their placeholders."""

_IN = frozenset({"received", "message_in"})
_OUT = frozenset({"answer", "receipt", "callback", "told_extended", "thanked"})
_ARRIVED = frozenset({"delivered", "read"})  # a receipt's code adds nothing here
_WEEKDAYS = ("一", "二", "三", "四", "五", "六", "日")
_EVENTS = """
SELECT e.id, e.at, e.kind, e.actor, e.staff_id, e.text, e.data, e.inbound_id,
  e.outbound_id, i.channel AS in_channel, i.kind AS in_kind, i.value AS in_value,
  i.display_name, i.conversation_kind, i.quoted, i.notes, i.inquiry_id AS in_inquiry,
  i.automatic, i.subject, o.channel AS out_channel, o.kind AS out_kind,
  o.value AS out_value, o.state, o.reason, o.detail, o.due_at, o.attempts
FROM inquiry_events e
LEFT JOIN inbound i ON i.id = e.inbound_id
LEFT JOIN outbox o ON o.id = e.outbound_id
WHERE e.inquiry_id = ? ORDER BY e.at, e.id
"""


async def timeline(core: Core, inquiry: Inquiry, say: Say) -> list[dict[str, Any]]:
    """The entries of templates/pages/partials/_timeline.html, oldest first."""
    found = await rows(_EVENTS, inquiry.id)
    files = await _attachments(inquiry.number, [r["inbound_id"] for r in found])
    last_day, entries = "", []
    for row in found:
        entry = _entry(core, inquiry, row, say)
        day = _day(core, entry["at"], say)
        entry["day"], last_day = ("" if day == last_day else day), day
        entry["attachments"] = files.get(row["inbound_id"], [])
        entries.append(entry)
    return entries


def _entry(core: Core, inquiry: Inquiry, row: Row, say: Say) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": row["id"],
        "kind": row["kind"],
        "type": "event",
        "at": from_micros(row["at"]),
        "author": row["actor"],
        "text": row["text"],
        "channel": None,
        "state": "",
        "reason": "",
        "quoted": "",
        "notes": [],
        "undo": "",
        "message": 0,
    }
    if row["kind"] in _IN and row["in_inquiry"] in (None, inquiry.id):
        return entry | _written(core, inquiry, row, say)
    if row["kind"] in _OUT:
        return entry | _sent(core, inquiry, row, say)
    if row["kind"] in ("registered", "told"):
        place = words.SOURCES["counter" if row["kind"] == "told" else inquiry.source]
        kind = "in" if row["kind"] == "registered" else "out"
        label = say("当面或电话答复") if kind == "out" else say(place)
        icon = "counter" if inquiry.source == "counter" else "call"
        return entry | {"type": kind, "channel": {"kind": icon, "label": label}}
    if row["kind"] == "note":
        return entry | {"type": "note"}
    return entry | _happened(core, row, say)


def _written(core: Core, inquiry: Inquiry, row: Row, say: Say) -> dict[str, Any]:
    """A message of the member."""
    notes = [_remark(note, say) for note in json.loads(row["notes"] or "[]")]
    if row["automatic"]:
        notes.append(say("自动邮件"))
    name = inquiry.contact_name or row["display_name"] or ""
    text = row["text"]
    if row["subject"] and row["kind"] == "received":
        text = f"{row['subject']}\n{text}"
    return {
        "type": "in",
        "author": name or say("来信人"),
        "text": text,
        "channel": channel(core, row["in_channel"], row["in_kind"] or "", say),
        "quoted": row["quoted"] or "",
        "notes": notes,
        "message": row["inbound_id"] or 0,
    }


def _remark(note: str, say: Say) -> str:
    if note.startswith("image:"):
        return say("附有图片，请在 QQ 里查看")
    return say(words.NOTES.get(note, note))


def _sent(core: Core, inquiry: Inquiry, row: Row, say: Say) -> dict[str, Any]:
    """A message to the member, with what became of it."""
    data = json.loads(row["data"])
    name = row["out_channel"] or str(data.get("channel", ""))
    reasons = [_refusal(core, one, say) for one in data.get("refusals", ())]
    if row["reason"] and row["state"] not in _ARRIVED:
        reasons.append(say(words.reason(row["reason"])))
    held = row["state"] == "queued" and row["due_at"] > to_micros(core.clock.now())
    undo = ""
    if row["kind"] == "answer" and held and not row["attempts"]:
        undo = f"/inquiries/{inquiry.number}/replies/{row['outbound_id']}/undo"
    return {
        "type": "out",
        "author": row["actor"]
        or say("自动回执" if row["kind"] == "receipt" else "系统"),
        "channel": channel(core, name, row["out_kind"] or "", say),
        "state": row["state"] or "",
        "reason": say("；").join(reasons),
        "undo": undo,
    }


def _happened(core: Core, row: Row, say: Say) -> dict[str, Any]:
    """A line about an act: fixed words, then what the person gave as reason."""
    data = json.loads(row["data"])
    kind = row["kind"]
    if kind in _IN:  # moved to another inquiry since
        return {"text": say("一条来信已移到别的咨询单"), "author": ""}
    values = {
        "to": str(data.get("to", "")),
        "number": str(data.get("number", "")),
        "text": row["text"],
        "rating": say(words.RATINGS.get(data.get("rating"), "")),
    }
    if kind == "rerouted":
        values["to"] = _label(core, values["to"], say) if values["to"] else "…"
    text = say(words.EVENTS.get(kind, kind), **values)
    return {"text": text, "reason": _reason(core, kind, row, data, say)}


def _reason(core: Core, kind: str, row: Row, data: Mapping[str, Any], say: Say) -> str:
    match kind:
        case "reopened":
            return say(words.REOPENED.get(row["text"], row["text"]))
        case "identified":
            return ""
        case "undelivered":
            return str(data.get("code", ""))
        case "no_channel":
            found = [_refusal(core, one, say) for one in data.get("refusals", ())]
            return say("；").join(found)
        case "rerouted":
            why = [one for one in str(data.get("why", "")).split(", ") if one]
            return say("；").join(_refusal(core, one, say) for one in why)
        case "classified":
            before = data.get("before", {})
            name = NAMES.get(before.get("matter"))
            return say("原为“{name}”", name=say(name)) if name else ""
        case _:
            return str(row["text"])


def refusals(core: Core, passed: Sequence[str], say: Say) -> list[str]:
    """Why channels were passed over; each given as `channel:code`."""
    return [_refusal(core, one, say) for one in passed]


def _refusal(core: Core, one: str, say: Say) -> str:
    name, _, code = one.partition(":")
    said = words.REFUSALS.get(code)
    label = _label(core, name, say)
    return say(said, channel=label) if said else f"{label}: {code}"


def _label(core: Core, name: str, say: Say) -> str:
    found = core.channels.get(name)
    return found.label if found else say(words.KINDS.get(name, name))


def channel(core: Core, name: str, kind: str, say: Say) -> dict[str, str]:
    """Icon and label of a channel; one that is no longer configured by its name."""
    return {"kind": kind or "web", "label": _label(core, name, say)}


def _day(core: Core, at: datetime, say: Say) -> str:
    local = at.astimezone(core.settings.centre.timezone)
    return say(
        "{month}月{day}日 星期{weekday}",
        month=local.month,
        day=local.day,
        weekday=say(_WEEKDAYS[local.weekday()]),
    )


async def _attachments(
    number: str, inbound_ids: Sequence[int | None]
) -> dict[int, list[dict[str, str]]]:
    wanted = sorted({id for id in inbound_ids if id is not None})
    if not wanted:
        return {}
    found = await rows(
        "SELECT id, inbound_id, name, size FROM attachments WHERE inbound_id IN "
        f"({', '.join('?' * len(wanted))}) ORDER BY id",
        *wanted,
    )
    files: dict[int, list[dict[str, str]]] = {}
    for row in found:
        files.setdefault(row["inbound_id"], []).append(
            {
                "name": row["name"],
                "path": f"/inquiries/{number}/attachments/{row['id']}",
                "size": size_text(row["size"]),
            }
        )
    return files


def size_text(size: int) -> str:
    return (
        f"{size / 1024 / 1024:.1f} MB" if size >= 1 << 20 else f"{size / 1024:.0f} KB"
    )


def masked(kind: str, value: str) -> str:
    return addresses.mask(Address(AddressKind(kind), value)) if value else ""
