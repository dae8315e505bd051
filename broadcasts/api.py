"""Activity notices over the API: written, approved by another, sent, watched."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from broadcasts import approval, notices, recipients, running
from broadcasts.content import LONGEST_TITLE, Draft
from broadcasts.tables import Broadcast
from gateway.actors import Action
from gateway.addresses import mask
from gateway.api.operations import Call, Operation
from gateway.api.schemas import Body, Code, Contact, Id, Output, Paged, Tag
from gateway.contract import Address, AddressKind
from gateway.status import BroadcastState, Bucket, OutboundState, Standing

_RESOURCE = "recipients"
_LONGEST_TEXT = 10_000  # characters
_LONGEST_LIST = 5_000  # entries; longer ones don't fit into a request


def _plausible(at: datetime) -> datetime:
    """In UTC; beyond these years arithmetic with zones leaves the calendar."""
    if not 2000 <= at.year <= 2100:
        raise ValueError("a year from 2000 to 2100 is expected")
    return at.astimezone(UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_plausible)]
Wording = Annotated[str, StringConstraints(max_length=_LONGEST_TEXT)]


class Texts(Body):
    """One wording per kind of channel; `default` stands in for those left out."""

    sms: Wording = ""
    default: Wording = ""
    email: Wording = ""
    qq: Wording = ""
    wechat: Wording = ""
    subject: Annotated[str, StringConstraints(max_length=500)] = ""


class OrganisationAudience(Body):
    type: Literal["organisation"]
    code: Code
    with_subtree: bool = True


class TagAudience(Body):
    type: Literal["tag"]
    tag: Tag


class ListAudience(Body):
    """Members by id, or by an address of theirs, which is then used first."""

    type: Literal["list"]
    ids: list[Id] = Field(default_factory=list, max_length=_LONGEST_LIST)
    addresses: list[Contact] = Field(default_factory=list, max_length=_LONGEST_LIST)


Audience = Annotated[
    OrganisationAudience | TagAudience | ListAudience, Field(discriminator="type")
]


class NewBroadcast(Body):
    kind: Literal["notice"]
    title: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TITLE)]
    texts: Texts
    audience: Audience
    send_at: Instant | None = Field(
        None, description="Without it: sent by `start` after the approval."
    )
    rsvp: bool = Field(False, description="Ask who comes.")
    event_at: Instant | None = None
    place: Annotated[str, StringConstraints(max_length=LONGEST_TITLE)] = ""
    expires_at: Instant | None = Field(None, description="Not sent after that.")
    exclude_bad: bool = Field(
        False, description="Leave out whom the text can't be said to."
    )
    confirmed: bool = Field(False, description="An unusually large audience is meant.")


class Approval(Body):
    hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] = Field(
        description="`hash` of what was read: an edit since then is not approved."
    )
    confirmed: bool = Field(False, description="An unusually large audience is meant.")


class Again(Body):
    unknown: bool = Field(
        False, description="Also to those of whom nobody knows; they may have it."
    )
    in_part: bool = Field(
        False, description="Also to those who got some parts of a long message."
    )
    reason: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", description="Why that is right; needed with `unknown` and `in_part`."
    )


class Answers(Output):
    yes: int
    no: int
    silent: int


class BroadcastShown(Output):
    id: int
    kind: str
    title: str
    state: BroadcastState | Standing
    hash: str = Field(description="Of text, audience and time, for the approval.")
    texts: dict[str, str]
    audience: dict[str, Any]
    rsvp: bool
    event_at: datetime | None
    place: str
    send_at: datetime | None
    expires_at: datetime | None
    created_by: str
    approved_by: str
    note: str = Field(description="Why it was handed back, or not sent.")
    planned: int
    states: dict[OutboundState, int] = Field(description="Add up to `planned`.")
    balanced: bool = Field(description="Whether they do; true in `planning`.")
    counts: dict[Bucket, int] = Field(description="The same, as people count.")
    canary: str = Field(
        description="Of those who go ahead: waiting, passed, stopped; empty: none."
    )
    left_out: dict[str, int] = Field(
        description="People of the audience who are not in `planned`, by reason."
    )
    answers: Answers | None
    started_at: datetime | None
    finished_at: datetime | None


class RecipientFilter(Paged):
    state: Bucket | OutboundState | None = None
    q: str = Field("", max_length=60, description="Part of a name or organisation.")


class RecipientShown(Output):
    delivery_id: int
    member_id: int | None
    name: str
    organisation: str
    channel: str
    kind: str
    to: str = Field(description="Masked.")
    state: OutboundState
    reason: str = Field(description="Code; empty where the state says it all.")
    answer: str = Field(description="yes, no; empty: none yet")
    attended: bool
    changed_at: datetime


class RecipientList(Output):
    items: list[RecipientShown]
    next: str | None


async def try_new(call: Call, body: NewBroadcast) -> approval.Tried:
    return await approval.try_new(
        call.core, call.actor, _draft(body), confirmed=body.confirmed
    )


async def create_broadcast(call: Call, body: NewBroadcast) -> BroadcastShown:
    """Drafted and submitted: both or neither."""
    made = await approval.propose(call.core, call.actor, _draft(body), call.ahead)
    return await _acted(call, made)


def _draft(body: NewBroadcast) -> Draft:
    return Draft(
        title=body.title,
        texts={name: text for name, text in body.texts.model_dump().items() if text},
        audience=body.audience.model_dump(mode="json"),
        rsvp=body.rsvp,
        event_at=body.event_at,
        place=body.place,
        send_at=body.send_at,
        expires_at=body.expires_at,
        exclude_bad=body.exclude_bad,
    )


async def _acted(call: Call, broadcast: Broadcast) -> BroadcastShown:
    """Answers to POST are kept with their key, so a list in them is masked."""
    return await _shown(call, broadcast, masked=True)


async def _shown(call: Call, broadcast: Broadcast, masked: bool) -> BroadcastShown:
    found = await recipients.overview(call.actor, broadcast.id)
    broadcast, said = found.broadcast, found.answers
    return BroadcastShown(
        id=broadcast.id,
        kind=broadcast.kind,
        title=broadcast.title,
        state=found.standing,
        hash=notices.digest(broadcast),
        texts=broadcast.texts,
        audience=_audience(broadcast.audience, masked),
        rsvp=broadcast.rsvp,
        event_at=broadcast.event_at,
        place=broadcast.place,
        send_at=broadcast.send_at,
        expires_at=broadcast.expires_at,
        created_by=broadcast.created_by,
        approved_by=broadcast.approved_by,
        note=broadcast.note,
        planned=broadcast.planned,
        states=dict(found.states),
        balanced=found.is_balanced,
        counts=dict(found.counts),
        canary=broadcast.canary,
        left_out={one["reason"]: one["count"] for one in broadcast.left_out},
        answers=None if said is None else _answers(said),
        started_at=broadcast.started_at,
        finished_at=broadcast.finished_at,
    )


def _answers(said: recipients.Answers) -> Answers:
    return Answers(yes=said.yes, no=said.no, silent=said.silent)


def _audience(described: Mapping[str, Any], masked: bool) -> dict[str, Any]:
    shown = dict(described)
    if masked and "addresses" in shown:
        shown["addresses"] = [_masked(one) for one in shown["addresses"]]
    return shown


def _masked(one: Mapping[str, str]) -> dict[str, str]:
    address = Address(AddressKind(one["kind"]), one["value"])
    return {"kind": one["kind"], "value": mask(address)}


async def read_broadcast(call: Call) -> BroadcastShown:
    found = await notices.find(call.actor, call.id())
    return await _shown(call, found, masked=not call.actor.may(Action.WORK))


async def try_approval(call: Call, body: Approval) -> approval.Tried:
    return await approval.try_approval(
        call.core, call.actor, call.id(), body.hash, confirmed=body.confirmed
    )


async def approve_broadcast(call: Call, body: Approval) -> BroadcastShown:
    approved = await approval.approve_tried(
        call.core, call.actor, call.id(), body.hash, call.ahead
    )
    return await _acted(call, approved)


async def start_broadcast(call: Call) -> BroadcastShown:
    return await _acted(call, await running.start(call.core, call.actor, call.id()))


async def pause_broadcast(call: Call) -> BroadcastShown:
    return await _acted(call, await running.pause(call.core, call.actor, call.id()))


async def resume_broadcast(call: Call) -> BroadcastShown:
    return await _acted(call, await running.resume(call.core, call.actor, call.id()))


async def cancel_broadcast(call: Call) -> BroadcastShown:
    return await _acted(call, await running.cancel(call.core, call.actor, call.id()))


async def send_again(call: Call, body: Again) -> BroadcastShown:
    found, _ = await running.resend(
        call.core,
        call.actor,
        call.id(),
        unknown=body.unknown,
        in_part=body.in_part,
        reason=body.reason,
    )
    return await _acted(call, found)


async def list_recipients(call: Call, query: RecipientFilter) -> RecipientList:
    place = call.place(_RESOURCE, query.cursor)
    found = await recipients.recipients(
        call.actor,
        call.id(),
        state=query.state or "",
        q=query.q,
        after=int(place) if place else 0,
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    more = len(found) > query.limit
    return RecipientList(
        items=[_recipient(one) for one in shown],
        next=call.next(_RESOURCE, shown[-1].id if more else None),
    )


def _recipient(one: recipients.Recipient) -> RecipientShown:
    return RecipientShown(
        delivery_id=one.id,
        member_id=one.member_id,
        name=one.name,
        organisation=one.organisation,
        channel=one.channel,
        kind=one.kind,
        to=one.to,
        state=OutboundState(one.state),
        reason=one.reason,
        answer=one.answer,
        attended=one.attended,
        changed_at=one.changed_at,
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/broadcasts",
        action=Action.BROADCAST,
        summary="Write a notice and submit it for approval.",
        handler=create_broadcast,
        ahead=try_new,
        body=NewBroadcast,
        answer=BroadcastShown,
        status=201,
        conflicts=("large_audience", "wrong_state"),
        keyed=True,
    ),
    Operation(
        method="GET",
        path="/broadcasts/{id}",
        action=Action.READ,
        summary="A notice with its numbers.",
        handler=read_broadcast,
        answer=BroadcastShown,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/approve",
        action=Action.APPROVE,
        summary="Approve what another wrote; one with `send_at` is scheduled.",
        handler=approve_broadcast,
        ahead=try_approval,
        body=Approval,
        answer=BroadcastShown,
        conflicts=("revision_changed", "wrong_state", "large_audience"),
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/start",
        action=Action.BROADCAST,
        summary="Send an approved notice now; a large one is `planning` for a while.",
        handler=start_broadcast,
        answer=BroadcastShown,
        conflicts=(
            *("wrong_state", "revision_changed", "too_late", "audience_grown"),
            "nobody",
        ),
        keyed=True,
        repeatable=True,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/pause",
        action=Action.BROADCAST,
        summary="No further message leaves.",
        handler=pause_broadcast,
        answer=BroadcastShown,
        conflicts=("wrong_state",),
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/resume",
        action=Action.BROADCAST,
        summary="Go on with a paused notice.",
        handler=resume_broadcast,
        answer=BroadcastShown,
        conflicts=("wrong_state",),
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/cancel",
        action=Action.BROADCAST,
        summary="End a notice; what has not left doesn't leave.",
        handler=cancel_broadcast,
        answer=BroadcastShown,
        conflicts=("wrong_state",),
        keyed=True,
        repeatable=True,
    ),
    Operation(
        method="POST",
        path="/broadcasts/{id}/again",
        action=Action.BROADCAST,
        summary="Send once more to those it failed for.",
        handler=send_again,
        body=Again,
        answer=BroadcastShown,
        conflicts=("wrong_state", "too_late", "nobody"),
        keyed=True,
    ),
    Operation(
        method="GET",
        path="/broadcasts/{id}/recipients",
        action=Action.READ,
        summary="Everybody meant, with state and reason.",
        handler=list_recipients,
        query=RecipientFilter,
        answer=RecipientList,
    ),
)
