"""The stream: which inquiries a person sees, in which order, and how many there are.

Everybody sees the matters of their own subtree, and those it received first (C2).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from gateway import addresses
from gateway.actors import Actor
from gateway.database import Row, marks, rows, rows_at_once, to_micros
from gateway.text import fold_width

PAGE = 30  # rows: more than a screen holds, and the next ones come by themselves
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


# A member waits for a first look: nobody has worked on it since the last message. The
# index inquiries_unread holds these rows, so it has the same words.
_IS_UNREAD = """(i.attention <> '' OR (i.state IN ('new', 'open') AND
  COALESCE(i.worked_at, 0) < COALESCE(i.last_inbound_at, i.received_at)))"""
_UNREAD = f"CASE WHEN {_IS_UNREAD} THEN 1 ELSE 0 END"
_TABLES = """FROM inquiries i
JOIN organisations o ON o.id = i.organisation_id
LEFT JOIN staff s ON s.id = i.owner_id
LEFT JOIN members m ON m.id = i.member_id
LEFT JOIN organisations b ON b.id = m.organisation_id"""
_OWN = (
    *("id", "number", "state", "urgency", "matter", "source", "channel", "kind"),
    *("value", "contact_name", "text", "attention", "changed_at", "received_at"),
    *("deadline_at", "deadline_provisional", "closed_at", "first_response_at"),
    "reopened",
)
_COLUMNS = {name: f"i.{name}" for name in _OWN} | {
    "owner": "s.name",
    "organisation": "o.name",
    "member": "m.name",
    "member_organisation": "b.name",
    "unread": _UNREAD,
}
_ROW = f"SELECT {', '.join(f'{v} AS {k}' for k, v in _COLUMNS.items())} {_TABLES}"
_OPEN = "i.state <> 'closed'"
_FEW = 150  # organisations; their matters are found sooner than sorted ones are sifted
_SCAN = 5_000  # rows that one search looks into; the next page goes on from there
MOST = 1000  # counted no further


@dataclass(frozen=True, slots=True)
class _Run:
    """Part of a list: rows of one rank, in the order of one column."""

    rank: int
    sql: str
    column: str
    newest: bool  # else what is due first


_NEWEST = (_Run(0, "1 = 1", "changed_at", newest=True),)
# What is new stands on top, newest first; then what presses most.
_BY_DEADLINE = (
    _Run(0, _IS_UNREAD, "changed_at", newest=True),
    _Run(
        1,
        f"i.state IN ('new', 'open') AND NOT {_IS_UNREAD}",
        "deadline_at",
        newest=False,
    ),
    _Run(
        2,
        f"i.state IN ('waiting', 'answered') AND NOT {_IS_UNREAD}",
        "deadline_at",
        newest=False,
    ),
)
_ORDERS: Mapping[str, tuple[_Run, ...]] = {
    "open": _BY_DEADLINE,
    "mine": _BY_DEADLINE,
    "overdue": (_Run(0, "1 = 1", "deadline_at", newest=False),),
}


@dataclass(frozen=True, slots=True)
class _Place:
    """A row's place in its list."""

    rank: int
    position: int  # ascending: what is newest first counts down
    id: int

    @property
    def cursor(self) -> str:
        place = [self.rank, self.position, -self.id]
        return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


async def listing(
    actor: Actor, wanted: Filter, now: datetime, cursor: str = "", size: int = PAGE
) -> Page:
    """One page of the stream, after `cursor`; a broken cursor starts anew.

    A search may find less than a page and still have a cursor: it looked into so many
    rows, and goes on from there.
    """
    sight = await _sight(actor)
    q = wanted.q[:_LONGEST_SEARCH]
    if q and not cursor and (named := await _named(sight, wanted, q, actor, now)):
        return Page(await _rows(named[:size]), "")
    found, after = list[_Place](), _read_cursor(cursor)
    few = sight.few or (_is_short(wanted) and not sight.all)
    where = _narrowed(sight, wanted, actor, now, few=few)
    for run in _ORDERS.get(wanted.tab, _NEWEST):
        if after is not None and run.rank < after.rank:
            continue
        start = after if after is not None and after.rank == run.rank else None
        if q:
            base = None if few else _tab(wanted.tab, actor, now)
            more, stopped = await _searched(run, where, base, start, size + 1, q)
            found += more
            if stopped is not None and len(found) <= size:
                return Page(await _rows([one.id for one in found]), stopped.cursor)
        else:
            missing = size + 1 - len(found)
            found += await _places(run, where, start, missing, few=few)
        if len(found) > size:
            break
    rows = await _rows([one.id for one in found[:size]])
    return Page(rows, found[size - 1].cursor if len(found) > size else "")


