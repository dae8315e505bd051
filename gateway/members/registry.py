"""Members and their addresses. Every query is bound to what the actor may see; what
lies outside is not found."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from gateway import addresses, audit
from gateway.actors import Action, Actor
from gateway.addresses import AddressError
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import from_micros, marks, rows, transaction
from gateway.errors import NotFound, RequestError
from gateway.members import codes, consent
from gateway.members.fields import joined_on, tags_of
from gateway.organisations.tree import own
from gateway.phrases import together
from gateway.prompts import PromptKind
from gateway.tables import (
    AddressRow,
    Member,
    MemberTag,
    OptOutRow,
    PromptRow,
    Subscription,
)

PAGE = 50
_PERSONAL = (AddressKind.PHONE, AddressKind.EMAIL, AddressKind.QQ, AddressKind.WECHAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What staff enter about a member."""

    name: str
    organisation_id: int
    joined_on: str = ""
    tags: str = ""
    mobile_member: bool = False
    note: str = ""
    preferred_kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a list is narrowed to. `text`: part of a name, a whole phone number or
    other address, the last four digits of a phone number, or a tag."""

    text: str = ""
    organisation_id: int | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`members` with organisation, tags and addresses; the ids to go on with."""

    members: Sequence[Member]
    first: int  # rank of the first one, from 1
    total: int
    before: int | None
    after: int | None


async def search(actor: Actor, filter: Filter) -> QuerySet[Member]:
    """The members the actor may see, narrowed; NotFound for a foreign organisation."""
    actor.require(Action.READ)
    path = actor.path
    if filter.organisation_id is not None:
        path = (await own(actor, filter.organisation_id)).path
    found = Member.filter(organisation__path__startswith=path)
    if filter.tag:
        found = found.filter(id__in=await _tagged(filter.tag))
    if filter.text:
        found = found.filter(await _matching(filter.text))
    return found


async def _tagged(tag: str) -> list[int]:
    found = await MemberTag.filter(tag=tag[:32]).values_list("member_id", flat=True)
    return [int(str(id)) for id in found]


async def _matching(text: str) -> Q:
    """Nothing finer than what a list shows anyway: no part of a number but its end."""
    text = text.strip()[:100]
    if re.fullmatch("[0-9]{4}", text):
        held = AddressRow.filter(kind=AddressKind.PHONE, value__endswith=text)
        return Q(id__in=await _holders(held)) | Q(name__contains=text)
    candidates = list(_as_addresses(text))
    if candidates:
        held = AddressRow.filter(value__in=[a.value for a in candidates])
        return Q(id__in=await _holders(held))
    return Q(name__contains=text) | Q(id__in=await _tagged(text))


async def _holders(found: QuerySet[AddressRow]) -> list[int]:
    ids = await found.filter(member_id__isnull=False).values_list(
        "member_id", flat=True
    )
    return [int(str(id)) for id in ids]


def _as_addresses(text: str) -> list[Address]:
    found = []
    for parse in (addresses.phone, addresses.email, addresses.qq):
        try:
            found.append(parse(text))
        except AddressError:
            continue
    return found


async def page(
    actor: Actor,
    filter: Filter,
    *,
    after: int | None = None,
    before: int | None = None,
    size: int = PAGE,
) -> Page:
    """Members in the order of their ids, from just after or just before one id."""
    found = await search(actor, filter)
    total = await found.count()
    part, order = found, "id"
    if after is not None:
        part = found.filter(id__gt=after)
    elif before is not None:
        part, order = found.filter(id__lt=before), "-id"
    taken = list(
        await part.order_by(order)
        .limit(size)
        .prefetch_related("organisation", "tags", "addresses")
    )
    taken.sort(key=lambda member: member.id)
    if not taken:
        return Page(members=(), first=0, total=total, before=None, after=None)
    earlier = await found.filter(id__lt=taken[0].id).count()
    more = earlier + len(taken) < total
    return Page(
        members=taken,
        first=earlier + 1,
        total=total,
        before=taken[0].id if earlier else None,
        after=taken[-1].id if more else None,
    )


async def find(actor: Actor, member_id: int) -> Member:
    """With organisation, tags and addresses; NotFound outside the subtree."""
    found = (
        await Member.filter(id=member_id, organisation__path__startswith=actor.path)
        .prefetch_related("organisation", "tags", "addresses")
        .first()
    )
    if found is None:
        raise NotFound
    return found


