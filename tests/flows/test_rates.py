"""Rates and failover against simulated SMS centres, over real connections."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import time, timedelta
from pathlib import Path

import pytest

from adapters import smpp
from adapters.carrier.account import Account
from adapters.smpp.simulator import Behaviour, Centre, serving
from adapters.smpp.simulator.centre import part_of
from gateway.channels import Channel, ChannelSet, channel
from gateway.clock import Clock, ManualClock, SystemClock
from gateway.contract import Connection
from gateway.core import Core
from gateway.outbox import moves
from gateway.outbox.pace import START
from gateway.outbox.report import Reports, reports
from gateway.outbox.sender import Sender
from gateway.outbox.shares import Balance
from gateway.settings import ChannelCommon, Policy, Settings, Storage
from gateway.tables import Chunk, Content, Node, Outbound
from tests.gateway.outbox.test_chunks import BROADCAST, broadcast, states
from tests.labs.carrier import Events, context, listening, until
from tests.labs.smpp_lab import settings as login
from tests.labs.streams import CARRIER, Carrier
from tests.labs.streams import channel as in_memory

PATIENCE_SECONDS = 120.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    policy = Policy(
        allowed_from=time(0),
        allowed_until=time(0),
        slow_answer_seconds=0.5,
        share_step_seconds=1,
    )
    return Settings(storage=Storage(data_dir=tmp_path), policy=policy)


async def registered(core: Core) -> None:
    node = await Node.create(started_at=core.clock.now(), seen_at=core.clock.now())
    core.node_id = node.id


def account(
    name: str, port: int, folder: Path, clock: Clock, rate: float, **more: object
) -> Channel:
    built = smpp.build(login(port, **more), context(name, folder, clock=clock))
    common = ChannelCommon(adapter="smpp", rate_per_second=rate, share=50)
    return channel(name, built, common)


async def took(one: "Site", least: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while one.took().total() < least:  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.05)


async def test_a_full_window_waits_and_no_timer_fires(
    core: Core, clock: ManualClock, tmp_path: Path
) -> None:
    """A-6: a centre that answers slower than we could write, at a tenth of its time:
    50 answers a second, window 100, patience 3 s from the moment of writing."""
    centre = Centre(Behaviour(serve_rate=50.0, receipts=False))
    async with serving(centre) as port:
        slow = account(
            *("短信", port, tmp_path, SystemClock(), 1000.0),
            connection_window=100,
            answer_within_seconds=3,
        )
        core.channels = ChannelSet([slow])
        assert isinstance(slow.adapter, Account)
        await registered(core)
        sender = Sender(core, slow)
        await broadcast(core, 400)
        async with listening(slow.adapter, Events()):
            most = 0
            while await _is_unsettled(sender):
                await sender.step()
                most = max(most, sender.in_flight)
                clock.advance(timedelta(milliseconds=20))
                await asyncio.sleep(0.01)
    assert most == 100
    assert await states() == {"accepted": 400}
    assert centre.counts.accepted == 400


async def _is_unsettled(sender: Sender) -> bool:
    left = await states()
    return bool(left.get("planned") or left.get("queued"))


async def test_a_throttling_centre_is_used_nearly_to_the_full(
    core: Core, clock: ManualClock, tmp_path: Path
) -> None:
    """A-7: it takes 50 a second, we offer 500: nothing lost, 1.2 times the ideal."""
    people, takes = 2000, 50.0
    centre = Centre(Behaviour(throttle_rate=takes, receipts=False), clock=clock)
    async with serving(centre) as port:
        busy = account("短信", port, tmp_path, clock, 500.0, connection_window=100)
        core.channels = ChannelSet([busy])
        assert isinstance(busy.adapter, Account)
        await registered(core)
        sender = Sender(core, busy)
        await broadcast(core, people)
        async with listening(busy.adapter, Events()):
            began = clock.monotonic()
            while await _is_unsettled(sender):
                for _ in range(20):
                    await sender.step()
                    await until(lambda: not sender.in_flight)
                    clock.advance(timedelta(milliseconds=50))
                await sender.step()
            passed = clock.monotonic() - began
    assert await states() == {"accepted": people}
    assert centre.counts.accepted == people
    assert centre.counts.throttled > 0
    assert passed <= 1.2 * people / takes
    attempts = await Outbound.filter(throttled__gt=0).count()
    assert 0 < attempts <= centre.counts.throttled


@pytest.mark.slow
async def test_a_throttling_centre_gives_everybody_all_parts(
    core: Core, clock: ManualClock, tmp_path: Path
) -> None:
    """A-7, A-17: it takes 30 parts a second where we were told 60; of nobody's long
    message one part is missing, and none is there twice."""
    people = 100
    centre = Centre(Behaviour(throttle_rate=30.0, receipts=False), clock=clock)
    centre.taken = []
    async with serving(centre) as port:
        busy = account("短信", port, tmp_path, clock, 60.0, connection_window=100)
        core.channels = ChannelSet([busy])
        assert isinstance(busy.adapter, Account)
        await registered(core)
        sender, now = Sender(core, busy), core.clock.now()
        await Content.create(id=1, texts={"sms": "党" * 134}, hash="", created_at=now)
        await broadcast(core, people)
        async with listening(busy.adapter, Events()):
            while await _is_unsettled(sender) or sender.in_flight:
                await sender.step()
                clock.advance(timedelta(milliseconds=20))
                await asyncio.sleep(0.01)
            await sender.step()
    assert await states() == {"accepted": people}
    assert centre.counts.throttled > 0
    arrived = Counter((one.destination, part_of(one).number) for one in centre.taken)
    assert len(arrived) == 2 * people
    assert set(arrived.values()) == {1}


async def test_hours_without_the_provider(core: Core, clock: ManualClock) -> None:
    """A-9: the queue holds, what is too late is not sent, no flood at the return."""
    wide = Carrier(replace(CARRIER, window=10_000, rate_per_second=5000.0))
    core.channels = ChannelSet([in_memory(wide)])
    await registered(core)
    sender = Sender(core, next(iter(core.channels)))
    telling = Reports(core, lambda: [sender])
    await broadcast(core, 20)
    while await sender.step():
        wide.answer_all()
    await broadcast(core, 40, id=2)
    await broadcast(core, 1500, id=3)
    soon_over = clock.now() + timedelta(hours=1)
    await Outbound.filter(broadcast_id=2).update(expires_at=soon_over)
    turn(wide, clock, "closed")
    for _ in range(720):  # two hours
        await sender.step()
        clock.advance(timedelta(seconds=10))
    await telling.step()
    assert (await reports())["短信"]["open_since"]
    assert await states(3) == {"planned": 1500}
    before = len(wide.submitted)
    turn(wide, clock, "open")
    curve = []
    for _ in range(12):
        while await sender.step():
            wide.answer_all()
        curve.append(len(wide.submitted) - before)
        clock.advance(timedelta(milliseconds=250))
    assert await states(2) == {"expired": 40}
    assert await Chunk.filter(broadcast_id=2).count() == 2  # not split for the probe
    assert await states(3) == {"accepted": 1500}
    assert curve[0] <= START
    for n, sent in enumerate(curve[1:], start=1):
        assert sent <= START * 2**n  # all in all, after n quarters of a second
    await telling.step()
    assert not (await reports())["短信"]["open_since"]


def turn(carrier: Carrier, clock: ManualClock, state: str) -> None:
    carrier.is_away = state == "closed"
    one = Connection(name="1", state=state, since=clock.now(), window=10, awaited=0)
    carrier.shown = (one,)


# --- two centres, each a process with a ledger of its own


@dataclass(slots=True)
class Site:
    """A simulated centre as a process."""

    process: asyncio.subprocess.Process
    port: int
    ledger: Path

    def took(self) -> Counter[str]:
        """By the numbers that it accepted."""
        found = Counter[str]()
        for line in self.ledger.read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] == "mt":
                found[entry["to"]] += 1
        return found

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)


@asynccontextmanager
async def site(folder: Path, name: str, *options: str) -> AsyncIterator[Site]:
    ledger = folder / f"{name}.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.smpp.simulator", "--ledger", str(ledger)),
        *("--receipts", "off", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode()
        yield Site(process, int(first.rpartition(":")[2]), ledger)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(slots=True)
class Two:
    """A gateway at work with two accounts, on the system's clock."""

    core: Core
    one: Site
    other: Site

    def took(self) -> Counter[str]:
        return self.one.took() + self.other.took()

    async def until_over(self) -> dict[str, int]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = await moves.counts(BROADCAST)
                if found.get("planned", 0) + found.get("queued", 0) == 0:
                    return await states()
                await asyncio.sleep(0.1)


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await work()
        await asyncio.sleep(seconds)


