"""One message to one person over the API: its state, tries and receipts."""

from gateway.actors import Action, Actor
from gateway.api.operations import Call, Operation
from gateway.api.schemas import AttemptShown, Delivery, ReceiptShown
from gateway.errors import NotFound
from gateway.status import OutboundState
from gateway.tables import Attempt, Inquiry, Member, Organisation, Outbound, Receipt


async def read_delivery(call: Call) -> Delivery:
    found = await Outbound.get_or_none(id=call.id())
    if found is None or not await _visible(call.actor, found):
        raise NotFound
    inquiry = await Inquiry.get_or_none(id=found.inquiry_id)
    return Delivery(
        id=found.id,
        kind=found.message_kind,
        state=OutboundState(found.state),
        reason=found.reason,
        channel=found.channel,
        to=call.reached(found.kind, found.value),
        inquiry=None if inquiry is None else inquiry.number,
        broadcast_id=found.broadcast_id,
        member_id=found.member_id,
        due_at=found.due_at,
        expires_at=found.expires_at,
        created_at=found.created_at,
        changed_at=found.changed_at,
        attempts=await _attempts(found.id),
        receipts=await _receipts(found.id),
    )


async def _visible(actor: Actor, message: Outbound) -> bool:
    """Seen by those who see its inquiry, else its member; the rest by the top."""
    places = await _places(message)
    return any(actor.sees(place.path) for place in places)


async def _places(message: Outbound) -> list[Organisation]:
    if message.inquiry_id is not None:
        inquiry = await Inquiry.get(id=message.inquiry_id)
        wanted = [inquiry.organisation_id, inquiry.first_organisation_id]
        return await Organisation.filter(id__in=wanted)
    if message.member_id is not None:
        member = await Member.get_or_none(id=message.member_id)
        if member is not None:
            return await Organisation.filter(id=member.organisation_id)
    return await Organisation.filter(parent_id=None).order_by("id").limit(1)


async def _attempts(outbound_id: int) -> list[AttemptShown]:
    found = await Attempt.filter(outbound_id=outbound_id).order_by("number", "id")
    return [
        AttemptShown(
            number=one.number,
            channel=one.channel,
            outcome=one.outcome,
            code=one.code,
            journalled_at=one.journalled_at,
            answered_at=one.answered_at,
        )
        for one in found
    ]


async def _receipts(outbound_id: int) -> list[ReceiptShown]:
    found = await Receipt.filter(outbound_id=outbound_id).order_by("id")
    return [
        ReceiptShown(
            state=one.state,
            code=one.code,
            effect=one.effect,
            at=one.at,
            received_at=one.received_at,
        )
        for one in found
    ]


OPERATIONS = (
    Operation(
        method="GET",
        path="/deliveries/{id}",
        action=Action.READ,
        summary="What became of one message.",
        handler=read_delivery,
        answer=Delivery,
    ),
)
