"""From a description to frozen recipients, in statements over whole sets.

One person, one row: the address of the person's own preference, then by the centre's
`fallback_order`, among verified addresses that a channel may write to now. Whom none
reaches is counted with the reason.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broadcasts.audience import Audience, Listed, Subscribers, Subtree, Tagged
from broadcasts.content import needed
from gateway import database as db
from gateway import wording
from gateway.addresses import mask
from gateway.channels import Reach, refusal
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import Row, is_postgres, to_micros
from gateway.errors import RequestError
from gateway.outbox.admit import NotSayable, message
from gateway.tables import Organisation
from gateway.wording import check_text

CHUNK = 500
SHOWN = 200  # people named for each reason why they are left out


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of a statement with its values in order."""

    text: str
    values: tuple[Any, ...] = ()

    def __add__(self, other: "Sql | str") -> "Sql":
        if isinstance(other, str):
            return Sql(self.text + other, self.values)
        return Sql(self.text + other.text, self.values + other.values)


@dataclass(frozen=True, slots=True)
class Way:
    """A channel that may write to addresses of `kind` now, to all of them or to those
    that wrote to us `since` (microseconds)."""

    kind: AddressKind
    channel: str
    since: int | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides who gets what; the same for preview, check, freeze."""

    audience: Audience
    scope: str  # path of the organisation that writes; nobody outside of it
    organisation_id: int | None  # of a Subtree's code
    kind: MessageKind
    ways: tuple[Way, ...]
    texts: Mapping[str, str]  # as `content.frozen`
    values: Mapping[str, str]  # the same for everybody

    @property
    def fields(self) -> frozenset[str]:
        return needed(self.texts.values())


@dataclass(frozen=True, slots=True)
class LeftOut:
    """People of the audience whom nothing reaches: how many, and the first of them."""

    reason: str  # no_address, unverified, no_channel, unknown_address
    count: int
    members: tuple[int, ...] = ()
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients of one kind of address on one channel."""

    kind: AddressKind
    channel: str
    people: int
    opted_out: int


@dataclass(frozen=True, slots=True)
class Bad:
    """A recipient to whom the text can't be said; `code` says why."""

    member_id: int | None
    kind: str
    channel: str
    code: str
    detail: str = ""


def ways_now(core: Core, kind: MessageKind) -> tuple[Way, ...]:
    """The channels that may carry `kind` unasked now, by the gate's own rule."""
    order = core.settings.policy.fallback_order
    now = core.clock.now()
    found = []
    for number, channel in enumerate(core.channels):
        for address_kind in sorted(channel.capabilities.address_kinds):
            if address_kind is AddressKind.GROUP:
                continue
            address = Address(address_kind, "")
            rank = order.index(address_kind) if address_kind in order else len(order)
            position = rank * 100 + number
            if refusal(channel, kind, Reach(address=address), now) is None:
                found.append(Way(address_kind, channel.name, None, position))
            elif (
                refusal(channel, kind, Reach(address=address, last_inbound_at=now), now)
                is None
            ):
                window = channel.capabilities.reply_window
                since = 0 if window is None else to_micros(now - window)
                found.append(Way(address_kind, channel.name, since, position))
    return tuple(found)


async def prepare(
    core: Core,
    audience: Audience,
    scope: str,
    kind: MessageKind,
    texts: Mapping[str, str],
    values: Mapping[str, str],
) -> Plan:
    """Raises RequestError for an organisation that is not there or not in `scope`."""
    organisation_id = None
    if isinstance(audience, Subtree):
        found = await Organisation.get_or_none(code=audience.code)
        if found is None or not found.path.startswith(scope):
            fault = "没有这个组织，或者不在您的范围内"
            raise RequestError(
                "audience", fault, status=422, fields={"audience": fault}
            )
        organisation_id = found.id
        if audience.with_subtree:
            scope = found.path
    return Plan(
        audience=audience,
        scope=scope,
        organisation_id=organisation_id,
        kind=kind,
        ways=ways_now(core, kind),
        texts=texts,
        values=values,
    )


