"""Where providers push: `/hooks/{channel}/{token}/{path}`.

The token is a secret of ours, so that nobody who doesn't know the address reaches an
adapter; the adapter then checks the provider's own signature.
"""

import hmac

import structlog
from aiohttp import web

from gateway.contract import RawRequest, Receives
from gateway.core import Core
from gateway.errors import NotFound
from gateway.web import access
from gateway.web.keys import CORE, INBOX
from gateway.web.routes import secret

log = structlog.get_logger()


def hook_token(core: Core, channel: str) -> str:
    """The secret part of a channel's push address."""
    return core.keys.derive(f"hook:{channel}").hex()[:32]


def hook_path(core: Core, channel: str, path: str = "") -> str:
    """What staff enter at the provider, after the public address."""
    return f"/hooks/{channel}/{hook_token(core, channel)}/{path}"


async def push(request: web.Request) -> web.Response:
    """Store what was pushed, then say what this provider wants to hear."""
    core = request.app[CORE]
    name = request.match_info["channel"]
    expected = hook_token(core, name).encode()
    if not hmac.compare_digest(expected, request.match_info["token"].encode()):
        raise NotFound
    channel = core.channels.get(name)
    if channel is None or not isinstance(channel.adapter, Receives):
        raise NotFound
    received = channel.adapter.receive(await _raw(request))
    await request.app[INBOX].accept(name, received.events)
    log.info("push.accepted", channel=name, events=len(received.events))
    return web.Response(
        body=received.reply, headers={"Content-Type": received.content_type}
    )


async def _raw(request: web.Request) -> RawRequest:
    return RawRequest(
        path=request.match_info["path"],
        body=await request.read(),
        method=request.method,
        headers=dict(request.headers),
        query=dict(request.query),
        remote=access.remote(request),
    )


ROUTES = (
    secret("POST", "/hooks/{channel}/{token}/{path:.*}", push),
    secret("GET", "/hooks/{channel}/{token}/{path:.*}", push),
)
