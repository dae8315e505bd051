"""What staff do with an inquiry. Each function is one transaction and one audit line.

Every function takes the inquiry's number and raises NotFound for one that is not in
the actor's subtree, exactly as for one that does not exist.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

from gateway import audit, wording
from gateway import database as db
from gateway.actors import GRANTS, Action, Actor, Role
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.errors import NotFound, RequestError
from gateway.inquiries import timeline
from gateway.inquiries.matters import Matter, Urgency
from gateway.inquiries.register import deadline_from
from gateway.inquiries.say import say, ways_to
from gateway.outbox import journal
from gateway.phrases import phrase
from gateway.status import InquiryState
from gateway.tables import (
    Inquiry,
    InquiryEvent,
    Member,
    Organisation,
    Outbound,
    Staff,
)

LONGEST_ANSWER = 4000  # characters
LONGEST_NUMBER = 24  # characters; the column takes no more


async def find(actor: Actor, number: str) -> Inquiry:
    """The inquiry with this number, if the actor may see it. Raises NotFound.

    Its first receiver keeps sight of a matter that was handed on (C2).
    """
    if len(number) > LONGEST_NUMBER:
        raise NotFound(number[:40])
    found = await Inquiry.get_or_none(number=number).prefetch_related("organisation")
    if found is None:
        raise NotFound(number[:40])
    if not actor.sees(found.organisation.path):
        first = await Organisation.get_or_none(id=found.first_organisation_id)
        if first is None or not actor.sees(first.path):
            raise NotFound(number[:40])
    return found


@asynccontextmanager
async def acting(
    core: Core,
    actor: Actor,
    number: str,
    act: str,
    action: Action = Action.WORK,
    **detail: Any,
) -> AsyncIterator[Inquiry]:
    """Lock, act, save, audit, commit; then tell pages and the sender."""
    actor.require(action)
    await find(actor, number)
    async with db.transaction():
        inquiry = await Inquiry.select_for_update().get(number=number)
        yield inquiry
        await inquiry.save()
        await audit.record(
            core.clock, actor, f"inquiry.{act}", f"inquiry:{number}", **detail
        )
    await timeline.announce(core, [inquiry.id])
    core.wakeups.wake_all()


async def answer(
    core: Core,
    actor: Actor,
    number: str,
    text: str,
    *,
    asks: bool = False,
    dedupe_key: str | None = None,
    hold: timedelta = timedelta(0),
) -> Outbound:
    """Send the member an answer on the channel that may carry it.

    `asks`: the answer asks for something, the matter waits for the member. `hold`: it
    leaves so much later and may be taken back until then. A second call with the same
    `dedupe_key` sends nothing. Raises RequestError(no_channel) where nothing can
    carry it; nothing is stored then.
    """
    text = checked(text, "text", "请写上答复内容")
    async with acting(core, actor, number, "answer") as inquiry:
        known = await Outbound.get_or_none(dedupe_key=dedupe_key or "")
        if known is not None:
            return known
        _not_closed(inquiry)
        outbound = await _say_or_refuse(core, actor, inquiry, text, dedupe_key, hold)
        take(inquiry, actor)
        if inquiry.first_response_at is None:
            inquiry.first_response_at = core.clock.now()
        inquiry.state = InquiryState.WAITING if asks else InquiryState.ANSWERED
        inquiry.attention = ""
    return outbound


async def _say_or_refuse(
    core: Core,
    actor: Actor,
    inquiry: Inquiry,
    text: str,
    dedupe_key: str | None,
    hold: timedelta,
) -> Outbound:
    with refusing_wording("text"):
        outbound = await say(
            core,
            inquiry,
            MessageKind.ANSWER,
            "answer",
            await ways_to(core, inquiry),
            kind="answer",
            actor=actor,
            values={"answer": text},
            dedupe_key=dedupe_key,
            due_at=core.clock.now() + hold,
            data={"words": text, "before": _standing(inquiry)},
        )
    if outbound is None:
        raise RequestError(
            "no_channel",
            "没有可用的渠道能把答复发给这位党员，请当面或电话告知后登记",
            status=409,
        )
    return outbound


def _standing(inquiry: Inquiry) -> dict[str, Any]:
    """What an answer changes, so that taking it back can restore it."""
    first = inquiry.first_response_at
    return {
        "state": inquiry.state,
        "attention": inquiry.attention,
        "owner": inquiry.owner_id,
        "first": None if first is None else to_micros(first),
    }


@contextmanager
def refusing_wording(field: str) -> Iterator[None]:
    """A placeholder that can't be filled is the writer's to mend, at `field`."""
    try:
        yield
    except wording.WordingError as error:
        problem = str(error)
    except wording.MissingValue as error:
        problem = phrase("“{field}”没有可填的内容，请直接写出来", field=error.field)
    except wording.OutputTooLong:
        problem = "填好以后太长了，请缩短"
    else:
        return
    raise RequestError("wording", problem, fields={field: problem}, status=422)


async def take_back(core: Core, actor: Actor, number: str, outbound_id: int) -> str:
    """Cancel an answer that has not left yet; its words, to be written anew.

    Raises RequestError(gone) where it has left.
    """
    async with acting(core, actor, number, "take_back", id=outbound_id) as inquiry:
        sent = await InquiryEvent.get_or_none(
            inquiry_id=inquiry.id, outbound_id=outbound_id, kind="answer"
        )
        if sent is None:
            raise NotFound("answer")
        cancelled = await journal.move(
            [outbound_id], "cancelled", "taken_back", core.clock.now()
        )
        if not cancelled:
            raise RequestError("gone", "已经发出，撤不回来了", status=409)
        if inquiry.state in (InquiryState.ANSWERED, InquiryState.WAITING):
            _restore(inquiry, sent.data["before"])
        await timeline.note(core, inquiry, "taken_back", actor)
    return str(sent.data["words"])


def _restore(inquiry: Inquiry, before: dict[str, Any]) -> None:
    inquiry.state = before["state"]
    inquiry.attention = before["attention"]
    inquiry.owner_id = before["owner"]
    first = before["first"]
    inquiry.first_response_at = None if first is None else from_micros(first)


async def tell_by_hand(core: Core, actor: Actor, number: str, text: str) -> None:
    """The answer was given by telephone or at the counter; it is only recorded."""
    text = checked(text, "text", "请写明怎样答复的")
    async with acting(core, actor, number, "tell") as inquiry:
        _not_closed(inquiry)
        await timeline.note(core, inquiry, "told", actor, text)
        take(inquiry, actor)
        if inquiry.first_response_at is None:
            inquiry.first_response_at = core.clock.now()
        inquiry.state = InquiryState.ANSWERED


async def remark(core: Core, actor: Actor, number: str, text: str) -> None:
    """An internal note; the member never sees it."""
    text = checked(text, "text", "请写上备注内容")
    async with acting(core, actor, number, "note") as inquiry:
        await timeline.note(core, inquiry, "note", actor, text)


async def claim(core: Core, actor: Actor, number: str) -> None:
    """The actor takes the matter and becomes its owner."""
    if actor.staff_id is None:
        raise RequestError("staff_only", "only a person can own a matter", status=409)
    async with acting(core, actor, number, "claim") as inquiry:
        inquiry.owner_id = actor.staff_id
        if inquiry.state == InquiryState.NEW:
            inquiry.state = InquiryState.OPEN
        await timeline.note(core, inquiry, "claimed", actor)


async def assign(core: Core, actor: Actor, number: str, username: str) -> None:
    """Another person of the same organisation, or of the actor's own, takes over."""
    async with acting(core, actor, number, "assign", to=username) as inquiry:
        _not_closed(inquiry)
        data = await _to_person(actor, inquiry, username)
        if inquiry.state == InquiryState.NEW:
            inquiry.state = InquiryState.OPEN
        await timeline.note(core, inquiry, "assigned", actor, data=data)


