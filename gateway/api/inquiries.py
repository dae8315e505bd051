"""Inquiries over the API: list, read, register, answer, hand on, close."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway import addresses, audit
from gateway.actors import Action
from gateway.addresses import AddressError
from gateway.api.openapi import NUMBER
from gateway.api.operations import Call, Operation
from gateway.api.schemas import (
    Closing,
    Contact,
    InquiryDetail,
    InquiryFilter,
    InquiryList,
    InquirySummary,
    NewInquiry,
    Replied,
    Reply,
    Standing,
    TimelineLine,
    Transfer,
)
from gateway.contract import Address, AddressKind
from gateway.database import Row, from_micros, transaction
from gateway.errors import NotFound, RequestError
from gateway.inquiries import closing, queries, register, timeline, work
from gateway.inquiries.register import NewMatter
from gateway.members import consent, registry
from gateway.status import InquiryState, OutboundState
from gateway.tables import Inquiry, InquiryEvent, Organisation, Outbound

_RESOURCE = "inquiries"


async def list_inquiries(call: Call, query: InquiryFilter) -> InquiryList:
    wanted = queries.Filter(
        tab="all", state=query.state or "", channel=query.channel, q=query.q
    )
    found = await queries.listing(
        call.actor,
        wanted,
        call.core.clock.now(),
        call.place(_RESOURCE, query.cursor),
        query.limit,
    )
    items = [InquirySummary(**_summary(call, row)) for row in found.rows]
    return InquiryList(items=items, next=call.next(_RESOURCE, found.cursor))


def _summary(call: Call, row: Row) -> dict[str, Any]:
    value = row["value"]
    return {
        "contact": call.reached(row["kind"], value) if value else None,
        **{
            name: row[name]
            for name in (
                *("number", "state", "source", "channel", "contact_name", "member"),
                *("matter", "urgency", "text", "organisation", "owner", "attention"),
            )
        },
        **{name: _at(row[name]) for name in _INSTANTS},
        "deadline_provisional": bool(row["deadline_provisional"]),
    }


_INSTANTS = (
    *("received_at", "deadline_at", "first_response_at", "closed_at", "changed_at"),
)


def _at(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _number(call: Call) -> str:
    """The number in the path; NotFound where it can't be one."""
    number = call.request.match_info["number"]
    if not re.fullmatch(NUMBER, number, re.ASCII):
        raise NotFound
    return number


async def read_inquiry(call: Call) -> InquiryDetail:
    inquiry = await work.find(call.actor, _number(call))
    wanted = queries.Filter(tab="all")
    row = await queries.one_row(call.actor, wanted, call.core.clock.now(), inquiry.id)
    if row is None:
        raise NotFound
    return InquiryDetail(
        **_summary(call, row),
        member_id=inquiry.member_id,
        outcome=inquiry.outcome,
        rating=inquiry.rating,
        reopened=inquiry.reopened,
        timeline=await _timeline(inquiry.id),
    )


async def _timeline(inquiry_id: int) -> list[TimelineLine]:
    events = await InquiryEvent.filter(inquiry_id=inquiry_id).order_by("id")
    states = await _states(events)
    return [_line(event, states) for event in events]


async def _states(events: Sequence[InquiryEvent]) -> Mapping[int, OutboundState]:
    sent = [event.outbound_id for event in events if event.outbound_id is not None]
    found = await Outbound.filter(id__in=sent).values_list("id", "state")
    return {int(str(id)): OutboundState(str(state)) for id, state in found}


def _line(event: InquiryEvent, states: Mapping[int, OutboundState]) -> TimelineLine:
    # The rest of `data` is for the desk's own use.
    return TimelineLine(
        id=event.id,
        at=event.at,
        kind=event.kind,
        actor=event.actor,
        text=event.text,
        delivery_id=event.outbound_id,
        delivery_state=states.get(event.outbound_id or 0),
        channel=event.data.get("channel", ""),
        refusals=event.data.get("refusals", []),
    )


