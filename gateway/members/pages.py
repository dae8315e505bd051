"""Pages of members: list, card, registration."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gateway import addresses
from gateway.actors import Action, Actor
from gateway.contract import AddressKind
from gateway.errors import RequestError
from gateway.members import consent, registry
from gateway.members.fields import tags_of
from gateway.members.registry import Draft, Filter, Page
from gateway.organisations import tree
from gateway.tables import AddressRow, Inquiry, Member, OptOutRow, Subscription
from gateway.text import excerpt
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page

KINDS = {
    AddressKind.PHONE: "手机",
    AddressKind.QQ: "QQ",
    AddressKind.WECHAT: "微信",
    AddressKind.EMAIL: "邮箱",
}
_HOW = {
    "word": "本人发来退订词",
    "page": "本人在退订页操作",
    "staff": "工作人员登记",
    "provider": "运营商黑名单",
    "command": "本人发来指令",
    "import": "导入名单",
}
_FIELDS = ("name", "joined_on", "tags", "note", "preferred_kind")


async def show_list(request: web.Request, actor: Actor) -> web.StreamResponse:
    query = request.query
    organisation = query.get("organisation", "")
    narrowed = Filter(
        text=query.get("q", "")[:100],
        organisation_id=_organisation(organisation),
        tag=query.get("tag", ""),
    )
    found = await registry.page(
        actor,
        narrowed,
        after=forms.whole_number(query.get("after", ""), 2**63 - 1),
        before=forms.whole_number(query.get("before", ""), 2**63 - 1),
    )
    stopped = await registry.stopped(found.members)
    contacts = await registry.last_contacts(found.members)
    return await render(
        request,
        "members.html",
        active="members",
        q=narrowed.text,
        organisation=organisation,
        organisations=tree.choices(await tree.visible(actor)),
        members=[
            _row(member, member.id in stopped, contacts.get(member.id))
            for member in found.members
        ],
        pager=_pager(request, found),
        may_edit=actor.may(Action.MEMBERS),
    )


def _organisation(given: str) -> int | None:
    """0, which no organisation has, for what can't be an id: it is not found."""
    return (forms.whole_number(given) or 0) if given else None


def _row(
    member: Member, opted_out: bool, last_contact: datetime | None
) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "organisation": member.organisation.name,
        "joined": member.joined_on,
        "mobile": member.mobile_member,
        "tags": [tag.tag for tag in member.tags],
        "addresses": [
            {
                "kind": a.kind,
                "label": a.kind,
                "value": addresses.mask(consent.address_of(a)),
                "opted_out": opted_out,
            }
            for a in member.addresses
        ],
        "last_contact": last_contact,
    }


def _pager(request: web.Request, found: Page) -> dict[str, object] | None:
    if found.before is None and found.after is None:
        return None
    kept = [
        (k, v) for k, v in request.query.items() if k in ("q", "organisation", "tag")
    ]

    def link(name: str, id: int | None) -> str | None:
        return None if id is None else f"/members?{urlencode([*kept, (name, id)])}"

    return {
        "first": found.first,
        "last": found.first + len(found.members) - 1,
        "total": found.total,
        "begin": f"/members?{urlencode(kept)}" if found.before else None,
        "previous": link("before", found.before),
        "next": link("after", found.after),
        "end": None,  # nobody knows who stands there without counting up to it
    }


async def suggest(request: web.Request, actor: Actor) -> web.StreamResponse:
    """At most eight members for a picker."""
    words = request.query.get("q", "")[:100]
    found = await registry.page(actor, Filter(text=words), size=8)
    return await render(
        request,
        "partials/_member_choices.html",
        choices=[
            {"id": m.id, "name": m.name, "organisation": m.organisation.name}
            for m in (found.members if words.strip() else ())
        ],
        chosen=request.query.get("chosen", ""),
    )


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _card(request, actor, forms.path_id(request))