def _ways(ways: Sequence[Way]) -> Sql:
    row = (
        "CAST(? AS TEXT) AS kind, CAST(? AS TEXT) AS channel, "
        "CAST(? AS BIGINT) AS since, CAST(? AS INTEGER) AS position"
    )
    if not ways:
        return Sql(f"ways AS (SELECT {row} WHERE 1 = 0)", ("", "", 0, 0))
    selects = " UNION ALL ".join([f"SELECT {row}"] * len(ways))
    values = [v for w in ways for v in (w.kind.value, w.channel, w.since, w.position)]
    return Sql(f"ways AS ({selects})", tuple(values))


def _json_ids(ids: Sequence[int]) -> Sql:
    """One column of numbers, whatever their count: engines limit parameters."""
    if is_postgres():
        text = (
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text(CAST(? AS JSON)) j"
        )
    else:
        text = "SELECT value FROM json_each(?)"
    return Sql(text, (json.dumps(list(ids)),))


def _listed(addresses: Sequence[Address]) -> Sql:
    pairs = json.dumps([[a.kind.value, a.value] for a in addresses])
    if is_postgres():
        text = (
            "SELECT j->>0 AS kind, j->>1 AS value "
            "FROM json_array_elements(CAST(? AS JSON)) j"
        )
    else:
        text = (
            "SELECT json_extract(value, '$[0]') AS kind, "
            "json_extract(value, '$[1]') AS value FROM json_each(?)"
        )
    return Sql(f"listed AS ({text})", (pairs,))


def _people(plan: Plan, after: int | None) -> Sql:
    """`people`: everybody meant. With `after`, one chunk of them in order."""
    if isinstance(plan.audience, Subscribers):
        key = "s.id"
        sql = Sql(
            "SELECT s.id AS person, COALESCE(a.member_id, s.member_id) AS member_id, "
            "s.kind, s.value, a.last_inbound_at FROM subscriptions s "
            "LEFT JOIN addresses a ON a.kind = s.kind AND a.value = s.value "
            "AND a.verified_at IS NOT NULL "
            "WHERE s.topic = 'daily' AND s.ended_at IS NULL"
        )
    else:
        key = "m.id"
        sql = Sql(
            "SELECT m.id AS person, m.id AS member_id, m.preferred_kind "
            "FROM members m JOIN organisations o ON o.id = m.organisation_id "
            "WHERE o.path LIKE ?",
            (f"{plan.scope}%",),
        ) + _membership(plan)
    if after is not None:
        sql += Sql(f" AND {key} > ? ORDER BY {key} LIMIT {CHUNK}", (after,))
    return Sql("people AS (") + sql + ")"


def _membership(plan: Plan) -> Sql:
    match plan.audience:
        case Subtree(with_subtree=False):
            return Sql(" AND o.id = ?", (plan.organisation_id,))
        case Tagged(tag):
            return Sql(
                " AND m.id IN (SELECT t.member_id FROM member_tags t WHERE t.tag = ?)",
                (tag,),
            )
        case Listed(_, ids):
            owners = (
                "SELECT a.member_id FROM listed l JOIN addresses a ON a.kind = l.kind "
                "AND a.value = l.value WHERE a.verified_at IS NOT NULL "
                "AND a.member_id IS NOT NULL"
            )
            return Sql(" AND (m.id IN (") + _json_ids(ids) + f") OR m.id IN ({owners}))"
    return Sql("")


def _candidates(plan: Plan) -> Sql:
    """Each person's ways in the order of choice.

    SQLite joins in the order of a CROSS JOIN: people first. Left alone it begins with
    all addresses of a kind, which made a chunk a hundred times slower.
    """
    writable = "(w.since IS NULL OR {}.last_inbound_at >= w.since)"
    if isinstance(plan.audience, Subscribers):
        return Sql(
            "candidates AS (SELECT p.person, p.member_id, p.kind, p.value, w.channel, "
            "ROW_NUMBER() OVER (PARTITION BY p.person ORDER BY w.position) AS choice "
            "FROM people p CROSS JOIN ways w WHERE w.kind = p.kind "
            f"AND {writable.format('p')})"
        )
    first = ""
    if isinstance(plan.audience, Listed):
        first = (
            "CASE WHEN EXISTS (SELECT 1 FROM listed l WHERE l.kind = a.kind "
            "AND l.value = a.value) THEN 0 ELSE 1 END, "
        )
    return Sql(
        "candidates AS (SELECT p.person, p.member_id, a.kind, a.value, w.channel, "
        f"ROW_NUMBER() OVER (PARTITION BY p.person ORDER BY {first}"
        "CASE WHEN a.kind = p.preferred_kind THEN 0 ELSE 1 END, w.position, a.id) "
        "AS choice FROM people p CROSS JOIN addresses a CROSS JOIN ways w "
        "WHERE a.member_id = p.member_id AND a.verified_at IS NOT NULL "
        f"AND w.kind = a.kind AND {writable.format('a')})"
    )


