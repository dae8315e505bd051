"""Events become rows: a handful of statements for hundreds of events.

Known keys change nothing, within a batch and across batches, so whatever is pushed
again, or stored again after a failed commit, is harmless.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway import database as db
from gateway.contract import (
    Address,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
)
from gateway.core import Core
from gateway.database import to_micros
from gateway.members import consent
from gateway.outbox import receipts
from gateway.outbox.moves import Moved
from gateway.text import clean

T = TypeVar("T")
Given = tuple[str, T]
"""The channel it came by, and the event."""

LONGEST_TEXT = 64 * 1024  # characters; what is above is kept in the payload only
LONGEST_KEY = 255
_CELLS = 30_000  # in one statement; SQLite takes 32,766
_MESSAGE = {
    "channel": "TEXT",
    "key": "TEXT",
    "kind": "TEXT",
    "value": "TEXT",
    "conversation_kind": "TEXT",
    "conversation_value": "TEXT",
    "text": "TEXT",
    "subject": "TEXT",
    "quoted": "TEXT",
    "provider_id": "TEXT",
    "answers_to": "TEXT",
    "reply_token": "TEXT",
    "display_name": "TEXT",
    "automatic": "BOOLEAN",
    "notes": "TEXT",
    "payload": "BYTEA",
    "sent_at": "BIGINT",
    "received_at": "BIGINT",
}
_ATTACHMENT = {
    "inbound_id": "BIGINT",
    "name": "TEXT",
    "content_type": "TEXT",
    "size": "INT",
    "content": "BYTEA",
}
_REPORT = {
    "channel": "TEXT",
    "key": "TEXT",
    "code": "TEXT",
    "payload": "BYTEA",
    "at": "BIGINT",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """New messages of each channel, and our own that receipts moved."""

    new: Counter[str]
    moved: Sequence[Moved]


async def store(core: Core, given: Sequence[Given[Event]]) -> Stored:
    """Store all, inside the caller's transaction."""
    now = to_micros(core.clock.now())
    messages = [(c, e) for c, e in given if isinstance(e, InboundMessage)]
    told = [(c, e) for c, e in given if isinstance(e, DeliveryReceipt)]
    reports = [(c, e) for c, e in given if isinstance(e, OptOut | ChannelTrouble)]
    new = await _messages(messages, now)
    moved = await _receipts(core, told)
    await _reports(core, reports, now)
    return Stored(Counter(new), moved)


async def _messages(given: Sequence[Given[InboundMessage]], now: int) -> list[str]:
    new = await _insert(
        "inbound",
        _MESSAGE,
        [_message(channel, event, now) for channel, event in given],
        {"state": "'stored'", "route": "''", "route_detail": "''", "tries": "0"},
    )
    ids = {(row["channel"], row["key"]): row["id"] for row in new}
    await _attachments(given, ids)
    return [row["channel"] for row in new]


def _message(channel: str, event: InboundMessage, now: int) -> tuple[Any, ...]:
    conversation = event.conversation
    return (
        channel,
        key_of(event),
        event.sender.kind.value,
        event.sender.value,
        conversation.kind.value if conversation else "",
        conversation.value if conversation else "",
        clean(event.text)[:LONGEST_TEXT],
        clean(event.subject)[:1000],
        clean(event.quoted)[:LONGEST_TEXT],
        clean(event.provider_id)[:998],
        _json([clean(one) for one in event.answers_to]),
        clean(event.reply_token)[:128],
        clean(event.display_name)[:254],
        event.automatic,
        _json(event.notes),
        event.raw,
        to_micros(event.sent_at) if event.sent_at else None,
        now,
    )


def _json(texts: Sequence[str]) -> str:
    return json.dumps(list(texts), ensure_ascii=False) if texts else "[]"


def key_of(event: Event) -> str:
    """The event's key as it is stored; one that doesn't fit keeps its identity."""
    key = clean(event.key)
    if len(key) <= LONGEST_KEY:
        return key
    return key[:190] + ":" + hashlib.sha256(key.encode()).hexdigest()


async def _attachments(
    given: Sequence[Given[InboundMessage]], ids: Mapping[tuple[str, str], int]
) -> None:
    ids = dict(ids)
    rows = [
        (
            inbound_id,
            clean(one.name)[:254],
            clean(one.content_type)[:127],
            len(one.content),
            one.content,
        )
        for channel, event in given
        # Once: of two messages with one key in this batch, the first was stored.
        if event.attachments
        and (inbound_id := ids.pop((channel, key_of(event)), None)) is not None
        for one in event.attachments
    ]
    await _insert("attachments", _ATTACHMENT, rows)


async def _receipts(core: Core, given: Sequence[Given[DeliveryReceipt]]) -> list[Moved]:
    by_channel: dict[str, list[tuple[str, DeliveryReceipt]]] = {}
    for channel, event in given:
        by_channel.setdefault(channel, []).append((key_of(event), event))
    moved: list[Moved] = []
    for channel, events in by_channel.items():
        for part in _slices(events, receipts.BATCH):
            moved += await receipts.store(core, channel, part)
    return moved


async def _reports(
    core: Core, given: Sequence[Given[OptOut | ChannelTrouble]], now: int
) -> None:
    rows = [(c, key_of(e), clean(e.code)[:64], e.raw, now) for c, e in given]
    new = await _insert("channel_events", _REPORT, rows, {"detail": "''"})
    keys = {(row["channel"], row["key"]) for row in new}
    refusals: dict[Address, str] = {}
    for channel, event in given:
        if isinstance(event, OptOut) and (channel, key_of(event)) in keys:
            refusals.setdefault(event.address, clean(event.code))
    await consent.opt_out_all(core, refusals, how="provider")


async def _insert(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[tuple[Any, ...]],
    constants: Mapping[str, str] | None = None,
) -> list[db.Row]:
    """What of it is new: `id`, and `channel` and `key` where the table has them."""
    constants = constants or {}
    names = ", ".join((*columns, *constants))
    values = ", ".join((*(f"g.{name}" for name in columns), *constants.values()))
    keyed = "key" in columns
    found = []
    for part in _slices(rows, _CELLS // len(columns)):
        given, cells = db.table(columns, part)
        insert = f"INSERT INTO {table} ({names}) SELECT {values} FROM {given} AS g " + (
            "WHERE TRUE ON CONFLICT (channel, key) DO NOTHING " if keyed else ""
        )
        told = ("id", "channel", "key") if keyed else ("id",)
        returning = _returning if db.is_postgres() else _looked_up
        found += await returning(table, told, insert, cells)
    return found


async def _returning(
    _: str, columns: Sequence[str], insert: str, cells: Sequence[Any]
) -> list[db.Row]:
    return await db.rows(f"{insert} RETURNING {', '.join(columns)}", *cells)


async def _looked_up(
    table: str, columns: Sequence[str], insert: str, cells: Sequence[Any]
) -> list[db.Row]:
    """The same where nobody else writes, in one row: for each that SQLite gives, its
    thread has to get the interpreter lock from the busy loop again."""
    (last,) = await db.rows(f"SELECT COALESCE(MAX(id), 0) AS id FROM {table}")
    await db.execute(insert, *cells)
    (new,) = await db.rows(
        f"SELECT json_group_array(json_array({', '.join(columns)})) AS told "
        f"FROM {table} WHERE id > ?",
        last["id"],
    )
    return [dict(zip(columns, row, strict=True)) for row in json.loads(new["told"])]


def _slices(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
