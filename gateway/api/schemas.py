"""What the API takes and gives about inquiries, members and deliveries."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.inquiries.matters import Matter, Urgency
from gateway.inquiries.work import LONGEST_ANSWER
from gateway.status import InquiryState, OutboundState


class Body(BaseModel):
    """What a caller sends: nothing is converted, nothing unknown is overlooked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """What stands behind the question mark. All of it is text, so it is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """What we answer. Instants are UTC and end in Z."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ContactKind(StrEnum):
    PHONE = "phone"
    EMAIL = "email"
    QQ = "qq"
    WECHAT = "wechat"


Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ANSWER)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Code = Annotated[str, StringConstraints(pattern="^[0-9A-Za-z]{1,32}$")]
Tag = Annotated[str, StringConstraints(pattern="^[^,，、;；\\s]{1,32}$")]


class Paged(Query):
    cursor: str = Field("", max_length=400, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=100, description="At most so many.")


class Contact(Body):
    kind: ContactKind
    value: Annotated[str, StringConstraints(min_length=1, max_length=254)]


class Reached(Output):
    """An address; masked where the token's role does not work inquiries."""

    kind: str
    value: str


class InquiryFilter(Paged):
    state: InquiryState | None = None
    channel: str = Field(
        "", max_length=32, description="A channel's name, or `counter`, or `phone`."
    )
    q: str = Field(
        "",
        max_length=60,
        description="Part of number, name or text; a telephone whole or its last four.",
    )


class NewInquiry(Body):
    text: Text
    member_id: Id | None = Field(None, description="Whose matter it is.")
    contact: Contact | None = Field(None, description="Where the answer goes.")
    contact_name: Annotated[str, StringConstraints(max_length=64)] = ""
    organisation: Code | None = Field(
        None, description="Code of who works it; without it the token's own."
    )
    matter: Matter | None = Field(None, description="Guessed from the text without it.")
    urgency: Urgency = Urgency.NORMAL


class Reply(Body):
    text: Text
    asks: bool = Field(False, description="The matter then waits for the member.")


class Transfer(Body):
    """To an organisation or to a person: exactly one of both."""

    reason: Text
    organisation: Code | None = None
    staff: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = (
        Field(None, description="User name.")
    )


class Closing(Body):
    outcome: Text
    call_back: bool = Field(
        True, description="Tell the member and ask for satisfaction."
    )


class InquirySummary(Output):
    number: str
    state: InquiryState
    source: str = Field(description="message, counter, phone, api")
    channel: str
    contact: Reached | None
    contact_name: str
    member: str | None
    matter: Matter
    urgency: Urgency
    text: str
    organisation: str
    owner: str | None
    attention: str = Field(description="`director`: has to be looked at.")
    received_at: datetime
    deadline_at: datetime
    deadline_provisional: bool = Field(
        description="Beyond the published calendar; may move."
    )
    first_response_at: datetime | None
    closed_at: datetime | None
    changed_at: datetime


class InquiryList(Output):
    items: list[InquirySummary]
    next: str | None


class TimelineLine(Output):
    id: int
    at: datetime
    kind: str
    actor: str = Field(description="Empty: the gateway itself.")
    text: str
    delivery_id: int | None = Field(description="See /deliveries/{id}.")
    delivery_state: OutboundState | None
    channel: str = Field(description="Chosen for this message.")
    refusals: list[str] = Field(description="Channels passed over: `channel:reason`.")


class InquiryDetail(InquirySummary):
    member_id: int | None
    outcome: str
    rating: int | None = Field(description="1 satisfied, 2 fairly, 3 not.")
    reopened: int
    timeline: list[TimelineLine]


class Standing(Output):
    """How an inquiry stands after an act."""

    number: str
    state: InquiryState
    organisation: str
    deadline_at: datetime
    closed_at: datetime | None
    changed_at: datetime


class Replied(Output):
    number: str
    state: InquiryState
    delivery_id: int
    channel: str
    due_at: datetime


class MemberFilter(Paged):
    q: str = Field(
        "",
        max_length=100,
        description="Part of a name, a tag, a whole address, or a phone's last four.",
    )
    organisation: Annotated[str, StringConstraints(max_length=32)] = Field(
        "", description="Code; its subtree."
    )
    tag: str = Field("", max_length=32)


class NewMember(Body):
    name: Name
    organisation: Code | None = Field(None, description="Without it the token's own.")
    addresses: list[Contact] = Field(default_factory=list, max_length=8)
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    joined_on: Annotated[
        str, StringConstraints(pattern="^([0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?)?$")
    ] = Field("", description="2009, 2009-07 or 2009-07-01.")
    mobile_member: bool = False
    preferred_kind: ContactKind | None = None
    note: Annotated[str, StringConstraints(max_length=2000)] = ""


class Office(Output):
    code: str
    name: str


class MemberAddress(Reached):
    verified: bool


class MemberShown(Output):
    id: int
    name: str
    organisation: Office
    joined_on: str
    mobile_member: bool
    preferred_kind: str
    tags: list[str]
    addresses: list[MemberAddress]
    opted_out: bool = Field(description="Refused everything unasked.")
    created_at: datetime


class MemberAdded(Output):
    """Answers to POST are kept with their key, so they hold no personal data."""

    id: int
    organisation: Office


class MemberList(Output):
    items: list[MemberShown]
    total: int
    next: str | None


class AttemptShown(Output):
    number: int
    channel: str
    outcome: str = Field(description="accepted, permanent, transient, unknown; or none")
    code: str
    journalled_at: datetime
    answered_at: datetime | None


class ReceiptShown(Output):
    state: str
    code: str
    effect: str = Field(description="applied, repeated, late, conflict; or none yet")
    at: datetime | None = Field(description="By the provider's clock.")
    received_at: datetime


class Delivery(Output):
    """One message to one person."""

    id: int
    kind: str = Field(description="answer, notice, callback, ...")
    state: OutboundState
    reason: str = Field(description="Code; empty where the state says it all.")
    channel: str
    to: Reached
    inquiry: str | None = Field(description="Number.")
    broadcast_id: int | None
    member_id: int | None
    due_at: datetime
    expires_at: datetime | None
    created_at: datetime
    changed_at: datetime
    attempts: list[AttemptShown]
    receipts: list[ReceiptShown]


class ImportOptions(Query):
    dry_run: bool = Field(False, description="Only say what would happen.")


class RowFault(Output):
    row: int = Field(description="As the spreadsheet numbers it: the header is row 1.")
    column: str
    message: str = Field(description="What is wrong and how to mend it.")


class Imported(Output):
    """Good rows are imported whatever is wrong with others."""

    dry_run: bool
    rows: int
    new: int
    changed: int
    same: int
    left_out: int
    faults: list[RowFault] = Field(description="The first 1,000.")