def _with(plan: Plan, after: int | None = None) -> Sql:
    """The statement's head: `people`, and `chosen` of them with their addresses."""
    sql = Sql("WITH ") + _ways(plan.ways) + ", "
    if isinstance(plan.audience, Listed):
        sql += _listed(plan.audience.addresses) + ", "
    sql += _people(plan, after) + ", " + _candidates(plan)
    return sql + (
        ", chosen AS (SELECT person, member_id, kind, value, channel "
        "FROM candidates WHERE choice = 1) "
    )


def _variables(plan: Plan, fields: frozenset[str]) -> Sql:
    """A JSON object of just the values that the texts use."""
    own = {"name": "m.name", "organisation": "o.name"}
    pieces: list[str] = []
    values: list[str] = []
    for field in sorted(fields):
        if field in own:
            pieces.append(f"'{field}', {own[field]}")
        elif field in plan.values:
            pieces.append(f"'{field}', CAST(? AS TEXT)")
            values.append(plan.values[field])
    build = "json_build_object" if is_postgres() else "json_object"
    return Sql(f"CAST({build}({', '.join(pieces)}) AS TEXT)", tuple(values))


_NAMES = (
    "LEFT JOIN members m ON m.id = c.member_id "
    "LEFT JOIN organisations o ON o.id = m.organisation_id "
)


async def groups(plan: Plan) -> list[Group]:
    """How many recipients on each channel, and how many of them have opted out."""
    sql = _with(plan) + (
        "SELECT c.kind, c.channel, COUNT(*) AS n, SUM(CASE WHEN EXISTS (SELECT 1 "
        "FROM opt_outs x WHERE x.ended_at IS NULL AND ((x.kind = c.kind "
        "AND x.value = c.value) OR x.member_id = c.member_id)) THEN 1 ELSE 0 END) "
        "AS refused FROM chosen c GROUP BY c.kind, c.channel ORDER BY n DESC, c.channel"
    )
    return [
        Group(AddressKind(r["kind"]), r["channel"], int(r["n"]), int(r["refused"]))
        for r in await db.rows(sql.text, *sql.values)
    ]


async def left_out(plan: Plan) -> list[LeftOut]:
    """Whom the audience means and nothing reaches."""
    if isinstance(plan.audience, Subscribers):
        reason = "'no_channel'"
    else:
        known = "SELECT 1 FROM addresses a WHERE a.member_id = p.member_id"
        reason = (
            f"CASE WHEN NOT EXISTS ({known}) THEN 'no_address' "
            f"WHEN NOT EXISTS ({known} AND a.verified_at IS NOT NULL) "
            "THEN 'unverified' ELSE 'no_channel' END"
        )
    sql = _with(plan) + (
        f", missed AS (SELECT p.person, p.member_id, {reason} AS reason FROM people p "
        "WHERE p.person NOT IN (SELECT c.person FROM chosen c)), numbered AS ("
        "SELECT member_id, reason, COUNT(*) OVER (PARTITION BY reason) AS n, "
        "ROW_NUMBER() OVER (PARTITION BY reason ORDER BY person) AS k FROM missed) "
        f"SELECT member_id, reason, n FROM numbered WHERE k <= {SHOWN} "
        "ORDER BY reason, k"
    )
    counts: dict[str, int] = {}
    members: dict[str, list[int]] = {}
    for row in await db.rows(sql.text, *sql.values):
        counts[row["reason"]] = int(row["n"])
        shown = members.setdefault(row["reason"], [])
        if row["member_id"] is not None:
            shown.append(row["member_id"])
    found = [LeftOut(r, counts[r], tuple(members[r])) for r in sorted(counts)]
    return found + await _unknown(plan)


