"""SIGTERM while messages are in flight: who answers in time is heard."""

import asyncio
import random
import sqlite3
import time
from pathlib import Path

import pytest

from adapters.sandbox import faults
from adapters.sandbox.records import Medium
from tests.labs import frozen
from tests.labs.onebot_peer import TOKEN, OneBotPeer, Reply
from tests.labs.onebot_peer import until as soon
from tests.labs.process import Installation, installation, until
from tests.labs.scale import times

pytestmark = pytest.mark.slow
STOPS = times("PROOF_STOPS", 20)
STOP_SECONDS = 20.0  # room for a busy machine; what hangs, hangs for ever
SECTION = """
[channels.bot]
adapter = "onebot"
self_id = "1000100"
access_token = "file:{token}"
"""


def serve_a_bot(gateway: Installation) -> str:
    """Add the channel; the address that its client dials."""
    token = gateway.folder / "token"
    token.write_text(TOKEN, encoding="utf-8")
    with gateway.settings.open("a", encoding="utf-8") as settings:
        settings.write(SECTION.format(token=token))
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
