"""Lists and inquiries at the console, 1,000,000 inquiries, a broadcast at full speed.

Eight people open a page a second each (lists of every tab, one inquiry, a search),
four of them at the top of the tree, four at one centre, while 500,000 messages leave
over SMPP on SQLite with synchronous=FULL. The figure is the 95th percentile of lists
and inquiries. Loop: the longest that a static file took, asked for every 20 ms.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from benchmarks.harness import broadcast, carrier, province
from benchmarks.harness.gateway import Site
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import Broken, Program, folder, python
from gateway import database as db
from gateway.staff.passwords import Hasher
from gateway.tables import Staff

TARGET = Target(figure_at_most=150, notes_at_most={"loop stood still ms": 100})
INQUIRIES, MEMBERS, PEOPLE = 1_000_000, 300_000, 500_000
READERS = 4  # of each kind
SECONDS = 40.0  # of reading, and at least ...
LEAST_SECONDS = 5.0  # ... where the scale is small
PROBE_SECONDS = 0.02
PASSWORD = "Eine-Bank-am-See-17"
CENTRE = province.FIRST_CENTRE


@dataclass(frozen=True, slots=True)
class Read:
    """Pages that were read: kind, milliseconds, status."""

    pages: Sequence[tuple[str, float, int]]

    def p95(self, *kinds: str) -> float:
        took = [ms for kind, ms, _ in self.pages if kind in kinds]
        return quantiles(took, n=20)[-1]


def measure(scale: float) -> Measurement:
    with folder() as place, carrier.centre() as centre:
        return asyncio.run(_measure(place, centre, scale))


async def _measure(place: Path, centre: Program, scale: float) -> Measurement:
    site = Site(place, "", carrier.account("sms", place, centre.address))
    site.migrate()
    people = max(500, int(PEOPLE * scale))
    members = max(1000, int(MEMBERS * min(scale, 1)))
    seconds = max(LEAST_SECONDS, SECONDS * min(scale, 1))
    id = await broadcast.freeze(site.database, "phone", ["sms"], people, carrier.TEXTS)
    began = time.perf_counter()
    inquiries = max(1000, int(INQUIRIES * scale))
    numbers = await _fill(site.database, inquiries, members)
    filled = time.perf_counter() - began
    with site.running() as gateway:
        await carrier.warm()
        async with broadcast.reading(site.database) as reader:
            await reader.execute(f"DELETE FROM holds WHERE broadcast_id = {id}")
            alone = await _sent_in(reader, id, 5.0)
            read, stood, sent = await _under_load(site, reader, id, numbers, seconds)
        memory = gateway.peak_memory_mib()
    bad = [status for _, _, status in read.pages if status != 200]
    if bad:
        raise Broken(f"{len(bad)} pages failed: {sorted(set(bad))}")
    return Measurement(
        figure=read.p95("list", "tab", "detail"),
        unit="ms",
        notes={
            "lists p95 ms": read.p95("list", "tab"),
            "inquiries p95 ms": read.p95("detail"),
            "searches p95 ms": read.p95("search"),
            "loop stood still ms": stood,
            "pages/s": len(read.pages) / seconds,
            "messages/s meanwhile": sent,
            "messages/s without readers": alone,
            "filled in s": filled,
            "memory MiB": memory,
        },
    )


async def _fill(url: str, count: int, members: int) -> list[str]:
    """Numbers of inquiries that all readers may see."""
    async with db.opened(url):
        async with db.transaction():
            await province.fill(members)
            await province.inquiries(count, members)
        hash = await Hasher().hash(PASSWORD)
        for place in range(READERS):
            await _reader(f"top{place}", "director", 1, hash)
            await _reader(f"centre{place}", "clerk", CENTRE, hash)
        found = await db.rows(
            "SELECT number FROM inquiries WHERE organisation_id = ? "
            "ORDER BY id DESC LIMIT 50",
            CENTRE,
        )
        return [row["number"] for row in found]


async def _reader(name: str, role: str, organisation_id: int, hash: str) -> None:
    await Staff.create(
        username=name,
        name=name,
        role=role,
        organisation_id=organisation_id,
        password_hash=hash,
        must_change_password=False,
        created_at=db.EPOCH,
    )


async def _under_load(
    site: Site,
    reader: broadcast.Reader,
    id: int,
    numbers: Sequence[str],
    seconds: float,
) -> tuple[Read, float, float]:
    """What was read, the longest stall in ms, messages a second meanwhile."""
    ports = [f.stem.partition("-")[2] for f in site.folder.glob("settings-*.toml")]
    (port,) = set(ports) - {"0"}  # migrating needs none
    url = f"http://127.0.0.1:{port}"
    users = [f"{kind}{n}" for kind in ("top", "centre") for n in range(READERS)]
    with (
        python(
            *(
                "-m",
                "benchmarks.sinks.readers",
                f"--url={url}",
                f"--password={PASSWORD}",
            ),
            *(f"--user={one}" for one in users),
            *(f"--number={one}" for one in numbers),
            f"--seconds={seconds}",
        ) as readers,
        ThreadPoolExecutor(1) as thread,
    ):
        loop = asyncio.get_running_loop()
        probe = loop.run_in_executor(thread, _probed, f"{url}/static/logo.svg", seconds)
        sent = await _sent_in(reader, id, seconds)
        stood = await probe
        output = await asyncio.to_thread(readers.collect, seconds + 60)
    told = json.loads(output.partition("read ")[2].splitlines()[0])
    return Read([tuple(one) for one in told]), stood, sent


def _probed(url: str, seconds: float) -> float:
    """Milliseconds that the slowest of many small answers took."""
    until, longest = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        began = time.perf_counter()
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read()
        longest = max(longest, time.perf_counter() - began)
        time.sleep(PROBE_SECONDS)
    return longest * 1000


async def _sent_in(reader: broadcast.Reader, id: int, seconds: float) -> float:
    """Messages a second that left the state of planned ones."""
    before = await _planned(reader, id)
    await asyncio.sleep(seconds)
    return (before - await _planned(reader, id)) / seconds


async def _planned(reader: broadcast.Reader, id: int) -> int:
    [(n,)] = await reader.rows(
        f"SELECT SUM(n) FROM tallies WHERE broadcast_id = {id} AND state = 'planned'"
    )
    return int(n)
