"""Which due rows may leave now, and as what message: the gate with its facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway import database as db
from gateway import wording
from gateway.channels import Channel, NoRoute, Reach, Refusal, refusal
from gateway.contract import (
    Address,
    AddressKind,
    MessageKind,
    OutboundMessage,
    TemplateUse,
)
from gateway.core import Core
from gateway.database import Row, from_micros, to_micros
from gateway.members import erasure
from gateway.members.consent import opt_out_path
from gateway.outbox.enqueue import reaches, route_for
from gateway.outbox.gate import (
    ERASED,
    UNASKED,
    Drop,
    Facts,
    Postpone,
    Reroute,
    Send,
    decide,
)
from gateway.outbox.moves import Move, advance
from gateway.tables import Content, InquiryEvent
from gateway.text import length
from gateway.texts import fill, variant

LISTED = "listed_already"  # why nobody gets a broadcast at a further address
_MOST_CONTENTS = 200  # texts kept in memory
_KINDS: Mapping[str, AddressKind] = {kind.value: kind for kind in AddressKind}
_MESSAGE_KINDS: Mapping[str, MessageKind] = {kind.value: kind for kind in MessageKind}


@dataclass(frozen=True, slots=True)
class Admitted:
    row: Row
    message: OutboundMessage


@dataclass(frozen=True, slots=True)
class Passed:
    """Who passed the gate, and the channels to which it sent others."""

    admitted: Sequence[Admitted] = ()
    rerouted: frozenset[str] = frozenset()


class NotSayable(ValueError):
    """The row's text can't be said on its channel; `code` says why."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


class Contents:
    """The frozen texts of broadcasts, read once: they never change."""

    def __init__(self) -> None:
        self._texts: dict[int, Mapping[str, str]] = {}

    async def of(self, rows: Sequence[Row]) -> Mapping[int, Mapping[str, str]]:
        wanted = {row["content_id"] for row in rows if row["content_id"] is not None}
        missing = wanted - self._texts.keys()
        if missing:
            if len(self._texts) > _MOST_CONTENTS:
                self._texts.clear()
                missing = wanted
            found: list[Any] = await Content.filter(id__in=missing)
            self._texts |= {one.id: dict(one.texts) for one in found}
        return self._texts


async def admit(
    core: Core, channel: Channel, rows: Sequence[Row], contents: Contents
) -> Passed:
    """Those of `rows` (see `journal`) that go out now; the others are moved where they
    belong. Runs inside the transaction that journals them.
    """
    if not rows:
        return Passed()
    now = core.clock.now()
    replies = await _replies(channel, rows)
    frozen = await contents.of(rows)
    gate = _Gate(core, channel, now)
    admitted: list[Admitted] = []
    moves: list[Move] = []
    rerouted: set[str] = set()
    gone: list[Row] = []
    for row in rows:
        match gate.decide(row, replies):
            case Send():
                pass
            case Drop(state, reason):
                moves.append(Move(row["id"], state, reason))
                if reason == ERASED:
                    gone.append(row)
                continue
            case Postpone(until, reason):
                moves.append(_postponed(row, until, reason))
                continue
            case Reroute(reason):
                rerouted |= await _reroute(core, row, reason)
                continue
        try:
            said = message(channel, row, frozen)
            admitted.append(Admitted(row, _with_way_out(core, row, said)))
        except NotSayable as error:
            moves.append(Move(row["id"], "suppressed", error.code, error.detail))
    await _carry_out(moves, now)
    if gone:
        await erasure.shut_out(gone, now)
    return Passed(admitted, frozenset(rerouted))


_SEND = Send()


class _Gate:
    """The gate for many rows of one channel at one moment.

    Nearly all of them may leave, and what that takes is known beforehand; only the
    others are decided with all their facts.
    """

    def __init__(self, core: Core, channel: Channel, now: datetime) -> None:
        self._quiet = core.quiet_hours
        self._zone = core.settings.centre.timezone
        self._channel, self._now = channel, now
        self._at = to_micros(now)
        is_quiet = self._quiet.is_quiet(now, self._zone)
        nobody = Reach(address=Address(AddressKind.PHONE, ""))
        # Kinds that this channel may carry to everybody, whenever they last wrote.
        self._to_all = {
            kind.value
            for kind in MessageKind
            if channel.capabilities.reply_window is None
            and refusal(channel, kind, nobody, now) is None
            and not (is_quiet and kind in UNASKED)
        }

    def decide(
        self, row: Row, replies: Mapping[tuple[str, str], int]
    ) -> Send | Drop | Postpone | Reroute:
        if (
            row["message_kind"] in self._to_all
            and not row["refused"]
            and not row["erased"]
            and row["subscribed"]
            and not row["capped"]
            and (row["expires_at"] is None or self._at < row["expires_at"])
        ):
            return _SEND
        facts = _facts(self._channel, row, replies, self._now)
        return decide(facts, self._quiet, self._zone)