async def _card(
    request: web.Request,
    actor: Actor,
    member_id: int,
    error: RequestError | None = None,
    typed: dict[str, Any] | None = None,
    code: str = "",
) -> web.Response:
    member = await registry.find(actor, member_id)
    stopped = member.id in await registry.stopped([member])
    faults = error.fields if error else {}
    return await render(
        request,
        "member.html",
        active="members",
        status=422 if error else 200,
        member=_member(member) | (typed or {}),
        addresses=[_address(request, a, stopped) for a in member.addresses],
        consents=await _consents(request, member),
        participation=[
            {
                "path": f"/broadcasts/{activity.broadcast_id}",
                "title": activity.title,
                "at": activity.at,
                "rsvp": activity.rsvp,
                "attended": activity.attended,
            }
            for activity in await registry.participation(member)
        ],
        inquiries=await _inquiries(actor, member),
        organisations=tree.choices(await tree.visible(actor)),
        kinds=_kinds(request),
        errors={name: text(request, words) for name, words in faults.items()},
        may_edit=actor.may(Action.MEMBERS),
        may_erase=actor.may(Action.ERASE),
        editing=typed is not None,
        code=code,
    )


def _member(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "organisation": member.organisation.name,
        "organisation_id": member.organisation_id,
        "joined": member.joined_on,
        "joined_on": member.joined_on,
        "note": member.note,
        "mobile": member.mobile_member,
        "tags": [tag.tag for tag in member.tags],
        "preferred_kind": member.preferred_kind,
    }


def _kinds(request: web.Request) -> list[dict[str, str]]:
    return [
        {"value": kind.value, "label": text(request, label)}
        for kind, label in KINDS.items()
    ]


def _address(request: web.Request, row: AddressRow, stopped: bool) -> dict[str, Any]:
    """In clear: who may open the card has to be able to call."""
    kind = AddressKind(row.kind)
    return {
        "id": row.id,
        "kind": row.kind,
        "label": text(request, KINDS.get(kind, row.kind)),
        "value": row.value.removeprefix("+86") if kind == "phone" else row.value,
        "verified": row.verified_at is not None,
        "verified_how": row.verified_how,
        "display_name": row.display_name,
        "opted_out": stopped,
    }


async def _consents(request: web.Request, member: Member) -> list[dict[str, Any]]:
    refusals, wishes = await registry.choices_of(member)
    found = [_refusal(request, refusal) for refusal in refusals]
    found += [_wish(request, wish) for wish in wishes]
    return sorted(found, key=lambda consent: consent["at"], reverse=True)


def _refusal(request: web.Request, row: OptOutRow) -> dict[str, Any]:
    return {
        "what": text(request, "退订通知"),
        "given": False,
        "at": row.at,
        "how": text(request, _HOW.get(row.how, row.how)),
        "evidence": row.evidence,
        "inquiry": "",
        "ended_at": row.ended_at,
    }


def _wish(request: web.Request, row: Subscription) -> dict[str, Any]:
    return {
        "what": text(request, "订阅每日一答"),
        "given": True,
        "at": row.at,
        "how": text(request, _HOW.get(row.how, row.how)),
        "evidence": "",
        "inquiry": "",
        "ended_at": row.ended_at,
    }


async def _inquiries(actor: Actor, member: Member) -> list[dict[str, Any]]:
    found = (
        await Inquiry.filter(
            member_id=member.id, organisation__path__startswith=actor.path
        )
        .order_by("-received_at")
        .limit(50)
    )
    return [
        {
            "number": inquiry.number,
            "title": excerpt(inquiry.text, 40),
            "state": inquiry.state,
            "received_at": inquiry.received_at,
        }
        for inquiry in found
    ]


async def _draft(request: web.Request) -> tuple[dict[str, Any], Draft]:
    form = await forms.read(request)
    given: dict[str, Any] = {name: form.get(name, limit=5000) for name in _FIELDS}
    draft = Draft(
        **given,
        organisation_id=form.number("organisation_id") or 0,
        mobile_member=form.flag("mobile_member"),
    )
    typed = given | {
        "organisation_id": form.get("organisation_id"),
        "mobile": draft.mobile_member,
        "tags": _tags_as_typed(given["tags"]),
    }
    return typed, draft


def _tags_as_typed(text: str) -> list[str]:
    try:
        return tags_of(text)
    except ValueError:
        return [text]


async def show_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    blank = dict.fromkeys(_FIELDS, "")
    typed = blank | {"organisation_id": "", "mobile": False, "tags": []}
    return await _new(request, actor, typed)


