"""The page of API tokens, for administrators."""

from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor, Role
from gateway.errors import RequestError
from gateway.organisations import tree
from gateway.staff import tokens
from gateway.tables import ApiToken
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import (
    faults,
    redirect,
    render,
    role_choices,
    role_label,
    text,
)
from gateway.web.routes import page

_BLANK = {"name": "", "role": "clerk", "organisation_id": ""}


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
    found = await tokens.list_all(actor)
    makers = await tokens.makers(found)
    return await render(
        request,
        "tokens.html",
        active="staff",
        status=status,
        tokens=[_row(request, one, makers.get(one.id, "")) for one in found],
        roles=role_choices(request),
        organisations=tree.choices(await tree.visible(actor)),
        form=form or _BLANK,
        errors=errors or {},
        issued=issued,
    )


def _row(request: web.Request, token: ApiToken, maker: str) -> dict[str, Any]:
    by_command = maker == tokens.COMMAND_LINE
    return {
        "id": token.id,
        "name": token.name,
        "maker": text(request, "命令行") if by_command else maker,
        "role_label": role_label(request, token.role),
        "organisation": token.organisation.name,
        "created_at": token.created_at,
        "used_at": token.used_at,
        "revoked_at": token.revoked_at,
    }


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    given = {name: form.get(name, limit=200) for name in _BLANK}
    try:
        value = await tokens.create(
            request.app[CORE],
            actor,
            given["name"],
            _role(given["role"]),
            form.number("organisation_id") or 0,
        )
    except RequestError as error:
        if not error.fields:
            raise
        said = faults(request, error)
        return await _page(request, actor, status=422, form=given, errors=said)
    issued = {"name": given["name"].strip(), "value": value}
    return await _page(request, actor, issued=issued)


def _role(given: str) -> Role:
    try:
        return Role(given)
    except ValueError:
        fault = "请选择角色"
        raise RequestError(
            "invalid", fault, status=422, fields={"role": fault}
        ) from None


async def revoke(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request, maximum=forms.SMALL)
    await tokens.revoke(request.app[CORE], actor, id)
    return redirect(request, "/tokens", text(request, "令牌已作废"))


ROUTES = (
    page("GET", "/tokens", show, Action.ADMINISTER),
    page("POST", "/tokens", create, Action.ADMINISTER),
    page("POST", "/tokens/{id}/revoke", revoke, Action.ADMINISTER),
)
