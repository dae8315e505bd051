"""Several real processes on one PostgreSQL: paused, killed, cut off, rolled over.

F-1 to F-7 and I-6 of the failure catalogue, counted at the provider.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from adapters.sandbox import faults
from adapters.sandbox.records import Medium
from adapters.smpp.simulator.behaviour import Behaviour
from adapters.smpp.simulator.centre import Centre, serving
from gateway import keys, leases
from gateway.members import consent
from tests.labs import frozen
from tests.labs.cluster import (
    SOON,
    Cluster,
    clustered,
    health,
    last_sent,
    ledger,
    logged,
    pause,
    resume,
)
from tests.labs.process import CARRIER, PROJECT, Installation, until
from tests.labs.scale import times
from tests.labs.wire import wired

pytestmark = pytest.mark.slow
WINDOW = 32  # the sandbox's
TAKE_OVER = leases.LASTS.total_seconds() + 20  # most of it room for a busy machine
GAVE_UP_STATUS = 70


@pytest.fixture
async def cluster(
    postgres_url: str, tmp_path: Path, nursery: Path
) -> AsyncIterator[Cluster]:
    async with clustered(tmp_path, postgres_url, nursery) as made:
        yield made


async def in_order(
    cluster: Cluster, url: str = ""
) -> tuple[Installation, Installation]:
    """Two gateways; the first has the channel. `url` is its way to the database."""
    first, second = await cluster.add(url=url), await cluster.add()
    await first.start()
    await cluster.owned_by(first)
    await second.start()
    return first, second


async def ended(gateway: Installation, seconds: float) -> int:
    assert gateway.process is not None
    async with asyncio.timeout(seconds):
        return await gateway.process.wait()


GATE = f"SELECT pg_advisory_xact_lock({consent._GATE_LOCK})"
JOURNAL = "LOCK TABLE attempts IN SHARE MODE"
# The only way in which it could hear that it lost, before it writes.
RENEWAL = "SELECT * FROM leases WHERE name = 'scheduler' FOR UPDATE"


@pytest.mark.parametrize(
    ("lock", "kind"),
    [
        pytest.param(GATE, "advisory", id="before its fence"),
        pytest.param(JOURNAL, "relation", id="behind its fence"),
    ],
)
async def test_a_paused_owner_writes_nothing_when_it_wakes(
    cluster: Cluster, lock: str, kind: str
) -> None:
    """F-2: SIGSTOP in the middle of a round, beyond the lease, then SIGCONT: it goes
    on where it stood, while another one sends, and is told nothing but by its fence."""
    people = 1500
    first, second = await in_order(cluster)
    await cluster.enqueue(people)
    await cluster.sent(at_least=100)
    async with cluster.locked(lock):
        await cluster.somebody_waits(kind)
        pause(first)
        if lock == JOURNAL:
            await lapsed_or_taken(cluster)
            assert await cluster.owner() == "a", "taken over behind an open fence"
    sending = await cluster.rows("SELECT id FROM outbox WHERE state = 'sending'")
    expected = arrived(first) | {row["id"] for row in sending}
    async with cluster.locked(RENEWAL):
        await cluster.owned_by(second, 2 * TAKE_OVER)
        taken_at = await cluster.number(
            "SELECT taken_at FROM leases WHERE name = 'channel:sms'"
        )
        await until(lambda: has_sent(second), TAKE_OVER)
        resume(first)
        await until(lambda: lets_go(first), TAKE_OVER)
    await cluster.settled()
    await cluster.check(people, unknown=WINDOW)
    assert await journalled(cluster, first, since=taken_at) == 0
    assert arrived(first) <= expected
    assert await cluster.owner() == "b"
    assert logged(first, "process.paused")


async def lapsed_or_taken(cluster: Cluster) -> None:
    """The lease ended so long ago that the others have tried to take it, or have it."""

    async def so() -> bool:
        ended = await cluster.number(
            "SELECT COUNT(*) FROM leases WHERE name = 'channel:sms' AND until < "
            "EXTRACT(EPOCH FROM clock_timestamp())::bigint * 1000000 - 3000000"
        )
        return ended > 0 or await cluster.owner() != "a"

    await until(so, TAKE_OVER)


def arrived(gateway: Installation) -> set[int]:
    return {int(one.id) for one in ledger(gateway)}


async def journalled(cluster: Cluster, gateway: Installation, since: int) -> int:
    """How many intents this process wrote from that instant on."""
    assert gateway.process is not None
    return await cluster.number(
        "SELECT COUNT(*) FROM attempts a JOIN nodes n ON n.id = a.node_id "
        "WHERE n.name LIKE '%:' || $1 AND a.journalled_at >= $2",
        str(gateway.process.pid),
        since,
    )


async def has_sent(gateway: Installation) -> bool:
    return bool(ledger(gateway))


async def lets_go(gateway: Installation) -> bool:
    """It heard that it lost: its sender is no part of it any more."""
    return "sender:sms" not in (await health(gateway))["parts"]


async def test_cut_off_from_the_database_nothing_is_sent(cluster: Cluster) -> None:
    """F-3: what can't be journalled doesn't leave; others take over; later it joins."""
    people = 1500
    async with wired(cluster.url) as (url, wire):
        first, second = await in_order(cluster, url)
        await cluster.enqueue(people)
        await cluster.sent(at_least=100)
        wire.cut()
        cut_at = time.time()
        await cluster.owned_by(second, TAKE_OVER)
        await until(lambda: lets_go_unseen(first), TAKE_OVER)
        assert last_sent(first) <= (cut_at + 2) * 1_000_000
        wire.mend()
        await cluster.settled()
        await cluster.check(people, unknown=WINDOW)
        assert await cluster.owner() == "b"  # F-4: no flapping
        assert await first.stop() == 0


async def lets_go_unseen(gateway: Installation) -> bool:
    return any("channel:sms" in line for line in logged(gateway, "lease.lost"))


async def is_well(gateway: Installation) -> bool:
    return all((await health(gateway))["parts"].values())


async def test_a_dead_owner_is_followed_within_its_lease(cluster: Cluster) -> None:
    """F-4, and A-1 on two processes: `kill -9`, and one session at a time."""
    people = 1200
    first, second = await in_order(cluster)
    await cluster.enqueue(people)
    await cluster.sent(at_least=100)
    await first.kill()
    await cluster.owned_by(second, TAKE_OVER)
    await cluster.settled()
    await cluster.check(people, unknown=WINDOW)
    # Nobody but the owner had the account: the ledgers don't overlap in time.
    assert min(one.at for one in ledger(second)) > max(one.at for one in ledger(first))
    # Nor does it leave a part of the work to the one that is dead.
    await until(lambda: lives_alone(second), SOON)
    assert not logged(second, "lease.given")


async def lives_alone(gateway: Installation) -> bool:
    return len((await health(gateway))["nodes"]) == 1


async def test_an_account_of_one_session_does_not_flap(cluster: Cluster) -> None:
    """F-4 with a carrier that refuses a second session, and counts who tried."""
    centre = Centre(Behaviour(binds=1, receipts=False))
    lease = "channel:carrier"
    async with serving(centre) as port:
        gateways = [await cluster.add(), await cluster.add()]
        for gateway in gateways:
            gateway.add(CARRIER, port=port, connections=1)
        await asyncio.gather(*(one.start() for one in gateways))
        await cluster.enqueue(300, "carrier")
        await cluster.settled()
        await bound_by_owners_only(cluster, centre, lease)
        owner = await cluster.owner(lease)
        gateways.sort(key=lambda one: one.folder.name != owner)
        assert await gateways[0].stop() == 0
        await cluster.owned_by(gateways[1], lease=lease)
        await gateways[0].start()  # and may be given a share again
        await cluster.enqueue(300, "carrier", first=301)
        await cluster.settled()
        await bound_by_owners_only(cluster, centre, lease)
        assert centre.counts.accepted == 600


async def bound_by_owners_only(cluster: Cluster, centre: Centre, lease: str) -> None:
    """Once for each time that the account changed hands, and never side by side."""
    taken = await cluster.number("SELECT epoch FROM leases WHERE name = $1", lease)
    assert centre.counts.binds_refused == 0
    assert centre.counts.binds <= taken


RESTARTS = times("PROOF_RESTARTS", 6)
PUSHED = """
[channels.pushed]
adapter = "tencent"
secret_id = "id"
secret_key = "file:{word}"
sdk_app_id = "1400000001"
sign_name = "清禾党员服务"
endpoint = "http://127.0.0.1:9"
"""


async def test_rolling_restarts_under_load(cluster: Cluster) -> None:
    """F-5: a broadcast goes out, members write, staff read. Nothing is lost, nothing
    doubled, no request fails but to be tried at the other one."""
    people = RESTARTS * 4000
    pair = [await cluster.add(), await cluster.add()]
    slower = faults.Faults(delay_seconds=0.1, withhold_receipts=True)
    for gateway in pair:
        gateway.add(PUSHED)
        path = gateway.data_dir / "sandbox" / "faults.json"
        faults.save(path, {Medium.SMS: slower})
        await gateway.start()
    await frozen.freeze(cluster.url, people)
    async with asking(read, pair) as pages, asking(push, pair) as pushes:
        for number in range(RESTARTS):
            await grown(pages, pushes)
            assert await pair[number % 2].stop() == 0
            await grown(pages, pushes)  # by the other one
            await pair[number % 2].start()
        await grown(pages, pushes)
    for gateway in pair:
        assert await gateway.stop() == 0
        assert "Traceback" not in gateway.log
    assert set(pages) == set(pushes) == {200}
    folders = [one.data_dir for one in pair]
    found = await frozen.proven(cluster.url, unknown=0, data_dirs=folders)
    assert found["planned"] > 0  # it went out all the time
    assert found["accepted"] > 10 * RESTARTS
    assert await cluster.number("SELECT COUNT(*) FROM inbound") == len(pushes)


Ask = Callable[[aiohttp.ClientSession, Installation, int], Awaitable[int]]


@asynccontextmanager
async def asking(ask: Ask, pair: Sequence[Installation]) -> AsyncIterator[list[int]]:
    """Somebody who asks all the time, one thing after the other, and tries it at the
    other one where one is away. The statuses of what was answered."""
    answered: list[int] = []
    over = asyncio.Event()

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            for turn in itertools.count():
                try:
                    status = await ask(session, pair[turn % 2], len(answered))
                    answered.append(status)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)
                if over.is_set():
                    return

    task = asyncio.create_task(run())
    try:
        yield answered
    finally:
        over.set()
        await task


async def grown(*answers: list[int]) -> None:
    """Some more of each was answered."""
    wanted = [len(one) + 10 for one in answers]

    async def more() -> bool:
        return all(len(a) >= n for a, n in zip(answers, wanted, strict=True))

    await until(more, 60)


async def read(session: aiohttp.ClientSession, gateway: Installation, _: int) -> int:
    async with session.get(gateway.url("/login")) as answer:
        await answer.read()
        return answer.status


async def push(
    session: aiohttp.ClientSession, gateway: Installation, number: int
) -> int:
    said = {
        "mobile": f"199{number:08d}",
        "nationcode": "86",
        "text": f"第{number}条",
        "time": 1_700_000_000 + number,
        "extend": "",
    }
    token = keys.load(gateway.data_dir).derive("hook:pushed").hex()[:32]
    url = gateway.url(f"/hooks/pushed/{token}/reply")
    async with session.post(url, json=said) as answer:
        await answer.read()
        return answer.status


async def test_split_roles_do_the_whole_work_together(cluster: Cluster) -> None:
    """One for the pages, one that sends, one for the bots and the schedule."""
    web = await cluster.add("--roles", "web")
    sender = await cluster.add("--roles", "sender")
    rest = await cluster.add("--roles", "bots,scheduler")
    await asyncio.gather(*(one.start() for one in (web, sender, rest)))
    await cluster.enqueue(50)
    await cluster.settled()
    assert not ledger(web)
    assert len(ledger(sender)) == 50
    said = await health(sender)
    assert said["roles"] == ["sender"]
    assert "router" not in said["parts"]
    assert "router" in (await health(web))["parts"]
    owners = {one["name"]: one["node"] for one in said["leases"]}
    assert sender.process is not None
    assert rest.process is not None
    assert owners["channel:sms"].endswith(f":{sender.process.pid}")
    assert owners["scheduler"].endswith(f":{rest.process.pid}")
    assert len(said["nodes"]) == 3
    async with aiohttp.ClientSession() as session:
        async with session.get(sender.url("/metrics")) as answer:
            assert "lianxin_loop_stalls" in await answer.text()
        async with session.get(sender.url("/login")) as answer:
            assert answer.status == 404


async def test_a_part_that_keeps_dying_ends_the_process(cluster: Cluster) -> None:
    """I-6 and F-7: health is red within seconds, the third death is the end, and a
    process that keeps ending leaves the work to others first."""
    gateway = await cluster.add()
    await gateway.start()
    await until(lambda: is_well(gateway), 10)
    await cluster.database.execute(
        "INSERT INTO calendar_days (day, working, note) VALUES ('no day', true, '')"
    )
    await say_calendar(cluster)
    await until(lambda: is_red(gateway), 5)
    await until(lambda: has_ended(cluster, gateway), 15)
    assert await ended(gateway, 5) == GAVE_UP_STATUS
    assert logged(gateway, "part.given_up")
    await cluster.database.execute("DELETE FROM calendar_days")
    found = await cluster.rows("SELECT report, roles FROM nodes")
    assert "calendar" in found[0]["report"]
    await cluster.database.execute(
        "INSERT INTO nodes (name, roles, version, report, started_at, seen_at, "
        "stopped_at) SELECT name, roles, '', report, started_at, seen_at, stopped_at "
        "FROM nodes, generate_series(1, 2)"
    )
    other = await cluster.add()
    await gateway.start()
    assert logged(gateway, "process.crash_loop")
    assert (await health(gateway))["parts"]["crash_loop"] is False
    assert await cluster.owner() == ""
    await cluster.database.execute("DELETE FROM nodes WHERE stopped_at IS NOT NULL")
    await other.start()
    await cluster.owned_by(other)


async def say_calendar(cluster: Cluster) -> None:
    """As another process does when staff correct a day."""
    said = """SELECT pg_notify('lianxin', '[0, ["calendar"], []]')"""
    await cluster.database.execute(said)


async def is_red(gateway: Installation) -> bool:
    return not await is_well(gateway)


async def has_ended(cluster: Cluster, gateway: Installation) -> bool:
    assert gateway.process is not None
    await say_calendar(cluster)
    return gateway.process.returncode is not None


_FIRING = """
import asyncio, sys
from datetime import datetime, timedelta, UTC
from pathlib import Path
from broadcasts import daily
from gateway import database as db, keys, texts
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.settings import Settings, Storage
from gateway.sla import Calendar

async def main(url, folder, days):
    clock = ManualClock(datetime(2027, 1, 1, 2, tzinfo=UTC))
    settings = Settings(storage=Storage(data_dir=Path(folder)))
    core = Core(settings=settings, clock=clock, keys=keys.load(Path(folder)),
                channels=ChannelSet(), texts=texts.load(), calendar=Calendar())
    async with db.opened(url):
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(days):
            await daily.fire_due(core)
            clock.advance(timedelta(days=1))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_two_processes_fire_each_instant_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    """F-1 without its lease: the instants alone keep them apart."""
    days = times("PROOF_INSTANTS", 2000)
    firing = [await firing_process(cluster, tmp_path, n, days) for n in (1, 2)]
    await asyncio.gather(*(process.communicate(b"go\n") for process in firing))
    assert [process.returncode for process in firing] == [0, 0]
    assert await cluster.number("SELECT COUNT(*) FROM instants") == days
    assert await cluster.number("SELECT COUNT(DISTINCT instant) FROM instants") == days


async def firing_process(
    cluster: Cluster, folder: Path, number: int, days: int
) -> asyncio.subprocess.Process:
    own = folder / f"firing{number}"
    own.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _FIRING, cluster.url, str(own), str(days)),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process
