"""Power cuts: what is on the disk at one instant, and not what the kernel still holds.

The installation lives on an ext4 file system in a file. Its gateway is stopped in the
middle of its work, the file is copied while nothing may write, and the copy is mounted
(ext4 replays its journal) and compared with what peers were told. Whatever a sink was
handed must have its intent in the copy, and whatever was acknowledged must be there.
From the last copy the gateway starts anew and finishes; then it is counted as after a
crash.
"""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from gateway.clock import SystemClock
from gateway.drill import books as reading
from gateway.drill.checker import Evidence, Verdict, judge
from gateway.drill.ledgers import Acknowledged, Arrived, Fact, Tail
from gateway.drill.notices import approved, press_start
from gateway.drill.peers import Manners, Peer, peers
from gateway.drill.processes import START_SECONDS, until
from gateway.drill.site import Api, Site, prepared

SIZE_MIB = 256
COPY = "copy.img"
FINISH_SECONDS = 600.0
CARELESS_ROWS = (2000, 9000)  # told before the careless writer is stopped
PROGRAMS = ("losetup", "mount", "umount", "mkfs.ext4")


class NotAllowed(RuntimeError):
    """The machine doesn't let us mount after all; the message is the program's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One power cut."""

    told: int  # facts that the peers had been told, or had told us
    missing: Sequence[str]  # of these, what the picture doesn't know
    whole: bool  # SQLite finds nothing damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """All of them, and the gateway that was started after the last."""

    pictures: Sequence[Picture]
    seconds: float  # from its start until it answered
    verdict: Verdict

    @property
    def holds(self) -> bool:
        return self.verdict.holds and all(map(_is_well, self.pictures))


def _is_well(one: Picture) -> bool:
    return one.whole and not one.missing


def missing() -> str:
    """What this machine lacks; empty where the power can be cut."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if Path("/dev/loop-control").exists() else "there are no loop devices"


async def power(
    folder: Path, pictures: int, messages: int, seed: int, sinks: Sequence[str]
) -> Cuts:
    """Raises NotAllowed where the machine doesn't let us mount after all."""
    manners = Manners(people=messages, seed=seed)
    chance = random.Random(seed)
    async with (
        peers(folder, sinks, manners) as met,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        mounted(await _formatted(folder / "disk.img"), folder / "data"),
    ):
        site = await prepared(folder, "", met, messages)
        try:
            await site.start()
            api = Api(site, session)
            await api.answers()
            id = await approved(site, api, "power")
            await press_start(site, api, id)
            await until(partial(_begun, met), START_SECONDS)
            then = [signal.SIGCONT] * (pictures - 1) + [signal.SIGKILL]
            found = [await _picture(folder, site, met, chance, one) for one in then]
            await site.kill()
            # Over the disk that the others are pictures of.
            async with mounted(folder / COPY, folder / "data"):
                seconds, verdict = await _finished(site, api, met)
        finally:
            await site.close()
    return Cuts(pictures=found, seconds=seconds, verdict=verdict)


async def _finished(site: Site, api: Api, met: Sequence[Peer]) -> tuple[float, Verdict]:
    """Start, and send the rest; the seconds of the start, and what became of all."""
    begun = time.monotonic()
    await site.start()
    await api.answers()
    seconds = time.monotonic() - begun
    for peer in met:
        if peer.calm is not None:
            await peer.calm()
    await until(partial(_is_through, site), FINISH_SECONDS)
    await site.stop()
    found = await reading.books(site.url, SystemClock().now())
    facts = [fact for peer in met for fact in peer.facts()]
    return seconds, judge(
        Evidence(
            facts=facts,
            messages=found.messages,
            planned=found.planned,
            inbound=found.inbound,
            unmatched=found.unmatched,
            deviations=found.deviations,
        )
    )


async def _is_through(site: Site) -> bool:
    found = await reading.waiting(site.url)
    return not (found["messages"] or found["inbound"])


async def _begun(met: Sequence[Peer]) -> bool:
    """Whether a message has arrived."""
    facts = (fact for peer in met for fact in peer.facts())
    return any(isinstance(fact, Arrived) for fact in facts)


