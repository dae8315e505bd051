"""Matters brought to the counter or by telephone, entered by who took them."""

import re
from dataclasses import dataclass

from tortoise.exceptions import IntegrityError

from gateway import addresses, audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.contract import Address
from gateway.core import Core
from gateway.errors import RequestError
from gateway.inquiries import register, timeline
from gateway.inquiries.matters import Matter, Urgency
from gateway.inquiries.work import LONGEST_ANSWER
from gateway.members import consent
from gateway.phrases import phrase
from gateway.status import InquiryState
from gateway.tables import IdempotencyKey, Inquiry, Member

SOURCES = ("counter", "phone")
_TOKEN = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The form as it was typed; `form` is its token: one form, one inquiry."""

    source: str = "counter"
    member_id: int | None = None
    contact_name: str = ""
    phone: str = ""
    matter: str = ""
    urgency: str = ""
    text: str = ""
    answer: str = ""
    form: str = ""


async def enter(core: Core, actor: Actor, entered: Entered) -> str:
    """Register it, answered already where an answer was given; its number.

    Raises RequestError with every field that has to be mended.
    """
    actor.require(Action.WORK)
    address = _checked(entered)
    member = await _member(actor, entered.member_id, address)
    known = await _number_of(actor, entered.form)
    if known is not None:
        return known
    try:
        async with db.transaction():
            inquiry = await _store(core, actor, entered, address, member)
    except IntegrityError:  # the same form, sent twice at once
        known = await _number_of(actor, entered.form)
        if known is None:
            raise
        return known
    await timeline.announce(core, [inquiry.id])
    return inquiry.number


def _checked(entered: Entered) -> Address | None:
    faults: dict[str, str] = {}
    if not entered.text.strip():
        faults["text"] = "请写明诉求内容"
    for name in ("text", "answer"):
        if len(getattr(entered, name)) > LONGEST_ANSWER:
            faults[name] = phrase("太长了，最多 {n} 个字", n=LONGEST_ANSWER)
    if entered.source not in SOURCES:
        faults["source"] = "请选择来访或来电"
    if entered.matter and entered.matter not in list(Matter):
        faults["matter"] = "没有这个类别"
    if entered.urgency and entered.urgency not in list(Urgency):
        faults["urgency"] = "没有这个紧急程度"
    address = None
    if entered.phone.strip():
        try:
            address = addresses.phone(entered.phone)
        except addresses.AddressError as error:
            faults["phone"] = str(error)
    if faults:
        raise RequestError("invalid", "请先改正", status=422, fields=faults)
    return address


async def _member(
    actor: Actor, chosen: int | None, address: Address | None
) -> Member | None:
    """The member who was chosen, else whose verified telephone this is."""
    id = chosen
    if id is None and address is not None:
        id = await consent.member_of(address)
    member = await Member.get_or_none(id=id).prefetch_related("organisation")
    if member is None or not actor.sees(member.organisation.path):
        if chosen is not None:
            mend = {"member_id": "没有这位党员"}
            raise RequestError("no_member", "没有这位党员", status=422, fields=mend)
        return None
    return member


async def _store(
    core: Core,
    actor: Actor,
    entered: Entered,
    address: Address | None,
    member: Member | None,
) -> Inquiry:
    new = register.NewMatter(
        source=entered.source,
        text=entered.text,
        organisation_id=actor.organisation_id,
        member_id=None if member is None else member.id,
        contact_name=entered.contact_name,
        address=address,
        matter=Matter(entered.matter) if entered.matter else None,
        urgency=Urgency(entered.urgency or "normal"),
    )
    inquiry = await register.by_staff(core, actor, new)
    if entered.answer.strip():
        await _answered(core, actor, inquiry, entered.answer.strip())
    if _TOKEN.fullmatch(entered.form):
        await IdempotencyKey.create(
            owner=_owner(actor),
            key=entered.form,
            request_hash="",
            status=303,
            response=inquiry.number,
            created_at=core.clock.now(),
        )
    await audit.record(
        core.clock, actor, "inquiry.registered", f"inquiry:{inquiry.number}"
    )
    return inquiry


async def _answered(core: Core, actor: Actor, inquiry: Inquiry, answer: str) -> None:
    """Answered on the spot: what the clerk can answer is answered at once (B4)."""
    await timeline.note(core, inquiry, "told", actor, answer)
    inquiry.state = InquiryState.ANSWERED
    inquiry.first_response_at = core.clock.now()
    await inquiry.save()


def _owner(actor: Actor) -> str:
    return f"counter:{actor.staff_id or actor.name}"[:80]


async def _number_of(actor: Actor, form: str) -> str | None:
    if not _TOKEN.fullmatch(form):
        return None
    found = await IdempotencyKey.get_or_none(owner=_owner(actor), key=form)
    return None if found is None else str(found.response)
