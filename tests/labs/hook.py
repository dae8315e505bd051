"""Stands in for the gateway's hook route: hands a provider's push to an adapter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from gateway.contract import Event, RawRequest, Receives
from gateway.errors import RequestError


@dataclass
class Hook:
    url: URL
    events: list[Event] = field(default_factory=list)
    refusal: RequestError | None = None


@asynccontextmanager
async def hooked(adapter: Receives) -> AsyncIterator[Hook]:
    """An address whose `/report` and `/reply` go to the adapter."""

    async def push(request: web.Request) -> web.Response:
        raw = RawRequest(
            path=request.match_info["path"],
            body=await request.read(),
            method=request.method,
            headers=dict(request.headers),
            query=dict(request.query),
            remote=request.remote or "",
        )
        try:
            received = adapter.receive(raw)
        except RequestError as error:
            hook.refusal = error
            return web.Response(status=error.status)
        hook.events += received.events
        return web.Response(body=received.reply, content_type=received.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", push)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    hook = Hook(server.make_url("/"))
    try:
        yield hook
    finally:
        await server.close()


async def push(url: URL, body: bytes) -> tuple[int, bytes]:
    """What a provider does: POST, and read what is answered."""
    headers = {"Content-Type": "application/json;charset=utf-8"}
    async with (
        asyncio.timeout(10),
        ClientSession() as session,
        session.post(url, data=body, headers=headers) as response,
    ):
        return response.status, await response.read()
