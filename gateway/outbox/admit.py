"""Which due rows may leave now, and as what message: the gate with its facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway import database as db
from gateway import wording
from gateway.channels import Channel, NoRoute, Reach, Refusal, refusal
from gateway.consent import QuietHours
from gateway.contract import (
    Address,
    AddressKind,
    MessageKind,
    OutboundMessage,
    TemplateUse,
)
from gateway.core import Core
from gateway.database import Row, from_micros
from gateway.members.consent import opt_out_path
from gateway.outbox import journal
from gateway.outbox.enqueue import reaches, route_for
from gateway.outbox.gate import (
    UNASKED,
    Decision,
    Drop,
    Facts,
    Postpone,
    Reroute,
    Send,
    decide,
)
from gateway.tables import Content, InquiryEvent
from gateway.text import length
from gateway.texts import fill, variant


@dataclass(frozen=True, slots=True)
class Admitted:
    row: Row
    message: OutboundMessage


class NotSayable(ValueError):
    """The row's text can't be said on its channel; `code` says why."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


async def admit(core: Core, channel: Channel, room: int) -> list[Admitted]:
    """Rows that go out now, at most `room`; all others are moved where they belong.

    Runs inside the transaction that journals them.
    """
    if room <= 0:
        return []
    rows = await journal.due(channel.name, core.clock.now(), room)
    if not rows:
        return []
    known = await _known(core, channel, rows)
    contents = await _contents(rows)
    policy, zone = core.settings.policy, core.settings.centre.timezone
    quiet = QuietHours(start=policy.allowed_until, end=policy.allowed_from)
    admitted = []
    for row in rows:
        decision = decide(_facts(core, channel, row, known), quiet, zone)
        if await _stays(core, row, decision):
            continue
        try:
            said = message(channel, row, contents)
            admitted.append(Admitted(row, _with_way_out(core, row, said, known)))
        except NotSayable as error:
            await journal.move(
                [row["id"]], "suppressed", error.code, core.clock.now(), error.detail
            )
    return admitted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    refused: set[tuple[str, str]]
    refused_members: set[int]
    subscribed: set[tuple[str, str]]
    address_ids: Mapping[tuple[str, str], int]
    last_inbound: Mapping[tuple[str, str], int]
    replies: Mapping[tuple[str, str], int]


async def _known(core: Core, channel: Channel, rows: Sequence[Row]) -> _Known:
    values = sorted({row["value"] for row in rows})
    members = sorted({row["member_id"] for row in rows if row["member_id"] is not None})
    refused = await db.rows(
        "SELECT kind, value FROM opt_outs WHERE ended_at IS NULL "
        f"AND value IN ({db.marks(len(values))})",
        *values,
    )
    refused_members = await db.rows(
        "SELECT member_id FROM opt_outs WHERE ended_at IS NULL "
        f"AND member_id IN ({db.marks(len(members)) or 'NULL'})",
        *members,
    )
    subscribed = await db.rows(
        "SELECT kind, value FROM subscriptions WHERE topic = 'daily' "
        f"AND ended_at IS NULL AND value IN ({db.marks(len(values))})",
        *values,
    )
    places = await db.rows(
        "SELECT id, kind, value, last_inbound_at FROM addresses "
        f"WHERE value IN ({db.marks(len(values))})",
        *values,
    )
    return _Known(
        refused={(r["kind"], r["value"]) for r in refused},
        refused_members={r["member_id"] for r in refused_members},
        subscribed={(r["kind"], r["value"]) for r in subscribed},
        address_ids={(r["kind"], r["value"]): r["id"] for r in places},
        last_inbound={
            (r["kind"], r["value"]): r["last_inbound_at"]
            for r in places
            if r["last_inbound_at"] is not None
        },
        replies=await _replies(channel, values),
    )


async def _replies(
    channel: Channel, values: Sequence[str]
) -> Mapping[tuple[str, str], int]:
    """Messages sent to each address since its last one to us, where that is limited."""
    if channel.capabilities.replies_per_message is None:
        return {}
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


