"""Puts the demonstration county into an empty database, as if it had worked a while."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway import addresses, demo
from gateway import database as db
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.errors import RequestError
from gateway.inquiries import timeline
from gateway.inquiries.register import deadline_from
from gateway.staff.passwords import argon2, normal
from gateway.staff.people import first_administrator
from gateway.status import InquiryState
from gateway.tables import (
    AddressRow,
    Canned,
    Entry,
    Inbound,
    Inquiry,
    InquiryEvent,
    Member,
    MemberTag,
    Organisation,
    Outbound,
    PromptRow,
    Staff,
    Subscription,
)

_KINDS = {
    "sms": AddressKind.PHONE,
    "qq": AddressKind.QQ,
    "qq_group": AddressKind.QQ,
    "email": AddressKind.EMAIL,
    "counter": AddressKind.PHONE,
    "phone": AddressKind.PHONE,
}
_LINES = {
    "noted": "note",
    "member_wrote": "message_in",
    "answered": "answer",
    "asked": "answer",
}
CHECKED_ENTRIES = 10  # the daily Q&A has something to push; the others wait


async def install(core: Core) -> str:
    """All of it in one transaction.

    Returns the administrator's one-time password; it opens every demo account too.
    """
    data = demo.load()
    now = core.clock.now()
    async with db.transaction():
        organisations = await _organisations(data)
        password = await first_administrator(core)
        if password is None:
            raise RequestError("not_empty", "the database has staff already")
        staff = await _staff(data, organisations, password, now)
        members = await _members(data, organisations, now)
        await _entries(data, now)
        for position, canned in enumerate(data.canned):
            await Canned.create(title=canned.title, text=canned.text, position=position)
        for one in sorted(data.inquiries, key=lambda one: one.steps[0].after):
            await _Story(core, one, organisations, staff, members, now).tell()
    return password


async def _organisations(data: demo.DemoData) -> Mapping[str, Organisation]:
    made: dict[str, Organisation] = {}
    for one in data.organisations:
        parent = made.get(one.parent)
        row = await Organisation.create(
            code=one.code,
            name=one.name,
            kind=one.kind,
            parent=parent,
            contact=one.contact,
            phone=one.phone,
        )
        row.path = f"{parent.path if parent else '/'}{row.id}/"
        await row.save()
        made[one.code] = row
    return made


async def _staff(
    data: demo.DemoData,
    organisations: Mapping[str, Organisation],
    password: str,
    now: datetime,
) -> Mapping[str, Staff]:
    hashed = argon2().hash(normal(password))
    return {
        one.username: await Staff.create(
            username=one.username,
            name=one.name,
            role=one.role,
            organisation=organisations[one.organisation],
            password_hash=hashed,
            created_at=now,
        )
        for one in data.staff
    }


async def _members(
    data: demo.DemoData, organisations: Mapping[str, Organisation], now: datetime
) -> Mapping[str, Member]:
    made = {}
    for one in data.members:
        member = await Member.create(
            name=one.name,
            organisation=organisations[one.organisation],
            joined_on=str(one.joined_year),
            mobile_member=one.mobile,
            preferred_kind=one.preferred,
            created_at=now,
        )
        made[one.phone] = member
        for tag in one.tags:
            await MemberTag.create(member=member, tag=tag)
        await _addresses(one, member, now)
    return made


async def _addresses(one: demo.Member, member: Member, now: datetime) -> None:
    known = {"phone": one.phone, "qq": one.qq, "email": one.email}
    for kind, value in known.items():
        if not value:
            continue
        address = addresses.parse(AddressKind(kind), value)
        await AddressRow.create(
            kind=address.kind,
            value=address.value,
            member=member,
            verified_at=now,
            verified_how="import",
            created_at=now,
        )
        if one.daily and kind == one.preferred:
            await Subscription.create(
                kind=address.kind,
                value=address.value,
                member_id=member.id,
                how="staff",
                at=now,
            )


async def _entries(data: demo.DemoData, now: datetime) -> None:
    for number, one in enumerate(data.entries):
        await Entry.create(
            question=one.question,
            answer=one.answer,
            basis=one.basis,
            matter=one.matter,
            keywords=list(one.keywords),
            sample=number >= CHECKED_ENTRIES,
            created_at=now,
        )


class _Story:
    """One inquiry with its past; the rows are those that the services would write."""

    def __init__(
        self,
        core: Core,
        story: demo.Inquiry,
        organisations: Mapping[str, Organisation],
        staff: Mapping[str, Staff],
        members: Mapping[str, Member],
        now: datetime,
    ) -> None:
        self._core = core
        self._story = story
        self._organisations = organisations
        self._staff = staff
        self._member = members.get(story.member)
        self._now = now

    async def tell(self) -> None:
        story = self._story
        self._kind = _KINDS[story.channel]
        self._address = await self._find_address()
        by_message = story.channel not in ("counter", "phone")
        served = self._core.channels.serving(self._kind)
        self._channel = served[0].name if served and by_message else ""
        self._inquiry = await self._register("message" if by_message else story.channel)
        for number, step in enumerate(story.steps):
            await self._step(number, step)
        self._inquiry.state = InquiryState(story.state)
        await self._inquiry.save()

    async def _find_address(self) -> Address | None:
        if self._story.address:
            return addresses.parse(self._kind, self._story.address)
        assert self._member is not None
        row = await AddressRow.filter(member=self._member, kind=self._kind).first()
        return None if row is None else Address(self._kind, row.value)

    async def _register(self, source: str) -> Inquiry:
        story, first = self._story, self._story.steps[0]
        received = self._now + first.after
        due = deadline_from(self._core, received)
        organisation = self._organisations[story.organisation]
        address = self._address
        return await Inquiry.create(
            number=await timeline.next_number(self._core, received),
            organisation=organisation,
            first_organisation_id=organisation.id,
            member=self._member,
            owner=self._staff.get(story.owner),
            source=source,
            channel=self._channel,
            kind=address.kind if address else "",
            value=address.value if address else "",
            conversation_kind=AddressKind.GROUP if story.group else "",
            conversation_value=story.group,
            contact_name=self._member.name if self._member else "",
            text=f"{first.subject}\n{first.text}".strip(),
            matter=story.matter,
            urgency=story.urgency,
            state=InquiryState.NEW,
            received_at=received,
            deadline_at=due.at,
            deadline_provisional=due.provisional,
            changed_at=received,
            last_inbound_at=received if self._channel else None,
        )

    async def _step(self, number: int, step: demo.Step) -> None:
        inquiry, at = self._inquiry, self._now + step.after
        more: dict[str, Any] = {}
        match step.kind:
            case "received" | "member_wrote" if self._channel:
                more["inbound_id"] = (await self._inbound(number, step, at)).id
            case "answered" | "asked":
                inquiry.first_response_at = inquiry.first_response_at or at
                if self._channel:
                    more["outbound_id"] = (await self._outbound(number, step, at)).id
            case "transferred":
                target = self._organisations[step.to]
                more["data"] = {"to": target.name, "from": inquiry.organisation.name}
                inquiry.organisation = target
            case "extended":
                last = inquiry.deadline_at - inquiry.deadline_at.resolution
                due = deadline_from(self._core, last, step.days)
                inquiry.deadline_at = due.at
                inquiry.deadline_provisional = due.provisional
            case "supervised":
                inquiry.attention = "director"
            case "closed":
                inquiry.outcome, inquiry.closed_at = step.text, at
                await self._ask_rating(at)
            case "rated":
                inquiry.rating = step.rating
                more["data"] = {"rating": step.rating}
            case "reopened":
                due = deadline_from(self._core, at)
                inquiry.reopened += 1
                inquiry.closed_at = None
                inquiry.deadline_at = due.at
                inquiry.deadline_provisional = due.provisional
        await self._line(step, at, more)

    async def _line(self, step: demo.Step, at: datetime, more: dict[str, Any]) -> None:
        person = self._staff.get(step.by)
        kind = _LINES.get(step.kind, step.kind)
        if kind == "answer" and not self._channel:
            kind = "told"
        await InquiryEvent.create(
            inquiry=self._inquiry,
            at=at,
            kind=kind,
            actor=person.name if person else "",
            staff_id=person.id if person else None,
            text=step.text,
            **more,
        )
        self._inquiry.changed_at = at
        if person:
            self._inquiry.worked_at = at

    async def _inbound(self, number: int, step: demo.Step, at: datetime) -> Inbound:
        assert self._address is not None
        return await Inbound.create(
            channel=self._channel,
            key=f"demo:{self._inquiry.id}:{number}",
            kind=self._address.kind,
            value=self._address.value,
            conversation_kind=self._inquiry.conversation_kind,
            conversation_value=self._inquiry.conversation_value,
            text=step.text,
            subject=step.subject,
            payload=step.text.encode(),
            sent_at=at,
            received_at=at,
            member_id=self._member.id if self._member else None,
            inquiry_id=self._inquiry.id,
            state="filed",
            route="new" if number == 0 else "open_inquiry",
        )

    async def _outbound(self, number: int, step: demo.Step, at: datetime) -> Outbound:
        assert self._address is not None
        channel = self._core.channels.get(self._channel)
        receipts = channel is not None and channel.capabilities.delivery_receipts
        return await Outbound.create(
            message_kind=MessageKind.ANSWER,
            priority=0,
            dedupe_key=f"demo:{self._inquiry.id}:{number}",
            inquiry_id=self._inquiry.id,
            member_id=self._member.id if self._member else None,
            channel=self._channel,
            kind=self._address.kind,
            value=self._address.value,
            text=step.text,
            state="delivered" if receipts else "accepted",
            due_at=at,
            created_at=at,
            changed_at=at,
        )

    async def _ask_rating(self, at: datetime) -> None:
        """The last closing of a matter that was not rated may still be rated."""
        rated = any(step.kind == "rated" for step in self._story.steps)
        if rated or self._address is None or self._story.state != "closed":
            return
        await PromptRow.create(
            kind=self._address.kind,
            value=self._address.value,
            prompt="rating",
            code="A1",
            inquiry_id=self._inquiry.id,
            opened_at=at,
            expires_at=at + timedelta(days=self._core.settings.policy.prompt_days),
        )


async def journal_all() -> None:
    """Give each message of the demonstration the attempt that a real one has."""
    await db.execute(
        "INSERT INTO attempts (outbound_id, number, channel, kind, value, node_id, "
        "journalled_at, outcome, code, detail, provider_ids, answered_at) "
        "SELECT id, 1, channel, kind, value, 0, changed_at, 'accepted', '', '', '[]', "
        "changed_at FROM outbox"
    )
