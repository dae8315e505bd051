"""A-16, I-8: staff erase people while a notice goes out at full speed."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import time
from pathlib import Path

import pytest

from adapters.smpp.simulator import Behaviour, Centre, serving
from adapters.smpp.simulator.centre import Submitted
from broadcasts import notices, planning
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import recount
from gateway.channels import ChannelSet
from gateway.clock import Clock, SystemClock
from gateway.core import Core
from gateway.members import erasure
from gateway.members.erasure import Extent
from gateway.outbox import moves
from gateway.settings import Policy, Settings, Storage
from tests.broadcasts.county import County, build
from tests.broadcasts.test_freeze import begun, crowd, terms
from tests.labs.owned import owned
from tests.labs.scale import times

pytestmark = pytest.mark.slow
PEOPLE = 6000
ERASED = times("PROOF_ERASED", 1000)
HANDS = 3  # people who erase at the same time
PATIENCE_SECONDS = 280.0


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    policy = Policy(
        allowed_from=time(0), allowed_until=time(0), canary=0, broadcasts_per_day=0
    )
    return Settings(storage=Storage(data_dir=tmp_path), policy=policy)


@pytest.fixture
def channels() -> ChannelSet:
    """Its one account is opened beside a centre."""
    return ChannelSet()


async def test_nothing_is_sent_to_anybody_after_the_erasure(
    core: Core, tmp_path: Path, database_url: str
) -> None:
    centre = Centre(Behaviour(receipt_delay_max=0.5))
    centre.taken = taken = []
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        serving(centre) as port,
        owned(core, "短信", port, tmp_path, connections=2, rate=100_000),
    ):
        county = await build(core)
        await crowd(county, PEOPLE)
        numbers = await by_member()
        broadcast = await begun(county)
        chosen = random.Random(12371).sample(sorted(numbers), ERASED)
        told: dict[int, Extent] = {}
        async with asyncio.TaskGroup() as group:
            group.create_task(run(county, broadcast))
            for n in range(HANDS):
                group.create_task(hand(county, chosen[n::HANDS], taken, told))
        await over(broadcast.id)
    arrived = Counter("+" + one.destination.decode() for one in taken)
    rows = await db.rows("SELECT member_id, state, reason FROM outbox")
    state = {row["member_id"]: row["state"] for row in rows}
    assert set(told) == set(chosen)
    for member, reached in told.items():
        # Waiting or not written yet at the erasure: never; else once, as journalled.
        is_cancelled = state.get(member) in ("cancelled", None)
        assert arrived[numbers[member]] == (0 if is_cancelled else 1)
        assert is_cancelled or not reached.waiting
    assert {arrived[n] for m, n in numbers.items() if m not in told} == {1}
    ends = Counter(row["reason"] for row in rows if row["state"] == "cancelled")
    assert set(ends) == {"erased"}
    reached = Counter("under way" for one in told.values() if one.under_way)
    assert ends["erased"] + reached["under way"] > ERASED / 50, "it was over before"
    found = await recount.recount(database_url, SystemClock().now(), None)
    assert found.holds, recount.as_text(found)
    assert found.balances[0].total == found.balances[0].planned == len(rows)


async def by_member() -> dict[int, str]:
    found = await db.rows("SELECT member_id, value FROM addresses")
    return {row["member_id"]: row["value"] for row in found}


async def run(county: County, broadcast: Broadcast) -> None:
    core = county.core
    planned = await notices.plan_of(core, broadcast)
    await planning.plan(core, broadcast, planned, terms(core, broadcast))


async def hand(
    county: County,
    members: Sequence[int],
    taken: Sequence[Submitted],
    told: dict[int, Extent],
) -> None:
    """Erase one after the other: the first at once, while the recipients are written,
    the others as the notice goes on."""
    for n, member in enumerate(members):
        while len(taken) < (n / len(members) - 0.1) * 0.8 * PEOPLE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        told[member] = await erasure.erase(
            county.core, county.director, member, "本人书面申请"
        )


async def over(broadcast_id: int) -> None:
    waiting = {"planned", "queued", "sending"}
    while waiting & set(await moves.counts(broadcast_id)):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
