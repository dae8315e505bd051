"""Crash points one by one: kill at the n-th system call of a small run, for every n.

`strace` counts the calls of each thread from the press of the button on, and kills at
the n-th; then the gateway starts again and finishes. Points are tried until a run is
through before its n-th call came.
"""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp

from gateway.clock import SystemClock
from gateway.drill import books as reading
from gateway.drill.checker import Evidence, Kill, Verdict, judge
from gateway.drill.notices import approved, press_start
from gateway.drill.peers import Manners, Peer, peers
from gateway.drill.processes import NotStarted, until
from gateway.drill.site import Api, Site, prepared

# Of commits, of the log they are in, and of the bytes that leave (libuv writes them).
CALLS = ("fdatasync", "pwrite64", "write")
PEOPLE = 50
RUN_SECONDS = 30.0
LETTING_GO_SECONDS = 10.0
TOLD_EVERY = 10  # points; each takes about two seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """How many points of each call were hit, and the verdict on all of them."""

    hit: dict[str, int]
    complete: bool  # each call was tried until a run stayed untouched
    verdict: Verdict


@dataclass(slots=True)
class _Run:
    site: Site
    api: Api
    peers: Sequence[Peer]
    kills: list[Kill] = field(default_factory=list)


def missing() -> str:
    """What this machine lacks; empty where points can be tried."""
    return "" if shutil.which("strace") else "strace is not installed"


async def points(
    folder: Path,
    calls: Sequence[str],
    most: int,
    sinks: Sequence[str],
    step: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> Points:
    """At most `most` points of each call, every `step`-th. `folder` is empty; `tell` is
    told how far it is."""
    manners = Manners(
        people=PEOPLE, delay=0.01, drop=0, inbound=0, receipt_delay=0.05, odd=0
    )
    async with (
        peers(folder, sinks, manners) as met,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
    ):
        site = await prepared(folder, "", met, PEOPLE)
        run = _Run(site, Api(site, session), met)
        try:
            await site.start()
            await run.api.answers()
            hit = {call: await _each(run, call, most, step, tell) for call in calls}
            status = await site.stop()
            verdict = await _verdict(run, status)
        finally:
            await site.close()
    complete = all(n < most for n in hit.values())
    return Points(hit=hit, complete=complete, verdict=verdict)


async def _each(
    run: _Run, call: str, most: int, step: int, tell: Callable[[str], None]
) -> int:
    """How many of its points were hit."""
    for number in range(most):
        if number % TOLD_EVERY == 0:
            tell(f"{call}: killed at {number} points")
        if not await _hit(run, call, 1 + number * step):
            return number
    return most


async def _hit(run: _Run, call: str, n: int) -> bool:
    site, api = run.site, run.api
    id = await approved(site, api, f"{call}-{n}")
    async with _traced(site.pid, call, n):
        pressed = asyncio.create_task(press_start(site, api, id))
        was_hit = await _ended_before(site, id)
    if was_hit or not site.is_alive():  # or in the moment of letting go
        was_hit = True
        found = await reading.open_intents(site.url)
        run.kills.append(Kill(at=time.time(), open=found))
        await site.revive()
    await pressed
    await until(partial(_done, site, id), RUN_SECONDS)
    return was_hit


@asynccontextmanager
async def _traced(pid: int, call: str, n: int) -> AsyncIterator[None]:
    """strace on all threads of a process, until it is killed or the context ends."""
    tracer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-p", str(pid), "-e", f"trace={call}"),
        *("-e", f"inject={call}:signal=KILL:when={n}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr is not None
    line = await tracer.stderr.readline()
    if b"attached" not in line:
        raise NotStarted(f"strace: {line.decode(errors='replace').strip()}")
    reading_on = asyncio.create_task(tracer.stderr.read())
    try:
        yield
    finally:
        await _let_go(tracer)
        await reading_on


async def _let_go(tracer: asyncio.subprocess.Process) -> None:
    """strace waits for ever where the process is killed while it lets go of it."""
    if tracer.returncode is None:
        tracer.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(LETTING_GO_SECONDS):
            await tracer.wait()
    except TimeoutError:
        tracer.kill()
        await tracer.wait()


async def _ended_before(site: Site, id: int) -> bool:
    """Whether the gateway was killed before everything was settled."""
    limit = time.monotonic() + RUN_SECONDS
    while time.monotonic() < limit:
        if not site.is_alive():
            return True
        if await _done(site, id):
            return False
        await asyncio.sleep(0.02)
    raise TimeoutError("the run neither ended nor died")


async def _done(site: Site, id: int) -> bool:
    if not await reading.is_frozen(site.url, id):
        return False
    found = await reading.waiting(site.url)
    return not found["messages"] and not found["inbound"]


async def _verdict(run: _Run, status: int) -> Verdict:
    found = await reading.books(run.site.url, SystemClock().now())
    left = [] if status == 0 else [f"the last stop ended with {status}"]
    return judge(
        Evidence(
            facts=[fact for peer in run.peers for fact in peer.facts()],
            messages=found.messages,
            planned=found.planned,
            inbound=found.inbound,
            kills=run.kills,
            windows={peer.channel: peer.window for peer in run.peers},
            unmatched=found.unmatched,
            deviations=[*found.deviations, *left],
        )
    )
