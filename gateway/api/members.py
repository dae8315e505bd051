"""Members over the API: list, add, import a sheet."""

from collections.abc import Collection

from aiohttp import web

from gateway.actors import Action
from gateway.api.inquiries import address, organisation_id
from gateway.api.operations import Call, Operation, read
from gateway.api.schemas import (
    Imported,
    ImportOptions,
    MemberAdded,
    MemberAddress,
    MemberFilter,
    MemberList,
    MemberShown,
    NewMember,
    Office,
    RowFault,
)
from gateway.errors import RequestError
from gateway.members import load, registry, sheets
from gateway.members.registry import Draft, Filter
from gateway.tables import AddressRow, Member, Organisation
from gateway.web import forms

_RESOURCE = "members"
_SHOWN_FAULTS = 1000
_ROOM = 64 * 1024  # bytes of multipart besides the file itself
_FORM = "multipart/form-data"
_RAW = (
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)


async def list_members(call: Call, query: MemberFilter) -> MemberList:
    place = call.place(_RESOURCE, query.cursor)
    within = None
    if query.organisation:
        within = await organisation_id(call, query.organisation)
    found = await registry.page(
        call.actor,
        Filter(text=query.q, organisation_id=within, tag=query.tag),
        after=int(place) if place else None,
        size=query.limit,
    )
    stopped = await registry.stopped(found.members)
    return MemberList(
        items=[_shown(call, member, stopped) for member in found.members],
        total=found.total,
        next=call.next(_RESOURCE, found.after),
    )


def _shown(call: Call, member: Member, stopped: Collection[int]) -> MemberShown:
    return MemberShown(
        id=member.id,
        name=member.name,
        organisation=_office(member.organisation),
        joined_on=member.joined_on,
        mobile_member=member.mobile_member,
        preferred_kind=member.preferred_kind,
        tags=sorted(one.tag for one in member.tags),
        addresses=[_address(call, one) for one in member.addresses],
        opted_out=member.id in stopped,
        created_at=member.created_at,
    )


def _office(place: Organisation) -> Office:
    return Office(code=place.code, name=place.name)


def _address(call: Call, row: AddressRow) -> MemberAddress:
    reached = call.reached(row.kind, row.value)
    return MemberAddress(
        kind=reached.kind, value=reached.value, verified=row.verified_at is not None
    )


async def create_member(call: Call, body: NewMember) -> MemberAdded:
    given = [
        address(one, f"addresses.{number}") for number, one in enumerate(body.addresses)
    ]
    added = await registry.add(
        call.core,
        call.actor,
        Draft(
            name=body.name,
            organisation_id=await organisation_id(call, body.organisation),
            joined_on=body.joined_on,
            tags=",".join(body.tags),
            mobile_member=body.mobile_member,
            note=body.note,
            preferred_kind=body.preferred_kind or "",
        ),
        given,
    )
    return MemberAdded(id=added.id, organisation=_office(added.organisation))


async def import_members(call: Call, query: ImportOptions) -> Imported:
    sheet = await sheets.read(await _file(call.request))
    if query.dry_run:
        made = await load.plan(call.actor, sheet)
    else:
        made = await load.write(call.core, call.actor, sheet)
    faults = [
        RowFault(row=result.row, column=fault.field, message=fault.message)
        for result in made.bad
        for fault in result.faults
    ]
    return Imported(
        dry_run=query.dry_run,
        rows=len(made.results),
        new=made.count("new"),
        changed=made.count("changed"),
        same=made.count("same"),
        left_out=len(made.bad),
        faults=faults[:_SHOWN_FAULTS],
    )


async def _file(request: web.Request) -> bytes:
    """The sheet, sent as the body itself or as the part `file` of a form."""
    if request.content_type not in (_FORM, *_RAW):
        detail = f"send {_FORM} with a part called file, or {' or '.join(_RAW)}"
        raise RequestError("media_type", detail, status=415)
    content = await read(request)
    if request.content_type != _FORM:
        return content
    form = forms.parse(request.headers["Content-Type"], content)
    if "file" not in form.files:
        detail = "the form has no file in a part called file"
        raise RequestError("file", detail, status=422, fields={"file": detail})
    return form.files["file"].content


OPERATIONS = (
    Operation(
        method="GET",
        path="/members",
        action=Action.READ,
        summary="Members, in the order in which they were entered.",
        handler=list_members,
        query=MemberFilter,
        answer=MemberList,
    ),
    Operation(
        method="POST",
        path="/members",
        action=Action.MEMBERS,
        summary="Add a member; the caller vouches for the addresses.",
        handler=create_member,
        body=NewMember,
        answer=MemberAdded,
        status=201,
        keyed=True,
    ),
    Operation(
        method="POST",
        path="/members/import",
        action=Action.MEMBERS,
        summary="Import a sheet (xlsx or CSV); repeating it changes nothing.",
        handler=import_members,
        query=ImportOptions,
        answer=Imported,
        uploads=(_FORM, *_RAW),
        max_body=sheets.MAX_UPLOAD + _ROOM,
    ),
)