def _postponed(row: Row, until: datetime, reason: str) -> Move:
    return Move(row["id"], "queued", reason, due_at=to_micros(until))


async def _carry_out(moves: Sequence[Move], now: datetime) -> None:
    """A queued row that is postponed doesn't change its state."""
    await advance(moves, now)
    later = [move for move in moves if move.state == "queued"]
    if later:
        columns = {"id": "BIGINT", "due_at": "BIGINT", "reason": "TEXT"}
        given, values = db.table(columns, [(m.id, m.due_at, m.reason) for m in later])
        await db.execute(
            "UPDATE outbox SET due_at = g.due_at, reason = g.reason "
            f"FROM {given} AS g WHERE outbox.id = g.id AND outbox.state = 'queued'",
            *values,
        )


async def _replies(
    channel: Channel, rows: Sequence[Row]
) -> Mapping[tuple[str, str], int]:
    """Messages sent to each address since its last one to us, where that is limited."""
    if channel.capabilities.replies_per_message is None:
        return {}
    values = sorted({row["value"] for row in rows})
    found = await db.rows(
        "SELECT t.kind, t.value, COUNT(*) AS n FROM attempts t JOIN addresses a "
        "ON a.kind = t.kind AND a.value = t.value WHERE t.channel = ? "
        "AND t.journalled_at >= a.last_inbound_at "
        "AND t.outcome IN ('', 'accepted', 'unknown') "
        f"AND t.value IN ({db.marks(len(values))}) GROUP BY t.kind, t.value",
        channel.name,
        *values,
    )
    return {(row["kind"], row["value"]): row["n"] for row in found}


def _facts(
    channel: Channel,
    row: Row,
    replies: Mapping[tuple[str, str], int],
    now: datetime,
) -> Facts:
    kind = MessageKind(row["message_kind"])
    expires = row["expires_at"]
    return Facts(
        kind=kind,
        now=now,
        expires_at=None if expires is None else from_micros(expires),
        erased=bool(row["erased"]),
        opted_out=bool(row["refused"]),
        subscribed=bool(row["subscribed"]),
        capped=bool(row["capped"]),
        refusal=refusal(channel, kind, _reach(row, replies), now),
    )


def _reach(row: Row, replies: Mapping[tuple[str, str], int]) -> Reach:
    last = row["last_inbound_at"]
    return Reach(
        address=Address(AddressKind(row["kind"]), row["value"]),
        channel=row["channel"],
        last_inbound_at=None if last is None else from_micros(last),
        replies_used=replies.get((row["kind"], row["value"]), 0),
    )


async def _reroute(core: Core, row: Row, reason: str) -> set[str]:
    """Move a row to the member's next permitted channel, or end it with the reason.

    The channel that has it now, if one has.
    """
    kind = MessageKind(row["message_kind"])
    ways = await reaches(core, row["member_id"])
    here = (row["kind"], row["value"])
    ways = [w for w in ways if (w.address.kind.value, w.address.value) != here]
    free = await _free(row, ways)
    route = await route_for(core, kind, free)
    taken = [Refusal(w.address.kind, LISTED) for w in ways if w not in free]
    passed = [Refusal(row["channel"], reason), *taken, *route.refusals]
    why = ", ".join(f"{one.channel}:{one.code}" for one in passed)
    if isinstance(route, NoRoute):
        end = LISTED if taken else "no_channel"
        move = Move(row["id"], "suppressed", end, why)
        await advance([move], core.clock.now())
    else:
        # Alone from now on: its chunk belongs to the channel that can't carry it.
        await advance([Move(row["id"], "queued")], core.clock.now())
        await db.execute(
            "UPDATE outbox SET channel = ?, kind = ?, value = ?, reason = 'rerouted', "
            "detail = ? WHERE id = ? AND state = 'queued'",
            route.channel.name,
            route.reach.address.kind.value,
            route.reach.address.value,
            why,
            row["id"],
        )
        await _move_questions(row, route.reach.address)
    if row["inquiry_id"] is not None:
        new = "" if isinstance(route, NoRoute) else route.channel.name
        await InquiryEvent.create(
            inquiry_id=row["inquiry_id"],
            at=core.clock.now(),
            kind="rerouted",
            outbound_id=row["id"],
            data={"from": row["channel"], "to": new, "why": why},
        )
    return set() if isinstance(route, NoRoute) else {route.channel.name}


