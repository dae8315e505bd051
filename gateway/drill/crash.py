"""Kill the gateway again and again while it works; then count.

`kill -9`: some at any moment of a start, most once so many messages have reached the
peers since the last one. So the kills fall into the work, and the work lasts for all of
them, on a machine of any speed. Some spare the children, most take the whole group.
"""

import asyncio
import json
import math
import random
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from gateway.clock import SystemClock
from gateway.drill import books as reading
from gateway.drill import site as sites
from gateway.drill.checker import Barred, Evidence, Kill, Verdict, judge
from gateway.drill.ledgers import Tail
from gateway.drill.notices import approved, press_start
from gateway.drill.peers import SINKS, WRITTEN, Manners, Peer, address, peers
from gateway.drill.processes import START_SECONDS, until
from gateway.drill.site import Api, Site

CANARY = 50  # of each channel
FREEZING = 3  # kills while everybody's rows are written; then that may end
AT_START = 4  # of so many later kills one falls on the start
# The ninth of so many kills lets the leases of the dead run out: it had some, which one
# that falls on a start may not.
WAITS_OUT = 10
SPENT = 1.5  # at most so much of what is left for each kill arrives before it,
MOST = 0.9  # and never all
LOOK_SECONDS = 0.01  # between two looks at what has arrived
PATIENCE_SECONDS = 1.0  # with the same aim
ALONE = 0.2  # share of kills that spare the children
OPT_OUTS = 0.02  # share of the people who refuse meanwhile
OPT_OUTS_A_SECOND = 5.0
ERASED = 0.01  # of others, whose data staff erase
ERASURES_A_SECOND = 2.0
FINISH_SECONDS = 300.0  # without any change while something waits
TELL_SECONDS = 5.0  # between two lines about what is waited for
CALM_SECONDS = 3.0  # without any change: what has not come by then doesn't come

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What is asked for."""

    kills: int
    messages: int
    seed: int = 1
    sinks: Sequence[str] = SINKS
    url: str = ""  # empty: SQLite in the drill's own folder
    cold: bool = False
    opt_outs: bool = True

    @property
    def manners(self) -> Manners:
        return Manners(people=self.messages, seed=self.seed)


@dataclass(slots=True)
class _Run:
    drill: Drill
    site: Site
    api: Api
    peers: Sequence[Peer]
    chance: random.Random
    tell: Tell
    tails: Sequence[Tail]
    notices: int = 0
    notice: int = 0  # the id of the last
    journalled: int = 0  # how much of it was at the last kill
    kills: list[Kill] = field(default_factory=list)
    barred: list[Barred] = field(default_factory=list)
    # Who is erased before the rows of a notice are written has none: the count of the
    # people that is in the audit would be one too high.
    bringing: asyncio.Lock = field(default_factory=asyncio.Lock)
    own_ends: int = 0  # the gateway ended without being told to
    life: float = 1.0  # seconds from a start until it answers


async def crash(folder: Path, drill: Drill, tell: Tell) -> Verdict:
    """`folder` is empty and of this drill alone; the sinks' ledgers stay in it."""
    async with (
        peers(folder, drill.sinks, drill.manners) as met,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
    ):
        tell(f"{drill.messages} members, {', '.join(drill.sinks)}")
        site = await sites.prepared(
            folder, drill.url, met, drill.messages, canary=CANARY, cold=drill.cold
        )
        try:
            run = _Run(
                drill=drill,
                site=site,
                api=Api(site, session),
                peers=met,
                chance=random.Random(drill.seed),
                tell=tell,
                tails=[Tail(peer.ledger, peer.mark) for peer in met],
            )
            return await _crash(run)
        finally:
            await site.close()