@asynccontextmanager
async def two(
    core: Core, folder: Path, *of_the_first: str, rate: float
) -> AsyncIterator[Two]:
    core.clock = clock = SystemClock()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(site(folder, "one", *of_the_first))
        other = await stack.enter_async_context(site(folder, "other"))
        made = [
            account(name, centre.port, folder, clock, rate, connection_window=50)
            for name, centre in (("短信", one), ("备用", other))
        ]
        core.channels = ChannelSet(made)
        await registered(core)
        for each in made:
            assert isinstance(each.adapter, Account)
            await stack.enter_async_context(listening(each.adapter, Events()))
        senders = [Sender(core, each) for each in made]
        telling, balance = Reports(core, lambda: senders), Balance(core)
        work = [asyncio.create_task(sender.run()) for sender in senders]
        work.append(asyncio.create_task(_every(0.2, telling.step)))
        work.append(asyncio.create_task(_every(0.2, balance.work)))
        try:
            yield Two(core, one, other)
            assert not any(task.done() for task in work)
        finally:
            for sender in senders:
                await sender.stop(0.5)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.slow
async def test_one_of_two_centres_dies(core: Core, tmp_path: Path) -> None:
    """A-10: what is unknown stays with it, all others arrive once."""
    people = 1200
    async with two(core, tmp_path, rate=150.0) as house:
        await broadcast(core, people)
        core.wakeups.wake_all()
        await took(house.one, 100)
        house.one.kill()
        found = await house.until_over()
        told = await reports()
        ledgers = house.took()
    assert sum(found.values()) == people
    assert set(found) <= {"accepted", "unknown"}
    assert found.get("unknown", 0) <= 50
    assert max(ledgers.values()) == 1  # 0 doubled, across both ledgers
    stayed = {row.channel for row in await Outbound.filter(state="unknown")}
    assert stayed <= {"短信"}
    accepted = await Outbound.filter(state="accepted")
    assert {row.value.removeprefix("+") for row in accepted} <= set(ledgers)  # 0 lost
    assert told["短信"]["open_since"]


@pytest.mark.slow
async def test_one_of_two_centres_is_slow(core: Core, tmp_path: Path) -> None:
    """A-10: it loses its share by steps, and nobody gets anything twice."""
    people = 2400
    slow = ("--answer-delay-min", "0.8", "--answer-delay-max", "1.2")
    async with two(core, tmp_path, *slow, rate=120.0) as house:
        await broadcast(core, people)
        core.wakeups.wake_all()
        found = await house.until_over()
        told = await reports()
        ledgers = house.took()
        by_the_first = house.one.took().total()
    assert found == {"accepted": people}
    assert ledgers.total() == people
    assert max(ledgers.values()) == 1
    assert by_the_first < people * 0.45
    assert told["短信"]["lost"] >= 10
    assert told["备用"]["lost"] == 0