def _facts(core: Core, channel: Channel, row: Row, known: _Known) -> Facts:
    address = (row["kind"], row["value"])
    kind = MessageKind(row["message_kind"])
    expires = row["expires_at"]
    return Facts(
        kind=kind,
        now=core.clock.now(),
        expires_at=None if expires is None else from_micros(expires),
        opted_out=address in known.refused or row["member_id"] in known.refused_members,
        subscribed=kind is not MessageKind.DAILY or address in known.subscribed,
        refusal=refusal(channel, kind, _reach(row, known), core.clock.now()),
    )


def _reach(row: Row, known: _Known) -> Reach:
    address = (row["kind"], row["value"])
    last = known.last_inbound.get(address)
    return Reach(
        address=Address(AddressKind(row["kind"]), row["value"]),
        channel=row["channel"],
        last_inbound_at=None if last is None else from_micros(last),
        replies_used=known.replies.get(address, 0),
    )


async def _stays(core: Core, row: Row, decision: Decision) -> bool:
    """Carry out a decision that is not "send"; whether the row stays behind."""
    now = core.clock.now()
    match decision:
        case Send():
            return False
        case Drop(state, reason):
            await journal.move([row["id"]], state, reason, now)
        case Postpone(until, reason):
            await journal.postpone([row["id"]], until, reason)
        case Reroute(reason):
            await _reroute(core, row, reason)
    return True


async def _reroute(core: Core, row: Row, reason: str) -> None:
    """Move a row to the member's next permitted channel, or end it with the reason."""
    kind = MessageKind(row["message_kind"])
    ways = await reaches(core, row["member_id"])
    here = (row["kind"], row["value"])
    ways = [w for w in ways if (w.address.kind.value, w.address.value) != here]
    route = await route_for(core, kind, ways)
    passed = [Refusal(row["channel"], reason), *route.refusals]
    why = ", ".join(f"{one.channel}:{one.code}" for one in passed)
    if isinstance(route, NoRoute):
        await journal.move(
            [row["id"]], "suppressed", "no_channel", core.clock.now(), why
        )
    else:
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
        core.wakeups.wake(f"sender:{route.channel.name}")
    if row["inquiry_id"] is not None:
        new = "" if isinstance(route, NoRoute) else route.channel.name
        await InquiryEvent.create(
            inquiry_id=row["inquiry_id"],
            at=core.clock.now(),
            kind="rerouted",
            outbound_id=row["id"],
            data={"from": row["channel"], "to": new, "why": why},
        )


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


async def _contents(rows: Sequence[Row]) -> Mapping[int, Mapping[str, str]]:
    ids = {row["content_id"] for row in rows if row["content_id"] is not None}
    found: list[Any] = await Content.filter(id__in=ids) if ids else []
    return {content.id: dict(content.texts) for content in found}


def message(
    channel: Channel, row: Row, contents: Mapping[int, Mapping[str, str]]
) -> OutboundMessage:
    """The row as its channel will say it. Raises NotSayable."""
    kind = AddressKind(row["kind"])
    extras = dict(row["extras"])
    try:
        text = row["text"]
        if text is None:
            texts = contents[row["content_id"]]
            text = fill(variant(texts, kind), row["variables"])
            extras.setdefault(
                "subject", fill(texts.get("subject", ""), row["variables"])
            )
        template = _template(channel, row, text)
    except wording.MissingValue as error:
        raise NotSayable("value_missing", error.field) from error
    except (wording.WordingError, wording.OutputTooLong, KeyError) as error:
        raise NotSayable("bad_text", str(error)) from error
    limits = channel.capabilities
    if length(channel.common.signature + text, limits.encoding) > limits.max_length:
        raise NotSayable("too_long")
    return OutboundMessage(
        id=str(row["id"]),
        kind=MessageKind(row["message_kind"]),
        to=Address(kind, row["value"]),
        text=text,
        template=template,
        subject=str(extras.get("subject", "")),
        html=str(extras.get("html", "")),
        in_reply_to=str(extras.get("in_reply_to", "")),
        references=tuple(extras.get("references", ())),
        reply_token=str(extras.get("reply_token", "")),
        mention=str(extras.get("mention", "")),
        unsubscribe_url=str(extras.get("unsubscribe_url", "")),
    )


def _with_way_out(
    core: Core, row: Row, said: OutboundMessage, known: _Known
) -> OutboundMessage:
    """Unasked mail carries the one-click opt-out of its very address (RFC 8058)."""
    id = known.address_ids.get((row["kind"], row["value"]))
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
