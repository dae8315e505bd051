"""A matter becomes an inquiry: number, organisation, owner, deadline, first line."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway import sla
from gateway.actors import GATEWAY, Actor
from gateway.channels import Reach
from gateway.contract import Address, MessageKind
from gateway.core import Core
from gateway.errors import RequestError
from gateway.inquiries import matters, timeline
from gateway.inquiries.busy import Busy, OpenInquiries
from gateway.inquiries.say import say
from gateway.status import InquiryState
from gateway.tables import Inbound, Inquiry, Member, Organisation

LATEST = timedelta(hours=48)  # a provider's time-stamp older than that is not believed


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMatter:
    """A matter entered by staff (counter, phone) or over the API."""

    source: str  # counter, phone, api
    text: str
    organisation_id: int
    member_id: int | None = None
    contact_name: str = ""
    address: Address | None = None
    matter: matters.Matter | None = None
    urgency: matters.Urgency = matters.Urgency.NORMAL
    owner_id: int | None = None


async def from_message(core: Core, message: Inbound, reach: Reach) -> Inquiry:
    """Register what a message asks, and answer at once when a person will.

    Runs in the router's transaction.
    """
    received = received_at(message.sent_at, message.received_at, core.clock.now())
    organisation = await home_centre(message.member_id)
    member = await Member.get_or_none(id=message.member_id)
    text = text_of(message.subject, message.text)
    inquiry = await _create(
        core,
        received=received,
        organisation_id=organisation.id,
        member_id=message.member_id,
        owner_id=await _owner(core, organisation.id),
        source="message",
        channel=message.channel,
        kind=message.kind,
        value=message.value,
        conversation_kind=message.conversation_kind,
        conversation_value=message.conversation_value,
        contact_name=member.name if member else message.display_name[:64],
        text=text.strip(),
        matter=matters.guess(text),
        urgency=matters.guess_urgency(text),
        last_inbound_at=received,
    )
    await timeline.note(
        core, inquiry, "received", GATEWAY, message.text, inbound_id=message.id
    )
    if not message.automatic:
        await acknowledge(core, inquiry, reach, message)
    await inquiry.save()
    return inquiry


async def _owner(core: Core, organisation_id: int) -> int | None:
    busy = await Busy.of([organisation_id], OpenInquiries(core.clock))
    return busy.give(organisation_id)


def text_of(subject: str, text: str) -> str:
    """What a message asks."""
    return f"{subject}\n{text}" if subject else text


async def acknowledge(
    core: Core, inquiry: Inquiry, reach: Reach, message: Inbound
) -> None:
    """The automatic receipt: number, deadline, and outside hours when work begins."""
    if await _too_many_receipts(core, message):
        await timeline.note(core, inquiry, "receipt_skipped", GATEWAY)
        return
    working = core.working_hours.is_open(core.clock.now(), core.calendar)
    name = "receipt_working" if working else "receipt_after_hours"
    await say(core, inquiry, MessageKind.RECEIPT, name, [reach], kind="receipt")


async def _too_many_receipts(core: Core, message: Inbound) -> bool:
    since = core.clock.now() - timedelta(days=1)
    sent = await Inquiry.filter(
        kind=message.kind, value=message.value, received_at__gte=since
    ).count()
    return sent > core.settings.policy.automatic_answers_per_day


async def by_staff(core: Core, actor: Actor, new: NewMatter) -> Inquiry:
    """A walk-in or telephone matter; its taker owns it (first contact responsible).

    Runs inside the caller's transaction.
    """
    text = new.text.strip()
    if not text:
        raise RequestError("empty", fields={"text": "请写明诉求内容"}, status=422)
    member = await Member.get_or_none(id=new.member_id)
    name = new.contact_name.strip() or (member.name if member else "")
    inquiry = await _create(
        core,
        received=core.clock.now(),
        organisation_id=new.organisation_id,
        member_id=new.member_id,
        owner_id=new.owner_id or actor.staff_id,
        source=new.source,
        kind=new.address.kind if new.address else "",
        value=new.address.value if new.address else "",
        contact_name=name[:64],
        text=text,
        matter=new.matter or matters.guess(text),
        urgency=new.urgency,
    )
    await timeline.note(core, inquiry, "registered", actor, text)
    await inquiry.save()
    return inquiry


async def _create(core: Core, *, received: datetime, **values: Any) -> Inquiry:
    due = deadline_from(core, received)
    return await Inquiry.create(
        number=await timeline.next_number(core, received),
        first_organisation_id=values["organisation_id"],
        state=InquiryState.NEW,
        received_at=received,
        deadline_at=due.at,
        deadline_provisional=due.provisional,
        changed_at=core.clock.now(),
        **values,
    )


def deadline_from(core: Core, at: datetime, days: int | None = None) -> sla.Deadline:
    """`days` working days after `at`; the centre's usual number without it."""
    centre = core.settings.centre
    count = days or centre.deadline_working_days
    return sla.deadline(at, count, core.calendar, centre.timezone)


def received_at(sent: datetime | None, ours: datetime, now: datetime) -> datetime:
    """The provider's time where it is plausible, else ours (reliability 2.3)."""
    if sent is None or sent > now or now - sent > LATEST:
        return ours
    return sent


async def home_centre(member_id: int | None) -> Organisation:
    """Where a person's matter is worked: the centre above their branch (A3).

    An unknown person's matter goes to the top of the tree.
    """
    if member_id is not None:
        member = await Member.get_or_none(id=member_id).prefetch_related("organisation")
        if member is not None:
            above = [int(i) for i in member.organisation.path.strip("/").split("/")]
            centres = await Organisation.filter(
                id__in=above, kind__in=["centre", "county"]
            ).order_by("-path")
            if centres:
                return max(centres, key=lambda one: len(one.path))
    top = await Organisation.filter(parent_id=None).order_by("id").first()
    if top is None:
        raise RequestError("no_organisation", "add an organisation first", status=409)
    return top