def _is_short(wanted: Filter) -> bool:
    """Whether so little is asked for that sorting it is less work than sifting."""
    narrow = bool(wanted.state or wanted.channel or wanted.matter or wanted.urgency)
    return wanted.tab in ("waiting", "mine") or (
        narrow and wanted.tab in ("closed", "all")
    )


async def _places(
    run: _Run,
    where: _Where,
    after: _Place | None,
    limit: int,
    *,
    few: bool = False,
    skipped: int = 0,
) -> list[_Place]:
    """The next rows of a run. With `few` no index gives the order: rows are found by
    their organisation and sorted; the plus sign says so."""
    beyond = _beyond(run, after)
    order = _order(run).replace("i.", "+i.") if few else _order(run)
    found = await rows_at_once(
        ("id", "at"),
        f"SELECT i.id, i.{run.column} AS at FROM inquiries i "
        f"WHERE {where.sql} AND {run.sql} AND {beyond.sql} "
        f"ORDER BY {order} LIMIT {limit} OFFSET {skipped}",
        *where.values,
        *beyond.values,
    )
    return [_place(run, row) for row in found]


def _order(run: _Run) -> str:
    return f"i.{run.column}{' DESC' if run.newest else ''}, i.id DESC"


def _place(run: _Run, row: Row) -> _Place:
    return _Place(run.rank, -row["at"] if run.newest else row["at"], row["id"])


def _beyond(run: _Run, after: _Place | None) -> _Where:
    if after is None:
        return _Where("1 = 1", ())
    column = f"i.{run.column}"
    if run.newest:
        return _Where(f"({column}, i.id) < (?, ?)", (-after.position, after.id))
    at = after.position
    return _Where(f"{column} >= ? AND ({column} > ? OR i.id < ?)", (at, at, after.id))


async def _searched(
    run: _Run,
    where: _Where,
    base: _Where | None,
    after: _Place | None,
    limit: int,
    q: str,
) -> tuple[list[_Place], _Place | None]:
    """Rows that hold `q`: all, or with `base` among its next _SCAN ones; then also
    where it stopped."""
    ends = []
    if base is not None:
        ends = await _places(run, base, after, 1, skipped=_SCAN - 1)
    until = _until(run, ends[0]) if ends else _Where("1 = 1", ())
    beyond, search = _beyond(run, after), _search(q)
    found = await rows_at_once(
        ("id", "at"),
        f"SELECT i.id, i.{run.column} AS at FROM inquiries i "
        "LEFT JOIN members m ON m.id = i.member_id WHERE "
        f"{where.sql} AND {run.sql} AND {beyond.sql} AND {until.sql} AND "
        f"({search.sql}) ORDER BY {_order(run)} LIMIT {limit}",
        *where.values,
        *beyond.values,
        *until.values,
        *search.values,
    )
    return [_place(run, row) for row in found], ends[0] if ends else None


def _until(run: _Run, last: _Place) -> _Where:
    column, at = f"i.{run.column}", abs(last.position)
    sign = ">" if run.newest else "<"
    return _Where(
        f"({column} {sign} ? OR ({column} = ? AND i.id >= ?))", (at, at, last.id)
    )


