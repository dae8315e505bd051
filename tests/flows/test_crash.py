"""`kill -9` in the middle of a notice to 2,000 people, counted at the provider.

A-1, A-2 and A-3 of the failure catalogue in small: nobody is left out, nobody is
written to twice, what can't be known is listed and is at most a window a kill.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from adapters.sandbox import faults
from adapters.sandbox.records import Arrived, Medium, read
from gateway import database as db
from gateway.clock import SystemClock
from gateway.tables import Content, Outbound
from tests.labs.process import Installation, installation, until

PEOPLE = 2000
KILLS = 8
WINDOW = 32  # the sandbox's
BROADCAST = 7


async def plan(database_url: str) -> None:
    """Two thousand recipients of one frozen text, due at once."""
    now = SystemClock().now()
    async with db.opened(database_url):
        content = await Content.create(
            texts={"default": "{{name}}同志，明天上午九点开会。"},
            hash="",
            created_at=now,
        )
        await Outbound.bulk_create(
            [
                Outbound(
                    message_kind="notice",
                    priority=10,
                    dedupe_key=f"broadcast:{BROADCAST}:phone:{number}",
                    broadcast_id=BROADCAST,
                    channel="sms",
                    kind="phone",
                    value=f"+86199{number:08d}",
                    content_id=content.id,
                    variables={"name": f"党员{number}"},
                    state="queued",
                    due_at=now,
                    created_at=now,
                    changed_at=now,
                )
                for number in range(PEOPLE)
            ]
        )


async def states(database_url: str) -> dict[int, str]:
    async with db.opened(database_url):
        found = await db.rows(
            "SELECT id, state FROM outbox WHERE broadcast_id = ?", BROADCAST
        )
        return {row["id"]: row["state"] for row in found}


def arrivals(data_dir: Path) -> Counter[int]:
    """How often each message reached its handset, from the provider's own ledger."""
    ledger = data_dir / "sandbox" / "ledger.jsonl"
    lines = read(ledger, 2**30) if ledger.exists() else ()
    return Counter(int(line.id) for line in lines if isinstance(line, Arrived))


async def nothing_waits(database_url: str) -> bool:
    found = await states(database_url)
    return not {"queued", "sending"} & set(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_kills_lose_nobody_and_repeat_nobody(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, nursery: Path
) -> None:
    url: str = request.getfixturevalue(f"{engine}_url")
    async with installation(tmp_path, url, nursery=nursery) as gateway:
        sandbox = gateway.data_dir / "sandbox"
        sandbox.mkdir(parents=True)
        slow = faults.Faults(delay_seconds=0.03, withhold_receipts=True)
        faults.save(sandbox / "faults.json", {Medium.SMS: slow})
        await plan(url)
        await kill_often(gateway)
        kills = KILLS
        await until_nothing_waits(gateway, url)
        counted = await states(url)
        reached = arrivals(gateway.data_dir)

        assert len(counted) == PEOPLE
        assert set(counted.values()) <= {"accepted", "unknown"}
        assert max(reached.values()) == 1
        lost = [i for i, s in counted.items() if s == "accepted" and not reached[i]]
        assert lost == []
        unknown = [i for i, state in counted.items() if state == "unknown"]
        assert len(unknown) <= WINDOW * kills

        await receipts_come(gateway, sandbox, url, set(reached))
        settled = await states(url)
        open_questions = {i for i, s in settled.items() if s == "unknown"}
        assert open_questions == set(counted) - set(reached)


async def kill_often(gateway: Installation) -> None:
    moments = random.Random(12371)
    for _ in range(KILLS):
        await gateway.start()
        await asyncio.sleep(moments.uniform(0.02, 0.4))
        await gateway.kill()


async def until_nothing_waits(gateway: Installation, url: str) -> None:
    await gateway.start()
    await until(lambda: nothing_waits(url), 120)
    assert await gateway.stop() == 0


async def receipts_come(
    gateway: Installation, sandbox: Path, url: str, reached: set[int]
) -> None:
    """The provider may speak again: receipts settle what really arrived."""
    faults.save(sandbox / "faults.json", {Medium.SMS: faults.Faults()})
    await gateway.start()
    await until(lambda: delivered(url, reached), 60)
    assert await gateway.stop() == 0


async def delivered(url: str, wanted: set[int]) -> bool:
    found = await states(url)
    return {i for i, state in found.items() if state == "delivered"} == wanted
