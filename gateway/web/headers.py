"""Headers that tell browsers what our pages may do: nothing beyond this host."""

from collections.abc import Mapping

from aiohttp import hdrs, web

from gateway.settings import Server
from gateway.web.keys import CORE, REQUEST_ID

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    # Tells other hosts nothing. With `no-referrer` browsers would also send
    # `Origin: null` with our own forms, and nothing could be checked.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def always(server: Server) -> Mapping[str, str]:
    """What every answer has that says nothing else."""
    secure = {"Strict-Transport-Security": "max-age=31536000"} if server.secure else {}
    return {**_ALWAYS, hdrs.CACHE_CONTROL: "no-store", **secure}


async def add_security_headers(
    request: web.Request, response: web.StreamResponse
) -> None:
    for name, value in always(request.app[CORE].settings.server).items():
        response.headers.setdefault(name, value)
    response.headers.popall(hdrs.SERVER, None)
    if REQUEST_ID in request:
        response.headers["X-Request-Id"] = request[REQUEST_ID]