async def _named(
    sight: "_Sight", wanted: Filter, q: str, actor: Actor, now: datetime
) -> list[int]:
    """What a whole number or telephone names, newest first; nothing is looked through
    for it."""
    where = _narrowed(sight, wanted, actor, now, few=False)
    named = _Where("i.number = ?", (fold_width(q),))
    with suppress(addresses.AddressError):
        phone = addresses.phone(q)
        named = _Where(
            "i.id IN (SELECT x.id FROM inquiries x WHERE x.kind = 'phone' AND "
            "x.value = ? UNION SELECT x.id FROM addresses a JOIN inquiries x ON "
            "x.member_id = a.member_id WHERE a.kind = 'phone' AND a.value = ?)",
            (phone.value, phone.value),
        )
    found = await rows(
        f"SELECT i.id FROM inquiries i WHERE {named.sql} AND {where.sql} "
        "ORDER BY +i.changed_at DESC, i.id DESC LIMIT 200",
        *named.values,
        *where.values,
    )
    return [row["id"] for row in found]


async def _rows(ids: Sequence[int]) -> list[Row]:
    """These, in this order."""
    if not ids:
        return []
    found = await rows_at_once(
        tuple(_COLUMNS), f"{_ROW} WHERE i.id IN ({marks(len(ids))})", *ids
    )
    known = {row["id"]: row for row in found}
    return [known[id] for id in ids if id in known]


async def one_row(
    actor: Actor, wanted: Filter, now: datetime, inquiry_id: int
) -> Row | None:
    """The row of one inquiry; None where `wanted` leaves it out."""
    where = _narrowed(await _sight(actor), wanted, actor, now, few=False)
    if wanted.q:
        where = _all([where, _search(wanted.q[:_LONGEST_SEARCH])])
    found = await rows(
        f"{_ROW} WHERE i.id = ? AND {where.sql}", inquiry_id, *where.values
    )
    return found[0] if found else None


async def number_of(inquiry_id: int) -> str:
    """The number by which people know it; "" where there is none."""
    found = await rows("SELECT number FROM inquiries WHERE id = ?", inquiry_id)
    return str(found[0]["number"]) if found else ""


async def counts(actor: Actor, now: datetime) -> dict[str, int]:
    """How many inquiries each tab holds, whatever else is filtered; at most MOST."""
    sight = await _sight(actor)
    return await _counted(
        {
            tab: _number(
                sight.parts if tab == "attention" else sight.counted,
                _tab(tab, actor, now),
            )
            for tab in TABS
        }
    )


async def open_count(actor: Actor) -> int:
    """What waits for somebody of the actor's subtree, for the navigation; at most
    MOST."""
    waiting = _Where(f"{_OPEN} AND i.state IN ('new', 'open')", ())
    found = await _counted({"open": _number((await _sight(actor)).counted, waiting)})
    return found["open"]


async def _counted(numbers: Mapping[str, _Where]) -> dict[str, int]:
    """All of them in one statement: what costs beside a busy loop is to ask."""
    columns = ", ".join(f'({one.sql}) AS "{name}"' for name, one in numbers.items())
    values = [value for one in numbers.values() for value in one.values]
    found = await rows(f"SELECT {columns}", *values)
    return {name: int(found[0][name]) for name in numbers}


def _number(seen: Sequence[_Where], what: _Where) -> _Where:
    """How many rows: each part of what one sees is found by its own index."""
    parts = [_all([part, what]) for part in seen]
    union = " UNION ALL ".join(
        f"SELECT i.id FROM inquiries i WHERE {part.sql}" for part in parts
    )
    return _Where(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM ({union}) AS u LIMIT {MOST}) AS c",
        tuple(value for part in parts for value in part.values),
    )


@dataclass(frozen=True, slots=True)
class _Sight:
    """What an actor sees, in parts that have nothing in common."""

    parts: tuple[_Where, ...]
    counted: tuple[_Where, ...]  # the same, found by organisation
    few: bool = False  # it is the matters of a few organisations
    all: bool = False

    def whole(self, few: bool) -> _Where:
        """`few`: rows are found by organisation."""
        parts = self.counted if few else self.parts
        joined = " OR ".join(f"({part.sql})" for part in parts)
        values = tuple(value for part in parts for value in part.values)
        return _Where(f"({joined})", values)


