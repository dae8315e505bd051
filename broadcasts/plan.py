"""From a description to who gets what: the statement that chooses for everybody.

One person, one address: that of the person's own preference, then by the centre's
`fallback_order`, among verified addresses that a channel may write to now. What the
statement finds is kept and asked in `broadcasts.stage`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broadcasts.audience import Audience, Listed, Subscribers, Subtree, Tagged
from broadcasts.content import needed
from gateway import database as db
from gateway.channels import Channel, Reach, refusal
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import is_postgres, to_micros
from gateway.errors import RequestError
from gateway.outbox import shares
from gateway.tables import Organisation

OWN = ("name", "organisation")  # values that differ from recipient to recipient


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
    is_most: bool  # the scope holds most organisations: members are read in order
    kind: MessageKind
    ways: tuple[Way, ...]
    texts: Mapping[str, str]  # as `content.frozen`
    values: Mapping[str, str]  # the same for everybody


def ways_now(core: Core, kind: MessageKind) -> tuple[Way, ...]:
    """The channels that may carry `kind` unasked now, by the gate's own rule."""
    order = core.settings.policy.fallback_order
    now = core.clock.now()
    found = []
    for number, channel in enumerate(_by_share(core)):
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


def _by_share(core: Core) -> list[Channel]:
    """Of several accounts of one kind the one with the largest share comes first: a
    run, and what goes ahead of it, doesn't begin where another only stands by."""
    points: dict[str, int] = {}
    for kind in shares.KINDS:
        group = core.channels.serving(kind)
        points |= shares.based({one.name: one.common.share for one in group})
    return sorted(core.channels, key=lambda one: -points.get(one.name, 0))


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
        is_most=await _is_most(scope),
        kind=kind,
        ways=ways_now(core, kind),
        texts=texts,
        values=values,
    )


async def _is_most(scope: str) -> bool:
    found = await db.rows(
        "SELECT COUNT(*) AS every, COUNT(CASE WHEN path LIKE ? THEN 1 END) AS inside "
        "FROM organisations",
        f"{scope}%",
    )
    return int(found[0]["inside"]) * 3 > int(found[0]["every"])


def fields(core: Core, plan: Plan) -> frozenset[str]:
    """Of the texts, and of bindings on channels of approved templates."""
    wordings = list(plan.texts.values())
    for way in plan.ways:
        channel = core.channels.get(way.channel)
        binding = None if channel is None else channel.binding(plan.kind)
        if binding is not None:
            wordings.extend(binding.variables.values())
    return needed(wordings)


def _ways(ways: Sequence[Way]) -> Sql:
    row = (
        "CAST(? AS TEXT) AS kind, CAST(? AS TEXT) AS channel, "
        "CAST(? AS BIGINT) AS since, CAST(? AS BIGINT) AS position"
    )
    if not ways:
        return Sql(f"ways AS (SELECT {row} WHERE 1 = 0)", ("", "", 0, 0))
    selects = " UNION ALL ".join([f"SELECT {row}"] * len(ways))
    values = [v for w in ways for v in (w.kind.value, w.channel, w.since, w.position)]
    return Sql(f"ways AS ({selects})", tuple(values))


def json_ids(ids: Sequence[int]) -> Sql:
    """One column of numbers, whatever their count: engines limit parameters."""
    if is_postgres():
        text = (
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text(CAST(? AS JSON)) j"
        )
    else:
        text = "SELECT value FROM json_each(?)"
    return Sql(text, (json.dumps(list(ids)),))


def listed(addresses: Sequence[Address]) -> Sql:
    """The addresses of a list as `listed (kind, value)`."""
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


