"""Reads the stored messages of a batch, and all that deciding on them needs: a handful
of statements, however many messages there are.

Tables of keys stand first in each join (CROSS JOIN), so that SQLite goes through them
and finds the rest by index, not the other way round.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from gateway import database as db
from gateway.core import Core
from gateway.database import Row, from_micros, to_micros
from gateway.inbox.bulk.world import (
    Belongs,
    Key,
    Matter,
    Message,
    OptOut,
    Person,
    Question,
    World,
)
from gateway.inbox.bulk.write import filled_up, next_ids
from gateway.inbox.route import numbers_in
from gateway.inquiries.register import received_at
from gateway.inquiries.say import reach_of
from gateway.outbox.enqueue import counts_replies
from gateway.prompts import OpenPrompt
from gateway.questions import ASKED
from gateway.tokens import verify

_KEY = {"kind": "TEXT", "value": "TEXT"}
_MESSAGE = (
    "id, channel, kind, value, conversation_kind, conversation_value, text, subject, "
    "provider_id, answers_to, reply_token, display_name, automatic, sent_at, "
    "received_at"
)
MOST_NUMBERS = 5  # in one message that are looked up


async def stored(limit: int) -> list[Message]:
    """What waits, oldest first, without its payload; on PostgreSQL locked."""
    found = await db.rows(
        f"SELECT {_MESSAGE} FROM inbound WHERE state = 'stored' "
        f"ORDER BY id LIMIT {limit}{db.for_update()}"
    )
    return [_message(row) for row in found]


def _message(row: Row) -> Message:
    quoted = row["answers_to"]
    row["answers_to"] = [] if quoted == "[]" else [str(q) for q in json.loads(quoted)]
    row["automatic"] = bool(row["automatic"])
    row["sent_at"] = _instant(row["sent_at"])
    row["received_at"] = from_micros(row["received_at"])
    return Message(**row)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


async def world(core: Core, messages: Sequence[Message]) -> World:
    now = core.clock.now()
    made = World(now=now, since=now - core.settings.policy.inquiry_window)
    keys = list({message.key: None for message in messages})
    await _people(made, keys)
    await _questions(made, keys)
    await _matters(core, made, keys, messages)
    await _ways(made)
    await _organisations(made)
    await _opt_outs(made, keys)
    await _counts(core, made, keys)
    await _replies(core, made, messages)
    await _numbering(core, made, messages)
    return made


_PERSON = (
    "a.id, a.kind, a.value, a.member_id, a.display_name, a.last_inbound_at, "
    "a.verified_at, m.name, m.preferred_kind, m.organisation_id"
)


async def _people(made: World, keys: Sequence[Key]) -> None:
    given, values = filled_up(_KEY, keys)
    found = await db.rows(
        f"SELECT {_PERSON} FROM {given} k CROSS JOIN addresses a "
        "LEFT JOIN members m ON m.id = a.member_id "
        "WHERE a.kind = k.kind AND a.value = k.value",
        *values,
    )
    for row in found:
        made.people[row["kind"], row["value"]] = _person(made, row)


def _person(made: World, row: Row) -> Person:
    if row["verified_at"] is not None and row["name"] is not None:
        made.members[row["member_id"]] = Belongs(
            name=row["name"],
            preferred_kind=row["preferred_kind"],
            branch_id=row["organisation_id"],
        )
    return Person(
        id=row["id"],
        kind=row["kind"],
        value=row["value"],
        member_id=None if row["verified_at"] is None else row["member_id"],
        display_name=row["display_name"],
        last_inbound_at=_instant(row["last_inbound_at"]),
    )


async def _questions(made: World, keys: Sequence[Key]) -> None:
    given, values = filled_up(_KEY, keys)
    found = await db.rows(
        "SELECT p.id, p.kind, p.value, p.prompt, p.code, p.inquiry_id, p.broadcast_id, "
        f"p.data FROM {given} k CROSS JOIN prompts p WHERE p.kind = k.kind "
        "AND p.value = k.value AND p.closed_at IS NULL AND p.expires_at > ? "
        "ORDER BY p.id",
        *values,
        to_micros(made.now),
    )
    for row in found:
        if row["prompt"] in ASKED:
            known = made.questions.setdefault((row["kind"], row["value"]), [])
            known.append(_question(row))


def _question(row: Row) -> Question:
    prompt = ASKED[row["prompt"]]
    return Question(
        asked=OpenPrompt(id=row["id"], code=row["code"], prompt=prompt),
        inquiry_id=row["inquiry_id"],
        broadcast_id=row["broadcast_id"],
        title=str(json.loads(row["data"]).get("title", "")),
    )


_MATTER = (
    "i.id, i.number, i.organisation_id, i.member_id, i.owner_id, i.source, i.channel, "
    "i.kind, i.value, i.contact_name, i.state, i.rating, i.reopened, i.received_at, "
    "i.deadline_at, i.deadline_provisional, i.closed_at, i.changed_at, "
    "i.last_inbound_at"
)
_RECENT = (
    "((i.state <> 'closed' AND i.changed_at >= ?) "
    "OR (i.state = 'closed' AND i.closed_at >= ?))"
)


async def _matters(
    core: Core, made: World, keys: Sequence[Key], messages: Sequence[Message]
) -> None:
    """Recent ones of the senders and their members, and those that are named."""
    found = await _recent_ids(made, keys)
    found |= await _quoted_ids(core, made, messages)
    found |= await _named_ids(made, messages)
    found |= {
        one.inquiry_id
        for questions in made.questions.values()
        for one in questions
        if one.inquiry_id is not None
    }
    if not found:
        return
    given, values = filled_up({"id": "BIGINT"}, [(id,) for id in sorted(found)])
    # In order of ids, so that two that lock many never wait for each other.
    lock = " FOR UPDATE OF i" if db.is_postgres() else ""
    rows = await db.rows(
        f"SELECT {_MATTER} FROM {given} k CROSS JOIN inquiries i WHERE i.id = k.id "
        f"ORDER BY i.id{lock}",
        *values,
    )
    for row in rows:
        made.add(_matter(row))


def _matter(row: Row) -> Matter:
    for name in ("received_at", "deadline_at", "changed_at"):
        row[name] = from_micros(row[name])
    for name in ("closed_at", "last_inbound_at"):
        row[name] = _instant(row[name])
    row["deadline_provisional"] = bool(row["deadline_provisional"])
    return Matter(**row)


async def _recent_ids(made: World, keys: Sequence[Key]) -> set[int]:
    since = to_micros(made.since)
    given, values = filled_up(_KEY, keys)
    found = await db.rows(
        f"SELECT i.id FROM {given} k CROSS JOIN inquiries i "
        f"WHERE i.kind = k.kind AND i.value = k.value AND {_RECENT}",
        *values,
        since,
        since,
    )
    members = {p.member_id for p in made.people.values()} - {None}
    if members:
        given, values = filled_up({"id": "BIGINT"}, [(id,) for id in members])
        found += await db.rows(
            f"SELECT i.id FROM {given} k CROSS JOIN inquiries i "
            f"WHERE i.member_id = k.id AND {_RECENT}",
            *values,
            since,
            since,
        )
    return {row["id"] for row in found}


async def _quoted_ids(core: Core, made: World, messages: Sequence[Message]) -> set[int]:
    """By a signed token, else by our newest message that was quoted."""
    key = core.keys.derive("inquiry")
    tokens = (
        verify(key, "inquiry", one.reply_token) for one in messages if one.reply_token
    )
    found = {id for id in tokens if id is not None}
    quotes = [
        (one.id, one.channel, *_conversation(one), quoted)
        for one in messages
        for quoted in one.answers_to
    ]
    if not quotes:
        return found
    columns = {"id": "BIGINT", "channel": "TEXT", **_KEY, "provider_id": "TEXT"}
    given, values = db.table(columns, quotes)
    rows = await db.rows(
        f"SELECT k.id, o.id AS outbound, o.inquiry_id FROM {given} k "
        "CROSS JOIN outbox o WHERE o.channel = k.channel "
        "AND o.provider_id = k.provider_id AND o.provider_id <> '' "
        "AND o.kind = k.kind AND o.value = k.value AND o.inquiry_id IS NOT NULL "
        "ORDER BY o.id",
        *values,
    )
    made.quoted = {row["id"]: row["inquiry_id"] for row in rows}
    return found | set(made.quoted.values())


def _conversation(message: Message) -> Key:
    return (
        message.conversation_kind or message.kind,
        message.conversation_value or message.value,
    )


async def _named_ids(made: World, messages: Sequence[Message]) -> set[int]:
    for one in messages:
        numbers = numbers_in(f"{one.subject}\n{one.text}")[:MOST_NUMBERS]
        if numbers:
            made.named[one.id] = list(dict.fromkeys(numbers))
    wanted = {number for numbers in made.named.values() for number in numbers}
    if not wanted:
        return set()
    rows = await db.rows(
        f"SELECT id FROM inquiries WHERE number IN ({db.marks(len(wanted))})", *wanted
    )
    return {row["id"] for row in rows}


async def _ways(made: World) -> None:
    """How to reach whom a rating may have to be thanked for."""
    rated = sorted(
        one.inquiry_id
        for questions in made.questions.values()
        for one in questions
        if one.inquiry_id in made.matters
    )
    if not rated:
        return
    rows = await db.rows(
        f"SELECT {_MESSAGE}, inquiry_id FROM inbound WHERE id IN "
        f"(SELECT MAX(id) FROM inbound WHERE inquiry_id IN ({db.marks(len(rated))}) "
        "AND NOT automatic GROUP BY inquiry_id)",
        *rated,
    )
    for row in rows:
        made.last_in[row["inquiry_id"]] = reach_of(_message(row))
    members = {made.matters[id].member_id for id in rated} - {None}
    await _homes(made, members)


async def _homes(made: World, members: Collection[int | None]) -> None:
    """All verified addresses of these members."""
    if not members:
        return
    rows = await db.rows(
        f"SELECT {_PERSON} FROM addresses a JOIN members m ON m.id = a.member_id "
        f"WHERE a.member_id IN ({db.marks(len(members))}) "
        "AND a.verified_at IS NOT NULL ORDER BY a.id",
        *members,
    )
    for row in rows:
        key = row["kind"], row["value"]
        person = made.people.setdefault(key, _person(made, row))
        made.homes.setdefault(row["member_id"], []).append(person)


async def _organisations(made: World) -> None:
    """Which centre works the matters of each branch; the names of both."""
    branches = {one.branch_id for one in made.members.values()}
    paths = await _paths(branches)
    wanted = {id for above in paths.values() for id in above}
    wanted |= {one.organisation_id for one in made.matters.values()}
    found = await db.rows(
        "SELECT id, name, kind, path, parent_id FROM organisations "
        f"WHERE parent_id IS NULL OR id IN ({db.marks(len(wanted)) or 'NULL'}) "
        "ORDER BY id DESC",
        *wanted,
    )
    depth = {
        row["id"]: len(row["path"])
        for row in found
        if row["kind"] in ("centre", "county")
    }
    for row in found:
        made.organisations[row["id"]] = row["name"]
        if row["parent_id"] is None:
            made.top = row["id"]
    for branch, above in paths.items():
        centres = [id for id in above if id in depth]
        if centres:
            made.centres[branch] = max(centres, key=lambda id: depth[id])


async def _paths(branches: Collection[int]) -> dict[int, list[int]]:
    """The organisations above each, itself among them."""
    found = await db.rows(
        "SELECT id, path FROM organisations "
        f"WHERE id IN ({db.marks(len(branches)) or 'NULL'})",
        *branches,
    )
    return {
        row["id"]: [int(one) for one in row["path"].strip("/").split("/")]
        for row in found
    }


async def _opt_outs(made: World, keys: Sequence[Key]) -> None:
    """Refusals in force at these addresses, or of their members."""
    columns = "o.id, o.kind, o.value, o.member_id"
    given, values = filled_up(_KEY, keys)
    found = await db.rows(
        f"SELECT {columns} FROM {given} k CROSS JOIN opt_outs o "
        "WHERE o.kind = k.kind AND o.value = k.value AND o.ended_at IS NULL",
        *values,
    )
    members = {made.people[key].member_id for key in keys if key in made.people}
    members -= {None}
    if members:
        given, values = filled_up({"id": "BIGINT"}, [(id,) for id in members])
        found += await db.rows(
            f"SELECT {columns} FROM {given} k CROSS JOIN opt_outs o "
            "WHERE o.member_id = k.id AND o.ended_at IS NULL",
            *values,
        )
    for row in {row["id"]: row for row in found}.values():
        made.refuse(OptOut(**row))


async def _counts(core: Core, made: World, keys: Sequence[Key]) -> None:
    """How much each wrote lately; counted no further than the limits."""
    policy = core.settings.policy
    given, values = filled_up(_KEY, keys)
    rows = await db.rows(
        "SELECT k.kind, k.value, (SELECT COUNT(*) FROM (SELECT 1 FROM inbound i WHERE "
        "i.kind = k.kind AND i.value = k.value AND i.received_at >= ? "
        f"LIMIT {policy.messages_per_10_minutes + 1}) AS w) AS wrote, "
        "(SELECT COUNT(*) FROM (SELECT 1 FROM inquiries i WHERE i.kind = k.kind "
        "AND i.value = k.value AND i.received_at >= ? "
        f"LIMIT {policy.automatic_answers_per_day + 1}) AS q) AS asked FROM {given} k",
        to_micros(made.now - timedelta(minutes=10)),
        to_micros(made.now - timedelta(days=1)),
        *values,
    )
    for row in (one for one in rows if one["kind"] is not None):
        made.wrote[row["kind"], row["value"]] = row["wrote"]
        made.asked[row["kind"], row["value"]] = row["asked"]


async def _replies(core: Core, made: World, messages: Sequence[Message]) -> None:
    """What was sent since each message, where a channel counts that."""
    if not counts_replies(core):
        return
    columns = {"id": "BIGINT", "channel": "TEXT", **_KEY, "at": "BIGINT"}
    given, values = filled_up(
        columns,
        [
            (one.id, one.channel, *_conversation(one), to_micros(one.received_at))
            for one in messages
        ],
    )
    rows = await db.rows(
        f"SELECT k.id, COUNT(*) AS n FROM {given} k CROSS JOIN attempts a "
        "WHERE a.channel = k.channel AND a.kind = k.kind AND a.value = k.value "
        "AND a.journalled_at >= k.at AND a.outcome IN ('', 'accepted', 'unknown') "
        "GROUP BY k.id",
        *values,
    )
    made.replies = {row["id"]: row["n"] for row in rows}


async def _numbering(core: Core, made: World, messages: Sequence[Message]) -> None:
    """The last number of each day that may be needed, locked; ids for inquiries."""
    zone = core.settings.centre.timezone
    days = {
        received_at(one.sent_at, one.received_at, made.now).astimezone(zone).date()
        for one in messages
    }
    names = {f"inquiry:{day:%Y%m%d}": f"{day:%Y%m%d}" for day in sorted(days)}
    given, values = db.table({"name": "TEXT"}, [(name,) for name in names])
    rows = await db.rows(
        f"INSERT INTO counters (name, value) SELECT k.name, 0 FROM {given} k "
        "WHERE 1 = 1 ON CONFLICT (name) DO UPDATE SET value = counters.value "
        "RETURNING name, value",
        *values,
    )
    made.counters = {names[row["name"]]: row["value"] for row in rows}
    made.ids = iter(await next_ids("inquiries", len(messages)))
