"""What the router does with a message once it knows what it means.

Everything here runs in the router's transaction; each function leaves the message
with its state, its rule (`route`) and, where one applies, its inquiry.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from gateway import questions
from gateway.actors import GATEWAY
from gateway.channels import NoRoute, Reach
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.inbox import binding
from gateway.inbox.route import CommandName
from gateway.inquiries import closing, timeline
from gateway.inquiries import register as registering
from gateway.inquiries.say import hours_text
from gateway.members import consent
from gateway.outbox.enqueue import Draft, enqueue, route_for
from gateway.prompts import PromptKind
from gateway.status import InquiryState
from gateway.tables import Inbound, Inquiry, Member, Outbound, PromptRow
from gateway.text import excerpt

if TYPE_CHECKING:
    from gateway.inbox.router import Today


def sender_of(message: Inbound) -> Address:
    return Address(AddressKind(message.kind), message.value)


def review(message: Inbound, reason: str, candidates: Sequence[int] = ()) -> None:
    """Before staff: it could mean several things."""
    message.state = "review"
    message.route = reason
    message.route_detail = ",".join(map(str, candidates))


async def register(core: Core, message: Inbound, reach: Reach) -> None:
    inquiry = await registering.from_message(core, message, reach)
    _filed(message, inquiry, "new")


async def append(
    core: Core,
    message: Inbound,
    inquiry_id: int,
    reason: str,
    *,
    thanks: bool = False,
) -> None:
    """More on a matter: it is open again, unless the text only thanks."""
    inquiry = await Inquiry.select_for_update().get(id=inquiry_id)
    await timeline.note(
        core, inquiry, "message_in", GATEWAY, message.text, inbound_id=message.id
    )
    inquiry.last_inbound_at = message.received_at
    if not thanks:
        if inquiry.state == InquiryState.CLOSED:
            await closing.reopened_by_message(core, inquiry)
        elif inquiry.state in (InquiryState.ANSWERED, InquiryState.WAITING):
            inquiry.state = InquiryState.OPEN
    await inquiry.save()
    _filed(message, inquiry, reason)


def _filed(message: Inbound, inquiry: Inquiry, route: str) -> None:
    message.state = "filed"
    message.route = route
    message.inquiry_id = inquiry.id


async def refuse(core: Core, message: Inbound, reach: Reach, rest: str) -> None:
    """Stop what is unasked, confirm once, and keep what was asked besides (B-24)."""
    new = await consent.opt_out(
        core,
        sender_of(message),
        how="word",
        evidence=excerpt(message.text, 80),
        inbound_id=message.id,
    )
    if new:
        await reply(core, message, reach, "opt_out_done")
    _handled(message, "opt_out")
    if rest:
        await register(core, message, reach)


async def resume(core: Core, message: Inbound, reach: Reach) -> None:
    await consent.resume(core, sender_of(message), how="word")
    await reply(core, message, reach, "opt_in_done")
    _handled(message, "opt_in")


def _handled(message: Inbound, route: str, detail: str = "") -> None:
    message.state = "handled"
    message.route = route
    message.route_detail = detail


async def answer_prompt(
    core: Core, message: Inbound, reach: Reach, prompt_id: int, value: str
) -> None:
    prompt = await PromptRow.get(id=prompt_id)
    await questions.answered(core, prompt, value, message.id)
    _handled(message, f"prompt_{prompt.prompt}", value)
    if prompt.prompt == PromptKind.RATING and prompt.inquiry_id is not None:
        inquiry = await Inquiry.select_for_update().get(id=prompt.inquiry_id)
        message.inquiry_id = inquiry.id
        message.state = "filed"
        await closing.rated(core, inquiry, int(value), inbound_id=message.id)
    elif prompt.prompt == PromptKind.RSVP:
        title = str(dict(prompt.data).get("title", ""))
        await reply(core, message, reach, f"notice_rsvp_{value}", title=title)


async def announce(core: Core, message: Inbound) -> None:
    """Tell open pages what a message changed; before the commit they read too soon."""
    if message.inquiry_id is not None:
        await timeline.announce(core, [message.inquiry_id])
    if message.route in (f"prompt_{PromptKind.RSVP}", "staff"):
        answered = PromptRow.filter(kind=message.kind, value=message.value)
        for prompt in await answered.filter(inbound_id=message.id):
            if prompt.broadcast_id is not None:
                core.hub.publish("broadcast", prompt.broadcast_id)


async def command(
    core: Core,
    message: Inbound,
    reach: Reach,
    name: CommandName,
    argument: str,
    today: "Today",
) -> None:
    """The same words mean the same on every channel."""
    _handled(message, f"command_{name}")
    sender = sender_of(message)
    match name:
        case CommandName.HELP:
            await reply(core, message, reach, "help", hours=hours_text(core))
        case CommandName.SUBSCRIBE:
            await consent.subscribe(core, sender, how="word")
            await reply(core, message, reach, "daily_subscribed")
        case CommandName.UNSUBSCRIBE:
            await consent.unsubscribe(core, sender)
            await reply(core, message, reach, "daily_unsubscribed")
        case CommandName.TODAY:
            await _today(core, message, reach, today)
        case CommandName.PROGRESS:
            await _progress(core, message, reach)
        case CommandName.BIND:
            await binding.bind(core, message, reach, argument)


async def _today(core: Core, message: Inbound, reach: Reach, today: "Today") -> None:
    entry = await today()
    if entry is None:
        await reply(core, message, reach, "daily_none")
        return
    question, answer, basis = entry
    await reply(
        core,
        message,
        reach,
        "today",
        question=question,
        answer_text=answer,
        basis=basis,
    )


_STATES = {
    "new": "待受理",
    "open": "办理中",
    "waiting": "待您补充",
    "answered": "已答复",
    "closed": "已办结",
}


async def _progress(core: Core, message: Inbound, reach: Reach) -> None:
    """The state of the newest matter of this very address."""
    newest = (
        await Inquiry.filter(kind=message.kind, value=message.value)
        .order_by("-id")
        .first()
    )
    if newest is None:
        await reply(core, message, reach, "progress_none")
        return
    await reply(
        core,
        message,
        reach,
        "progress",
        number=newest.number,
        outcome=_STATES[newest.state],
    )


async def reply(
    core: Core, message: Inbound, reach: Reach, text_name: str, **values: str
) -> Outbound | None:
    """Answer a command on the channel it came by; at most a few a day to strangers."""
    if await _flooding(core, message):
        message.route_detail = "not_answered: too many messages"
        return None
    route = await route_for(core, MessageKind.SYSTEM, [reach])
    if isinstance(route, NoRoute):
        codes = ", ".join(f"{one.channel}:{one.code}" for one in route.refusals)
        message.route_detail = f"not_answered: {codes}"
        return None
    known = {"name": await _name(message), **values}
    language = core.settings.centre.language
    text = core.texts.render(text_name, route.reach.address.kind, known, language)
    return await enqueue(
        core,
        Draft(
            kind=MessageKind.SYSTEM,
            text=text,
            variables=known,
            member_id=message.member_id,
            inbound_id=message.id,
            dedupe_key=f"reply:{message.id}:{text_name}",
            extras={"subject": core.texts.subject(text_name, known, language)},
        ),
        route,
    )


async def _name(message: Inbound) -> str:
    member = await Member.get_or_none(id=message.member_id)
    return member.name if member else ""


async def _flooding(core: Core, message: Inbound) -> bool:
    since = core.clock.now() - timedelta(minutes=10)
    recent = await Inbound.filter(
        kind=message.kind, value=message.value, received_at__gte=since
    ).count()
    return recent > core.settings.policy.messages_per_10_minutes
