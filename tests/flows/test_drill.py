"""The crash drill in small, on both engines, with all peers: `kill -9` a hundred times.

A-1, A-2, A-3: nobody is lost, nobody gets it twice, what is in doubt is at most a
window a kill and listed. A-13: a cancel acts within
a second. A-14: started by several at once, one run. A-16: who refuses or is erased
in the middle of the run gets nothing after it. B-3, B-4: what people write is kept
once. C-1 to C-5, C-8: receipts before the answer find their message; out of order,
contradicting, with ids in two notations, with the same ids on two accounts, and with
ids that come again, they break nothing.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.clock import SystemClock
from gateway.drill import books
from gateway.drill.checker import Evidence, Verdict, judge
from gateway.drill.crash import Drill, crash
from gateway.drill.notices import approved, press_start
from gateway.drill.peers import SINKS, Manners, Peer, peers
from gateway.drill.processes import ROOT, START_SECONDS, until
from gateway.drill.site import Api, Site, prepared
from gateway.snapshot import snapshot
from gateway.status import OutboundState
from gateway.verify import verify

pytestmark = pytest.mark.slow
_JOURNALLED = """
SELECT MAX(at) AS at FROM (
  SELECT journalled_at AS at FROM chunks WHERE broadcast_id = ?
  UNION ALL SELECT a.journalled_at FROM attempts a
  JOIN outbox o ON o.id = a.outbound_id WHERE o.broadcast_id = ?) journal
"""


async def drilled(folder: Path, url: str, kills: int, people: int) -> Verdict:
    told: list[str] = []
    drill = Drill(kills=kills, messages=people, seed=12371, url=url)
    found = await crash(folder, drill, told.append)
    assert len(found.states) > 2, told
    return found


def proven(found: Verdict, kills: int) -> None:
    assert found.holds, found.reasons
    assert found.kills == kills
    assert found.kills_under_load > kills / 3, "the kills missed the work"
    assert len(found.kills_by_channel) > len(SINKS) / 2, "and most of the channels"
    assert (found.lost, found.doubled, found.after_opt_out) == (0, 0, 0)
    assert found.opted_out > 0
    assert found.erased > 0
    assert found.inbound_acknowledged > 0
    assert (found.inbound_lost, found.inbound_doubled) == (0, 0)
    assert found.states["delivered"] > 0
    # Where receipts come they end the doubt; few are withheld.
    left = found.really_sent_left
    assert left.get("smpp", 0) + left.get("cmpp", 0) < 10 + found.really_sent / 10


async def test_kills_lose_nobody_and_repeat_nobody_on_sqlite(tmp_path: Path) -> None:
    found = await drilled(tmp_path, "", 85, 7000)
    proven(found, 85)  # A-1 A-2 A-3 A-14 A-16 C-1
    assert len(found.kills_by_channel) == len(SINKS)


async def test_kills_lose_nobody_and_repeat_nobody_on_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    proven(await drilled(tmp_path, postgres_url, 15, 1500), 15)


async def test_a_cancel_at_any_moment_stops_within_a_second(
    tmp_path: Path,
) -> None:
    people, chance = 2000, random.Random(12371)
    manners = Manners(people=people, inbound=0)
    async with (
        peers(tmp_path, ("smpp", "smtp"), manners) as met,
        aiohttp.ClientSession() as session,
    ):
        site = await prepared(tmp_path, "", met, people)
        api = Api(site, session)
        try:
            await site.start()
            await until(api.healthy, START_SECONDS)
            for number in range(4):
                id = await approved(site, api, f"n{number}")
                await press_start(site, api, id)
                await until(partial(books.is_frozen, site.url, id), START_SECONDS)
                await asyncio.sleep(chance.uniform(0, 0.8))
                await cancelled_in_time(site, api, met, id)
        finally:
            await site.close()


async def cancelled_in_time(site: Site, api: Api, met: Sequence[Peer], id: int) -> None:
    await api.call("POST", f"/broadcasts/{id}/cancel", site.writer, {})
    at = time.time()

    async def nothing_waits() -> bool:
        return not (await books.waiting(site.url))["messages"]

    await until(nothing_waits, START_SECONDS)
    await who_got_it(site, met)
    async with snapshot(site.url) as read:
        journalled = await read(_JOURNALLED, id, id)
        assert journalled[0]["at"] <= (at + 1) * 1_000_000
        found = await verify(read, SystemClock().now(), id)
    assert found.holds, found.deviations
    assert found.balances[0].states.get(OutboundState.CANCELLED, 0) > 0


async def who_got_it(site: Site, met: Sequence[Peer]) -> None:
    """What the peers wrote down is what the rows say, no matter when it was asked."""
    found = await books.books(site.url, SystemClock().now())
    verdict = judge(
        Evidence(
            facts=[fact for peer in met for fact in peer.facts()],
            messages=found.messages,
            planned=found.planned,
            inbound={},
            deviations=found.deviations,
        )
    )
    assert verdict.holds, verdict.reasons


def commanded(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "drill", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--design", "pop"), 1, "lost"),
        (("--sink", "smtp"), 0, "every promise was kept"),
    ],
)
def test_the_command_tells_its_verdict(
    words: Sequence[str], status: int, said: str
) -> None:
    done = commanded("crash", "--kills", "3", "--messages", "600", *words)
    assert (done.returncode, said in done.stdout) == (status, True), done.stderr
    assert "Traceback" not in done.stderr