def _members(plan: Plan) -> Sql:
    """Everybody meant who is a member, as `p`."""
    # SQLite joins in the order of a CROSS JOIN: members in their own order where most
    # are meant (nothing is sorted then), else only those of the few organisations.
    tables = "organisations o CROSS JOIN members m"
    if plan.is_most:
        tables = "members m CROSS JOIN organisations o"
    if not isinstance(plan.audience, Subtree):
        tables = "members m JOIN organisations o ON o.id = m.organisation_id"
    return Sql(
        "SELECT m.id AS person, m.id AS member_id, m.preferred_kind, m.name, "
        f"o.name AS organisation FROM {tables} "
        "WHERE o.id = m.organisation_id AND o.path LIKE ?",
        (f"{plan.scope}%",),
    ) + _membership(plan)


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
            return Sql(" AND (m.id IN (") + json_ids(ids) + f") OR m.id IN ({owners}))"
    return Sql("")


_SUBSCRIBERS = (
    "SELECT s.id AS person, COALESCE(a.member_id, s.member_id) AS member_id, "
    "m.name, o.name AS organisation, s.kind, s.value, w.channel, w.position AS choice "
    "FROM subscriptions s LEFT JOIN addresses a ON a.kind = s.kind "
    "AND a.value = s.value AND a.verified_at IS NOT NULL "
    "LEFT JOIN members m ON m.id = COALESCE(a.member_id, s.member_id) "
    "LEFT JOIN organisations o ON o.id = m.organisation_id "
    "LEFT JOIN ways w ON w.kind = s.kind "
    "AND (w.since IS NULL OR a.last_inbound_at >= w.since) "
    "WHERE s.topic = 'daily' AND s.ended_at IS NULL"
)


def _reached(plan: Plan) -> Sql:
    """Each person with each way to them; `choice` is the smaller the better, and null
    like the channel for whom nothing reaches."""
    if isinstance(plan.audience, Subscribers):
        return Sql(_SUBSCRIBERS)
    listed_first = "0"
    if isinstance(plan.audience, Listed):
        listed_first = (
            "CASE WHEN EXISTS (SELECT 1 FROM listed l WHERE l.kind = a.kind "
            "AND l.value = a.value) THEN 0 ELSE 2 END"
        )
    # One number in the order of the three: named first, preferred, then the way's
    # place; of two addresses of a kind the older one.
    choice = (
        f"(({listed_first} + CASE WHEN a.kind = p.preferred_kind THEN 0 ELSE 1 END) "
        "* 100000 + w.position) * 1099511627776 + a.id"
    )
    return (
        Sql(
            "SELECT p.person, p.member_id, p.name, p.organisation, a.kind, a.value, "
            f"w.channel, {choice} AS choice FROM ("
        )
        + _members(plan)
        + (
            ") p LEFT JOIN addresses a ON a.member_id = p.member_id "
            "AND a.verified_at IS NOT NULL LEFT JOIN ways w ON w.kind = a.kind "
            "AND (w.since IS NULL OR a.last_inbound_at >= w.since)"
        )
    )


COLUMNS = "person, member_id, name, organisation, kind, value, channel"


def chosen(plan: Plan) -> Sql:
    """Everybody meant once, with the one address and channel; both without meaning
    where `channel` is null. A statement after its INSERT, in the order of sending."""
    sql = Sql("WITH ") + _ways(plan.ways)
    if isinstance(plan.audience, Listed):
        sql += Sql(", ") + listed(plan.audience.addresses)
    order = "ORDER BY channel NULLS FIRST, value"
    if is_postgres():
        return (
            sql
            + f" SELECT ROW_NUMBER() OVER ({order}) AS n, {COLUMNS} FROM ("
            + f"SELECT DISTINCT ON (person) {COLUMNS} FROM ("
            + _reached(plan)
            + ") r ORDER BY person, choice NULLS LAST) c"
        )
    # Beside MIN SQLite takes the other columns from the row of the smallest.
    return (
        sql
        + f" SELECT {COLUMNS} FROM (SELECT {COLUMNS}, MIN(choice) FROM ("
        + _reached(plan)
        + f") r GROUP BY person) c {order}"
    )
