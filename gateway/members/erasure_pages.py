"""The page on which a director erases a member: what goes, what stays, why."""

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import RequestError
from gateway.members import erasure, registry
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _page(request, actor)


async def _page(
    request: web.Request,
    actor: Actor,
    error: RequestError | None = None,
    reason: str = "",
) -> web.Response:
    member = await registry.find(actor, forms.path_id(request))
    faults = error.fields if error else {}
    return await render(
        request,
        "member_erase.html",
        active="members",
        status=422 if error else 200,
        member={"id": member.id, "name": member.name},
        extent=await erasure.extent(actor, member.id),
        reason=reason,
        longest_reason=erasure.LONGEST_REASON,
        errors={name: text(request, words) for name, words in faults.items()},
    )


async def erase(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Whoever typed the name has looked at whose page this is."""
    form = await forms.read(request)
    reason = form.get("reason", limit=1000)
    member = await registry.find(actor, forms.path_id(request))
    try:
        if form.get("name", limit=100).strip() != member.name:
            fault = "和这位党员的姓名不一致，没有删除"
            raise RequestError("name", fault, status=422, fields={"name": fault})
        reached = await erasure.erase(request.app[CORE], actor, member.id, reason)
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, error, reason)
    said = text(request, "个人信息已删除，取消待发消息 {n} 条", n=reached.waiting)
    return redirect(request, "/members", said)


ROUTES = (
    page("GET", "/members/{id:[0-9]+}/erase", show, Action.ERASE),
    page("POST", "/members/{id:[0-9]+}/erase", erase, Action.ERASE),
)
