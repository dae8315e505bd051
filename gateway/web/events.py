"""`/events`: tells open pages, as it happens, what they should read again."""

import asyncio
from datetime import timedelta

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from gateway.actors import Action, Actor
from gateway.hub import Subscriber
from gateway.web import access
from gateway.web.keys import CORE, STREAMS
from gateway.web.routes import page

_CHECK_EVERY = timedelta(seconds=20)


class Streams:
    """The open connections, so that stopping doesn't wait for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def run(self, task: asyncio.Task[None]) -> None:
        """Wait for `task`, which `close` may end."""
        self._tasks.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._closing:
                raise
        except ConnectionError:
            pass  # the reader went away
        finally:
            self._tasks.discard(task)
            task.cancel()

    async def close(self, _: web.Application) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()


async def events(request: web.Request, actor: Actor) -> web.StreamResponse:
    """One event for each change the person may see: its topic, with its id."""
    core = request.app[CORE]
    async with core.hub.subscribed() as subscriber, sse_response(request) as response:
        task = asyncio.create_task(_forward(request, response, subscriber, actor))
        await request.app[STREAMS].run(task)
    return response


async def _forward(
    request: web.Request,
    response: EventSourceResponse,
    subscriber: Subscriber,
    actor: Actor,
) -> None:
    clock = request.app[CORE].clock
    checked = clock.now()
    while response.is_connected():
        try:
            async with asyncio.timeout(_CHECK_EVERY.total_seconds()):
                change = await subscriber.get()
        except TimeoutError:
            change = None
        if change is None or clock.now() - checked >= _CHECK_EVERY:
            if not await access.still_signed_in(request):
                return
            checked = clock.now()
        if change is not None and (change.path == "/" or actor.sees(change.path)):
            await response.send(change.id, event=change.topic)


ROUTES = (page("GET", "/events", events, Action.READ, background=True),)
