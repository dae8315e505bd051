"""An inquiry's end: closing, the call-back, its rating, and reopening."""

from datetime import timedelta
from typing import Any

from gateway import addresses
from gateway.actors import GATEWAY, Actor
from gateway.channels import NoRoute, Reach
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.errors import RequestError
from gateway.inquiries import timeline
from gateway.inquiries.register import deadline_from
from gateway.inquiries.say import say, values_of, ways_to
from gateway.inquiries.work import acting, checked, refusing_wording, take
from gateway.outbox.enqueue import Draft, enqueue, route_for
from gateway.prompts import PromptKind
from gateway.questions import ask
from gateway.status import InquiryState
from gateway.tables import Inquiry, Organisation, Staff

DISSATISFIED = 3
OPTIONS = "1满意 2基本满意 3不满意"


async def close(
    core: Core, actor: Actor, number: str, outcome: str, *, call_back: bool = True
) -> None:
    """Close with the outcome; with `call_back` tell it and ask for satisfaction."""
    outcome = checked(outcome, "outcome", "请写明办理结果")
    async with acting(core, actor, number, "close") as inquiry:
        if inquiry.state == InquiryState.CLOSED:
            raise RequestError("closed", "这件咨询已经办结", status=409)
        inquiry.state = InquiryState.CLOSED
        inquiry.outcome = outcome
        inquiry.closed_at = core.clock.now()
        inquiry.attention = ""
        take(inquiry, actor)
        await timeline.note(core, inquiry, "closed", actor, outcome)
        if call_back:
            await _call_back(core, inquiry)


async def _call_back(core: Core, inquiry: Inquiry) -> None:
    """Tell the outcome and ask 1 to 3, in the transaction of the closing."""
    with refusing_wording("outcome"):
        outbound = await say(
            core,
            inquiry,
            MessageKind.CALLBACK,
            "callback",
            await ways_to(core, inquiry),
            kind="callback",
            values={"outcome": _sentence(inquiry.outcome), "options": OPTIONS},
            dedupe_key=f"callback:{inquiry.id}:{inquiry.reopened}",
        )
    if outbound is None:
        return
    expires = core.clock.now() + timedelta(days=core.settings.policy.prompt_days)
    extras: dict[str, Any] = dict(outbound.extras)
    mention = str(extras.get("mention", ""))
    address = Address(AddressKind(outbound.kind), outbound.value)
    if mention:  # asked in a group, answered by the person
        address = Address(AddressKind.QQ, mention)
    await ask(core, address, PromptKind.RATING, expires, inquiry_id=inquiry.id)


def _sentence(text: str) -> str:
    return text if text[-1:] in "。！？.!?" else f"{text}。"


async def rated(
    core: Core, inquiry: Inquiry, rating: int, actor: Actor = GATEWAY, **more: Any
) -> None:
    """Record a rating; dissatisfied reopens. Runs in the caller's transaction."""
    inquiry.rating = rating
    await timeline.note(core, inquiry, "rated", actor, data={"rating": rating}, **more)
    text = "callback_thanks"
    if rating == DISSATISFIED and inquiry.state == InquiryState.CLOSED:
        await _reopen(core, inquiry, actor, "dissatisfied")
        await _tell_director(core, inquiry)
        text = "callback_reopened"
    if actor is GATEWAY:
        ways = await ways_to(core, inquiry)
        await say(core, inquiry, MessageKind.SYSTEM, text, ways, kind="thanked")
    await inquiry.save()


async def rate_by_hand(core: Core, actor: Actor, number: str, rating: int) -> None:
    """A rating that staff were told on the telephone or at the counter."""
    if rating not in (1, 2, 3):
        raise RequestError(
            "rating",
            fields={"rating": "请选择 1 满意、2 基本满意或 3 不满意"},
            status=422,
        )
    async with acting(core, actor, number, "rate", rating=rating) as inquiry:
        await rated(core, inquiry, rating, actor)


async def reopen(core: Core, actor: Actor, number: str, reason: str) -> None:
    reason = checked(reason, "reason", "请写明重新打开的原因")
    async with acting(core, actor, number, "reopen") as inquiry:
        if inquiry.state != InquiryState.CLOSED:
            raise RequestError("open", "这件咨询还没有办结", status=409)
        await _reopen(core, inquiry, actor, reason)


async def _reopen(core: Core, inquiry: Inquiry, actor: Actor, reason: str) -> None:
    """Back to work with a new deadline; the number and the first receipt stay."""
    new = deadline_from(core, core.clock.now())
    inquiry.state = InquiryState.OPEN
    inquiry.reopened += 1
    inquiry.closed_at = None
    inquiry.deadline_at = new.at
    inquiry.deadline_provisional = new.provisional
    await timeline.note(core, inquiry, "reopened", actor, reason)


async def reopened_by_message(core: Core, inquiry: Inquiry) -> None:
    await _reopen(core, inquiry, GATEWAY, "message")


async def _tell_director(core: Core, inquiry: Inquiry) -> None:
    """Mark it for the director, and write to those who left a mail address."""
    inquiry.attention = "director"
    organisation = await Organisation.get(id=inquiry.organisation_id)
    await timeline.note(core, inquiry, "director_told", GATEWAY)
    directors = await Staff.filter(
        organisation_id=organisation.id, role="director", active=True
    ).exclude(email="")
    for director in directors:
        await _mail(core, inquiry, director)


async def _mail(core: Core, inquiry: Inquiry, director: Staff) -> None:
    reach = Reach(address=addresses.email(director.email))
    route = await route_for(core, MessageKind.SYSTEM, [reach])
    if isinstance(route, NoRoute):
        return
    values = await values_of(core, inquiry)
    text = (
        f"咨询单 {inquiry.number} 的会员对办理结果不满意，已重新办理，"
        f"请在{values['deadline']}前督办。"
    )
    await enqueue(
        core,
        Draft(
            kind=MessageKind.SYSTEM,
            text=text,
            dedupe_key=f"director:{inquiry.id}:{inquiry.reopened}:{director.id}",
            extras={"subject": f"请督办：{inquiry.number}"},
        ),
        route,
    )


async def dismiss_attention(core: Core, actor: Actor, number: str) -> None:
    """The director has seen it."""
    async with acting(core, actor, number, "seen") as inquiry:
        inquiry.attention = ""
        await timeline.note(core, inquiry, "seen", actor)