async def _unknown(plan: Plan) -> list[LeftOut]:
    """Listed entries that are nobody's inside the scope; a stranger's number and
    another branch's answer alike."""
    if not isinstance(plan.audience, Listed):
        return []
    strangers = []
    if plan.audience.addresses:
        sql = (
            Sql("WITH ")
            + _listed(plan.audience.addresses)
            + (
                " SELECT l.kind, l.value FROM listed l WHERE NOT EXISTS (SELECT 1 "
                "FROM addresses a JOIN members m ON m.id = a.member_id "
                "JOIN organisations o ON o.id = m.organisation_id "
                "WHERE a.kind = l.kind AND a.value = l.value "
                "AND a.verified_at IS NOT NULL AND o.path LIKE ?)"
            )
        )
        rows = await db.rows(sql.text, *sql.values, f"{plan.scope}%")
        strangers = [mask(Address(AddressKind(r["kind"]), r["value"])) for r in rows]
    ids = await _strange_ids(plan, plan.audience.ids)
    shown = [*strangers, *(f"编号{id}" for id in ids)]
    if not shown:
        return []
    return [LeftOut("unknown_address", len(shown), (), tuple(shown[:SHOWN]))]


async def _strange_ids(plan: Plan, ids: Sequence[int]) -> list[int]:
    if not ids:
        return []
    sql = Sql(
        "SELECT m.id FROM members m JOIN organisations o ON o.id = m.organisation_id "
        "WHERE o.path LIKE ? AND m.id IN (",
        (f"{plan.scope}%",),
    )
    sql = sql + _json_ids(ids) + ")"
    known = {row["id"] for row in await db.rows(sql.text, *sql.values)}
    return [id for id in ids if id not in known]


async def samples(core: Core, plan: Plan, each: int = 3) -> list[Row]:
    """The first recipients of every channel, as rows of the outbox would look."""
    fields = _all_fields(core, plan)
    sql = _with(plan) + "SELECT * FROM (SELECT c.kind, c.value, c.channel, "
    sql += _variables(plan, fields)
    sql += (
        " AS variables, c.member_id, ROW_NUMBER() OVER (PARTITION BY c.kind, c.channel "
        f"ORDER BY c.person) AS k FROM chosen c {_NAMES}) s WHERE k <= {int(each)}"
    )
    return [_as_row(plan, row) for row in await db.rows(sql.text, *sql.values)]


def _all_fields(core: Core, plan: Plan) -> frozenset[str]:
    """The texts' fields, and those of bindings on channels of approved templates."""
    wordings = list(plan.texts.values())
    for way in plan.ways:
        channel = core.channels.get(way.channel)
        binding = None if channel is None else channel.binding(plan.kind)
        if binding is not None:
            wordings.extend(binding.variables.values())
    return needed(wordings)


def _as_row(plan: Plan, row: Row) -> Row:
    return {
        **row,
        "id": 0,
        "message_kind": plan.kind.value,
        "text": None,
        "content_id": 0,
        "variables": json.loads(row["variables"]),
        "extras": {},
    }


async def rendered(core: Core, plan: Plan) -> AsyncIterator[Row]:
    """Every recipient in chunks, as rows of the outbox would look (A-11)."""
    fields = _all_fields(core, plan)
    after = 0
    while True:
        sql = _with(plan, after) + "SELECT p.person, c.member_id, c.kind, c.value, "
        sql += Sql("c.channel, ") + _variables(plan, fields)
        sql += " AS variables FROM people p LEFT JOIN chosen c ON c.person = p.person "
        sql += _NAMES + "ORDER BY p.person"
        chunk = await db.rows(sql.text, *sql.values)
        for row in chunk:
            if row["channel"] is not None:
                yield _as_row(plan, row)
        if len(chunk) < CHUNK:
            return
        after = chunk[-1]["person"]
        await asyncio.sleep(0)  # a long list must not keep the desk waiting


async def check(core: Core, plan: Plan) -> list[Bad]:
    """Say every recipient's text to nobody, as the sender would; who can't be told."""
    return [
        bad
        async for row in rendered(core, plan)
        if (bad := fault_of(core, plan.texts, row)) is not None
    ]