async def last_contacts(members: Collection[Member]) -> dict[int, datetime]:
    """When these last wrote, by their ids; who never did is not in it."""
    ids = [member.id for member in members]
    found = await rows(
        "SELECT a.member_id, (SELECT i.received_at FROM inbound i "
        "WHERE i.kind = a.kind AND i.value = a.value AND NOT i.automatic "
        "ORDER BY i.received_at DESC LIMIT 1) AS at FROM addresses a "
        f"WHERE a.member_id IN ({marks(len(ids)) or 'NULL'})",
        *ids,
    )
    known = [(row["member_id"], row["at"]) for row in found if row["at"]]
    return {id: from_micros(at) for id, at in sorted(known)}


async def stopped(members: Collection[Member]) -> set[int]:
    """Of these members, the ids of those who refused notices."""
    ids = {member.id for member in members}
    held = {(a.kind, a.value): m.id for m in members for a in m.addresses}
    refusals = await OptOutRow.filter(
        Q(member_id__in=list(ids)) | Q(value__in=[value for _, value in held]),
        ended_at__isnull=True,
    )
    found = set()
    for refusal in refusals:
        owner = held.get((refusal.kind, refusal.value), refusal.member_id)
        if owner is not None:
            found.add(owner)
    return found & ids


async def add(
    core: Core, actor: Actor, draft: Draft, given: Sequence[Address] = ()
) -> Member:
    """A new member with addresses that staff vouch for."""
    actor.require(Action.MEMBERS)
    values = _checked(draft)
    async with transaction():
        organisation = await own(actor, draft.organisation_id)
        member = Member(**values)
        member.organisation = organisation
        member.created_at = core.clock.now()
        await member.save()
        await _set_tags(member, draft.tags)
        for address in given:
            await _bind(core, member, address, "staff")
        await audit.record(
            core.clock,
            actor,
            "member.added",
            f"member:{member.id}",
            path=organisation.path,
        )
    core.hub.publish("member", member.id, organisation.path)
    return member


async def change(core: Core, actor: Actor, member_id: int, draft: Draft) -> None:
    actor.require(Action.MEMBERS)
    values = _checked(draft)
    async with transaction():
        await consent.hold_members()
        member = await find(actor, member_id)
        organisation = await own(actor, draft.organisation_id)
        await Member.filter(id=member.id).update(
            **values, organisation_id=organisation.id, updated_at=core.clock.now()
        )
        await _set_tags(member, draft.tags)
        await audit.record(
            core.clock,
            actor,
            "member.changed",
            f"member:{member_id}",
            path=organisation.path,
        )
    core.hub.publish("member", member_id, organisation.path)


def _checked(draft: Draft) -> dict[str, Any]:
    faults = {}
    if not 1 <= len(draft.name) <= 64:
        faults["name"] = "姓名为1到64个字"
    joined = joined_on(draft.joined_on)
    if joined is None:
        faults["joined_on"] = "入党时间请写成 2009、2009-07 或 2009-07-01"
    if len(draft.note) > 2000:
        faults["note"] = "备注最多2000个字"
    if draft.preferred_kind and draft.preferred_kind not in set(_PERSONAL):
        faults["preferred_kind"] = "请选择渠道"
    try:
        tags_of(draft.tags)
    except ValueError as error:
        faults["tags"] = str(error)
    if faults:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )
    return {
        "name": draft.name,
        "joined_on": joined,
        "mobile_member": draft.mobile_member,
        "note": draft.note,
        "preferred_kind": draft.preferred_kind,
    }


async def _set_tags(member: Member, text: str) -> None:
    await MemberTag.filter(member_id=member.id).delete()
    await MemberTag.bulk_create(
        [MemberTag(member_id=member.id, tag=tag) for tag in tags_of(text)]
    )


def parse_address(kind: str, value: str) -> Address:
    """An address as staff type it; RequestError (field `value`) says what is wrong."""
    if kind not in set(_PERSONAL):
        raise _fault("kind", "请选择联系方式的种类")
    try:
        return addresses.parse(AddressKind(kind), value)
    except AddressError as error:
        raise _fault("value", str(error)) from None


def _fault(field: str, text: str) -> RequestError:
    return RequestError("invalid", text, status=422, fields={field: text})


async def add_address(
    core: Core, actor: Actor, member_id: int, address: Address
) -> None:
    actor.require(Action.MEMBERS)
    async with transaction():
        await consent.hold_members()
        member = await find(actor, member_id)
        await _bind(core, member, address, "staff")
        await audit.record(
            core.clock,
            actor,
            "member.address_added",
            f"member:{member_id}",
            path=member.organisation.path,
            kind=address.kind,
        )
    core.hub.publish("member", member_id, member.organisation.path)


