"""SIGTERM while a message is in flight: who answers in time is heard."""

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from tests.labs.onebot_peer import TOKEN, OneBotPeer, Reply
from tests.labs.onebot_peer import until as soon
from tests.labs.process import Installation, installation

pytestmark = pytest.mark.slow
STOP_SECONDS = 5.0
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
    answers: bool, state: str, tmp_path: Path
) -> None:
    async with installation(tmp_path) as gateway:
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