async def _picture(
    folder: Path,
    site: Site,
    met: Sequence[Peer],
    chance: random.Random,
    then: signal.Signals,
) -> Picture:
    """`then` is what the gateway is told after it."""
    await asyncio.sleep(chance.uniform(0.2, 2.0))
    copy, place = folder / COPY, folder / "copy"
    os.kill(site.pid, signal.SIGSTOP)
    try:
        # What the peers know after this instant, they were told before it.
        told = [fact for peer in met for fact in peer.facts()]
        await run("cp", "--sparse=always", str(folder / "disk.img"), str(copy))
    finally:
        os.kill(site.pid, then)
    async with mounted(copy, place):
        return _compared(place / "lianxin.sqlite3", told)


def _compared(path: Path, told: Sequence[Fact]) -> Picture:
    with _opened(path) as base:
        whole = base.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        meant = {
            (channel, value)
            for channel, value in base.execute(
                f"SELECT channel, value FROM outbox WHERE id IN ({_INTENT})"
            )
        }
        texts = {text for (text,) in base.execute("SELECT text FROM inbound")}
    lost = []
    for fact in told:
        if isinstance(fact, Arrived) and (fact.channel, fact.address) not in meant:
            lost.append(f"sent without an intent on the disk: {fact.address}")
        elif isinstance(fact, Acknowledged) and fact.key not in texts:
            lost.append(f"acknowledged, but not on the disk: {fact.key}")
    return Picture(told=len(told), missing=lost, whole=whole)


# What a restart from this picture would not send again by itself.
_INTENT = """
SELECT a.outbound_id FROM attempts a
UNION SELECT o.id FROM chunks c JOIN outbox o
ON o.id BETWEEN c.first_id AND c.journalled_to
AND o.broadcast_id = c.broadcast_id AND o.channel = c.channel
"""


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as base:
        yield base


async def _formatted(image: Path) -> Path:
    await run("truncate", "-s", f"{SIZE_MIB}M", str(image))
    await run("mkfs.ext4", "-q", "-F", str(image))
    return image


@asynccontextmanager
async def mounted(image: Path, place: Path) -> AsyncIterator[Path]:
    """The file system in a file, at `place`, for as long as the context is open."""
    await run("mkdir", "-p", str(place))
    await run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        await run("umount", str(place))


async def run(*words: str) -> None:
    """Raises NotAllowed with what the program said."""
    done = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await done.communicate()
    if done.returncode:
        text = said.decode(errors="replace").strip()
        raise NotAllowed(f"{words[0]} ended with {done.returncode}: {text}")


async def control(folder: Path, pictures: int, seed: int) -> list[Picture]:
    """The same with a writer that commits with `synchronous = NORMAL`: it must be
    found to lose rows that it had called durable. Ends with the first such picture."""
    chance = random.Random(seed)
    async with mounted(await _formatted(folder / "disk.img"), folder / "data"):
        found = []
        for _ in range(pictures):
            found.append(await _careless(folder, chance))
            if found[-1].missing:
                break
    return found


async def _careless(folder: Path, chance: random.Random) -> Picture:
    base, ledger = folder / "data" / "rows.sqlite3", folder / "told"
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WRITER, str(base), str(ledger))
    )
    try:
        tail = Tail(ledger, b"\n")
        wanted = tail.count() + chance.randint(*CARELESS_ROWS)
        await until(partial(_has, tail, wanted), START_SECONDS)
        writer.send_signal(signal.SIGSTOP)
        told = _last_number(ledger)
        copy = folder / COPY
        await run("cp", "--sparse=always", str(folder / "disk.img"), str(copy))
    finally:
        writer.kill()
        await writer.wait()
    async with mounted(copy, folder / "copy") as place:
        with _opened(place / "rows.sqlite3") as copied:
            whole = copied.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            kept = 0
            with suppress(sqlite3.OperationalError):  # the very table may be gone
                kept = copied.execute("SELECT MAX(id) FROM rows").fetchone()[0] or 0
    return Picture(
        told=told, missing=[f"row {n}" for n in range(kept + 1, told + 1)], whole=whole
    )


async def _has(tail: Tail, wanted: int) -> bool:
    return tail.count() >= wanted


def _last_number(ledger: Path) -> int:
    """Of its last whole line."""
    lines = ledger.read_text(encoding="ascii").split("\n")[:-1]
    return int(lines[-1]) if lines else 0


# Tells each row in a file on another disk once its commit has returned.
_WRITER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA journal_mode = WAL")
base.execute("PRAGMA synchronous = NORMAL")
base.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, x TEXT)")
told = open(sys.argv[2], "a", buffering=1)
while True:
    row = base.execute("INSERT INTO rows (x) VALUES (?)", ("x" * 100,)).lastrowid
    told.write(f"{row}\\n")
"""