async def _new(
    request: web.Request,
    actor: Actor,
    typed: dict[str, Any],
    phone: str = "",
    error: RequestError | None = None,
) -> web.Response:
    faults = error.fields if error else {}
    return await render(
        request,
        "member_new.html",
        active="members",
        status=422 if error else 200,
        member=typed,
        phone=phone,
        organisations=tree.choices(await tree.visible(actor)),
        kinds=_kinds(request),
        errors={name: text(request, words) for name, words in faults.items()},
    )


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    typed, draft = await _draft(request)
    phone = (await forms.read(request)).get("phone", limit=100)
    try:
        given = [registry.parse_address("phone", phone)] if phone else []
        member = await registry.add(request.app[CORE], actor, draft, given)
    except RequestError as error:
        if not error.fields:
            raise
        error.fields = {
            "phone" if name == "value" else name: words
            for name, words in error.fields.items()
        }
        return await _new(request, actor, typed, phone, error)
    return redirect(request, f"/members/{member.id}", text(request, "已登记"))


async def change(request: web.Request, actor: Actor) -> web.StreamResponse:
    member_id = forms.path_id(request)
    typed, draft = await _draft(request)
    try:
        await registry.change(request.app[CORE], actor, member_id, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _card(request, actor, member_id, error, typed)
    return redirect(request, f"/members/{member_id}", text(request, "已保存"))


async def add_address(request: web.Request, actor: Actor) -> web.StreamResponse:
    member_id = forms.path_id(request)
    form = await forms.read(request)
    try:
        await registry.find(actor, member_id)
        address = registry.parse_address(form.get("kind"), form.get("value", limit=300))
        await registry.add_address(request.app[CORE], actor, member_id, address)
    except RequestError as error:
        if not error.fields:
            raise
        return await _card(request, actor, member_id, error)
    return redirect(request, f"/members/{member_id}", text(request, "已添加"))


async def remove_address(request: web.Request, actor: Actor) -> web.StreamResponse:
    member_id = forms.path_id(request)
    address_id = forms.path_id(request, "address")
    await registry.remove_address(request.app[CORE], actor, member_id, address_id)
    return redirect(request, f"/members/{member_id}", text(request, "已移除"))


async def opt_out(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _consent(request, actor, registry.opt_out, "已登记退订")


async def opt_in(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _consent(request, actor, registry.resume, "已恢复接收")


async def _consent(
    request: web.Request, actor: Actor, act: Any, done: str
) -> web.StreamResponse:
    member_id = forms.path_id(request)
    evidence = (await forms.read(request)).get("evidence", limit=1000)
    try:
        await act(request.app[CORE], actor, member_id, evidence)
    except RequestError as error:
        if not error.fields:
            raise
        return await _card(request, actor, member_id, error)
    return redirect(request, f"/members/{member_id}", text(request, done))


async def issue_code(request: web.Request, actor: Actor) -> web.StreamResponse:
    member_id = forms.path_id(request)
    code = await registry.binding_code(request.app[CORE], actor, member_id)
    return await _card(request, actor, member_id, code=code)


ROUTES = (
    page("GET", "/members", show_list, Action.READ),
    page("GET", "/members/suggest", suggest, Action.READ),
    page("GET", "/members/new", show_new, Action.MEMBERS),
    page("POST", "/members/new", create, Action.MEMBERS),
    page("GET", "/members/{id:[0-9]+}", show, Action.READ),
    page("POST", "/members/{id:[0-9]+}", change, Action.MEMBERS),
    page("POST", "/members/{id:[0-9]+}/addresses", add_address, Action.MEMBERS),
    page(
        "POST",
        "/members/{id:[0-9]+}/addresses/{address:[0-9]+}/remove",
        remove_address,
        Action.MEMBERS,
    ),
    page("POST", "/members/{id:[0-9]+}/opt-out", opt_out, Action.MEMBERS),
    page("POST", "/members/{id:[0-9]+}/opt-in", opt_in, Action.MEMBERS),
    page("POST", "/members/{id:[0-9]+}/code", issue_code, Action.MEMBERS),
)
