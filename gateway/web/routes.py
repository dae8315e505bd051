"""Routes that say who may call them. A folder lists its own as a tuple, like

    ROUTES = (
        page("GET", "/members", show_list, Action.READ),
        api("POST", "/api/v1/members", create, Action.MEMBERS),
        public("GET", "/o/{token}", show_opt_out),
    )

and run.py mounts it with `add_routes(app, ROUTES)`. Handlers of pages and of the API
are `async def handler(request, actor)`, those of public routes
`async def handler(request)`. The session, the origin, the form token, the role and
the size of the body have been checked before a handler runs.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.web import access
from gateway.web.keys import ROUTES

Handler = Callable[[web.Request, Actor], Awaitable[web.StreamResponse]]
PublicHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SAFE = frozenset({"GET", "HEAD"})


class Entry(StrEnum):
    """How a caller proves who it is."""

    SESSION = "session"  # a signed-in browser
    TOKEN = "token"  # an API token
    PUBLIC = "public"  # nobody has to
    SECRET = "secret"  # the address itself is the secret, or the mail program posts


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    entry: Entry
    action: Action | None  # None only where `entry` asks for nobody
    handler: Callable[..., Awaitable[web.StreamResponse]]
    max_body: int | None = None  # bytes; None: the setting `max_body_mib`
    background: bool = False  # called by an open page: doesn't keep a session alive
    own_account: bool = False  # open to people who still have a one-time password

    def __post_init__(self) -> None:
        asks = self.entry in (Entry.SESSION, Entry.TOKEN)
        if asks and self.action is None:
            raise TypeError(f"{self.method} {self.path} doesn't say what it does")


def page(
    method: str, path: str, handler: Handler, action: Action, **more: Any
) -> Route:
    """For signed-in staff. Further keywords: those of Route."""
    return Route(
        method=method,
        path=path,
        entry=Entry.SESSION,
        action=action,
        handler=handler,
        **more,
    )


def api(method: str, path: str, handler: Handler, action: Action, **more: Any) -> Route:
    """For bearers of an API token."""
    return Route(
        method=method,
        path=path,
        entry=Entry.TOKEN,
        action=action,
        handler=handler,
        **more,
    )


def public(method: str, path: str, handler: PublicHandler, **more: Any) -> Route:
    """For everybody; posts must come from our own pages."""
    return Route(
        method=method,
        path=path,
        entry=Entry.PUBLIC,
        action=None,
        handler=handler,
        **more,
    )


def secret(method: str, path: str, handler: PublicHandler, **more: Any) -> Route:
    """For machines that know the address: provider pushes, one-click opt-out."""
    return Route(
        method=method,
        path=path,
        entry=Entry.SECRET,
        action=None,
        handler=handler,
        **more,
    )


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    for route in routes:
        app[ROUTES].append(route)
        if route.method == "GET":
            app.router.add_get(route.path, _guarded(route))
        else:
            app.router.add_route(route.method, route.path, _guarded(route))


def _guarded(
    route: Route,
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        access.refuse_unreadable(request)
        signed_in = None
        if route.entry is Entry.SESSION:
            signed_in = await access.by_session(request, route.background)
        elif route.entry is Entry.TOKEN:
            signed_in = await access.by_token(request)
        if route.max_body is not None:
            request = request.clone(client_max_size=route.max_body)
        if route.method not in SAFE and route.entry in (Entry.SESSION, Entry.PUBLIC):
            await access.refuse_cross_site(request, signed_in)
        if signed_in is None or route.action is None:
            return await route.handler(request)
        if not route.own_account:
            access.refuse_one_time_password(request, signed_in)
        signed_in.actor.require(route.action)
        return await route.handler(request, signed_in.actor)

    return handle
