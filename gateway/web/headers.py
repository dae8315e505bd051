"""Headers that tell browsers what our pages may do: nothing beyond this host."""

from aiohttp import hdrs, web

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


async def add_security_headers(
    request: web.Request, response: web.StreamResponse
) -> None:
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.popall(hdrs.SERVER, None)
    if request.app[CORE].settings.server.secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if REQUEST_ID in request:
        response.headers["X-Request-Id"] = request[REQUEST_ID]