async def create_inquiry(call: Call, body: NewInquiry) -> Standing:
    if body.member_id is None and body.contact is None:
        detail = "give member_id or contact, or nobody can be answered"
        raise RequestError("nobody", detail, status=422, fields={"contact": detail})
    where = None if body.contact is None else address(body.contact, "contact")
    new = NewMatter(
        source="api",
        text=body.text,
        organisation_id=await organisation_id(call, body.organisation),
        member_id=await _member_id(call, body.member_id, where),
        contact_name=body.contact_name,
        address=where,
        matter=body.matter,
        urgency=body.urgency,
    )
    async with transaction():
        inquiry = await register.by_staff(call.core, call.actor, new)
        await audit.record(
            call.core.clock,
            call.actor,
            "inquiry.registered",
            f"inquiry:{inquiry.number}",
        )
    await timeline.announce(call.core, [inquiry.id])
    return await _standing(inquiry.number)


async def _member_id(
    call: Call, given: int | None, where: Address | None
) -> int | None:
    """The member who was named, else whose verified address it is."""
    if given is not None:
        return int((await registry.find(call.actor, given)).id)
    owner = None if where is None else await consent.member_of(where)
    if owner is None:
        return None
    try:
        return int((await registry.find(call.actor, owner)).id)
    except NotFound:
        return None


async def organisation_id(call: Call, code: str | None) -> int:
    """The organisation with this code in the actor's subtree; without one its own."""
    if not code:
        return call.actor.organisation_id
    found = await Organisation.get_or_none(code=code, path__startswith=call.actor.path)
    if found is None:
        raise NotFound
    return found.id


def address(contact: Contact, field: str) -> Address:
    """The normal form; RequestError says what is wrong at `field`."""
    try:
        return addresses.parse(AddressKind(contact.kind), contact.value)
    except AddressError as error:
        fault = str(error)
        raise RequestError(
            "address", fault, status=422, fields={f"{field}.value": fault}
        ) from None


async def _standing(number: str) -> Standing:
    inquiry = await Inquiry.get(number=number).prefetch_related("organisation")
    return Standing(
        number=number,
        state=InquiryState(inquiry.state),
        organisation=inquiry.organisation.name,
        deadline_at=inquiry.deadline_at,
        closed_at=inquiry.closed_at,
        changed_at=inquiry.changed_at,
    )


async def reply(call: Call, body: Reply) -> Replied:
    number = _number(call)
    sent = await work.answer(call.core, call.actor, number, body.text, asks=body.asks)
    inquiry = await Inquiry.get(number=number)
    return Replied(
        number=number,
        state=InquiryState(inquiry.state),
        delivery_id=sent.id,
        channel=sent.channel,
        due_at=sent.due_at,
    )


async def transfer(call: Call, body: Transfer) -> Standing:
    if (body.organisation is None) == (body.staff is None):
        detail = "give either organisation or staff"
        raise RequestError("to", detail, status=422, fields={"organisation": detail})
    number = _number(call)
    await work.transfer(
        call.core,
        call.actor,
        number,
        organisation_code=body.organisation or "",
        staff_username=body.staff or "",
        reason=body.reason,
    )
    return await _standing(number)


async def close(call: Call, body: Closing) -> Standing:
    number = _number(call)
    await closing.close(
        call.core, call.actor, number, body.outcome, call_back=body.call_back
    )
    return await _standing(number)


OPERATIONS = (
    Operation(
        method="GET",
        path="/inquiries",
        action=Action.READ,
        summary="Inquiries, the last changed first.",
        handler=list_inquiries,
        query=InquiryFilter,
        answer=InquiryList,
    ),
    Operation(
        method="POST",
        path="/inquiries",
        action=Action.WORK,
        summary="Register a matter that came another way.",
        handler=create_inquiry,
        body=NewInquiry,
        answer=Standing,
        status=201,
        keyed=True,
    ),
    Operation(
        method="GET",
        path="/inquiries/{number}",
        action=Action.READ,
        summary="One inquiry with its timeline.",
        handler=read_inquiry,
        answer=InquiryDetail,
    ),
    Operation(
        method="POST",
        path="/inquiries/{number}/replies",
        action=Action.WORK,
        summary="Answer the member on the channel that may carry it.",
        handler=reply,
        body=Reply,
        answer=Replied,
        status=201,
        conflicts=("closed", "no_channel"),
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/inquiries/{number}/transfer",
        action=Action.WORK,
        summary="Hand on to another organisation or person.",
        handler=transfer,
        body=Transfer,
        answer=Standing,
        conflicts=("closed",),
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/inquiries/{number}/close",
        action=Action.WORK,
        summary="Close with an outcome, and call back.",
        handler=close,
        body=Closing,
        answer=Standing,
        conflicts=("closed",),
        keyed=True,
    ),
)
