"""What a batch of messages needs to know, kept in memory and changed as each message
is decided: the second message of a person sees what the first one did.

Rows are small mutable objects here; `read` fills them and `write` stores what changed.
Those that every message needs are filled by position: half of what they cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway.channels import Route
from gateway.contract import Address, AddressKind, MessageKind
from gateway.prompts import OpenPrompt
from gateway.status import InquiryState

Key = tuple[str, str]
"""Kind and value of an address."""


class Addressed:
    """What has the key of an address, looked up more often than its parts."""

    __slots__ = ()
    key: Key

    @property
    def kind(self) -> str:
        return self.key[0]

    @property
    def value(self) -> str:
        return self.key[1]


@dataclass(slots=True, eq=False)
class Message(Addressed):
    """A row of `inbound` that waits, or is not stored yet; what was decided on it."""

    id: int
    channel: str
    key: Key
    conversation_kind: str
    conversation_value: str
    text: str
    subject: str
    provider_id: str
    answers_to: Sequence[str]
    reply_token: str
    display_name: str
    automatic: bool
    sent_at: datetime | None
    received_at: datetime
    member_id: int | None = None
    inquiry_id: int | None = None
    state: str = "stored"
    route: str = ""
    route_detail: str = ""
    cells: Sequence[Any] | None = None  # of `rows.MESSAGE`; None: it is stored already


@dataclass(slots=True, eq=False)
class Person(Addressed):
    """An address, and the member to whom it was bound and verified."""

    id: int  # 0: met for the first time
    key: Key
    member_id: int | None
    display_name: str
    last_inbound_at: datetime | None
    touched: bool = False


@dataclass(slots=True, eq=False)
class Belongs:
    """A member, and the branch."""

    name: str
    preferred_kind: str
    branch_id: int


@dataclass(slots=True, eq=False)
class Question:
    """An open row of `prompts`."""

    asked: OpenPrompt
    inquiry_id: int | None
    broadcast_id: int | None
    title: str
    answer: str = ""
    inbound_id: int | None = None
    closed_at: datetime | None = None


@dataclass(slots=True, eq=False)
class Matter:
    """An inquiry. `new` ones have no row yet, and no organisation until all of the
    batch is decided."""

    id: int
    number: str
    organisation_id: int
    member_id: int | None
    owner_id: int | None
    source: str
    channel: str
    kind: str
    value: str
    contact_name: str
    state: str
    rating: int | None
    reopened: int
    received_at: datetime
    deadline_at: datetime
    deadline_provisional: bool
    closed_at: datetime | None
    changed_at: datetime
    last_inbound_at: datetime | None
    conversation_kind: str = ""
    conversation_value: str = ""
    text: str = ""
    matter: str = ""
    urgency: str = ""
    new: bool = False
    touched: bool = False

    @property
    def key(self) -> Key:
        return self.kind, self.value


@dataclass(slots=True, kw_only=True, eq=False)
class OptOut:
    """A refusal in force; `id` is 0 for one of this batch."""

    id: int
    kind: str
    value: str
    member_id: int | None
    inbound_id: int | None = None
    evidence: str = ""
    ended: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Letter:
    """A row for the outbox; its id is given when it is written."""

    message_kind: MessageKind
    channel: str
    address: Address
    variables: Mapping[str, str]
    text: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    dedupe_key: str | None = None
    member_id: int | None = None
    inquiry_id: int | None = None
    inbound_id: int | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """A letter about a matter that waits for its words, until it is known which centre
    they name; `values` are the letter's own."""

    letter: Letter
    matter: Matter
    text_name: str
    route: Route
    values: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row for an inquiry's timeline; with a letter its text is the letter's."""

    inquiry_id: int
    kind: str
    text: str = ""
    data: Mapping[str, object] = field(default_factory=dict)
    inbound_id: int | None = None
    letter: Letter | None = None


@dataclass(slots=True, kw_only=True)
class World:
    """`since` is the border of the inquiry window, `now` one instant for all."""

    now: datetime
    since: datetime
    people: dict[Key, Person] = field(default_factory=dict)
    homes: dict[int, list[Person]] = field(default_factory=dict)  # verified, by member
    members: dict[int, Belongs] = field(default_factory=dict)
    centres: dict[int, int] = field(default_factory=dict)  # branch -> who works it
    top: int | None = None  # the organisation for strangers
    organisations: dict[int, str] = field(default_factory=dict)
    questions: dict[Key, list[Question]] = field(default_factory=dict)
    matters: dict[int, Matter] = field(default_factory=dict)
    by_key: dict[Key, list[Matter]] = field(default_factory=dict)
    by_member: dict[int, list[Matter]] = field(default_factory=dict)
    by_number: dict[str, Matter] = field(default_factory=dict)
    opt_outs: dict[Key, list[OptOut]] = field(default_factory=dict)
    member_opt_outs: dict[int, list[OptOut]] = field(default_factory=dict)
    quoted: dict[int, int] = field(default_factory=dict)  # message -> inquiry
    named: dict[int, list[str]] = field(default_factory=dict)  # message -> numbers
    replies: dict[int, int] = field(default_factory=dict)  # message -> sent since
    wrote: dict[Key, int] = field(default_factory=dict)  # in the last ten minutes
    asked: dict[Key, int] = field(default_factory=dict)  # inquiries of one day
    last_in: dict[int, Message] = field(default_factory=dict)  # inquiry -> newest
    counters: dict[str, int] = field(default_factory=dict)  # day -> last number
    numbered: set[str] = field(default_factory=set)  # days that gave a number
    ids: Iterator[int] = field(default_factory=lambda: iter(()))  # of new inquiries
    letters: list[Letter] = field(default_factory=list)
    said: list[Saying] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    answered: list[Question] = field(default_factory=list)
    refused: list[OptOut] = field(default_factory=list)
    # What changes how busy somebody is, in order: opened or opened again.
    opened: list[Matter] = field(default_factory=list)

    def add(self, matter: Matter) -> None:
        """Make it known by all that may lead to it; call it in order of ids."""
        if matter.id in self.matters:
            return
        self.matters[matter.id] = matter
        self.by_number[matter.number] = matter
        self.by_key.setdefault(matter.key, []).append(matter)
        if matter.member_id is not None:
            self.by_member.setdefault(matter.member_id, []).append(matter)

    def refuse(self, opt_out: OptOut) -> None:
        key = opt_out.kind, opt_out.value
        self.opt_outs.setdefault(key, []).append(opt_out)
        if opt_out.member_id is not None:
            known = self.member_opt_outs.setdefault(opt_out.member_id, [])
            known.append(opt_out)

    def next_number(self, day: str) -> str:
        self.counters[day] += 1
        self.numbered.add(day)
        return f"{day}-{self.counters[day]:04d}"

    def matters_of(self, message: Message) -> list[Matter]:
        """Of this address or its member, oldest first, each once."""
        here = self.by_key.get(message.key, [])
        theirs = self.by_member.get(message.member_id or 0, [])
        if not here or not theirs or here == theirs:
            return here or theirs
        found = {one.id: one for one in (*here, *theirs)}
        return [found[id] for id in sorted(found)]

    def open_ones(self, matters: list[Matter]) -> list[int]:
        closed = InquiryState.CLOSED
        return [
            one.id
            for one in matters
            if one.state != closed and one.changed_at >= self.since
        ]

    def closed_ones(self, matters: list[Matter]) -> list[int]:
        found = [
            (one.closed_at, one.id)
            for one in matters
            if one.state == InquiryState.CLOSED
            and one.closed_at is not None
            and one.closed_at >= self.since
        ]
        return [id for _, id in sorted(found)]

    def may_join(self, message: Message, matter: Matter, limit: timedelta) -> bool:
        """Same person, and not closed longer ago than a matter may be reopened."""
        if matter.key != message.key and (
            message.member_id is None or matter.member_id != message.member_id
        ):
            return False
        return matter.closed_at is None or self.now - matter.closed_at <= limit

    def belongs(self, message: Message) -> Belongs | None:
        return None if message.member_id is None else self.members[message.member_id]

    def note(self, matter: Matter, line: Line) -> None:
        self.lines.append(line)
        matter.changed_at = self.now
        matter.touched = True


def address_of(row: Message | Person | Matter) -> Address:
    return Address(AddressKind(row.kind), row.value)
