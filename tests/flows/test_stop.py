"""SIGTERM while messages are in flight: who answers in time is heard."""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from adapters.sandbox import faults
from adapters.sandbox.records import Medium
from adapters.smpp.simulator import Behaviour, Centre, serving
from adapters.smpp.simulator.centre import part_of
from gateway import database as db
from gateway import recount
from gateway.clock import SystemClock
from tests.labs import frozen
from tests.labs.onebot_peer import TOKEN, OneBotPeer, Reply
from tests.labs.onebot_peer import until as soon
from tests.labs.process import CARRIER, Installation, installation, until
from tests.labs.scale import times

pytestmark = pytest.mark.slow
STOPS = times("PROOF_STOPS", 20)
STOP_SECONDS = 20.0  # room for a busy machine; what hangs, hangs for ever
SECTION = """
[channels.bot]
adapter = "onebot"
self_id = "1000100"
access_token = "file:{word}"
"""


def serve_a_bot(gateway: Installation) -> str:
    """Add the channel; the address that its client dials."""
    gateway.add(SECTION, TOKEN)
    return gateway.url("/onebot/v11/ws").replace("http", "ws")


def states(gateway: Installation) -> list[str]:
    database = sqlite3.connect(gateway.data_dir / "lianxin.sqlite3")
    try:
        return [row[0] for row in database.execute("SELECT state FROM outbox")]
    finally:
        database.close()


@pytest.mark.parametrize(("answers", "state"), [(True, "accepted"), (False, "unknown")])
async def test_an_answer_in_time_is_heard(
    answers: bool, state: str, tmp_path: Path, nursery: Path
) -> None:
    async with installation(tmp_path, nursery=nursery) as gateway:
        url = serve_a_bot(gateway)
        await gateway.start()
        peer = OneBotPeer(reply=Reply.NOTHING)
        async with peer.dialled(url):
            await peer.send(peer.private("请问党费怎么交？"))
            await soon(lambda: peer.taken, 10.0)
            begun = time.monotonic()
            stopping = asyncio.create_task(gateway.stop())
            await asyncio.sleep(0)  # the signal is on its way
            if answers:
                said = {"status": "ok", "retcode": 0, "data": {"message_id": 7}}
                await peer.send(said | {"echo": peer.taken[0]["echo"]})
            assert await stopping == 0
            assert time.monotonic() - begun < STOP_SECONDS
        assert states(gateway) == [state]
        assert "Traceback" not in gateway.log
        await gateway.start()
        assert states(gateway) == [state]
        assert len(peer.taken) == 1


@pytest.mark.parametrize(
    ("engine", "stops"), [("sqlite", STOPS - STOPS // 4), ("postgres", STOPS // 4)]
)
async def test_stopping_under_load_loses_nothing(
    engine: str,
    stops: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    nursery: Path,
) -> None:
    """I-1: again and again while it sends; all that is on its way is answered in time,
    so nothing is in doubt afterwards."""
    dice, people = random.Random(2026), stops * 1000
    url: str = request.getfixturevalue(f"{engine}_url")
    async with installation(tmp_path, url, nursery=nursery) as gateway:
        data = gateway.data_dir
        (data / "sandbox").mkdir(parents=True)
        slow = faults.Faults(delay_seconds=0.05, withhold_receipts=True)
        faults.save(data / "sandbox" / "faults.json", {Medium.SMS: slow})
        await frozen.freeze(url, people)
        for _ in range(stops):
            await gateway.start()
            more = frozen.lines(data) + dice.randrange(1, 100)

            async def goes_on(more: int = more) -> bool:
                return frozen.lines(data) >= more

            await until(goes_on, 60)
            assert await gateway.stop() == 0
        found = await frozen.proven(url, unknown=0, data_dirs=[data])
        assert found["planned"] > 0  # every stop was under load
        assert "Traceback" not in gateway.log


async def test_stopping_waits_for_what_a_carrier_has_in_hand(
    sqlite_url: str, tmp_path: Path, nursery: Path
) -> None:
    """I-1: sessions too. Nothing is in doubt, nothing that came in is lost, and the
    carrier hears good-bye."""
    slow = Behaviour(answer_delay_min=0.2, answer_delay_max=0.4, mo_rate=50.0)
    centre, people = Centre(slow), 2000
    centre.taken = []
    async with (
        serving(centre) as port,
        installation(tmp_path, sqlite_url, nursery=nursery) as gateway,
    ):
        gateway.add(CARRIER, port=port, connections=2)
        await frozen.freeze(sqlite_url, people, "carrier")
        for _ in range(4):
            await gateway.start()
            wanted = centre.counts.accepted + 50

            async def goes_on(wanted: int = wanted) -> bool:
                return centre.counts.accepted >= wanted

            await until(goes_on, 60)
            assert await gateway.stop() == 0
            assert not any(session.system_id for session in centre.sessions)
        assert "Traceback" not in gateway.log
    async with db.opened(sqlite_url):
        rows = await db.rows("SELECT state FROM outbox WHERE channel = 'carrier'")
        [came] = await db.rows("SELECT COUNT(*) AS n FROM inbound")
    found = Counter(row["state"] for row in rows)
    assert set(found) <= {"planned", "queued", "accepted", "delivered"}
    # What answers a member has two parts; nobody is left with one of them.
    parts = Counter((p.destination, part_of(p).number) for p in centre.taken)
    whole = {p.destination: part_of(p).total for p in centre.taken}
    assert set(parts.values()) == {1}
    assert len(parts) == sum(whole.values())
    assert found["accepted"] + found["delivered"] == len(whole)
    assert came["n"] >= centre.counts.replies > 0
    told = await recount.recount(sqlite_url, SystemClock().now(), None)
    assert told.holds, recount.as_text(told)
