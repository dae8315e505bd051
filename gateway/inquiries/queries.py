"""The stream: which inquiries a person sees, in which order, and how many there are.

Everybody sees the matters of their own subtree, and those it received first (C2).
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway import addresses
from gateway.actors import Actor
from gateway.database import Row, rows, to_micros
from gateway.text import fold_width

PAGE = 50  # rows
TABS = ("open", "mine", "overdue", "waiting", "attention", "closed", "all")
_LONGEST_SEARCH = 60  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is looked for; an empty value filters nothing."""

    tab: str = "open"
    state: str = ""
    channel: str = ""
    matter: str = ""
    urgency: str = ""
    organisation: str = ""  # area code; its subtree
    q: str = ""

    @property
    def narrowed(self) -> bool:
        parts = (self.state, self.channel, self.matter, self.urgency)
        return any(parts) or bool(self.organisation or self.q)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    cursor: str  # of the next page; "" on the last one


@dataclass(frozen=True, slots=True)
class _Where:
    """Conditions joined by AND, and the values of their placeholders in order."""

    sql: str
    values: tuple[object, ...]


# A member waits for a first look: nobody has touched it since the last message.
_UNREAD = """CASE WHEN i.attention <> '' OR (i.state IN ('new', 'open')
  AND NOT EXISTS (SELECT 1 FROM inquiry_events e WHERE e.inquiry_id = i.id
    AND e.staff_id IS NOT NULL AND e.at >= COALESCE(i.last_inbound_at, i.received_at)))
  THEN 1 ELSE 0 END"""
_TABLES = """FROM inquiries i
JOIN organisations o ON o.id = i.organisation_id
JOIN organisations f ON f.id = i.first_organisation_id
LEFT JOIN staff s ON s.id = i.owner_id
LEFT JOIN members m ON m.id = i.member_id
LEFT JOIN organisations b ON b.id = m.organisation_id"""
_COLUMNS = f"""i.id, i.number, i.state, i.urgency, i.matter, i.source, i.channel,
  i.kind, i.value, i.contact_name, i.text, i.attention, i.changed_at, i.received_at,
  i.deadline_at, i.deadline_provisional, i.closed_at, i.first_response_at, i.reopened,
  s.name AS owner, o.name AS organisation, m.name AS member,
  b.name AS member_organisation, {_UNREAD} AS unread"""
# What is new stands on top, newest first; then what presses most.
_BY_DEADLINE = (
    "CASE WHEN t.unread = 1 THEN 0 WHEN t.state IN ('new', 'open') THEN 1 ELSE 2 END",
    "CASE WHEN t.unread = 1 THEN -t.changed_at ELSE t.deadline_at END",
)
_ORDERS: Mapping[str, tuple[str, str]] = {
    "open": _BY_DEADLINE,
    "mine": _BY_DEADLINE,
    "overdue": ("0", "t.deadline_at"),
}
_NEWEST = ("0", "-t.changed_at")


async def listing(
    actor: Actor, wanted: Filter, now: datetime, cursor: str = "", size: int = PAGE
) -> Page:
    """One page of the stream, after `cursor`; a broken cursor starts anew."""
    where = _where(actor, wanted, now)
    rank, position = _ORDERS.get(wanted.tab, _NEWEST)
    after = _read_cursor(cursor)
    beyond = f"WHERE ({rank}, {position}, -t.id) > (?, ?, ?)" if after else ""
    found = await rows(
        f"SELECT t.*, {rank} AS page_rank, {position} AS page_position FROM "
        f"(SELECT {_COLUMNS} {_TABLES} WHERE {where.sql}) t {beyond} "
        f"ORDER BY page_rank, page_position, t.id DESC LIMIT {size + 1}",
        *where.values,
        *after,
    )
    more = len(found) > size
    found = found[:size]
    return Page(found, _cursor(found[-1]) if more else "")


async def one_row(
    actor: Actor, wanted: Filter, now: datetime, inquiry_id: int
) -> Row | None:
    """The row of one inquiry; None where `wanted` leaves it out."""
    where = _where(actor, wanted, now)
    found = await rows(
        f"SELECT {_COLUMNS} {_TABLES} WHERE {where.sql} AND i.id = ?",
        *where.values,
        inquiry_id,
    )
    return found[0] if found else None


async def number_of(inquiry_id: int) -> str:
    """The number by which people know it; "" where there is none."""
    found = await rows("SELECT number FROM inquiries WHERE id = ?", inquiry_id)
    return str(found[0]["number"]) if found else ""


