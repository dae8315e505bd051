"""Delivery receipts move messages forward by rank; early ones wait for theirs.

A batch of receipts is matched in the transaction that stores it, in a handful of
statements. A long message has a receipt for each of its parts: they are joined here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from gateway import batch
from gateway import database as db
from gateway.addresses import LONGEST_ADDRESS
from gateway.contract import Address, AddressKind, DeliveryReceipt
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.members import consent
from gateway.outbox import whose
from gateway.outbox.arrivals import Keyed
from gateway.outbox.moves import Move, Moved, advance
from gateway.outbox.whose import Known, Told, by_index
from gateway.status import OUTBOUND_MOVES, RANK
from gateway.text import clean, fitted

WAITS = timedelta(hours=72)  # for the message it belongs to (C-1)
BATCH = 500  # receipts of one transaction
_UNANSWERED = frozenset({"planned", "queued", "sending"})
_BEYOND = frozenset(s for s in OUTBOUND_MOVES["accepted"] if RANK[s] > RANK["accepted"])
_WAITING_BY = {
    "provider_id": "receipts_waiting",
    "reference": "receipts_waiting_reference",
    "value": "receipts_waiting_address",
}
_NEW = {
    "key": "TEXT",
    "provider_id": "TEXT",
    "reference": "TEXT",
    "state": "TEXT",
    "code": "TEXT",
    "opted_out": "BOOLEAN",
    "at": "BIGINT",
    "payload": "BYTEA",
    "outbound_id": "BIGINT",
    "effect": "TEXT",
    "kind": "TEXT",
    "value": "TEXT",
}


class Sent(Protocol):
    """What has just been settled."""

    @property
    def outbound_id(self) -> int: ...
    @property
    def provider_ids(self) -> tuple[str, ...]: ...
    @property
    def state(self) -> str: ...
    @property
    def row(self) -> Row: ...


class Verdict(NamedTuple):
    """The message of a receipt and what the receipt did; 0 and "": it waits."""

    outbound_id: int
    effect: str  # applied, repeated, late, conflict, part, unknown_word


_WAITING = Verdict(0, "")


def met(sent: Sequence[Sent], receipts: Sequence[Keyed]) -> Mapping[int, int]:
    """Which messages have the answer and a receipt for the whole of it at once: by
    their ids the place of the first such receipt. They need be written only once."""
    by_provider: dict[str, int] = {}
    for one in sent:
        ids = one.provider_ids
        if one.state == "accepted" and len(ids) == 1:
            # Of two with the same id the ordinary way finds the newest (C-8).
            by_provider[ids[0]] = 0 if ids[0] in by_provider else one.row["id"]
    found: dict[int, int] = {}
    for place, (_, told) in enumerate(receipts):
        message = by_provider.get(told.provider_id)
        if message and message not in found and _settles(message, told):
            found[message] = place
    return found


def _settles(message: int, told: DeliveryReceipt) -> bool:
    return (
        told.state in _BEYOND
        and not told.opted_out
        and (told.reference == "" or told.reference == str(message))
    )


async def store(
    core: Core,
    channel: str,
    receipts: Sequence[Keyed],
    applied: Mapping[int, int] = MappingProxyType({}),
) -> list[Moved]:
    """Keep new receipts by their keys, and apply them; the messages that moved.

    Inside a transaction. A receipt whose key is known changes nothing. `applied`: by
    the places of some of them the messages that they have moved already.
    """
    others = [place for place in range(len(receipts)) if place not in applied]
    told = [_told(receipts[place][1]) for place in others]
    found, moved = await _apply(core, channel, told)
    verdicts = {place: Verdict(id, "applied") for place, id in applied.items()}
    verdicts.update(zip(others, found, strict=True))
    states = [receipts[place][1].state.value for place in applied]
    _count(core, channel, Counter(states))
    rows = [_row(*one, verdicts[place]) for place, one in enumerate(receipts)]
    if rows:
        given, values = batch.table(_NEW, rows)
        columns = ", ".join(_NEW)
        await db.execute(
            f"INSERT INTO receipts (channel, received_at, {columns}) SELECT "
            f"CAST(? AS TEXT), CAST(? AS BIGINT), {columns} FROM {given} AS g "
            "WHERE 1 = 1 ON CONFLICT (channel, key) DO NOTHING",
            channel,
            to_micros(core.clock.now()),
            *values,
        )
    return moved


def _told(one: DeliveryReceipt) -> Told:
    return Told(0, *_said(one), *_whom(one.address))


def _row(key: str, one: DeliveryReceipt, verdict: Verdict) -> tuple[Any, ...]:
    """As `_NEW`. Whom it concerns is kept where only that may find its message."""
    return (
        key,
        *_said(one),
        one.raw,
        verdict.outbound_id or None,
        verdict.effect,
        *_whom(None if verdict.effect else one.address),
    )


def _said(one: DeliveryReceipt) -> tuple[str, str, str, str, bool, int | None]:
    """From its provider id to its instant, as `Told` and `_NEW` have them."""
    return (
        clean(one.provider_id)[:254],
        clean(one.reference)[:64],
        one.state.value,
        clean(one.code)[:64],
        one.opted_out,
        None if one.at is None else to_micros(one.at),
    )


def _whom(address: Address | None) -> tuple[str, str]:
    if address is None:
        return "", ""
    return address.kind.value, fitted(address.value, LONGEST_ADDRESS)


async def apply_early(core: Core, channel: str, sent: Sequence[Sent]) -> list[Moved]:
    """Match receipts that came before the answer to their message."""
    waiting = await db.rows(
        "SELECT id FROM receipts WHERE channel = ? AND effect = '' LIMIT 1", channel
    )
    if not waiting:
        return []
    theirs = [id for message in sent for id in message.provider_ids]
    ours = [str(one.outbound_id) for one in sent]
    doubted = [one.row["value"] for one in sent if one.state == "unknown"]
    early = await _waiting(channel, "provider_id", theirs)
    early += await _waiting(channel, "reference", ours)
    early += await _waiting(channel, "value", doubted)
    return await _apply_stored(core, channel, early)


async def _waiting(channel: str, column: str, wanted: Sequence[str]) -> list[Row]:
    """Receipts without a message in whose `column` one of these stands."""
    if not wanted:
        return []
    given, values = batch.table({"it": "TEXT"}, [(one,) for one in wanted])
    return await db.rows(
        f"SELECT r.* FROM {given} AS g CROSS JOIN "
        f"{by_index('receipts r', _WAITING_BY[column])} WHERE r.channel = ? AND "
        f"r.effect = '' AND r.{column} <> '' AND r.{column} = g.it ORDER BY r.id",
        *values,
        channel,
    )


async def waiting_after(channel: str, last: int) -> int | None:
    """The newest receipt after `last` that found no message; None: there is none."""
    found = await db.rows(
        "SELECT MAX(id) AS id FROM receipts WHERE channel = ? AND effect = '' "
        "AND id > ?",
        channel,
        last,
    )
    return None if found[0]["id"] is None else int(found[0]["id"])


async def apply_waiting(core: Core, channel: str, after: int = 0) -> list[Moved]:
    """Match all that still wait, of the last days: after a crash, and now and then.

    Only receipts with an id above `after`. Inside a transaction.
    """
    moved: list[Moved] = []
    last = after
    while True:
        waiting = await db.rows(
            "SELECT * FROM receipts WHERE channel = ? AND effect = '' "
            f"AND received_at >= ? AND id > ? ORDER BY id LIMIT {BATCH}",
            channel,
            to_micros(core.clock.now() - WAITS),
            last,
        )
        if not waiting:
            return moved
        moved += await _apply_stored(core, channel, waiting)
        last = waiting[-1]["id"]


async def _apply_stored(core: Core, channel: str, rows: Sequence[Row]) -> list[Moved]:
    """Apply receipts that were stored before; the messages that moved."""
    unique = {row["id"]: row for row in rows}
    told = [
        Told(
            row["id"],
            row["provider_id"],
            row["reference"],
            row["state"],
            row["code"],
            bool(row["opted_out"]),
            row["at"],
            row["kind"],
            row["value"],
        )
        for row in unique.values()
    ]
    verdicts, moved = await _apply(core, channel, told)
    done = [
        (one.id, verdict.outbound_id, verdict.effect)
        for one, verdict in zip(told, verdicts, strict=True)
        if verdict.effect
    ]
    if done:
        columns = {"id": "BIGINT", "outbound_id": "BIGINT", "effect": "TEXT"}
        given, values = batch.table(columns, done)
        await db.execute(
            "UPDATE receipts SET outbound_id = g.outbound_id, effect = g.effect "
            f"FROM {given} AS g WHERE receipts.id = g.id",
            *values,
        )
    return moved


async def _apply(
    core: Core, channel: str, told: Sequence[Told]
) -> tuple[list[Verdict], list[Moved]]:
    """In the order in which they came."""
    if not told:
        return [], []
    if any(one.opted_out for one in told):
        await consent.hold_gate(alone=True)  # before any row is locked
    known = await whose.find(core, channel, told)
    verdicts = [_judge(one, known) for one in told]
    if any(one.value and not v.effect for one, v in zip(told, verdicts, strict=True)):
        verdicts = await _by_address(core, channel, told, verdicts, known)
    await _keep_parts(known.changed_parts.values())
    moved = await advance(list(known.moves.values()), core.clock.now(), known.rows)
    await _refuse(core, told, verdicts)
    _count(core, channel, Counter(one.after for one in moved))
    return verdicts, moved


def _count(core: Core, channel: str, ended: Mapping[str, int]) -> None:
    for state, number in ended.items():
        core.metrics.outbound.labels(channel, state).inc(number)


async def _by_address(
    core: Core,
    channel: str,
    told: Sequence[Told],
    verdicts: Sequence[Verdict],
    known: Known,
) -> list[Verdict]:
    """A receipt whose id we never heard of, for a person with whom exactly one message
    is in doubt, and none is on its way: the answer to it was lost, with the id in it.
    It ends the doubt."""
    lost = {
        n: one
        for n, (one, verdict) in enumerate(zip(told, verdicts, strict=True))
        if one.value and not verdict.effect and whose.message_of(one, known) is None
    }
    since = to_micros(core.clock.now() - WAITS)
    doubted = await whose.doubted(channel, {o.value for o in lost.values()}, since)
    places = {(row["kind"], row["value"]) for row in doubted}
    lost = {n: one for n, one in lost.items() if (one.kind, one.value) in places}
    # Its answer may have been settled while this was looked up: then it has its id.
    settled = await whose.find(core, channel, list(lost.values()))
    found = list(verdicts)
    for n, one in lost.items():
        rows = [r for r in doubted if (r["kind"], r["value"]) == (one.kind, one.value)]
        if (
            len(rows) != 1
            or one.state == "unknown"
            or not whose.can_tell_of(one, rows[0])
        ):
            continue
        if whose.message_of(one, settled) is not None:
            continue
        [row] = rows
        doubted.remove(row)
        known.rows[row["id"]] = row
        known.moves[row["id"]] = Move(
            row["id"], one.state, one.code, provider_id=one.provider_id
        )
        found[n] = Verdict(row["id"], "applied")
    return found


def _judge(one: Told, known: Known) -> Verdict:
    id = whose.message_of(one, known)
    if id is None or known.states[id] in _UNANSWERED:
        return _WAITING  # first its own answer; then this receipt again
    if one.state == "unknown":
        return Verdict(id, "unknown_word")
    after: str | None = one.state
    part = known.parts.get(one.provider_id)
    if part is not None and part["outbound_id"] == id:
        _judge_part(part, one, known)
        after = joined([p["state"] for p in known.of_message[id]])
        if after is None:
            return Verdict(id, "part")
    assert after is not None
    effect = _effect(known.states[id], after)
    if effect == "applied":
        known.moves[id] = Move(id, after, one.code)
        known.states[id] = after
    return Verdict(id, effect)


def _judge_part(part: Row, one: Told, known: Known) -> None:
    if _effect(part["state"], one.state) == "applied":
        part["state"], part["code"] = str(one.state), one.code
        known.changed_parts[part["id"]] = part


def joined(states: Sequence[str]) -> str | None:
    """What the parts of a message say together; None: not all have spoken yet.

    One part that failed fails the message: nobody can read it whole.
    """
    if "failed" in states:
        return "failed"
    if all(state == "read" for state in states):
        return "read"
    if all(state in ("delivered", "read") for state in states):
        return "delivered"
    return None


def _effect(before: str, after: str) -> str:
    if before == after:
        return "repeated"
    if after in OUTBOUND_MOVES[before] and RANK[after] > RANK[before]:
        return "applied"
    return "conflict" if RANK[after] == RANK[before] else "late"


async def _keep_parts(parts: Iterable[Row]) -> None:
    changed = [(part["id"], part["state"], part["code"]) for part in parts]
    if changed:
        columns = {"id": "BIGINT", "state": "TEXT", "code": "TEXT"}
        given, values = batch.table(columns, changed)
        await db.execute(
            f"UPDATE parts SET state = g.state, code = g.code FROM {given} AS g "
            "WHERE parts.id = g.id",
            *values,
        )


async def _refuse(
    core: Core, told: Sequence[Told], verdicts: Sequence[Verdict]
) -> None:
    """The provider's own blacklist: an opt-out."""
    for one, verdict in zip(told, verdicts, strict=True):
        if one.opted_out and verdict.outbound_id:
            [row] = await db.rows(
                "SELECT kind, value FROM outbox WHERE id = ?", verdict.outbound_id
            )
            address = Address(AddressKind(row["kind"]), row["value"])
            await consent.opt_out(core, address, how="provider", evidence=one.code)
