"""I-6: whatever runs in the background of a process, its death is seen and repaired."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.contract import AddressKind, DoubtfulMessage, Found
from gateway.core import Core
from gateway.runtime import Runtime
from gateway.settings import Settings, Storage
from gateway.supervisor import Part, Supervisor
from gateway.web.app import build_app
from gateway.web.keys import BACKGROUND
from tests.gateway.test_posts import Account
from tests.labs.process import until
from tests.labs.recorder import as_channel, recorder

PATIENCE = 60.0
THIRD = 3  # death of a part: the process ends
PARTS = {"heartbeat", "watchdog", "inbox", "leases", "reports", "router", "scheduler"}
PARTS |= {"sender:sms", "listener:sms", "queries:sms"}
OF_MANY = {"signals", "calendar"}  # only where other processes can be there


class Struck(Exception):
    """The death of a part."""


class Mortal(Supervisor):
    """Lets each of its parts die when it is told to."""

    def __init__(self, give_up: Callable[[Part], None]) -> None:
        super().__init__(give_up)
        self.struck: dict[str, asyncio.Event] = {}

    def start(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        patience: float | None = None,
    ) -> None:
        struck = self.struck.setdefault(name, asyncio.Event())
        super().start(name, partial(self._until_struck, work, struck), patience)

    async def _until_struck(
        self, work: Callable[[], Awaitable[None]], struck: asyncio.Event
    ) -> None:
        working = asyncio.ensure_future(work())
        blow = asyncio.create_task(struck.wait())
        try:
            await asyncio.wait({working, blow}, return_when=asyncio.FIRST_COMPLETED)
            if struck.is_set():
                struck.clear()
                raise Struck
            working.result()
        finally:
            for task in (working, blow):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


class Asked(Account):
    """Its provider tells nothing of what is in doubt, but can be asked."""

    async def query(self, message: DoubtfulMessage) -> Found:
        return None


@dataclass
class Process:
    """Its background, and the parts that it was given up for."""

    runtime: Runtime
    supervisor: Mortal
    given_up: list[str] = field(default_factory=list)

    def names(self) -> set[str]:
        return set(self.runtime.supervisor.parts())

    async def strike(self, time: int) -> None:
        """Every part that there is dies once more."""
        for name in self.names():
            self.supervisor.struck[name].set()
        parts = self.runtime.supervisor.parts()

        async def all_died() -> bool:
            return all(part.deaths == time for part in parts.values())

        await until(all_died, PATIENCE)

    async def revived(self) -> None:
        async def all_alive() -> bool:
            parts = self.runtime.supervisor.parts()
            return all(part.alive for part in parts.values())

        await until(all_alive, PATIENCE)


@pytest.fixture
def settings(tmp_path: object, database_url: str) -> Settings:
    storage = Storage(data_dir=tmp_path, database_url=database_url, reserve_mib=1)
    return Settings(storage=storage)


@pytest.fixture
def channels() -> ChannelSet:
    account = Asked(recorder(AddressKind.PHONE).capabilities)
    return ChannelSet([as_channel("sms", account)])


async def nothing_today() -> None:
    return None


async def ticking() -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def process(core: Core) -> AsyncIterator[Process]:
    made: list[Process] = []

    def supervise(give_up: Callable[[Part], None]) -> Mortal:
        def told(part: Part) -> None:
            made[0].given_up.append(part.name)
            give_up(part)

        return Mortal(told)

    runtime = Runtime(
        core,
        nothing_today,
        alone=not db.is_postgres(),
        schedule=ticking,
        supervise=supervise,
    )
    assert isinstance(runtime.supervisor, Mortal)
    made.append(Process(runtime, runtime.supervisor))
    await runtime.start()
    yield made[0]
    await runtime.drain()
    await runtime.stop()


@pytest.fixture
async def app(core: Core, process: Process) -> web.Application:
    app = build_app(core)
    app[BACKGROUND] = process.runtime
    return app


async def test_the_death_of_any_part_is_seen_and_repaired(
    process: Process, app: web.Application, aiohttp_client: AiohttpClient
) -> None:
    """I-6: of each, whatever there will be; the third one ends the process."""
    expected = PARTS | (OF_MANY if db.is_postgres() else set())

    async def all_there() -> bool:
        return process.names() >= expected

    await until(all_there, PATIENCE)
    client = await aiohttp_client(app)
    for time in range(1, THIRD + 1):
        names = process.names()
        await process.strike(time)
        if time < THIRD:
            assert process.given_up == []
            await process.revived()
        # A monitor that looks seldom has to see it: it is red for a while.
        answer = await client.get("/healthz")
        assert answer.status == 503
        said = await answer.json()
        assert {name for name, well in said["parts"].items() if not well} >= names
        assert {said["tasks"][name]["deaths"] for name in names} == {time}
        assert {said["tasks"][name]["error"] for name in names} == {"Struck"}
    assert set(process.given_up) == process.names() >= expected
