"""Reads the stored messages of a batch, and all that deciding on them needs: a handful
of statements, however many messages there are.

Tables of keys stand first in each join (CROSS JOIN), so that SQLite goes through them
and finds the rest by index, not the other way round.
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway import database as db
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.inbox.bulk.statements import next_ids, select
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
from gateway.inbox.route import numbers_in
from gateway.inquiries.register import received_at
from gateway.outbox.enqueue import counts_replies
from gateway.prompts import OpenPrompt
from gateway.questions import ASKED
from gateway.tokens import verify

_KEY = {"kind": "TEXT", "value": "TEXT"}
_ID = {"id": "BIGINT"}
_MESSAGE = (
    *("id", "channel", "kind", "value", "conversation_kind", "conversation_value"),
    *("text", "subject", "provider_id", "answers_to", "reply_token", "display_name"),
    *("automatic", "sent_at", "received_at"),
)
MOST_NUMBERS = 5  # in one message that are looked up


async def stored(limit: int) -> list[Message]:
    """What waits, oldest first, without its payload; on PostgreSQL locked."""
    found = await db.cells_at_once(
        _MESSAGE,
        f"SELECT {', '.join(_MESSAGE)} FROM inbound WHERE state = 'stored' "
        f"ORDER BY id LIMIT {limit}{db.for_update()}",
    )
    return [_message(*cells) for cells in found]


def _message(
    id: int,
    channel: str,
    kind: str,
    value: str,
    conversation_kind: str,
    conversation_value: str,
    text: str,
    subject: str,
    provider_id: str,
    quoted: str,
    reply_token: str,
    display_name: str,
    automatic: bool,
    sent_at: int | None,
    received_at: int,
) -> Message:
    return Message(
        id,
        channel,
        (kind, value),
        conversation_kind,
        conversation_value,
        text,
        subject,
        provider_id,
        quotes(quoted),
        reply_token,
        display_name,
        bool(automatic),
        instant(sent_at),
        at(received_at),
    )


@lru_cache(maxsize=64)
def quotes(ids: str) -> Sequence[str]:
    return tuple(str(one) for one in json.loads(ids))


at = lru_cache(maxsize=1024)(from_micros)
"""All of a commit were received at one instant."""


def instant(micros: int | None) -> datetime | None:
    return None if micros is None else at(micros)


async def world(core: Core, messages: Sequence[Message]) -> World:
    now = core.clock.now()
    made = World(now=now, since=now - core.settings.policy.inquiry_window)
    keys = list({message.key: None for message in messages})
    await _people(made, keys)
    await _questions(made, keys)
    await _matters(core, made, keys, messages)
    await _ways(made)
    await _opt_outs(made, keys)
    await _counts(core, made, keys)
    for message in messages:
        made.wrote[message.key] += message.cells is not None
    await _replies(core, made, messages)
    await _numbering(core, made, messages)
    return made


_PERSON = (
    *("id", "kind", "value", "member_id", "display_name", "last_inbound_at"),
    *("verified_at", "name", "preferred_kind", "organisation_id"),
)
_PERSONS = (
    "SELECT a.id, a.kind, a.value, a.member_id, a.display_name, a.last_inbound_at, "
    "a.verified_at, m.name, m.preferred_kind, m.organisation_id FROM k CROSS JOIN "
    "addresses a LEFT JOIN members m ON m.id = a.member_id WHERE "
)


async def _people(made: World, keys: Sequence[Key]) -> None:
    found = await select(
        _PERSON, _KEY, keys, f"{_PERSONS} a.kind = k.kind AND a.value = k.value"
    )
    for cells in found:
        person = _person(made, *cells)
        made.people[person.key] = person


def _person(
    made: World,
    id: int,
    kind: str,
    value: str,
    member_id: int | None,
    display_name: str,
    last_inbound_at: int | None,
    verified_at: int | None,
    name: str | None,
    preferred_kind: str,
    branch_id: int,
) -> Person:
    if verified_at is None:
        member_id = None
    elif name is not None and member_id is not None:
        made.members[member_id] = Belongs(name, preferred_kind, branch_id)
    written = instant(last_inbound_at)
    return Person(id, (kind, value), member_id, display_name, written)


_QUESTION = (
    *("id", "kind", "value", "prompt", "code", "inquiry_id", "broadcast_id", "data"),
)


async def _questions(made: World, keys: Sequence[Key]) -> None:
    columns = ", ".join(f"p.{name}" for name in _QUESTION)
    found = await select(
        _QUESTION,
        _KEY,
        keys,
        f"SELECT {columns} FROM k CROSS JOIN prompts p WHERE p.kind = k.kind "
        "AND p.value = k.value AND p.closed_at IS NULL AND p.expires_at > ? "
        "ORDER BY p.id",  # all of a person are in one piece
        to_micros(made.now),
    )
    for id, kind, value, prompt, code, inquiry_id, broadcast_id, data in found:
        if asked := ASKED.get(prompt):
            open_prompt = OpenPrompt(id=id, code=code, prompt=asked)
            question = Question(open_prompt, inquiry_id, broadcast_id, _title(data))
            made.questions.setdefault((kind, value), []).append(question)


@lru_cache(maxsize=64)
def _title(data: str) -> str:
    """A notice's question is the same for all who answer it."""
    return str(json.loads(data).get("title", ""))


