"""Events become rows: a handful of statements for hundreds of events.

Known keys change nothing, within a batch and across batches, so whatever is pushed
again, or stored again after a failed commit, is harmless.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway import batch
from gateway import database as db
from gateway.contract import (
    Address,
    Attachment,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
)
from gateway.core import Core
from gateway.database import to_micros
from gateway.inbox.bulk import read
from gateway.inbox.bulk.statements import next_ids
from gateway.inbox.bulk.world import Message
from gateway.inbox.routed import Route, Routed
from gateway.inbox.rows import MESSAGE, cells_of, key_of
from gateway.members import consent
from gateway.outbox import receipts
from gateway.outbox.moves import Moved
from gateway.text import clean

T = TypeVar("T")
Given = tuple[str, T]
"""The channel it came by, and the event."""

Key = tuple[str, str]
"""Of an event: its channel, and its key there."""

_CELLS = 30_000  # in one statement; SQLite takes 32,766
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
    """New messages of each channel, and our own that receipts moved. `routed` is None
    where the new ones wait for the router."""

    new: Counter[str]
    moved: Sequence[Moved]
    routed: Routed | None


async def store(
    core: Core, given: Sequence[Given[Event]], route: Route | None = None
) -> Stored:
    """Store all, inside the caller's transaction.

    With `route` messages are decided on before they are stored, so that each is written
    once; unless others wait already, who come first.
    """
    now = to_micros(core.clock.now())
    messages = [(c, e) for c, e in given if isinstance(e, InboundMessage)]
    told = [(c, e) for c, e in given if isinstance(e, DeliveryReceipt)]
    reports = [(c, e) for c, e in given if isinstance(e, OptOut | ChannelTrouble)]
    routed = None
    if messages and route is not None and not await _others_wait():
        new, routed = await _routed(messages, now, route)
    else:
        new = await _messages(messages, now)
    moved = await _receipts(core, told)
    await _reports(core, reports, now)
    return Stored(Counter(new), moved, routed)


async def _others_wait() -> bool:
    return bool(await db.rows("SELECT 1 FROM inbound WHERE state = 'stored' LIMIT 1"))


async def _routed(
    given: Sequence[Given[InboundMessage]], now: int, route: Route
) -> tuple[list[str], Routed]:
    new = await _unknown(given)
    ids = await next_ids("inbound", len(new)) if new else ()
    arrived = [
        _arrived(id, cells_of(channel, event, now))
        for id, (channel, event) in zip(ids, new, strict=True)
    ]
    routed = await route(arrived) if arrived else Routed()
    await _attach(
        (id, one)
        for id, (_, event) in zip(ids, new, strict=True)
        for one in event.attachments
    )
    return [channel for channel, _ in new], routed


def _arrived(id: int, cells: Sequence[Any]) -> Message:
    of = dict(zip(MESSAGE, cells, strict=True))
    return Message(
        id,
        of["channel"],
        (of["kind"], of["value"]),
        of["conversation_kind"],
        of["conversation_value"],
        of["text"],
        of["subject"],
        of["provider_id"],
        read.quotes(of["answers_to"]),
        of["reply_token"],
        of["display_name"],
        of["automatic"],
        read.instant(of["sent_at"]),
        read.at(of["received_at"]),
        cells=cells,
    )


async def _unknown(
    given: Sequence[Given[InboundMessage]],
) -> list[Given[InboundMessage]]:
    """Those that are not stored, neither under their earlier key; each once."""
    new: dict[Key, Given[InboundMessage]] = {}
    for channel, event in given:
        new.setdefault((channel, key_of(event)), (channel, event))
    earlier = {key: _earlier(one) for key, one in new.items() if one[1].earlier_key}
    known = await _ids([*new, *earlier.values()])
    return [
        one
        for key, one in new.items()
        if key not in known and earlier.get(key) not in known
    ]


def _earlier(given: Given[InboundMessage]) -> Key:
    return given[0], clean(given[1].earlier_key)


async def _messages(given: Sequence[Given[InboundMessage]], now: int) -> list[str]:
    given = await _without_earlier(given)
    new = await _insert(
        "inbound",
        MESSAGE,
        [cells_of(channel, event, now) for channel, event in given],
        {"state": "'stored'", "route": "''", "route_detail": "''", "tries": "0"},
    )
    await _attachments([(c, e) for c, e in given if e.attachments], set(new))
    return [channel for channel, _ in new]


async def _without_earlier(
    given: Sequence[Given[InboundMessage]],
) -> Sequence[Given[InboundMessage]]:
    """Those that are not stored under their earlier key."""
    asked = [_earlier(one) for one in given if one[1].earlier_key]
    if not asked or not (known := await _ids(asked)):
        return given
    return [one for one in given if _earlier(one) not in known]


async def _attachments(
    given: Sequence[Given[InboundMessage]], new: Collection[Key]
) -> None:
    ids = await _ids([(c, key) for c, e in given if (c, key := key_of(e)) in new])
    await _attach(
        (inbound_id, one)
        for channel, event in given
        # Once: of two messages with one key in this batch, the first was stored.
        if (inbound_id := ids.pop((channel, key_of(event)), None)) is not None
        for one in event.attachments
    )


async def _attach(given: Iterable[tuple[int, Attachment]]) -> None:
    cells = [
        (
            inbound_id,
            clean(one.name)[:254],
            clean(one.content_type)[:127],
            len(one.content),
            one.content,
        )
        for inbound_id, one in given
    ]
    for part in _slices(cells, _CELLS // len(_ATTACHMENT)):
        columns = ", ".join(_ATTACHMENT)
        values, flat = db.table(_ATTACHMENT, part)
        await db.execute(
            f"INSERT INTO attachments ({columns}) SELECT {columns} FROM {values} AS g",
            *flat,
        )


async def _ids(keys: Sequence[Key]) -> dict[Key, int]:
    found: dict[Key, int] = {}
    for part in _slices(keys, _CELLS // 2):
        given, cells = batch.table({"channel": "TEXT", "key": "TEXT"}, part)
        for row in await db.rows(
            f"SELECT i.id, i.channel, i.key FROM {given} AS g JOIN inbound i "
            "ON i.channel = g.channel AND i.key = g.key",
            *cells,
        ):
            found[row["channel"], row["key"]] = row["id"]
    return found


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
    new = set(await _insert("channel_events", _REPORT, rows, {"detail": "''"}))
    refusals: dict[Address, str] = {}
    for channel, event in given:
        if isinstance(event, OptOut) and (channel, key_of(event)) in new:
            refusals.setdefault(event.address, clean(event.code))
    await consent.opt_out_all(core, refusals, how="provider")


async def _insert(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[tuple[Any, ...]],
    constants: Mapping[str, str],
) -> list[Key]:
    """What of it is new. `channel` and `key` are the first two columns."""
    names = ", ".join((*columns, *constants))
    values = ", ".join((*(f"g.{name}" for name in columns), *constants.values()))
    insert = _inserted if db.is_postgres() else _counted
    found: list[Key] = []
    for part in _slices(rows, _CELLS // len(columns)):
        given, cells = batch.table(columns, part)
        statement = (
            f"INSERT INTO {table} ({names}) SELECT {values} FROM {given} AS g "
            "WHERE TRUE ON CONFLICT (channel, key) DO NOTHING"
        )
        found += await insert(table, part, statement, cells)
    return found


async def _inserted(
    _: str, __: Sequence[tuple[Any, ...]], insert: str, cells: Sequence[Any]
) -> list[Key]:
    new = await db.rows(f"{insert} RETURNING channel, key", *cells)
    return [(row["channel"], row["key"]) for row in new]


async def _counted(
    table: str, rows: Sequence[tuple[Any, ...]], insert: str, cells: Sequence[Any]
) -> list[Key]:
    """The same where nobody else writes, and each row that is told costs a turn of the
    interpreter lock: nearly always all are new."""
    count = await db.execute(insert, *cells)
    if count == len(rows):
        return [(row[0], row[1]) for row in rows]
    newest = f"SELECT channel, key FROM {table} ORDER BY id DESC LIMIT ?"
    new = await db.rows_at_once(("channel", "key"), newest, count)
    return [(row["channel"], row["key"]) for row in new]


def _slices(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