async def transfer(
    core: Core,
    actor: Actor,
    number: str,
    *,
    organisation_code: str = "",
    staff_username: str = "",
    reason: str = "",
) -> None:
    """Hand on to another organisation or person; the deadline goes on running.

    To the director of the same centre: `staff_username` of the director.
    """
    reason = checked(reason, "reason", "请写明转办原因")
    async with acting(
        core, actor, number, "transfer", to=organisation_code or staff_username
    ) as inquiry:
        _not_closed(inquiry)
        before = await Organisation.get(id=inquiry.organisation_id)
        if staff_username:
            data = await _to_person(actor, inquiry, staff_username)
        else:
            data = await _to_organisation(core, inquiry, organisation_code)
        data["from"] = before.name
        if inquiry.state == InquiryState.NEW:
            inquiry.state = InquiryState.OPEN
        await timeline.note(core, inquiry, "transferred", actor, reason, data=data)


async def _to_person(actor: Actor, inquiry: Inquiry, username: str) -> dict[str, Any]:
    """A person who may work it: of its organisation, or one the actor may see."""
    person = await Staff.get_or_none(username=username, active=True).prefetch_related(
        "organisation"
    )
    near = person is not None and (
        person.organisation.id == inquiry.organisation_id
        or actor.sees(person.organisation.path)
    )
    if person is None or not near or Action.WORK not in GRANTS[Role(person.role)]:
        raise RequestError("no_staff", fields={"to": "没有这位工作人员"}, status=422)
    inquiry.owner_id = person.id
    inquiry.organisation_id = person.organisation.id
    if person.role == Role.DIRECTOR:
        inquiry.attention = "director"
    return {"to": person.name, "organisation": person.organisation.name}


