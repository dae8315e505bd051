"""Stores what a batch of decisions changed: one statement for each kind of row."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gateway import database as db
from gateway.actors import GATEWAY
from gateway.database import to_micros
from gateway.inbox.bulk.world import Letter, Line, Matter, Message, World
from gateway.inquiries.busy import Busy
from gateway.members import consent
from gateway.outbox.enqueue import PRIORITY
from gateway.status import OutboundState

Statement = tuple[str, Sequence[Any]]

_CELLS = 28_000  # SQLite takes 32,766 values in a statement
_STEP = 32  # statements have a multiple of so many rows


async def next_ids(table: str, count: int) -> Sequence[int]:
    """Ids for rows that name each other before they are stored, ascending.

    On SQLite the transaction has the only writer; on PostgreSQL ids that stay unused
    are lost, which harms nobody.
    """
    if db.is_postgres():
        found = await db.rows(
            f"SELECT nextval(pg_get_serial_sequence('{table}', 'id')) AS id "
            f"FROM generate_series(1, {count})"
        )
        return sorted(row["id"] for row in found)
    found = await db.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
    first = (found[0]["seq"] if found else 0) + 1
    return range(first, first + count)


def insert(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    *,
    constants: str = "",
    as_: Mapping[str, str] | None = None,
    conflict: str = "",
) -> list[Statement]:
    """`columns` maps a column to BIGINT or TEXT, `as_` one to another expression;
    `constants` are `column: literal` pairs for all rows."""
    fixed = [pair.partition(": ") for pair in constants.split("; ") if pair]
    names = ", ".join([*columns, *(name for name, _, _ in fixed)])
    given = [(as_ or {}).get(name, f"g.{name}") for name in columns]
    values = ", ".join([*given, *(literal for _, _, literal in fixed)])
    return [
        (
            f"INSERT INTO {table} ({names}) SELECT {values} FROM {source} g "
            f"WHERE g.{next(iter(columns))} IS NOT NULL {conflict}",
            cells,
        )
        for source, cells in _tables(columns, rows)
    ]


def update(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Any]],
    *,
    as_: Mapping[str, str] | None = None,
) -> list[Statement]:
    """Set these columns of the rows that the first one, `id`, names."""
    sets = ", ".join(
        f"{name} = {(as_ or {}).get(name, f'g.{name}')}" for name in list(columns)[1:]
    )
    return [
        (f"UPDATE {table} SET {sets} FROM {source} g WHERE {table}.id = g.id", cells)
        for source, cells in _tables(columns, rows)
    ]


def _tables(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, list[Any]]]:
    size = _CELLS // len(columns)
    for start in range(0, len(rows), size):
        yield filled_up(columns, rows[start : start + size])


def filled_up(
    columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """`db.table`, filled up with empty rows to one of few sizes: SQLite then finds the
    statement prepared. A row without its first value stands for nothing."""
    if db.is_postgres():
        return db.table(columns, rows)
    empty = (None,) * len(columns)
    return db.table(columns, [*rows, *[empty] * (-len(rows) % _STEP)])


async def world(made: World, messages: Sequence[Message], expires: timedelta) -> None:
    """Everything `made` has learnt, and the decision on each message."""
    await _owners(made)
    await _letter_ids(made)
    if made.refused:
        await consent.hold_gate(alone=True)
    statements = [
        *_people(made),
        *_letters(made, expires),
        *_matters(made),
        *_lines(made),
        *_questions(made),
        *_opt_outs(made),
        *_counters(made),
        *_messages(messages),
    ]
    await db.run_all(statements)


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)


_json = json.JSONEncoder(ensure_ascii=False).encode


def _people(made: World) -> list[Statement]:
    columns = {
        "kind": "TEXT",
        "value": "TEXT",
        "display_name": "TEXT",
        "last_inbound_at": "BIGINT",
    }
    touched = [one for one in made.people.values() if one.touched]
    known = sorted(
        (one.id, one.display_name, _micros(one.last_inbound_at))
        for one in touched
        if one.id
    )
    new = sorted(
        (one.kind, one.value, one.display_name, _micros(one.last_inbound_at))
        for one in touched
        if not one.id
    )
    changed = {
        "id": "BIGINT",
        "display_name": "TEXT",
        "last_inbound_at": "BIGINT",
    }
    return update("addresses", changed, known) + insert(
        "addresses",
        columns,
        new,
        constants=f"verified_how: ''; created_at: {to_micros(made.now)}",
        conflict="ON CONFLICT (kind, value) DO UPDATE SET "
        "display_name = excluded.display_name, "
        "last_inbound_at = excluded.last_inbound_at",
    )


async def _owners(made: World) -> None:
    """To the least busy clerk each, counting what was opened before in this batch."""
    wanted = {one.organisation_id for one in made.opened if one.new}
    if not wanted:
        return
    busy = await Busy.of(wanted)
    for matter in made.opened:
        if matter.new:
            matter.owner_id = busy.give(matter.organisation_id)
        else:
            busy.more(matter.owner_id)


async def _letter_ids(made: World) -> None:
    if made.letters:
        ids = await next_ids("outbox", len(made.letters))
        for letter, id in zip(made.letters, ids, strict=True):
            letter.id = id


_LETTER = {
    "id": "BIGINT",
    "message_kind": "TEXT",
    "priority": "BIGINT",
    "dedupe_key": "TEXT",
    "inquiry_id": "BIGINT",
    "inbound_id": "BIGINT",
    "member_id": "BIGINT",
    "channel": "TEXT",
    "kind": "TEXT",
    "value": "TEXT",
    "text": "TEXT",
    "variables": "TEXT",
    "extras": "TEXT",
}


def _letters(made: World, expires: timedelta) -> list[Statement]:
    now = to_micros(made.now)
    return insert(
        "outbox",
        _LETTER,
        [_letter(one) for one in made.letters],
        constants=f"state: '{OutboundState.QUEUED}'; reason: ''; detail: ''; "
        f"due_at: {now}; expires_at: {to_micros(made.now + expires)}; attempts: 0; "
        f"throttled: 0; provider_id: ''; created_at: {now}; changed_at: {now}",
        conflict="ON CONFLICT (dedupe_key) DO NOTHING",
    )


def _letter(one: Letter) -> tuple[Any, ...]:
    return (
        one.id,
        one.message_kind.value,
        PRIORITY[one.message_kind],
        one.dedupe_key,
        one.inquiry_id,
        one.inbound_id,
        one.member_id,
        one.channel,
        one.address.kind.value,
        one.address.value,
        one.text,
        _json(one.variables),
        _json(one.extras),
    )


_NEW_MATTER = {
    "id": "BIGINT",
    "number": "TEXT",
    "organisation_id": "BIGINT",
    "first_organisation_id": "BIGINT",
    "member_id": "BIGINT",
    "owner_id": "BIGINT",
    "channel": "TEXT",
    "kind": "TEXT",
    "value": "TEXT",
    "conversation_kind": "TEXT",
    "conversation_value": "TEXT",
    "contact_name": "TEXT",
    "text": "TEXT",
    "matter": "TEXT",
    "urgency": "TEXT",
    "state": "TEXT",
    "received_at": "BIGINT",
    "deadline_at": "BIGINT",
    "deadline_provisional": "BIGINT",
    "changed_at": "BIGINT",
    "last_inbound_at": "BIGINT",
}
_MATTER = {
    "id": "BIGINT",
    "state": "TEXT",
    "rating": "BIGINT",
    "reopened": "BIGINT",
    "deadline_at": "BIGINT",
    "deadline_provisional": "BIGINT",
    "closed_at": "BIGINT",
    "changed_at": "BIGINT",
    "last_inbound_at": "BIGINT",
}
_TRUTH = {"deadline_provisional": "g.deadline_provisional <> 0"}


def _matters(made: World) -> list[Statement]:
    changed = [one for one in made.matters.values() if one.touched]
    added = insert(
        "inquiries",
        _NEW_MATTER,
        [_new_matter(one) for one in changed if one.new],
        constants="source: 'message'; outcome: ''; attention: ''; reopened: 0",
        as_=_TRUTH,
    )
    rows = [_matter(one) for one in changed if not one.new]
    return added + update("inquiries", _MATTER, rows, as_=_TRUTH)


def _new_matter(one: Matter) -> tuple[Any, ...]:
    return (
        one.id,
        one.number,
        one.organisation_id,
        one.organisation_id,
        one.member_id,
        one.owner_id,
        one.channel,
        one.kind,
        one.value,
        one.conversation_kind,
        one.conversation_value,
        one.contact_name,
        one.text,
        one.matter,
        one.urgency,
        one.state,
        to_micros(one.received_at),
        to_micros(one.deadline_at),
        int(one.deadline_provisional),
        to_micros(one.changed_at),
        _micros(one.last_inbound_at),
    )


def _matter(one: Matter) -> tuple[Any, ...]:
    return (
        one.id,
        one.state,
        one.rating,
        one.reopened,
        to_micros(one.deadline_at),
        int(one.deadline_provisional),
        _micros(one.closed_at),
        to_micros(one.changed_at),
        _micros(one.last_inbound_at),
    )


def _lines(made: World) -> list[Statement]:
    columns = {
        "inquiry_id": "BIGINT",
        "kind": "TEXT",
        "text": "TEXT",
        "data": "TEXT",
        "inbound_id": "BIGINT",
        "outbound_id": "BIGINT",
    }
    return insert(
        "inquiry_events",
        columns,
        [_line(one) for one in made.lines],
        constants=f"at: {to_micros(made.now)}; actor: '{GATEWAY.name}'",
    )


def _line(one: Line) -> tuple[Any, ...]:
    return (
        one.inquiry_id,
        one.kind,
        one.text,
        _json(one.data) if one.data else "{}",
        one.inbound_id,
        None if one.letter is None else one.letter.id,
    )


def _questions(made: World) -> list[Statement]:
    columns = {
        "id": "BIGINT",
        "answer": "TEXT",
        "inbound_id": "BIGINT",
        "closed_at": "BIGINT",
    }
    last = {one.asked.id: one for one in made.answered}
    rows = [
        (id, one.answer, one.inbound_id, _micros(one.closed_at))
        for id, one in last.items()
    ]
    return update("prompts", columns, rows)


def _opt_outs(made: World) -> list[Statement]:
    columns = {
        "kind": "TEXT",
        "value": "TEXT",
        "member_id": "BIGINT",
        "evidence": "TEXT",
        "inbound_id": "BIGINT",
        "ended_at": "BIGINT",
        "ended_how": "TEXT",
    }
    now = to_micros(made.now)
    new = [
        (
            one.kind,
            one.value,
            one.member_id,
            one.evidence,
            one.inbound_id,
            now if one.ended else None,
            "word" if one.ended else "",
        )
        for one in made.refused
    ]
    added = insert("opt_outs", columns, new, constants=f"how: 'word'; at: {now}")
    ended = {"id": "BIGINT", "ended_at": "BIGINT", "ended_how": "TEXT"}
    held = (one for known in made.opt_outs.values() for one in known)
    rows = [(one.id, now, "word") for one in held if one.ended and one.id]
    return added + update("opt_outs", ended, rows)


def _counters(made: World) -> list[Statement]:
    return [
        (
            "UPDATE counters SET value = ? WHERE name = ?",
            [made.counters[day], f"inquiry:{day}"],
        )
        for day in sorted(made.numbered)
    ]


def _messages(messages: Sequence[Message]) -> list[Statement]:
    columns = {
        "id": "BIGINT",
        "state": "TEXT",
        "route": "TEXT",
        "route_detail": "TEXT",
        "member_id": "BIGINT",
        "inquiry_id": "BIGINT",
    }
    rows = [
        (
            one.id,
            one.state,
            one.route,
            one.route_detail,
            one.member_id,
            one.inquiry_id,
        )
        for one in messages
    ]
    return update("inbound", columns, rows)
