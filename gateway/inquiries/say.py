"""Messages of an inquiry to its member: the standard text, the route, the timeline."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from gateway import tokens
from gateway.actors import GATEWAY, Actor
from gateway.channels import NoRoute, Reach, Route
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.inquiries import timeline
from gateway.outbox.enqueue import Draft, enqueue, reaches, route_for
from gateway.tables import Inbound, Inquiry, Organisation, Outbound
from gateway.texts import fill


async def ways_to(core: Core, inquiry: Inquiry) -> list[Reach]:
    """Where the member wrote last on this matter, then the member's other addresses."""
    last = (
        await Inbound.filter(inquiry_id=inquiry.id, automatic=False)
        .order_by("-id")
        .first()
    )
    # Without its address where its sender was erased.
    first = reach_of(last) if last is not None and last.value else None
    if first is None and inquiry.value:
        address = Address(AddressKind(inquiry.kind), inquiry.value)
        first = Reach(address=address, channel=inquiry.channel)
    return await reaches(core, inquiry.member_id, first)


class Written(Protocol):
    """What is known of a message that came in."""

    @property
    def channel(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def conversation_kind(self) -> str: ...
    @property
    def conversation_value(self) -> str: ...
    @property
    def provider_id(self) -> str: ...
    @property
    def received_at(self) -> datetime: ...


_KINDS = {kind.value: kind for kind in AddressKind}


def reach_of(message: Written) -> Reach:
    """How to answer this very message; in a group, there and by name."""
    sender = Address(_KINDS[message.kind], message.value)
    group = None
    if message.conversation_value:
        kind = _KINDS[message.conversation_kind]
        group = Address(kind, message.conversation_value)
    return Reach(
        address=group or sender,
        channel=message.channel,
        last_inbound_at=message.received_at,
        in_reply_to=message.provider_id,
        mention=sender.value if group else "",
    )


async def values_of(core: Core, inquiry: Inquiry) -> dict[str, str]:
    """What the placeholders of an inquiry's texts are filled with."""
    organisation = await Organisation.get(id=inquiry.organisation_id)
    return {
        "name": _greeted(inquiry),
        "number": inquiry.number,
        "deadline": day_text(core, inquiry.deadline_at),
        "centre": organisation.name,
        "hours": hours_text(core),
    }


def _greeted(inquiry: Inquiry) -> str:
    """What a stranger's message calls its sender is not repeated in our name."""
    unknown = inquiry.member_id is None and inquiry.source == "message"
    return "" if unknown else inquiry.contact_name


def day_text(core: Core, at: datetime) -> str:
    """The last day of a deadline as people say it: 24:00 belongs to the day before."""
    local = (at - at.resolution).astimezone(core.settings.centre.timezone)
    return f"{local.month}月{local.day}日"


def hours_text(core: Core) -> str:
    spells = core.settings.centre.opens
    return "、".join(f"{a:%H:%M}-{b:%H:%M}" for a, b in spells)


async def say(
    core: Core,
    inquiry: Inquiry,
    message_kind: MessageKind,
    text_name: str,
    ways: Sequence[Reach],
    *,
    kind: str,
    actor: Actor = GATEWAY,
    values: Mapping[str, str] | None = None,
    dedupe_key: str | None = None,
    due_at: datetime | None = None,
    data: Mapping[str, Any] | None = None,
) -> Outbound | None:
    """Enqueue one standard text and note it; None where no channel may carry it.

    The note says which channel was chosen, and why others were passed over. `kind` is
    the timeline's word for it, `data` is kept with it.
    """
    route = await route_for(core, message_kind, ways)
    refusals = [f"{one.channel}:{one.code}" for one in route.refusals]
    if isinstance(route, NoRoute):
        tried = {"refusals": refusals, "kind": kind}
        await timeline.note(core, inquiry, "no_channel", actor, data=tried)
        return None
    known = {**await values_of(core, inquiry), **(values or {})}
    text, subject = render(core, text_name, route, known)
    token = tokens.sign(core.keys.derive("inquiry"), "inquiry", inquiry.id)
    extras = {"reply_token": token, "subject": await _subject(inquiry, subject)}
    outbound = await enqueue(
        core,
        Draft(
            kind=message_kind,
            text=text,
            variables=known,
            member_id=inquiry.member_id,
            inquiry_id=inquiry.id,
            dedupe_key=dedupe_key,
            due_at=due_at,
            extras=extras,
        ),
        route,
    )
    if outbound is not None:
        chosen = {"channel": route.channel.name, "refusals": refusals}
        await timeline.note(
            core,
            inquiry,
            kind,
            actor,
            text,
            outbound_id=outbound.id,
            data=chosen | dict(data or {}),
        )
    return outbound


def render(
    core: Core, text_name: str, route: Route, values: Mapping[str, str]
) -> tuple[str, str]:
    """Text and subject. Placeholders inside a clerk's own words are filled too."""
    kind = route.reach.address.kind
    language = core.settings.centre.language
    inner = dict(values)
    for name in ("answer", "outcome"):
        if name in inner:
            inner[name] = fill(inner[name], values)
    text = core.texts.render(text_name, kind, inner, language)
    return text, core.texts.subject(text_name, inner, language)


async def _subject(inquiry: Inquiry, standard: str) -> str:
    """An answer to a mail keeps that mail's subject."""
    if inquiry.kind != AddressKind.EMAIL:
        return standard
    last = await Inbound.filter(inquiry_id=inquiry.id).order_by("-id").first()
    if last is None or not last.subject:
        return standard
    subject = last.subject
    return subject if subject.lower().startswith("re:") else f"Re: {subject}"