def fault_of(core: Core, texts: Mapping[str, str], row: Row) -> Bad | None:
    channel = core.channels.get(row["channel"])
    if channel is None:
        return _bad(row, "no_channel")
    try:
        said = message(channel, row, {0: texts})
    except NotSayable as error:
        return _bad(row, error.code, error.detail)
    except wording.OutputTooLong:
        return _bad(row, "too_long")
    problems = check_text(said.text, channel.capabilities, channel.common.signature)
    return _bad(row, problems[0].code, problems[0].message) if problems else None


def _bad(row: Row, code: str, detail: str = "") -> Bad:
    return Bad(row["member_id"], row["kind"], row["channel"], code, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """What the rows of one run have in common."""

    broadcast_id: int
    content_id: int
    priority: int
    now: datetime
    expires_at: datetime


async def freeze(core: Core, plan: Plan, run: Freeze) -> int:
    """Write the recipients into the outbox; how many there are. Inside a transaction.

    Nobody is written twice: `dedupe_key` is the broadcast and the address.
    """
    now = to_micros(run.now)
    head = Sql(
        "INSERT INTO outbox (message_kind, priority, dedupe_key, broadcast_id, "
        "member_id, channel, kind, value, content_id, variables, extras, state, "
        "reason, detail, due_at, expires_at, attempts, throttled, provider_id, "
        "created_at, changed_at) "
    )
    select = Sql(
        "SELECT CAST(? AS TEXT), CAST(? AS INTEGER), "
        "CAST(? AS TEXT) || c.kind || ':' || c.value, CAST(? AS BIGINT), c.member_id, "
        "c.channel, c.kind, c.value, CAST(? AS BIGINT), ",
        (
            plan.kind.value,
            run.priority,
            f"broadcast:{run.broadcast_id}:",
            run.broadcast_id,
            run.content_id,
        ),
    )
    rest = Sql(
        ", '{}', 'queued', '', '', CAST(? AS BIGINT), CAST(? AS BIGINT), 0, 0, '', "
        "CAST(? AS BIGINT), CAST(? AS BIGINT) FROM chosen c "
        f"{_NAMES}WHERE 1 = 1 ORDER BY c.person ON CONFLICT (dedupe_key) DO NOTHING",
        (now, to_micros(run.expires_at), now, now),
    )
    fields = _all_fields(core, plan)
    sql = head + _with(plan) + select + _variables(plan, fields) + rest
    await db.execute(sql.text, *sql.values)
    found = await db.rows(
        "SELECT COUNT(*) AS n FROM outbox WHERE broadcast_id = ?", run.broadcast_id
    )
    return int(found[0]["n"])


async def exclude(broadcast_id: int, bad: Sequence[Bad], now: datetime) -> None:
    """Rows that can't be said stay in the count, and say why."""
    await db.execute_many(
        "UPDATE outbox SET state = 'suppressed', reason = 'bad_text', detail = ?, "
        "changed_at = ? WHERE broadcast_id = ? AND member_id = ? AND state = 'queued'",
        [
            (f"{one.code} {one.detail}".strip(), to_micros(now), broadcast_id, m)
            for one in bad
            if (m := one.member_id) is not None
        ],
    )


async def exclude_channel(
    broadcast_id: int, channel: str, kind: str, code: str, now: datetime
) -> None:
    """A text that is the same for everybody and can't be said on this channel."""
    await db.execute(
        "UPDATE outbox SET state = 'suppressed', reason = 'bad_text', detail = ?, "
        "changed_at = ? WHERE broadcast_id = ? AND channel = ? AND kind = ? "
        "AND state = 'queued'",
        code,
        to_micros(now),
        broadcast_id,
        channel,
        kind,
    )


async def open_rsvp(
    broadcast_id: int, code: str, title: str, now: datetime, until: datetime
) -> None:
    """One question to each recipient, all with the same code."""
    await db.execute(
        "INSERT INTO prompts (kind, value, prompt, code, options, broadcast_id, "
        "member_id, data, opened_at, expires_at, answer) "
        "SELECT o.kind, o.value, 'rsvp', CAST(? AS TEXT), '[]', o.broadcast_id, "
        "o.member_id, CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), '' "
        "FROM outbox o WHERE o.broadcast_id = ? AND o.state = 'queued'",
        code,
        json.dumps({"title": title}, ensure_ascii=False),
        to_micros(now),
        to_micros(until),
        broadcast_id,
    )