async def _crash(run: _Run) -> Verdict:
    await _first_start(run)
    started = asyncio.create_task(_notice(run))
    barring = [asyncio.create_task(one) for one in _barring(run)]
    begun = time.monotonic()
    try:
        for number in range(1, run.drill.kills + 1):
            if number > FREEZING:
                await started
            await _moment(run, number)
            await _kill(run)
            if run.drill.url and number % WAITS_OUT != WAITS_OUT - 1:
                await reading.end_leases(run.drill.url)
            _people_write(run)
            if number % 10 == 0 or number == run.drill.kills:
                seconds = time.monotonic() - begun
                run.tell(f"{number} kills in {seconds:.0f} s")
            await run.site.start()
        await started
        for peer in run.peers:
            if peer.calm is not None:
                await peer.calm()
        await _finished(run)
    finally:
        for one in (started, *barring):
            one.cancel()
        ends = await asyncio.gather(started, *barring, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    status = await run.site.stop()
    return await _verdict(run, status)


async def _first_start(run: _Run) -> None:
    begun = time.monotonic()
    await run.site.start()
    await run.api.answers()
    if not run.drill.cold:  # the first one waited for the imports
        await run.site.stop()
        begun = time.monotonic()
        await run.site.start()
        await run.api.answers()
    run.life = time.monotonic() - begun
    run.tell(f"a start takes {run.life:.2f} s")


async def _notice(run: _Run) -> None:
    """A notice to everybody. Its start is pressed by several people at once, again
    after each crash: one run (A-14)."""
    async with run.bringing:
        run.notices += 1
        run.notice = await approved(run.site, run.api, f"drill-{run.notices}")
        run.journalled = 0
        presses = (press_start(run.site, run.api, run.notice) for _ in range(3))
        await asyncio.gather(*presses)
        frozen = partial(reading.is_frozen, run.site.url, run.notice)
        await until(frozen, START_SECONDS)


async def _moment(run: _Run, number: int) -> None:
    """Wait for the moment of the kill."""
    if number <= FREEZING or number % AT_START == 0:
        await asyncio.sleep(run.chance.uniform(0, run.life))
        return
    wanted, seen = await _wanted(run, number), _arrived(run)
    async with asyncio.timeout(START_SECONDS) as limit:
        while not await _reached(run, wanted):
            if _arrived(run) > seen:  # slow, but at work
                seen = _arrived(run)
                limit.reschedule(asyncio.get_running_loop().time() + START_SECONDS)
            if not await reading.left(run.site.url, run.notice):
                run.tell("everybody is through: another notice")
                await _notice(run)
                wanted = await _wanted(run, number)


async def _reached(run: _Run, wanted: int) -> bool:
    """Whether so many messages have arrived, and some of the notice have left in this
    life: answers overtake them. False after a while of waiting."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if not run.site.is_alive():
            return True
        if _arrived(run) >= wanted and await _journalled(run) > run.journalled:
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


async def _journalled(run: _Run) -> int:
    return await reading.journalled(run.site.url, run.notice)


def _arrived(run: _Run) -> int:
    return sum(tail.count() for tail in run.tails)


async def _wanted(run: _Run, number: int) -> int:
    """How many messages may have arrived before this kill: a random share of what is
    left for it."""
    left = await reading.left(run.site.url, run.notice)
    most = left * min(SPENT / (run.drill.kills - number + 1), MOST)
    return _arrived(run) + 1 + int(run.chance.uniform(0, most))


async def _kill(run: _Run) -> None:
    at = time.time()
    group = run.chance.random() >= ALONE
    if await run.site.kill(group=group) != -signal.SIGKILL:
        run.own_ends += 1
    open_now = await reading.open_intents(run.site.url)
    run.kills.append(Kill(at=at, open=open_now))
    run.journalled = await _journalled(run)


def _people_write(run: _Run) -> None:
    """People write to the sandbox while nobody is there; it pushes when it is back,
    and again what was not acknowledged before the next kill."""
    ledgers = [peer.ledger for peer in run.peers if peer.channel == "sandbox"]
    many = round(run.drill.manners.inbound * run.life)
    for ledger in ledgers:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(_said(run))}\n" for _ in range(many))


def _said(run: _Run) -> dict[str, Any]:
    number, id = run.chance.randrange(100_000), secrets.token_hex(8)
    return {
        "what": "said",
        "at": datetime.now(UTC).isoformat(),
        "medium": "qq",
        "provider_id": id,
        "sender": {"kind": "qq", "value": str(700_000_000 + number)},
        "text": f"{WRITTEN}{id}",
    }


def _barring(run: _Run) -> Sequence[Coroutine[Any, Any, None]]:
    """Members refuse, and others are erased, in the middle of the run."""
    people = run.drill.messages
    numbers = list(range(1, people + 1))
    run.chance.shuffle(numbers)
    if not run.drill.opt_outs:
        return ()
    refuse = math.ceil(people * OPT_OUTS)
    erased = math.ceil(people * ERASED)
    return _opt_outs(run, numbers[:refuse]), _erasures(run, numbers[refuse:][:erased])


async def _opt_outs(run: _Run, numbers: Sequence[int]) -> None:
    for number in numbers:
        await until(partial(run.api.opt_out, number), FINISH_SECONDS)
        _bar(run, number, erased=False)
        await asyncio.sleep(1 / OPT_OUTS_A_SECOND)


async def _erasures(run: _Run, numbers: Sequence[int]) -> None:
    for number in numbers:
        async with run.bringing:
            await until(partial(run.api.erase, number), FINISH_SECONDS)
        _bar(run, number, erased=True)
        await asyncio.sleep(1 / ERASURES_A_SECOND)


def _bar(run: _Run, number: int, *, erased: bool) -> None:
    """It was confirmed: from now on it counts."""
    kinds = [peer.kind for peer in run.peers]
    kind, at = kinds[number % len(kinds)], time.time()
    run.barred += [
        Barred(peer.channel, address(kind, number), at, erased)
        for peer in run.peers
        if peer.kind is kind
    ]


async def _finished(run: _Run) -> None:
    """Until nothing waits any more, and nothing has changed for a while. What has not
    moved for so long never will: the verdict names it."""
    before, since, told = None, time.monotonic(), time.monotonic()
    while (calm := time.monotonic() - since) < FINISH_SECONDS:
        if not run.site.is_alive():
            run.own_ends += 1
            await run.site.revive()
        found = dict(await reading.waiting(run.site.url))
        if found != before:
            before, since, calm = found, time.monotonic(), 0.0
        if not (found["messages"] or found["inbound"]) and (
            calm > CALM_SECONDS or not _receipts_due(run, found)
        ):
            return
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            run.tell(f"waiting for {_as_words(found)}")
        await asyncio.sleep(0.2)


def _as_words(found: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in found.items() if n)


def _receipts_due(run: _Run, found: dict[str, int]) -> bool:
    return any(
        found.get(f"receipts of {peer.channel}") for peer in run.peers if peer.receipts
    )


async def _verdict(run: _Run, status: int) -> Verdict:
    found = await reading.books(run.site.url, SystemClock().now())
    left = [] if status == 0 else [f"the last stop ended with {status}"]
    confirmed = len({one.address for one in run.barred if one.erased})
    if found.erased < confirmed:
        left.append(f"{confirmed} erasures confirmed, {found.erased} kept")
    if run.own_ends:
        left.append(f"the gateway ended by itself {run.own_ends} times: see its log")
    return judge(
        Evidence(
            facts=[fact for peer in run.peers for fact in peer.facts()],
            messages=found.messages,
            planned=found.planned,
            inbound=found.inbound,
            kills=run.kills,
            windows={peer.channel: peer.window for peer in run.peers},
            barred=run.barred,
            unmatched=found.unmatched,
            deviations=[*found.deviations, *left],
        )
    )