async def _bind(core: Core, member: Member, address: Address, how: str) -> None:
    """RequestError where the address is somebody else's."""
    row = await AddressRow.get_or_none(kind=address.kind, value=address.value)
    now = core.clock.now()
    if row is None:
        row = AddressRow(kind=address.kind, value=address.value, created_at=now)
    elif row.member_id not in (None, member.id):
        raise _fault("value", "这个联系方式已登记给别人，请核对；有疑问请联系上级中心")
    row.member_id = member.id
    row.verified_at = row.verified_at or now
    row.verified_how = row.verified_how or how
    await row.save()
    await consent.adopt(address, member.id)


async def remove_address(
    core: Core, actor: Actor, member_id: int, address_id: int
) -> None:
    """The address stays, since messages and refusals rest on it; it is nobody's."""
    actor.require(Action.MEMBERS)
    async with transaction():
        member = await find(actor, member_id)
        changed = await AddressRow.filter(id=address_id, member_id=member_id).update(
            member_id=None, verified_at=None, verified_how=""
        )
        if not changed:
            raise NotFound
        await audit.record(
            core.clock,
            actor,
            "member.address_removed",
            f"member:{member_id}",
            path=member.organisation.path,
            address=address_id,
        )
    core.hub.publish("member", member_id, member.organisation.path)


async def opt_out(core: Core, actor: Actor, member_id: int, evidence: str) -> None:
    """Staff were told that this member wants no more notices."""
    await _consent(core, actor, member_id, evidence, "member.opted_out")


async def resume(core: Core, actor: Actor, member_id: int, evidence: str) -> None:
    await _consent(core, actor, member_id, evidence, "member.resumed")


async def _consent(
    core: Core, actor: Actor, member_id: int, evidence: str, act: str
) -> None:
    actor.require(Action.MEMBERS)
    if not evidence:
        raise _fault("evidence", "请写下党员是怎么说的")
    async with transaction():
        await consent.hold_members()
        member = await find(actor, member_id)
        for row in member.addresses:
            address = consent.address_of(row)
            if act == "member.resumed":
                await consent.resume(core, address, how=f"staff: {evidence}"[:64])
            else:
                await consent.opt_out(
                    core,
                    address,
                    how="staff",
                    evidence=evidence,
                    staff_id=actor.staff_id,
                )
        await audit.record(
            core.clock, actor, act, f"member:{member_id}", path=member.organisation.path
        )
    core.hub.publish("member", member_id, member.organisation.path)


async def binding_code(core: Core, actor: Actor, member_id: int) -> str:
    """Six digits that bind the account which sends them to this member."""
    actor.require(Action.MEMBERS)
    async with transaction():
        await consent.hold_members()
        member = await find(actor, member_id)
        code = await codes.issue(core, member_id)
        await audit.record(
            core.clock,
            actor,
            "member.code_issued",
            f"member:{member_id}",
            path=member.organisation.path,
        )
    return code


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """An activity to which a member was invited or came."""

    broadcast_id: int
    title: str
    at: datetime
    rsvp: str  # yes, no, "" where unanswered
    attended: bool


async def participation(member: Member, limit: int = 20) -> Sequence[Activity]:
    """Newest first. Reads the tables of the broadcasts folder, which lies above."""
    asked = await PromptRow.filter(
        Q(*[Q(kind=a.kind, value=a.value) for a in member.addresses], join_type="OR")
        if member.addresses
        else Q(id=0),
        prompt=PromptKind.RSVP,
        broadcast_id__isnull=False,
    )
    came = await rows(
        "SELECT broadcast_id, at FROM attendance WHERE member_id = ?", member.id
    )
    answers = {p.broadcast_id: p.answer for p in asked if p.broadcast_id is not None}
    attended = {row["broadcast_id"] for row in came}
    ids = sorted({*answers, *attended}, reverse=True)[:limit]
    titles = await _titles(ids)
    return [
        Activity(
            broadcast_id=id,
            title=titles[id][0],
            at=titles[id][1],
            rsvp=answers.get(id, ""),
            attended=id in attended,
        )
        for id in ids
        if id in titles
    ]


async def _titles(ids: Sequence[int]) -> Mapping[int, tuple[str, datetime]]:
    if not ids:
        return {}
    found = await rows(
        "SELECT id, title, COALESCE(event_at, created_at) AS at FROM broadcasts "
        f"WHERE id IN ({marks(len(ids))})",
        *ids,
    )
    return {row["id"]: (row["title"], from_micros(row["at"])) for row in found}


async def choices_of(
    member: Member,
) -> tuple[Sequence[OptOutRow], Sequence[Subscription]]:
    """The member's refusals and subscriptions, newest first, ended ones too."""
    values = [address.value for address in member.addresses]
    mine = Q(member_id=member.id) | Q(value__in=values)
    return (
        await OptOutRow.filter(mine).order_by("-at"),
        await Subscription.filter(mine).order_by("-at"),
    )
