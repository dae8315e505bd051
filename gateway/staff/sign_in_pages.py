"""Pages of one's own account: sign-in, passwords, language, sign-out."""

from aiohttp import web

from gateway import tokens
from gateway.actors import Action, Actor
from gateway.errors import NotFound, RequestError
from gateway.staff import passwords, people, sessions
from gateway.web import access, forms
from gateway.web.keys import CORE, HASHER, SIGNED_IN, THROTTLE
from gateway.web.pages import faults, redirect, render, role_label, text
from gateway.web.routes import page, public

_YEAR = 365 * 86400  # seconds
_REFUSED = "用户名或密码不对。连续输错后要等一会儿才能再试，时间逐次加长。"


async def show_login(request: web.Request) -> web.StreamResponse:
    return await _login(request, next=request.query.get("next", "/"))


async def _login(
    request: web.Request, *, next: str, error: str = "", username: str = ""
) -> web.Response:
    return await render(
        request,
        "login.html",
        status=422 if error else 200,
        error=text(request, error) if error else "",
        username=username,
        next=access.local_path(next),
        first_run=await people.nobody_signed_in_yet(),
    )


async def log_in(request: web.Request) -> web.StreamResponse:
    core, throttle = request.app[CORE], request.app[THROTTLE]
    form, remote = await forms.read(request), access.remote(request)
    username = form.get("username", limit=200)
    next = access.local_path(form.get("next", "/", limit=2000))
    if throttle.blocked(remote):
        raise RequestError("too_many", "尝试太频繁，请十分钟后再试", status=429)
    found = await people.sign_in(
        core,
        request.app[HASHER],
        username,
        form.get("password", limit=1000),
        remote,
        _known_device(request),
    )
    if found is None:
        throttle.failed(remote)
        return await _login(request, next=next, error=_REFUSED, username=username)
    cookie, staff_id = found
    response = redirect(request, next)
    age = int(sessions.LONGEST.total_seconds())
    access.set_cookie(request, response, "session", cookie, age)
    device = tokens.sign(core.keys.derive("device"), "device", staff_id)
    access.set_cookie(request, response, "device", device, _YEAR)
    return response


def _known_device(request: web.Request) -> int | None:
    key = request.app[CORE].keys.derive("device")
    return tokens.verify(key, "device", access.cookie(request, "device"))


async def log_out(request: web.Request, actor: Actor) -> web.StreamResponse:
    await people.sign_out(request.app[CORE], actor, request[SIGNED_IN].session_id)
    response = redirect(request, "/login")
    access.drop_cookie(request, response, "session")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


async def set_language(request: web.Request) -> web.StreamResponse:
    form = await forms.read(request)
    language = form.get("lang")
    if language not in access.LANGUAGES:
        raise RequestError("invalid", "没有这种语言", status=422)
    response = redirect(request, access.local_path(form.get("next", "/")))
    access.set_cookie(request, response, "language", language, _YEAR)
    return response


async def set_own_language(request: web.Request, actor: Actor) -> web.StreamResponse:
    response = await set_language(request)
    await people.set_language(actor, (await forms.read(request)).get("lang"))
    return response


async def show_password(request: web.Request, actor: Actor) -> web.StreamResponse:
    if not request[SIGNED_IN].must_change_password:
        return redirect(request, "/account")
    return await render(
        request, "password.html", minimum=passwords.MIN_LENGTH, errors={}
    )


async def set_password(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Replaces the one-time password."""
    try:
        await _change_password(request, actor, old=None)
    except RequestError as error:
        if not error.fields:
            raise
        return await render(
            request,
            "password.html",
            status=422,
            minimum=passwords.MIN_LENGTH,
            errors=faults(request, error),
        )
    return redirect(request, "/", text(request, "密码已保存"))


async def _change_password(request: web.Request, actor: Actor, old: str | None) -> None:
    form = await forms.read(request)
    await people.change_password(
        request.app[CORE],
        request.app[HASHER],
        actor,
        request[SIGNED_IN].session_id,
        old=old,
        new=form.get("password", limit=1000),
        repeat=form.get("repeat", limit=1000),
    )


async def show_account(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _account(request, actor)


async def _account(
    request: web.Request, actor: Actor, error: RequestError | None = None
) -> web.Response:
    signed_in = request[SIGNED_IN]
    return await render(
        request,
        "account.html",
        active="account",
        status=422 if error else 200,
        account={
            "username": signed_in.username,
            "name": actor.name,
            "role_label": role_label(request, actor.role),
            "centre": signed_in.centre,
        },
        sessions=await sessions.devices(
            request.app[CORE], actor.staff_id or 0, signed_in.session_id
        ),
        minimum=passwords.MIN_LENGTH,
        errors=faults(request, error) if error else {},
    )


async def change_password(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    try:
        await _change_password(request, actor, old=form.get("old", limit=1000))
    except RequestError as error:
        if not error.fields:
            raise
        return await _account(request, actor, error)
    return redirect(request, "/account", text(request, "密码已修改，其他设备已退出"))


async def end_session(request: web.Request, actor: Actor) -> web.StreamResponse:
    if not await sessions.end_one(actor.staff_id or 0, forms.path_id(request)):
        raise NotFound
    return redirect(request, "/account", text(request, "已退出该设备"))


_OWN = {"own_account": True}
ROUTES = (
    public("GET", "/login", show_login),
    public("POST", "/login", log_in),
    page("POST", "/language", set_own_language, Action.READ, **_OWN),
    page("POST", "/logout", log_out, Action.READ, **_OWN),
    page("GET", "/password", show_password, Action.READ, **_OWN),
    page("POST", "/password", set_password, Action.READ, **_OWN),
    page("GET", "/account", show_account, Action.READ),
    page("POST", "/account/password", change_password, Action.READ),
    page("POST", "/account/sessions/{id}/end", end_session, Action.READ),
)