async def _to_organisation(core: Core, inquiry: Inquiry, code: str) -> dict[str, Any]:
    target = await Organisation.get_or_none(code=code)
    if target is None:
        raise RequestError("no_organisation", fields={"to": "没有这个单位"}, status=422)
    inquiry.organisation_id = target.id
    inquiry.owner_id = None
    return {"to": target.name, "organisation": target.name}


async def extend(
    core: Core, actor: Actor, number: str, *, working_days: int, reason: str
) -> None:
    """Give more time, with a reason; the member is told the new day (B5, C3)."""
    reason = checked(reason, "reason", "延期必须写明原因")
    if not 1 <= working_days <= 60:
        raise RequestError(
            "range",
            fields={"working_days": "延长的工作日应在 1 到 60 之间"},
            status=422,
        )
    async with acting(
        core, actor, number, "extend", Action.EXTEND, days=working_days
    ) as inquiry:
        _not_closed(inquiry)
        base = max(
            inquiry.deadline_at - inquiry.deadline_at.resolution, core.clock.now()
        )
        new = deadline_from(core, base, working_days)
        data = {"before": inquiry.deadline_at.isoformat(), "after": new.at.isoformat()}
        inquiry.deadline_at = new.at
        inquiry.deadline_provisional = new.provisional
        await timeline.note(core, inquiry, "extended", actor, reason, data=data)
        await say(
            core,
            inquiry,
            MessageKind.ANSWER,
            "extended",
            await ways_to(core, inquiry),
            kind="told_extended",
            actor=actor,
        )


async def classify(
    core: Core,
    actor: Actor,
    number: str,
    *,
    matter: str | None = None,
    urgency: str | None = None,
) -> None:
    """Correct the kind of matter or the urgency."""
    try:
        new_matter = None if matter is None else Matter(matter)
        new_urgency = None if urgency is None else Urgency(urgency)
    except ValueError:
        raise RequestError(
            "matter", fields={"matter": "没有这个类别或紧急程度"}, status=422
        ) from None
    async with acting(core, actor, number, "classify") as inquiry:
        data = {"matter": inquiry.matter, "urgency": inquiry.urgency}
        inquiry.matter = new_matter or inquiry.matter
        inquiry.urgency = new_urgency or inquiry.urgency
        await timeline.note(core, inquiry, "classified", actor, data={"before": data})


async def identify(core: Core, actor: Actor, number: str, member_id: int) -> None:
    """Say whose matter this is; the address itself stays unverified."""
    member = await _member(actor, member_id)
    async with acting(core, actor, number, "identify", member=member_id) as inquiry:
        inquiry.member_id = member.id
        inquiry.contact_name = member.name
        await timeline.note(core, inquiry, "identified", actor, member.name)


async def _member(actor: Actor, member_id: int) -> Member:
    member = await Member.get_or_none(id=member_id).prefetch_related("organisation")
    if member is None or not actor.sees(member.organisation.path):
        raise NotFound("member")
    return member


def take(inquiry: Inquiry, actor: Actor) -> None:
    """First contact is responsible (B10): who acts on an unowned matter owns it."""
    if inquiry.owner_id is None and actor.staff_id is not None:
        inquiry.owner_id = actor.staff_id


def _not_closed(inquiry: Inquiry) -> None:
    if inquiry.state == InquiryState.CLOSED:
        raise RequestError("closed", "这件咨询已办结，请先重新打开", status=409)


def checked(text: str, field: str, mend: str) -> str:
    text = text.strip()
    if not text:
        raise RequestError("empty", mend, fields={field: mend}, status=422)
    if len(text) > LONGEST_ANSWER:
        over = len(text) - LONGEST_ANSWER
        mend = phrase("太长了，请缩短 {n} 个字", n=over)
        raise RequestError("too_long", mend, fields={field: mend}, status=422)
    return text
