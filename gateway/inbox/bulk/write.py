"""Stores what a batch of decisions changed: one statement for each kind of row."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gateway import database as db
from gateway.actors import GATEWAY
from gateway.database import to_micros
from gateway.inbox.bulk.statements import Statement, insert, next_ids, update
from gateway.inbox.bulk.world import Letter, Line, Matter, Message, World
from gateway.inbox.rows import MESSAGE
from gateway.inquiries.busy import Busy, OpenInquiries
from gateway.members import consent
from gateway.outbox.enqueue import PRIORITY
from gateway.status import OutboundState


async def world(
    made: World,
    messages: Sequence[Message],
    expires: timedelta,
    inquiries: OpenInquiries,
) -> None:
    """Everything `made` has learnt, and each message with what was decided on it."""
    await _owners(made, inquiries)
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
_quoted = json.encoder.encode_basestring


def _texts(given: Mapping[str, str]) -> str:
    """As `_json`, without its preparations: there are two of these in each letter."""
    pairs = [f"{_quoted(name)}: {_quoted(text)}" for name, text in given.items()]
    return "{" + ", ".join(pairs) + "}"


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
        constants={"verified_how": "", "created_at": to_micros(made.now)},
        conflict="ON CONFLICT (kind, value) DO UPDATE SET "
        "display_name = excluded.display_name, "
        "last_inbound_at = excluded.last_inbound_at",
    )


async def _owners(made: World, inquiries: OpenInquiries) -> None:
    """To the least busy clerk each, counting what was opened before in this batch."""
    wanted = {one.organisation_id for one in made.opened if one.new}
    if not wanted:
        return
    busy = await Busy.of(wanted, inquiries)
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
        constants={
            "state": OutboundState.QUEUED.value,
            **dict.fromkeys(("reason", "detail", "provider_id"), ""),
            **dict.fromkeys(("attempts", "throttled"), 0),
            **dict.fromkeys(("due_at", "created_at", "changed_at"), now),
            "expires_at": to_micros(made.now + expires),
        },
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
        _texts(one.variables),
        _texts(one.extras),
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
        constants={"source": "message", "outcome": "", "attention": "", "reopened": 0},
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
        constants={"at": to_micros(made.now), "actor": GATEWAY.name},
    )


def _line(one: Line) -> tuple[Any, ...]:
    return (
        one.inquiry_id,
        one.kind,
        one.letter.text if one.letter else one.text,
        _json(one.data) if one.data else "{}",
        one.inbound_id,
        one.letter.id if one.letter else None,
    )


def _questions(made: World) -> list[Statement]:
    """`closed_at` is in an index, where even the same value costs: it is left out for
    questions that stay open."""
    columns = {"id": "BIGINT", "answer": "TEXT", "inbound_id": "BIGINT"}
    last = {one.asked.id: one for one in made.answered}
    kept = [
        (id, one.answer, one.inbound_id)
        for id, one in last.items()
        if one.closed_at is None
    ]
    closed = [
        (id, one.answer, one.inbound_id, to_micros(one.closed_at))
        for id, one in last.items()
        if one.closed_at is not None
    ]
    return update("prompts", columns, kept) + update(
        "prompts", {**columns, "closed_at": "BIGINT"}, closed
    )


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
    added = insert("opt_outs", columns, new, constants={"how": "word", "at": now})
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
    new = [(one.id, *one.cells, *_decided(one)) for one in messages if one.cells]
    known = [(one.id, *_decided(one)) for one in messages if not one.cells]
    return insert(
        "inbound",
        {"id": "BIGINT", **MESSAGE, **_DECIDED},
        new,
        constants={"tries": 0},
    ) + update("inbound", {"id": "BIGINT", **_DECIDED}, known)


_DECIDED = {
    "state": "TEXT",
    "route": "TEXT",
    "route_detail": "TEXT",
    "member_id": "BIGINT",
    "inquiry_id": "BIGINT",
}


def _decided(one: Message) -> tuple[Any, ...]:
    return one.state, one.route, one.route_detail, one.member_id, one.inquiry_id