async def _sight(actor: Actor) -> _Sight:
    if await _sees_all(actor):
        everything = (_Where("1 = 1", ()),)
        return _Sight(everything, everything, all=True)
    under = "SELECT x.id FROM organisations x WHERE x.path LIKE ?"
    found = await rows_at_once(("id",), f"{under} LIMIT {_FEW + 1}", f"{actor.path}%")
    few = len(found) <= _FEW
    if few:
        ids = tuple(row["id"] for row in found)
        own = _Where(marks(len(ids)) or "NULL", ids)
    else:
        own = _Where(under, (f"{actor.path}%",))
    # Of many organisations rows are found in order and sifted, but counted by each.
    return _Sight(
        _seen(own, "" if few else "+"),
        _seen(own, ""),
        few,
    )


def _seen(own: _Where, sign: str) -> tuple[_Where, ...]:
    """Theirs, and those that they received first and handed on (C2). With a plus sign
    no index of organisations is used."""
    return (
        _Where(f"{sign}i.organisation_id IN ({own.sql})", own.values),
        _Where(
            "i.first_organisation_id <> i.organisation_id AND "
            f"{sign}i.first_organisation_id IN ({own.sql}) "
            f"AND i.organisation_id NOT IN ({own.sql})",
            own.values * 2,
        ),
    )


async def _sees_all(actor: Actor) -> bool:
    """Asked only of the top: all others miss something."""
    if actor.path.count("/") > 2:
        return False
    found = await rows(
        "SELECT 1 AS x FROM organisations WHERE path NOT LIKE ? LIMIT 1",
        f"{actor.path}%",
    )
    return not found


def _narrowed(
    sight: _Sight, wanted: Filter, actor: Actor, now: datetime, *, few: bool
) -> _Where:
    """All that is asked for besides the search."""
    parts = [sight.whole(few), _tab(wanted.tab, actor, now)]
    for column in ("state", "channel", "matter", "urgency"):
        if value := getattr(wanted, column):
            parts.append(_column(column, value))
    if wanted.organisation:
        parts.append(
            _Where(
                "i.organisation_id IN (SELECT y.id FROM organisations y JOIN "
                "organisations x ON y.path LIKE x.path || '%' WHERE x.code = ?)",
                (wanted.organisation,),
            )
        )
    return _all(parts)


def _all(parts: list[_Where]) -> _Where:
    sql = " AND ".join(f"({part.sql})" for part in parts)
    return _Where(sql, tuple(value for part in parts for value in part.values))


def _column(column: str, value: str) -> _Where:
    """A walk-in or a call has no channel: its source stands in."""
    if column == "channel" and value in ("counter", "phone"):
        return _Where("i.source = ?", (value,))
    return _Where(f"i.{column} = ?", (value,))


def _tab(tab: str, actor: Actor, now: datetime) -> _Where:
    match tab:
        case "mine":
            mine = -1 if actor.staff_id is None else actor.staff_id
            return _Where(f"{_OPEN} AND i.owner_id = ?", (mine,))
        case "overdue":
            return _Where(
                f"{_OPEN} AND i.state IN ('new', 'open', 'waiting') "
                "AND i.deadline_at <= ?",
                (to_micros(now),),
            )
        case "waiting":
            return _Where(f"{_OPEN} AND i.state = 'waiting'", ())
        case "attention":
            return _Where("i.attention <> ''", ())
        case "closed":
            return _Where("i.state = 'closed'", ())
        case "all":
            return _Where("1 = 1", ())
        case _:
            return _Where(_OPEN, ())


def _search(text: str) -> _Where:
    """Number, name, content; a telephone only whole or by the four digits one sees.

    Any finer search would find out what the mask hides.
    """
    words = f"%{_escaped(text.lower())}%"
    columns = ["i.contact_name", "COALESCE(m.name, '')", "i.text"]
    if text.lower() != text.upper():  # else there is no case to be blind to
        columns = [f"LOWER({one})" for one in columns]
    if any(one.isdecimal() for one in text):
        columns.insert(0, "i.number")
    sql = " OR ".join(f"{one} LIKE ? ESCAPE '!'" for one in columns)
    values: tuple[object, ...] = (words,) * len(columns)
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


def _read_cursor(cursor: str) -> _Place | None:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(place, list) and len(place) == 3
    if not whole or not all(type(n) is int and abs(n) < 2**63 for n in place):
        return None
    return _Place(place[0], place[1], -place[2])
