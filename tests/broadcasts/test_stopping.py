"""A-13: pauses and cancels at any moment of a run, two hundred of them.

A sender works beside; its clock goes on a quarter of a second with each commit.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from broadcasts import recipients, running
from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Accepted
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import OutcomeUnknown, PermanentFailure
from gateway.outbox.sender import Sender
from gateway.settings import Policy, Settings, Storage
from gateway.tables import Node
from gateway.verify import verify
from tests.broadcasts.county import County
from tests.labs.streams import Carrier, channel

ROUNDS, ACTS = 20, 10
PEOPLE = 250
COMMIT = timedelta(seconds=0.25)
_JOURNALLED = """
SELECT MAX(at) AS at FROM (
  SELECT journalled_at AS at FROM chunks WHERE broadcast_id = ?
  UNION ALL SELECT t.journalled_at FROM attempts t
  JOIN outbox o ON o.id = t.outbound_id WHERE o.broadcast_id = ?) journal
"""


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        storage=Storage(data_dir=tmp_path),
        policy=Policy(canary=0, broadcasts_per_day=0),
    )


@dataclass
class Work:
    """A sender that commits again and again, and a carrier that answers some."""

    sender: Sender
    carrier: Carrier
    clock: ManualClock
    chance: random.Random
    commits: int = 0
    committed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        while True:
            await self.sender.step()
            self.clock.advance(COMMIT)
            async with self.committed:
                self.commits += 1
                self.committed.notify_all()
            for id in list(self.carrier.waiting):
                if self.chance.random() < 0.6:
                    self.carrier.answer(id, self._outcome(id))

    def _outcome(self, id: str) -> Accepted | OutcomeUnknown | PermanentFailure:
        match self.chance.randrange(20):
            case 0:
                return OutcomeUnknown("timeout")
            case 1:
                return PermanentFailure("no_such_number")
        return Accepted((f"c{id}",))

    async def go_on(self, commits: int) -> None:
        end = self.commits + commits
        async with self.committed:
            await self.committed.wait_for(lambda: self.commits >= end)

    async def settled(self) -> None:
        """Everything on its way is answered, and that is committed."""
        while self.sender.in_flight:
            await self.go_on(1)
        await self.go_on(2)


@asynccontextmanager
async def working(
    core: Core, carrier: Carrier, clock: ManualClock
) -> AsyncIterator[Work]:
    node = await Node.create(started_at=clock.now(), seen_at=clock.now())
    core.node_id = node.id
    [sms] = core.channels
    work = Work(Sender(core, sms), carrier, clock, random.Random(13))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work.run())
        yield work
        task.cancel()


async def test_nothing_leaves_a_second_after_a_pause_or_a_cancel(
    core: Core, county: County, carrier: Carrier, clock: ManualClock
) -> None:
    await county.crowd(PEOPLE)
    broken = 0
    async with working(core, carrier, clock) as work:
        for _ in range(ROUNDS):
            found = await county.approved()
            await running.start(core, county.clerk, found.id)
            for act in range(1, ACTS + 1):
                await running.resume(core, county.clerk, found.id)
                for _ in range(work.chance.randrange(12)):
                    await asyncio.sleep(0)
                stop = running.cancel if act == ACTS else running.pause
                await stop(core, county.clerk, found.id)
                answered_at = clock.now()
                await work.go_on(6)
                await nothing_later(found.id, answered_at)
                await work.settled()
                broken += await who_got_it(core, county, carrier, found.id)
    assert broken > ROUNDS, "the stops missed the work"


async def nothing_later(id: int, answered_at: datetime) -> None:
    journalled = (await db.rows(_JOURNALLED, id, id))[0]["at"]
    assert (journalled or 0) <= to_micros(answered_at + timedelta(seconds=1))


async def who_got_it(core: Core, county: County, carrier: Carrier, id: int) -> bool:
    """What the report says is what the carrier has; whether it was in the middle."""
    found = await recipients.recipients(county.clerk, id, limit=PEOPLE)
    waiting = {one.id for one in found if one.state in ("planned", "cancelled")}
    reached = {one.id for one in found} - waiting
    ids = {one.id for one in found}
    assert {int(one.id) for one in carrier.submitted} & ids == reached
    report = await verify(db.rows, core.clock.now(), id)
    assert report.holds, report.deviations
    return bool(reached and waiting)
