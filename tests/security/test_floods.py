"""What many messages or many connections of one person may not do to others."""

import asyncio

from gateway.inbox import tray
from gateway.tables import Inbound
from gateway.web import events
from tests.console import Console
from tests.labs.centre import Centre


async def flood(centre: Centre, number: int, **like: str) -> None:
    """So many undecided messages of strangers, older than all others."""
    now = centre.clock.now()
    await Inbound.bulk_create(
        [
            Inbound(
                channel="QQ",
                key=f"flood-{n}",
                kind="qq",
                value=f"9{n:08}",
                text="?",
                payload=b"",
                received_at=now,
                state="review",
                **like,
            )
            for n in range(number)
        ]
    )


async def test_a_flood_of_strangers_hides_nothing_from_others(centre: Centre) -> None:
    await flood(centre, 1_200, route="automatic")
    mine = await centre.arrives("自动回复", automatic=True)
    assert mine.state == "review"
    shown = await tray.waiting(centre.core, centre.clerk)
    assert [one.message["id"] for one in shown] == [mine.id]
    assert await tray.count(centre.clerk) == 1
    assert await tray.count(centre.other) == 0


async def test_strangers_on_a_matter_are_seen_by_who_sees_the_matter(
    centre: Centre,
) -> None:
    await centre.arrives("转组织关系")
    inquiry = await centre.inquiry()
    await flood(centre, 300, route="several_open", route_detail=f"{inquiry.id},{2**40}")
    assert await tray.count(centre.clerk) == tray.MOST
    assert await tray.count(centre.other) == 0


async def test_one_session_holds_few_streams(console: Console) -> None:
    """Browsers open one for each page; nobody needs hundreds of connections."""
    browser = await console.browser("clerk_a")
    streams = [await browser.client.get("/events") for _ in range(events.MOST + 3)]
    async with asyncio.timeout(5):
        for oldest in streams[:3]:
            await oldest.content.read()
    other = await console.browser("clerk_b")
    async with other.client.get("/events") as stream:
        assert stream.status == 200
    assert not streams[-1].content.at_eof()
    for stream in streams:
        stream.close()
