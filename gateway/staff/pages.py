"""The page of staff accounts, for administrators."""

from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import RequestError
from gateway.organisations import tree
from gateway.staff import people
from gateway.tables import Staff
from gateway.web import forms
from gateway.web.keys import CORE, HASHER
from gateway.web.pages import (
    faults,
    redirect,
    render,
    role_choices,
    role_label,
    text,
)
from gateway.web.routes import page

_BLANK = {"name": "", "username": "", "role": "clerk", "organisation_id": ""}


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _page(request, actor)


async def _page(
    request: web.Request,
    actor: Actor,
    *,
    status: int = 200,
    form: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    issued: dict[str, str] | None = None,
) -> web.Response:
    found = await people.list_staff(actor)
    return await render(
        request,
        "staff.html",
        active="staff",
        status=status,
        people=[_row(request, actor, staff) for staff in found],
        roles=role_choices(request),
        organisations=tree.choices(await tree.visible(actor)),
        form=form or _BLANK,
        errors=errors or {},
        issued=issued,
    )


def _row(request: web.Request, actor: Actor, staff: Staff) -> dict[str, Any]:
    now = request.app[CORE].clock.now()
    return {
        "id": staff.id,
        "name": staff.name,
        "username": staff.username,
        "role_label": role_label(request, staff.role),
        "organisation": staff.organisation.name,
        "active": staff.active,
        "locked": staff.locked_until is not None and staff.locked_until > now,
        "must_change": staff.must_change_password,
        "seen_at": staff.seen_at,
        "me": staff.id == actor.staff_id,
    }


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    given = {name: form.get(name, limit=200) for name in _BLANK}
    try:
        password = await people.create_staff(
            request.app[CORE],
            request.app[HASHER],
            actor,
            username=given["username"],
            name=given["name"],
            role=given["role"],
            organisation_id=form.number("organisation_id") or 0,
        )
    except RequestError as error:
        if not error.fields:
            raise
        said = faults(request, error)
        return await _page(request, actor, status=422, form=given, errors=said)
    issued = {"username": given["username"], "password": password}
    return await _page(request, actor, issued=issued)


async def reset(request: web.Request, actor: Actor) -> web.StreamResponse:
    username, password = await people.reset_password(
        request.app[CORE],
        request.app[HASHER],
        actor,
        forms.path_id(request, maximum=forms.SMALL),
    )
    return await _page(
        request, actor, issued={"username": username, "password": password}
    )


async def stop(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request, maximum=forms.SMALL)
    await people.set_active(request.app[CORE], actor, id, False)
    return redirect(request, "/staff", text(request, "账户已停用"))


async def restore(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request, maximum=forms.SMALL)
    await people.set_active(request.app[CORE], actor, id, True)
    return redirect(request, "/staff", text(request, "账户已恢复"))


ROUTES = (
    page("GET", "/staff", show, Action.ADMINISTER),
    page("POST", "/staff", create, Action.ADMINISTER),
    page("POST", "/staff/{id}/reset", reset, Action.ADMINISTER),
    page("POST", "/staff/{id}/lock", stop, Action.ADMINISTER),
    page("POST", "/staff/{id}/unlock", restore, Action.ADMINISTER),
)