async def _free(row: Row, ways: Sequence[Reach]) -> list[Reach]:
    """Without the addresses that this very broadcast writes to already: each gets it
    once (A-15)."""
    values = [way.address.value for way in ways]
    found = await db.rows(
        "SELECT kind, value FROM outbox WHERE broadcast_id = ? "
        f"AND value IN ({db.marks(len(values)) or 'NULL'})",
        row["broadcast_id"],
        *values,
    )
    taken = {(one["kind"], one["value"]) for one in found}
    return [w for w in ways if (w.address.kind.value, w.address.value) not in taken]


async def _move_questions(row: Row, to: Address) -> None:
    """What the message asks is answered where it arrives."""
    callback = row["message_kind"] == MessageKind.CALLBACK
    await db.execute(
        "UPDATE prompts SET kind = ?, value = ? WHERE kind = ? AND value = ? "
        "AND closed_at IS NULL AND (broadcast_id = ? OR inquiry_id = ?)",
        to.kind.value,
        to.value,
        row["kind"],
        row["value"],
        row["broadcast_id"],
        row["inquiry_id"] if callback else None,
    )


def message(
    channel: Channel, row: Row, contents: Mapping[int, Mapping[str, str]]
) -> OutboundMessage:
    """The row as its channel will say it. Raises NotSayable."""
    try:
        text, extras = _worded(channel, row, contents)
        template = _template(channel, row, text)
    except wording.MissingValue as error:
        raise NotSayable("value_missing", error.field) from error
    except (wording.WordingError, wording.OutputTooLong, KeyError) as error:
        raise NotSayable("bad_text", str(error)) from error
    limits = channel.capabilities
    whole = channel.common.signature + text
    # No encoding of ours needs more than four units for a character.
    if len(whole) * 4 > limits.max_length and (
        length(whole, limits.encoding) > limits.max_length
    ):
        raise NotSayable("too_long")
    said = OutboundMessage(
        id=str(row["id"]),
        kind=_MESSAGE_KINDS[row["message_kind"]],
        to=Address(_KINDS[row["kind"]], row["value"]),
        text=text,
        template=template,
    )
    return _with_extras(said, extras) if extras else said


def _worded(
    channel: Channel, row: Row, contents: Mapping[int, Mapping[str, str]]
) -> tuple[str, Mapping[str, Any]]:
    """Text and extras: the row's own, or the frozen ones with its values."""
    if row["text"] is not None:
        return row["text"], row["extras"]
    texts, values = contents[row["content_id"]], row["variables"]
    text = fill(variant(texts, _KINDS[row["kind"]]), values)
    if not channel.capabilities.subject:
        return text, row["extras"]
    return text, {"subject": fill(texts.get("subject", ""), values), **row["extras"]}


def _with_extras(said: OutboundMessage, extras: Mapping[str, Any]) -> OutboundMessage:
    return replace(
        said,
        subject=str(extras.get("subject", "")),
        in_reply_to=str(extras.get("in_reply_to", "")),
        references=tuple(extras.get("references", ())),
        reply_token=str(extras.get("reply_token", "")),
        mention=str(extras.get("mention", "")),
        unsubscribe_url=str(extras.get("unsubscribe_url", "")),
    )


def _with_way_out(core: Core, row: Row, said: OutboundMessage) -> OutboundMessage:
    """Unasked mail carries the one-click opt-out of its very address (RFC 8058)."""
    id = row["address_id"]
    if id is None or said.kind not in UNASKED or said.to.kind is not AddressKind.EMAIL:
        return said
    url = core.settings.server.public_url.rstrip("/") + opt_out_path(core, id)
    return replace(said, unsubscribe_url=url)


def _template(channel: Channel, row: Row, text: str) -> TemplateUse | None:
    """The approved template of a channel that carries no free text."""
    if channel.capabilities.free_text:
        return None
    binding = channel.binding(MessageKind(row["message_kind"]))
    if binding is None:
        raise NotSayable("template_only")
    values = {"text": text, **row["variables"]}
    variables = {
        name: fill(wanted, values) for name, wanted in binding.variables.items()
    }
    return TemplateUse(binding.template, variables)
