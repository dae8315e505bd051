"""Where providers push: `/hooks/{channel}/{token}/{path}`.

The token is a secret of ours, so that nobody who doesn't know the address reaches an
adapter; the adapter then checks the provider's own signature.
"""

import hmac
from collections.abc import Mapping
from contextvars import ContextVar

from aiohttp import web

from gateway.contract import RawRequest, Receives
from gateway.core import Core
from gateway.errors import NotFound
from gateway.web import access
from gateway.web.keys import DOORS, INBOX, Door
from gateway.web.routes import secret

PATH = "/hooks/{channel}/{token}/{path}"
FAULT: ContextVar[list[Exception]] = ContextVar("fault")
"""On a connection that `gateway.web.front` handed over: what went wrong there with its
first push, until that is told."""


def hook_token(core: Core, channel: str) -> str:
    """The secret part of a channel's push address."""
    return core.keys.derive(f"hook:{channel}").hex()[:32]


def hook_path(core: Core, channel: str, path: str = "") -> str:
    """What staff enter at the provider, after the public address."""
    return f"/hooks/{channel}/{hook_token(core, channel)}/{path}"


def doors(core: Core) -> Mapping[str, Door]:
    """Of each channel that is pushed to: derived and checked once, not per push."""
    return {
        channel.name: (hook_token(core, channel.name).encode(), channel.adapter)
        for channel in core.channels
        if isinstance(channel.adapter, Receives)
    }


async def push(request: web.Request) -> web.Response:
    """Store what was pushed, then say what this provider wants to hear.

    `gateway.web.front` does the same for most.
    """
    if faults := FAULT.get([]):
        raise faults.pop()
    name = request.match_info["channel"]
    expected, adapter = request.app[DOORS].get(name, (b"", None))
    if not hmac.compare_digest(expected, request.match_info["token"].encode()):
        raise NotFound
    if adapter is None:
        raise NotFound
    received = adapter.receive(await _raw(request))
    await request.app[INBOX].accept(name, received.events)
    return web.Response(
        body=received.reply, headers={"Content-Type": received.content_type}
    )


async def _raw(request: web.Request) -> RawRequest:
    return RawRequest(
        path=request.match_info["path"],
        body=await request.read(),
        method=request.method,
        headers=request.headers,  # not copied: pushes come by the thousand
        query=request.query,
        remote=access.remote(request),
    )


ROUTES = (
    secret("POST", "/hooks/{channel}/{token}/{path:.*}", push),
    secret("GET", "/hooks/{channel}/{token}/{path:.*}", push),
)
