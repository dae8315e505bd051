"""`/events`: tells open pages, as it happens, what they should read again."""

import asyncio
from datetime import timedelta

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from gateway.actors import Action, Actor
from gateway.hub import Subscriber
from gateway.web import access
from gateway.web.keys import CORE, SIGNED_IN, STREAMS
from gateway.web.routes import page

MOST = 50  # connections of one session
_CHECK_EVERY = timedelta(seconds=20)


class Streams:
    """The open connections, so that stopping doesn't wait for them, and so that nobody
    holds too many: above that a person's oldest one ends."""

    def __init__(self) -> None:
        self._owners: dict[asyncio.Task[None], int] = {}

    async def run(self, task: asyncio.Task[None], owner: int = 0) -> None:
        """Wait for `task`, which `close` may end. `owner`: whose session it is, 0 for
        people who haven't signed in."""
        self._owners[task] = owner
        same = [one for one, whose in self._owners.items() if whose == owner]
        for oldest in same[:-MOST]:
            self._end(oldest)
        try:
            await task
        except asyncio.CancelledError:
            if task in self._owners:
                raise
        except ConnectionError:
            pass  # the reader went away
        finally:
            self._end(task)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._owners.pop(task, None)
        task.cancel()

    async def close(self, _: web.Application) -> None:
        for task in list(self._owners):
            self._end(task)


async def events(request: web.Request, actor: Actor) -> web.StreamResponse:
    """One event for each change the person may see: its topic, with its id."""
    core = request.app[CORE]
    if request.transport is None:
        return web.Response(status=204)  # the reader went away before we began
    async with core.hub.subscribed() as subscriber, sse_response(request) as response:
        task = asyncio.create_task(_forward(request, response, subscriber, actor))
        await request.app[STREAMS].run(task, request[SIGNED_IN].session_id)
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
