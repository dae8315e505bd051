"""Live updates: who hears what, and when the connection ends."""

import asyncio
from datetime import timedelta

from aiohttp import ClientResponse

from gateway.clock import ManualClock
from gateway.web.keys import CORE
from tests.console import Console


async def _next(stream: ClientResponse) -> tuple[str, str]:
    """The next event's topic and id; comments and blank lines are skipped."""
    found: dict[str, str] = {}
    async with asyncio.timeout(5):
        while "data" not in found:
            line = (await stream.content.readline()).decode().strip()
            name, colon, value = line.partition(": ")
            if colon and name:
                found[name] = value
    return found["event"], found["data"]


async def test_a_page_hears_of_its_own_subtree_and_of_everybody(
    console: Console,
) -> None:
    hub = console.app[CORE].hub
    browser = await console.browser("clerk_a")
    async with browser.client.get("/events") as stream:
        assert stream.content_type == "text/event-stream"
        hub.publish("inquiry", "foreign", console.centre_b.path)
        hub.publish("inquiry", "above", console.county.path)
        hub.publish("inquiry", "mine", console.branch_a.path)
        hub.publish("channel", "sms")
        assert await _next(stream) == ("inquiry", "mine")
        assert await _next(stream) == ("channel", "sms")


async def test_stopping_ends_the_open_connections(console: Console) -> None:
    browser = await console.browser("clerk_a")
    async with browser.client.get("/events") as stream:
        assert stream.status == 200
        async with asyncio.timeout(5):
            await console.app.shutdown()
            assert b"event" not in await stream.content.read()


async def test_without_a_session_there_is_no_stream(console: Console) -> None:
    answer = await console.client.get(
        "/events", headers={"Accept": "text/event-stream"}
    )
    assert answer.status == 401


async def test_a_stream_ends_with_its_session(
    console: Console, clock: ManualClock
) -> None:
    """The session is asked for again when something is to be told, at the latest
    every twenty seconds."""
    hub = console.app[CORE].hub
    browser = await console.browser("clerk_a")
    async with browser.client.get("/events") as stream:
        assert (await browser.post("/logout")).status == 303
        clock.advance(timedelta(seconds=30))
        hub.publish("inquiry", "secret", console.branch_a.path)
        async with asyncio.timeout(5):
            assert b"secret" not in await stream.content.read()
