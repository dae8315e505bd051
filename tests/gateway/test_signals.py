"""What one process says is heard in the others, on a real PostgreSQL."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.core import Core
from gateway.hub import Change, Hub
from gateway.signals import CHANNEL, MOST_CHANGES, Signals
from gateway.wakeup import Wakeups
from tests.labs.process import until

PATIENCE = 10.0


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@asynccontextmanager
async def process(core: Core, url: str, node_id: int) -> AsyncIterator[Core]:
    """Another process of the cluster, as far as signals go."""
    own = dataclasses.replace(core, hub=Hub(), wakeups=Wakeups(), node_id=node_id)
    signals = Signals(own, url)
    await signals.line.listen()
    signals.attach()
    running = asyncio.create_task(signals.run())
    try:
        yield own
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await signals.line.close()


@pytest.fixture
async def here(core: Core, database_url: str) -> AsyncIterator[Core]:
    async with process(core, database_url, 1) as made:
        yield made


@pytest.fixture
async def there(core: Core, database_url: str) -> AsyncIterator[Core]:
    async with process(core, database_url, 2) as made:
        yield made


async def heard(core: Core, say: Callable[[], None], last: Change) -> list[Change]:
    """What a page of `core` is told, until `last`."""
    found = []
    async with core.hub.subscribed() as page, asyncio.timeout(PATIENCE):
        say()
        while not found or found[-1] != last:
            found.append(await page.get())
    return found


async def test_a_page_hears_what_another_process_did(here: Core, there: Core) -> None:
    change = Change("inquiry", "7", "/1/4/")
    say = lambda: here.hub.publish("inquiry", 7, "/1/4/")  # noqa: E731
    assert await heard(there, say, change) == [change]


async def test_a_worker_is_woken_in_another_process(here: Core, there: Core) -> None:
    waiting = asyncio.create_task(there.wakeups.wait("sender:sms", 60))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        here.wakeups.wake("sender:sms")
        await waiting
        waiting = asyncio.create_task(there.wakeups.wait("router", 60))
        await asyncio.sleep(0)
        here.wakeups.wake_all()
        await waiting


async def test_workers_of_this_process_are_woken_here_alone(core: Core) -> None:
    said: list[str] = []
    core.wakeups.outside = said.append
    await core.wakeups.wait("router", 0)
    core.wakeups.wake("router")
    core.wakeups.wake("sender:sms")
    core.wakeups.gone("router")
    core.wakeups.wake("router")
    assert said == ["sender:sms", "router"]


async def test_a_storm_of_changes_becomes_one_reading_again(
    here: Core, there: Core, database_url: str
) -> None:
    notified: list[str] = []
    ear = await asyncpg.connect(database_url)
    await ear.add_listener(CHANNEL, lambda *told: notified.append(told[3]))

    def say() -> None:
        for number in range(MOST_CHANGES + 1):
            here.hub.publish("inquiry", number)

    async def reported() -> bool:
        return bool(notified)

    try:
        assert await heard(there, say, Change("refresh", "")) == [Change("refresh", "")]
        await until(reported, 30)  # to this connection, too
    finally:
        await ear.close()
    assert len(notified) == 1


async def test_many_long_changes_take_several_notifications(
    here: Core, there: Core
) -> None:
    path = "/" + "1/" * 90

    def say() -> None:
        for number in range(MOST_CHANGES):
            here.hub.publish("inquiry", number, path)

    last = Change("inquiry", str(MOST_CHANGES - 1), path)
    assert len(await heard(there, say, last)) == MOST_CHANGES


async def test_after_a_lost_connection_pages_read_again(
    here: Core, there: Core, database_url: str
) -> None:
    """What was said in between is lost, so everything may have changed."""
    other = await asyncpg.connect(database_url)
    try:
        async with there.hub.subscribed() as page, asyncio.timeout(PATIENCE):
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname "
                "= current_database() AND query LIKE '%one%' AND pid <> "
                "pg_backend_pid()"
            )
            assert await page.get() == Change("refresh", "")
            here.hub.publish("review", 3)
            assert await page.get() == Change("review", "3")
    finally:
        await other.close()


async def test_nonsense_on_the_channel_is_passed_over(
    here: Core, there: Core, database_url: str
) -> None:
    ear = await asyncpg.connect(database_url)
    try:
        for payload in ("", "{", "[1]", '[1, 2, "x"]', '["a", [], []]'):
            await ear.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
    finally:
        await ear.close()
    change = Change("review", "1")
    say = lambda: here.hub.publish("review", 1)  # noqa: E731
    assert await heard(there, say, change) == [change]