async def counts(actor: Actor, now: datetime) -> dict[str, int]:
    """How many inquiries each tab holds, whatever else is filtered."""
    seen = _sees(actor)
    cases, values = [], list[object]()
    for tab in TABS:
        condition = _tab(tab, actor, now)
        cases.append(f"COUNT(CASE WHEN {condition.sql} THEN 1 END) AS n_{tab}")
        values.extend(condition.values)
    found = await rows(
        f"SELECT {', '.join(cases)} {_TABLES} WHERE {seen.sql}", *values, *seen.values
    )
    return {tab: int(found[0][f"n_{tab}"]) for tab in TABS}


async def open_count(actor: Actor) -> int:
    """What waits for somebody of the actor's subtree, for the navigation."""
    seen = _sees(actor)
    found = await rows(
        f"SELECT COUNT(*) AS n {_TABLES} WHERE i.state IN ('new', 'open') "
        f"AND {seen.sql}",
        *seen.values,
    )
    return int(found[0]["n"])


def _where(actor: Actor, wanted: Filter, now: datetime) -> _Where:
    parts = [_sees(actor), _tab(wanted.tab, actor, now)]
    for column in ("state", "channel", "matter", "urgency"):
        if value := getattr(wanted, column):
            parts.append(_column(column, value))
    if wanted.organisation:
        parts.append(
            _Where(
                "o.path LIKE (SELECT x.path FROM organisations x WHERE x.code = ?)"
                " || '%'",
                (wanted.organisation,),
            )
        )
    if wanted.q:
        parts.append(_search(wanted.q[:_LONGEST_SEARCH]))
    return _all(parts)


def _all(parts: list[_Where]) -> _Where:
    sql = " AND ".join(f"({part.sql})" for part in parts)
    return _Where(sql, tuple(value for part in parts for value in part.values))


def _column(column: str, value: str) -> _Where:
    """A walk-in or a call has no channel: its source stands in."""
    if column == "channel" and value in ("counter", "phone"):
        return _Where("i.source = ?", (value,))
    return _Where(f"i.{column} = ?", (value,))


def _sees(actor: Actor) -> _Where:
    return _Where(
        "(o.path LIKE ? OR f.path LIKE ?)", (f"{actor.path}%", f"{actor.path}%")
    )


def _tab(tab: str, actor: Actor, now: datetime) -> _Where:
    match tab:
        case "mine":
            mine = -1 if actor.staff_id is None else actor.staff_id
            return _Where("i.state <> 'closed' AND i.owner_id = ?", (mine,))
        case "overdue":
            return _Where(
                "i.state IN ('new', 'open', 'waiting') AND i.deadline_at <= ?",
                (to_micros(now),),
            )
        case "waiting":
            return _Where("i.state = 'waiting'", ())
        case "attention":
            return _Where("i.attention <> ''", ())
        case "closed":
            return _Where("i.state = 'closed'", ())
        case "all":
            return _Where("1 = 1", ())
        case _:
            return _Where("i.state <> 'closed'", ())


def _search(text: str) -> _Where:
    """Number, name, content; a telephone only whole or by the four digits one sees.

    Any finer search would find out what the mask hides (security.md, S-40).
    """
    words = f"%{_escaped(text.lower())}%"
    sql = (
        "i.number LIKE ? ESCAPE '!' OR LOWER(i.contact_name) LIKE ? ESCAPE '!' "
        "OR LOWER(COALESCE(m.name, '')) LIKE ? ESCAPE '!' "
        "OR LOWER(i.text) LIKE ? ESCAPE '!'"
    )
    values: tuple[object, ...] = (words, words, words, words)
    digits = fold_width(text)
    if len(digits) == 4 and digits.isdecimal():
        return _Where(
            f"{sql} OR (i.kind = 'phone' AND i.value LIKE ?)",
            (*values, f"%{digits}"),
        )
    try:
        phone = addresses.phone(text)
    except addresses.AddressError:
        return _Where(sql, values)
    return _Where(
        f"{sql} OR (i.kind = 'phone' AND i.value = ?) OR i.member_id IN (SELECT "
        "a.member_id FROM addresses a WHERE a.kind = 'phone' AND a.value = ?)",
        (*values, phone.value, phone.value),
    )


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _cursor(row: Row) -> str:
    place = [row["page_rank"], row["page_position"], -row["id"]]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_cursor(cursor: str) -> tuple[Any, ...]:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, RecursionError):
        return ()
    whole = isinstance(place, list) and len(place) == 3
    if not whole or not all(type(n) is int and abs(n) < 2**63 for n in place):
        return ()
    # PostgreSQL compares the rank as a 32-bit number.
    return tuple(place) if abs(place[0]) < 2**31 else ()
