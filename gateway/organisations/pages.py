"""The page of the tree."""

from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import RequestError
from gateway.organisations import tree
from gateway.organisations.tree import Draft, Node
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page

_FIELDS = ("name", "code", "kind", "parent", "contact", "phone")


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    """With `?edit=` one organisation stands in the form."""
    if "edit" not in request.query or not actor.may(Action.ADMINISTER):
        return await _page(request, actor)
    id = forms.whole_number(request.query["edit"]) or 0
    found = await tree.own(actor, id)
    form = {
        "name": found.name,
        "code": found.code,
        "kind": found.kind,
        "parent": str(found.parent_id or ""),
        "contact": found.contact,
        "phone": found.phone,
    }
    return await _page(request, actor, form, editing=id)


async def _page(
    request: web.Request,
    actor: Actor,
    form: dict[str, str] | None = None,
    error: RequestError | None = None,
    editing: int = 0,
) -> web.Response:
    faults = error.fields if error else {}
    return await render(
        request,
        "organisations.html",
        active="organisations",
        status=422 if error else 200,
        tree=[_node(request, node) for node in await tree.tree(actor)],
        kinds=[
            {"value": kind, "label": text(request, label)}
            for kind, label in tree.KINDS.items()
        ],
        organisations=tree.choices(await tree.visible(actor)),
        may_edit=actor.may(Action.ADMINISTER),
        editing=editing,
        form=form or dict.fromkeys(_FIELDS, ""),
        errors={name: text(request, words) for name, words in faults.items()},
    )


def _node(request: web.Request, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "code": node.code,
        "name": node.name,
        "kind_label": text(request, tree.KINDS.get(node.kind, node.kind)),
        "contact": node.contact,
        "phone": node.phone,
        "members": node.members,
        "open_inquiries": node.open_inquiries,
        "children": [_node(request, child) for child in node.children],
    }


async def _draft(request: web.Request) -> tuple[dict[str, str], Draft]:
    form = await forms.read(request)
    given = {name: form.get(name, limit=200) for name in _FIELDS}
    return given, Draft(
        name=given["name"],
        code=given["code"],
        kind=given["kind"],
        parent_id=form.number("parent"),
        contact=given["contact"],
        phone=given["phone"],
    )


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    try:
        await tree.add(request.app[CORE], actor, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, given, error)
    return redirect(request, "/organisations", text(request, "组织已保存"))


async def change(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    id = forms.path_id(request, maximum=forms.SMALL)
    try:
        await tree.change(request.app[CORE], actor, id, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, given, error, editing=id)
    return redirect(request, "/organisations", text(request, "组织已保存"))


ROUTES = (
    page("GET", "/organisations", show, Action.READ),
    page("POST", "/organisations", create, Action.ADMINISTER),
    page("POST", "/organisations/{id}", change, Action.ADMINISTER),
)
