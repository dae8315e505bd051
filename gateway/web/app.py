"""Builds the application. Other folders add their routes with `add_routes`."""

import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from gateway.core import Core
from gateway.database import rows
from gateway.members import erasure_pages, import_pages
from gateway.members import pages as member_pages
from gateway.organisations import pages as organisation_pages
from gateway.staff import audit_pages, sign_in_pages, token_pages
from gateway.staff import pages as staff_pages
from gateway.staff.passwords import Hasher
from gateway.staff.throttle import Throttle
from gateway.web import events, health, hooks, opt_out, static, system
from gateway.web.errors import answer_faults
from gateway.web.headers import add_security_headers
from gateway.web.keys import (
    CORE,
    COUNTS,
    DOORS,
    HASHER,
    HEALTH,
    PAGES,
    REQUEST_ID,
    ROUTES,
    STREAMS,
    THROTTLE,
    Check,
)
from gateway.web.pages import Pages
from gateway.web.routes import add_routes, public

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MIB = 1024 * 1024
_PARTS = (
    events.ROUTES,
    system.ROUTES,
    hooks.ROUTES,
    opt_out.ROUTES,
    sign_in_pages.ROUTES,
    staff_pages.ROUTES,
    token_pages.ROUTES,
    audit_pages.ROUTES,
    organisation_pages.ROUTES,
    member_pages.ROUTES,
    import_pages.ROUTES,
    erasure_pages.ROUTES,
)
log = structlog.get_logger()


def build_app(core: Core) -> web.Application:
    """The foundation, sign-in, staff, members, organisations and the audit list.

    Before it starts the caller sets `app[INBOX]`, may add checks to `app[HEALTH]` and
    numbers to `app[COUNTS]`, and mounts further routes with `add_routes`.
    """
    app = build_bare_app(core)
    app[DOORS] = hooks.doors(core)
    app[COUNTS] = []
    app[HASHER] = Hasher()
    app[THROTTLE] = Throttle(core.clock)
    app[STREAMS] = events.Streams()
    app.on_shutdown.append(app[STREAMS].close)
    add_routes(app, static.routes(static.load()))
    add_routes(app, (public("GET", "/", _start),))
    for part in _PARTS:
        add_routes(app, part)
    return app


def build_bare_app(core: Core) -> web.Application:
    """For a process without pages: its health and its numbers."""
    app = web.Application(
        middlewares=[record_request, answer_faults],
        client_max_size=core.settings.server.max_body_mib * MIB,
    )
    app[CORE] = core
    app[ROUTES] = []
    checks: dict[str, Check] = {"database": _database_answers}
    app[HEALTH] = checks
    app[PAGES] = Pages(core)  # refusals are pages, too
    app.on_response_prepare.append(add_security_headers)
    add_routes(app, health.ROUTES)
    return app


async def _start(_: web.Request) -> web.StreamResponse:
    return web.Response(status=303, headers={"Location": "/inquiries"})


async def _database_answers() -> bool:
    return bool(await rows("SELECT 1 AS one"))


@web.middleware
async def record_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line and one measurement for each answer, by route, without its values."""
    started = time.perf_counter()
    status = 499  # the caller went away
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        _record(request, status, time.perf_counter() - started)


def _record(request: web.Request, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = "" if resource is None else resource.canonical
    request.app[CORE].metrics.answered(route, request.method, status, seconds)
    log.debug(
        "request.answered",
        request_id=request.get(REQUEST_ID, ""),
        method=request.method,
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )
