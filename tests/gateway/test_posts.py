"""A channel's sender and listener work while its lease holds, and not a row longer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway import database as db
from gateway import leases
from gateway.channels import ChannelSet
from gateway.contract import Accept, AddressKind, Event
from gateway.core import Core
from gateway.leases import Lease
from gateway.posts import Post
from gateway.supervisor import Supervisor
from gateway.tables import Outbound
from tests.labs.outgoing import queued
from tests.labs.recorder import Recorder, as_channel, recorder

PATIENCE = 20.0
NAME = "channel:sms"


@dataclass
class Account(Recorder):
    """A provider that allows one session: it notes when one is open."""

    sessions: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[None]:
        self.sessions.append("open")
        try:
            yield
        finally:
            self.sessions.append("closed")


@pytest.fixture
def account() -> Account:
    return Account(recorder(AddressKind.PHONE).capabilities)


@pytest.fixture
def channels(account: Account) -> ChannelSet:
    return ChannelSet([as_channel("sms", account)])


async def nothing(events: Sequence[Event]) -> None:
    raise AssertionError(events)


@pytest.fixture
async def post(core: Core) -> AsyncIterator[Post]:
    core.node_id = 1
    await leases.register(db.rows, [NAME])
    supervisor = Supervisor()
    channel = core.channels.get("sms")
    assert channel is not None
    yield Post(core, channel, supervisor, nothing)
    await supervisor.stop()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def taken(core: Core, node: int = 1) -> Lease:
    await db.execute("UPDATE leases SET until = 1")
    found: list[Lease] = []

    async def came() -> bool:
        one = await leases.take(db.rows, NAME, node, core.clock.now())
        found.extend([one] if one else [])
        return bool(found)

    await until(came)  # a round of the owner may hold the row for a moment
    return found[0]


async def enqueue(core: Core, count: int) -> None:
    now = core.clock.now()
    for number in range(count):
        await queued(now, value=f"+8619900000{number:03d}")
    core.wakeups.wake("sender:sms")


async def in_state(state: str) -> int:
    return await Outbound.filter(state=state).count()


async def test_what_is_due_leaves_while_the_lease_holds(
    core: Core, post: Post, account: Account
) -> None:
    await post.begin(await taken(core))
    await enqueue(core, 3)
    await until(lambda: all_accepted(3))
    await post.end(True)
    assert len(account.sent) == 3
    assert account.sessions == ["open", "closed"]


async def all_accepted(count: int) -> bool:
    return await in_state("accepted") == count


async def test_nothing_leaves_under_an_old_epoch(
    core: Core, post: Post, account: Account
) -> None:
    """F-2: whoever was stopped in between does not know yet that it lost."""
    await post.begin(await taken(core))
    await enqueue(core, 1)
    await until(lambda: all_accepted(1))
    await taken(core, node=2)
    await enqueue(core, 2)

    async def fenced() -> bool:
        part = post.supervisor.parts()["sender:sms"]
        return not part.alive

    await until(fenced)
    assert len(account.sent) == 1
    assert await in_state("queued") == 2
    assert (await db.rows("SELECT COUNT(*) AS n FROM attempts"))[0]["n"] == 1
    await post.end(False)


async def test_it_works_again_when_the_lease_comes_back(
    core: Core, post: Post, account: Account
) -> None:
    """However fast: the old session is closed before the new one opens (F-4)."""
    for _ in range(3):
        await post.begin(await taken(core))
        await post.end(False)
    await post.begin(await taken(core))
    await enqueue(core, 2)
    await until(lambda: all_accepted(2))
    await post.end(True)
    assert account.sessions == ["open", "closed"] * (len(account.sessions) // 2)