_MATTER = (
    *("id", "number", "organisation_id", "member_id", "owner_id", "source", "channel"),
    *("kind", "value", "contact_name", "state", "rating", "reopened", "received_at"),
    *("deadline_at", "deadline_provisional", "closed_at", "changed_at"),
    "last_inbound_at",
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
    columns = ", ".join(f"i.{name}" for name in _MATTER)
    # In order of ids, so that two that lock many never wait for each other.
    lock = " FOR UPDATE OF i" if db.is_postgres() else ""
    rows = await select(
        _MATTER,
        _ID,
        [(id,) for id in sorted(found)],
        f"SELECT {columns} FROM k CROSS JOIN inquiries i WHERE i.id = k.id "
        f"ORDER BY i.id{lock}",
    )
    for cells in rows:
        made.add(_matter(cells))


_PLAIN = _MATTER.index("received_at")


def _matter(cells: Sequence[Any]) -> Matter:
    received_at, deadline_at, provisional, closed_at, changed_at, last_at = cells[
        _PLAIN:
    ]
    made: list[Any] = [
        *cells[:_PLAIN],
        from_micros(received_at),
        from_micros(deadline_at),
        bool(provisional),
        instant(closed_at),
        from_micros(changed_at),
        instant(last_at),
    ]
    return Matter(*made)


async def _recent_ids(made: World, keys: Sequence[Key]) -> set[int]:
    since = to_micros(made.since)
    recent = f"SELECT i.id FROM k CROSS JOIN inquiries i WHERE {_RECENT} AND"
    same = f"{recent} i.kind = k.kind AND i.value = k.value"
    found = await select(("id",), _KEY, keys, same, since, since)
    members = _members(made, keys)
    theirs = f"{recent} i.member_id = k.id"
    found += await select(("id",), _ID, members, theirs, since, since)
    return {id for (id,) in found}


def _members(made: World, keys: Sequence[Key]) -> list[tuple[int]]:
    """Of these addresses, each once."""
    known = (made.people[key].member_id for key in keys if key in made.people)
    return list({(id,): None for id in known if id is not None})


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
    rows = await select(
        ("id", "outbound", "inquiry_id"),
        {**_ID, "channel": "TEXT", **_KEY, "provider_id": "TEXT"},
        quotes,
        "SELECT k.id, o.id AS outbound, o.inquiry_id FROM k "
        "CROSS JOIN outbox o WHERE o.channel = k.channel "
        "AND o.provider_id = k.provider_id AND o.provider_id <> '' "
        "AND o.kind = k.kind AND o.value = k.value AND o.inquiry_id IS NOT NULL",
    )
    rows.sort(key=lambda row: int(row[1]))
    made.quoted = {id: inquiry_id for id, _, inquiry_id in rows}
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
    wanted = {(number,) for numbers in made.named.values() for number in numbers}
    rows = await select(
        ("id",),
        {"number": "TEXT"},
        list(wanted),
        "SELECT i.id FROM k CROSS JOIN inquiries i WHERE i.number = k.number",
    )
    return {id for (id,) in rows}


async def _ways(made: World) -> None:
    """How to reach whom a rating may have to be thanked for."""
    rated = {
        one.inquiry_id
        for questions in made.questions.values()
        for one in questions
        if one.inquiry_id in made.matters
    }
    columns = ", ".join(f"i.{name}" for name in _MESSAGE)
    rows = await select(
        ("matter", *_MESSAGE),
        _ID,
        [(id,) for id in rated],
        f"SELECT k.id AS matter, {columns} FROM k CROSS JOIN inbound i WHERE i.id = "
        "(SELECT MAX(l.id) FROM inbound l WHERE l.inquiry_id = k.id "
        "AND NOT l.automatic)",
    )
    for matter, *cells in rows:
        made.last_in[matter] = _message(*cells)
    members = {made.matters[id].member_id for id in rated if id is not None}
    await _homes(made, members - {None})


async def _homes(made: World, members: Collection[int | None]) -> None:
    """All verified addresses of these members."""
    rows = await select(
        _PERSON,
        _ID,
        [(id,) for id in members],
        f"{_PERSONS} a.member_id = k.id AND a.verified_at IS NOT NULL ORDER BY a.id",
    )
    for cells in rows:
        known = _person(made, *cells)
        person = made.people.setdefault(known.key, known)
        if known.member_id is not None:
            made.homes.setdefault(known.member_id, []).append(person)


async def organisations(made: World) -> None:
    """Which centre works the new matters of each branch; the names of those that are
    named in what is said. Read once it is known which: most messages need none."""
    new = [one for one in made.opened if one.new]
    members = (made.members[one.member_id] for one in new if one.member_id is not None)
    paths = await _paths({one.branch_id for one in members})
    wanted = {id for above in paths.values() for id in above}
    wanted |= {one.matter.organisation_id for one in made.said}
    found = await select(
        ("id", "name", "kind", "path"),
        _ID,
        [(id,) for id in wanted],
        "SELECT o.id, o.name, o.kind, o.path FROM k CROSS JOIN organisations o "
        "WHERE o.id = k.id",
    )
    depth = {
        id: len(path) for id, _, kind, path in found if kind in ("centre", "county")
    }
    made.organisations = {id: name for id, name, _, _ in found}
    for branch, above in paths.items():
        centres = [id for id in above if id in depth]
        if centres:
            made.centres[branch] = max(centres, key=lambda id: depth[id])
    if new:
        await _top(made)


async def _top(made: World) -> None:
    found = await db.rows(
        "SELECT id, name FROM organisations WHERE parent_id IS NULL ORDER BY id LIMIT 1"
    )
    for row in found:
        made.top = row["id"]
        made.organisations[row["id"]] = row["name"]


async def _paths(branches: Collection[int]) -> dict[int, list[int]]:
    """The organisations above each, itself among them."""
    found = await select(
        ("id", "path"),
        _ID,
        [(id,) for id in branches],
        "SELECT o.id, o.path FROM k CROSS JOIN organisations o WHERE o.id = k.id",
    )
    return {id: [int(one) for one in path.strip("/").split("/")] for id, path in found}


async def _opt_outs(made: World, keys: Sequence[Key]) -> None:
    """Refusals in force at these addresses, or of their members."""
    names = ("id", "kind", "value", "member_id")
    columns = ", ".join(f"o.{name}" for name in names)
    held = f"SELECT {columns} FROM k CROSS JOIN opt_outs o WHERE o.ended_at IS NULL AND"
    found = await select(
        names, _KEY, keys, f"{held} o.kind = k.kind AND o.value = k.value"
    )
    found += await select(
        names, _ID, _members(made, keys), f"{held} o.member_id = k.id"
    )
    for id, kind, value, member_id in {cells[0]: cells for cells in found}.values():
        made.refuse(OptOut(id=id, kind=kind, value=value, member_id=member_id))


async def _counts(core: Core, made: World, keys: Sequence[Key]) -> None:
    """How much each wrote lately; counted no further than the limits."""
    policy = core.settings.policy
    rows = await select(
        ("kind", "value", "wrote", "asked"),
        _KEY,
        keys,
        "SELECT k.kind, k.value, (SELECT COUNT(*) FROM (SELECT 1 FROM inbound i WHERE "
        "i.kind = k.kind AND i.value = k.value AND i.received_at >= ? "
        f"LIMIT {policy.messages_per_10_minutes + 1}) AS w) AS wrote, "
        "(SELECT COUNT(*) FROM (SELECT 1 FROM inquiries i WHERE i.kind = k.kind "
        "AND i.value = k.value AND i.received_at >= ? "
        f"LIMIT {policy.automatic_answers_per_day + 1}) AS q) AS asked FROM k",
        to_micros(made.now - timedelta(minutes=10)),
        to_micros(made.now - timedelta(days=1)),
    )
    for kind, value, wrote, asked in rows:
        made.wrote[kind, value] = wrote
        made.asked[kind, value] = asked


async def _replies(core: Core, made: World, messages: Sequence[Message]) -> None:
    """What was sent since each message, where a channel counts that."""
    if not counts_replies(core):
        return
    rows = await select(
        ("id", "n"),
        {**_ID, "channel": "TEXT", **_KEY, "at": "BIGINT"},
        [
            (one.id, one.channel, *_conversation(one), to_micros(one.received_at))
            for one in messages
        ],
        "SELECT k.id, COUNT(*) AS n FROM k CROSS JOIN attempts a "
        "WHERE a.channel = k.channel AND a.kind = k.kind AND a.value = k.value "
        "AND a.journalled_at >= k.at AND a.outcome IN ('', 'accepted', 'unknown') "
        "GROUP BY k.id",
    )
    made.replies = {cells[0]: cells[1] for cells in rows}


async def _numbering(core: Core, made: World, messages: Sequence[Message]) -> None:
    """The last number of each day that may be needed, locked; ids for inquiries."""
    zone = core.settings.centre.timezone
    instants = {(one.sent_at, one.received_at) for one in messages}
    days = {received_at(*at, made.now).astimezone(zone).date() for at in instants}
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
