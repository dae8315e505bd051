"""The page of the canned answers."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import RequestError
from gateway.knowledge import canned
from gateway.knowledge.canned import Draft
from gateway.texts import FIELDS
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page

# What the answer box fills in by itself (gateway.inquiries.say.values_of).
_FILLED = frozenset({"name", "number", "deadline", "centre", "hours"})


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    """With `?edit=` one answer stands in the form."""
    if "edit" not in request.query or not actor.may(Action.WORK):
        return await _page(request, actor)
    id = forms.whole_number(request.query["edit"]) or 0
    found = await canned.find(id)
    form = {"title": found.title, "text": found.text}
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
        "canned.html",
        active="canned",
        status=422 if error else 200,
        answers=[
            {"id": one.id, "title": one.title, "text": one.text}
            for one in await canned.listing()
        ],
        placeholders=[
            written
            for written, name in FIELDS.items()
            if name in _FILLED and written != name
        ],
        may_edit=actor.may(Action.WORK),
        editing=editing,
        form=form or {"title": "", "text": ""},
        errors={name: text(request, words) for name, words in faults.items()},
    )


async def _draft(request: web.Request) -> tuple[dict[str, str], Draft]:
    form = await forms.read(request)
    given = {"title": form.get("title"), "text": form.get("text")}
    return given, Draft(title=given["title"], text=given["text"])


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    try:
        await canned.add(request.app[CORE], actor, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, given, error)
    return redirect(request, "/canned", text(request, "常用语已保存"))


async def change(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    id = forms.path_id(request, maximum=forms.SMALL)
    try:
        await canned.change(request.app[CORE], actor, id, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, given, error, editing=id)
    return redirect(request, "/canned", text(request, "常用语已保存"))


Act = Callable[[Core, Actor, int], Awaitable[None]]


async def _up(core: Core, actor: Actor, id: int) -> None:
    await canned.shift(core, actor, id, up=True)


async def _down(core: Core, actor: Actor, id: int) -> None:
    await canned.shift(core, actor, id, up=False)


def _handler(
    act: Act, said: str = ""
) -> Callable[[web.Request, Actor], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request, actor: Actor) -> web.StreamResponse:
        await act(request.app[CORE], actor, forms.path_id(request, maximum=forms.SMALL))
        return redirect(request, "/canned", text(request, said) if said else "")

    return handle


_EDIT = Action.WORK
ROUTES = (
    page("GET", "/canned", show, Action.READ),
    page("POST", "/canned", create, _EDIT),
    page("POST", "/canned/{id}", change, _EDIT),
    page("POST", "/canned/{id}/up", _handler(_up), _EDIT),
    page("POST", "/canned/{id}/down", _handler(_down), _EDIT),
    page("POST", "/canned/{id}/delete", _handler(canned.delete, "常用语已删除"), _EDIT),
)
