"""Who a request comes from, and whether it may be answered at all."""

import hmac
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from aiohttp import hdrs, web
from multidict import MultiMapping
from yarl import URL

from gateway.errors import RequestError
from gateway.settings import Network, Server
from gateway.staff import sessions, tokens
from gateway.staff.sessions import SignedIn
from gateway.web import forms
from gateway.web.keys import CORE, LANGUAGE, SIGNED_IN

LANGUAGES = ("zh", "en")


def cookie_name(server: Server, name: str) -> str:
    """`__Host-` binds a cookie to this host and to TLS; browsers insist on both."""
    return f"__Host-{name}" if server.secure else name


def set_cookie(
    request: web.Request, response: web.StreamResponse, name: str, value: str, age: int
) -> None:
    """A cookie that scripts can't read; `age` in seconds."""
    server = request.app[CORE].settings.server
    response.set_cookie(
        cookie_name(server, name),
        value,
        max_age=age,
        path="/",
        secure=server.secure,
        httponly=True,
        samesite="Lax",
    )


def drop_cookie(request: web.Request, response: web.StreamResponse, name: str) -> None:
    server = request.app[CORE].settings.server
    response.del_cookie(
        cookie_name(server, name),
        path="/",
        secure=server.secure,
        httponly=True,
        samesite="Lax",
    )


def cookie(request: web.Request, name: str) -> str:
    server = request.app[CORE].settings.server
    return request.cookies.get(cookie_name(server, name), "")


def remote(request: web.Request) -> str:
    """The caller's IP address; forwarded ones only as told by a trusted proxy."""
    trusted = request.app[CORE].settings.server.trusted_proxies
    return remote_of(request.remote or "", request.headers, trusted)


def remote_of(
    address: str, headers: MultiMapping[str], trusted: Sequence[Network]
) -> str:
    """The same for who connects from `address`."""
    forwarded = headers.getall(hdrs.X_FORWARDED_FOR, [])
    if not forwarded:
        return address
    hops = ",".join(forwarded).split(",")
    for hop in reversed(hops):
        if not _within(address, trusted) or not _is_address(hop.strip()):
            break
        address = hop.strip()
    return address


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _within(address: str, networks: Iterable[Network]) -> bool:
    return _is_address(address) and any(
        ip_address(address) in network for network in networks
    )


def language(request: web.Request) -> str:
    """What the person chose, else the centre's."""
    if LANGUAGE in request:
        return request[LANGUAGE]
    signed_in = request.get(SIGNED_IN)
    candidates = (
        request.query.get("lang", ""),
        signed_in.actor.language if signed_in else "",
        cookie(request, "language"),
        request.app[CORE].settings.centre.language,
    )
    chosen = next(c for c in candidates if c in LANGUAGES)
    request[LANGUAGE] = chosen
    return chosen


def refuse_unreadable(request: web.Request) -> None:
    """No database takes NUL or half a character; say so before one is asked."""
    for text in (
        *request.match_info.values(),
        *(part for pair in request.query.items() for part in pair),
    ):
        forms.refuse_unstorable(text)


async def by_session(request: web.Request, background: bool) -> SignedIn:
    core = request.app[CORE]
    value = cookie(request, "session")
    signed_in = await sessions.find(core, value, remote(request), background=background)
    if signed_in is None:
        raise _to_sign_in(request)
    request[SIGNED_IN] = signed_in
    return signed_in


async def still_signed_in(request: web.Request) -> bool:
    """Whether a long answer may go on: the session hasn't ended since."""
    value = cookie(request, "session")
    found = await sessions.find(
        request.app[CORE], value, remote(request), background=True
    )
    return found is not None


def _to_sign_in(request: web.Request) -> Exception:
    path = f"/login?next={quote(_page_of(request))}"
    if request.headers.get("HX-Request") == "true":
        return web.HTTPUnauthorized(headers={"HX-Redirect": path})
    if hdrs.ACCEPT in request.headers and "event-stream" in request.headers["Accept"]:
        return web.HTTPUnauthorized()
    return web.HTTPSeeOther(URL(path, encoded=True))


def _page_of(request: web.Request) -> str:
    """Where somebody was: a piece of a page or the answer to a form is no place to
    come back to."""
    asked_by = request.headers.get("HX-Current-URL")
    if request.method == "GET" and asked_by is None:
        return request.path_qs
    address = asked_by or request.headers.get(hdrs.REFERER) or ""
    try:
        came = urlsplit(address)
    except ValueError:
        return "/"
    return local_path(f"{came.path}?{came.query}" if came.query else came.path)


def refuse_one_time_password(request: web.Request, signed_in: SignedIn) -> None:
    """A one-time password opens one page only: the one that replaces it."""
    if not signed_in.must_change_password:
        return
    if request.headers.get("HX-Request") == "true":
        raise web.HTTPForbidden(headers={"HX-Redirect": "/password"})
    raise web.HTTPSeeOther("/password")


async def by_token(request: web.Request) -> SignedIn:
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    found = None
    if scheme.lower() == "bearer":
        found = await tokens.verify(request.app[CORE], value.strip(), remote(request))
    if found is None:
        raise RequestError("unauthorized", "send a valid bearer token", status=401)
    signed_in = SignedIn(actor=found, username=found.name, centre="", csrf="")
    request[SIGNED_IN] = signed_in
    return signed_in


async def refuse_cross_site(request: web.Request, signed_in: SignedIn | None) -> None:
    """Changes come from our own pages only: by origin, and by the session's token."""
    if not _same_origin(request):
        raise RequestError("cross_site", "posted from another site", status=403)
    if signed_in is None:
        return
    given = request.headers.get("X-CSRF-Token")
    if given is None:
        given = (await forms.read(request)).get("csrf")
    if not hmac.compare_digest(given.encode(), signed_in.csrf.encode()):
        raise RequestError("cross_site", "the form's token is missing", status=403)


def _same_origin(request: web.Request) -> bool:
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return site in ("same-origin", "none")
    ours = {
        urlsplit(request.app[CORE].settings.server.public_url).netloc,
        request.host,
    }
    # Where a proxy speaks TLS, only host and port can be compared.
    return site in ("same-origin", "none") and _host_of(origin) in ours


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that hold no IPv6 address
        return None


def local_path(text: str) -> str:
    r"""`text` if it leads to a page of ours, else the start page.

    Browsers read `\` as `/` and drop control characters, so neither is let through.
    """
    clean = text.startswith("/") and not text.startswith("//")
    if not clean or "\\" in text or any(ord(c) < 33 for c in text):
        return "/"
    return text
