"""Who owns what, on a real PostgreSQL, with time moved by hand."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from gateway import database as db
from gateway import leases
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.leases import Lease
from gateway.tenure import (
    BACK_OFF_SECONDS,
    GIVEN_SECONDS,
    HELD_SECONDS,
    SHARE_SECONDS,
    Duty,
    Peer,
    Tenure,
)

NAMES = ("channel:a", "channel:b", "channel:c", "channel:d")


@dataclass
class Process:
    """One process's tenure, what it was told to do, and its way to the database."""

    core: Core
    node_id: int
    others: list["Process | Peer"] = field(default_factory=list)
    names: tuple[str, ...] = NAMES
    cut: bool = False
    at_work: dict[str, Lease] = field(default_factory=dict)
    ended: list[tuple[str, bool]] = field(default_factory=list)
    tenure: Tenure = field(init=False)

    def __post_init__(self) -> None:
        duties = [self._duty(name) for name in self.names]
        self.tenure = Tenure(self.core, self._ask, duties, self._peers)

    def _duty(self, name: str) -> Duty:
        async def begin(lease: Lease) -> None:
            self.at_work[name] = lease

        async def end(holds: bool) -> None:
            self.at_work.pop(name, None)
            self.ended.append((name, holds))

        return Duty(name=name, begin=begin, end=end, shared=True)

    async def _peers(self) -> list[Peer]:
        """As the heartbeats tell, which come a moment later."""
        return [one if isinstance(one, Peer) else one.told() for one in self.others]

    def told(self) -> Peer:
        return Peer(self.node_id, self.tenure.takes())

    async def _ask(self, sql: str, /, *values: object) -> list[db.Row]:
        if self.cut:
            raise StorageUnavailable("line")
        return await db.rows(sql, *values)

    async def look(self) -> None:
        self.core.node_id = self.node_id
        try:
            await self.tenure.step()
        except StorageUnavailable:
            assert self.cut


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
async def first(core: Core) -> Process:
    await leases.register(db.rows, NAMES)
    return Process(core, 1)


async def run_out() -> None:
    """The database's clock moves on."""
    await db.execute("UPDATE leases SET until = 1")


async def test_a_lone_process_owns_everything_at_once(first: Process) -> None:
    await first.look()
    assert set(first.at_work) == set(NAMES)
    assert set(first.tenure.held()) == set(NAMES)


async def test_nobody_else_gets_it_while_it_is_renewed(
    first: Process, clock: ManualClock
) -> None:
    await first.look()
    second = Process(first.core, 2, [first])
    for _ in range(5):
        clock.advance(timedelta(seconds=2))
        first.core.node_id = 1
        await first.tenure._renew()
        await second.look()
    assert second.at_work == {}


async def test_the_holder_lets_go_before_anybody_else_is_given_it(
    first: Process, clock: ManualClock
) -> None:
    """F-3: cut off from the database it stops by its own count."""
    await first.look()
    first.cut = True
    clock.advance(timedelta(seconds=HELD_SECONDS - 0.1))
    await first.look()
    assert set(first.at_work) == set(NAMES)
    clock.advance(timedelta(seconds=0.1))
    assert first.tenure.held() == {}
    await first.look()
    assert first.at_work == {}
    assert {holds for _, holds in first.ended} == {False}
    assert timedelta(seconds=HELD_SECONDS) < leases.LASTS


async def test_who_comes_back_and_finds_it_free_goes_on(
    first: Process, clock: ManualClock
) -> None:
    """A database that was away for all costs nobody half a minute."""
    await first.look()
    before = dict(first.at_work)
    first.cut = True
    clock.advance(timedelta(seconds=60))
    await first.look()
    first.cut = False
    await first.look()
    assert set(first.at_work) == set(NAMES)
    assert all(first.at_work[n].epoch > before[n].epoch for n in NAMES)


async def test_who_lost_it_to_another_backs_off(
    first: Process, clock: ManualClock
) -> None:
    """F-4: an account that takes one session does not flap between two."""
    assert BACK_OFF_SECONDS >= 30
    await first.look()
    first.cut = True
    clock.advance(timedelta(seconds=20))  # SIGSTOP, or a partition
    await run_out()
    second = Process(first.core, 2)
    await second.look()
    assert set(second.at_work) == set(NAMES)
    first.cut = False
    await first.look()
    assert first.at_work == {}
    await run_out()  # now the second one is gone
    clock.advance(timedelta(seconds=BACK_OFF_SECONDS - 1))
    await first.look()
    assert first.at_work == {}
    clock.advance(timedelta(seconds=1))
    await first.look()
    assert set(first.at_work) == set(NAMES)


async def test_what_was_taken_from_it_is_noticed_when_renewing(
    first: Process, clock: ManualClock
) -> None:
    await first.look()
    await run_out()
    second = Process(first.core, 2)
    await second.look()
    clock.advance(timedelta(seconds=2))
    await first.look()
    assert first.at_work == {}


async def test_two_processes_come_to_half_each(
    first: Process, clock: ManualClock
) -> None:
    await first.look()
    second = Process(first.core, 2, [first])
    first.others = [second]
    for _ in range(20):
        clock.advance(timedelta(seconds=2))
        await first.look()
        await second.look()
    assert len(first.at_work) == len(second.at_work) == 2
    assert set(first.at_work).isdisjoint(second.at_work)
    assert {holds for _, holds in first.ended} == {True}
    moved = len(first.ended) + len(second.ended)
    assert moved == 2  # and then it rests


async def test_what_was_given_away_is_not_taken_back_at_once(
    first: Process, clock: ManualClock
) -> None:
    """F-4: also where the one it is meant for is slow to take it; but where that one
    is gone it is not without an owner for longer than after any death."""
    assert leases.LASTS.total_seconds() >= GIVEN_SECONDS
    await first.look()
    first.others = [Peer(2, frozenset(NAMES))]
    clock.advance(timedelta(seconds=SHARE_SECONDS))
    await first.look()
    [given] = set(NAMES) - set(first.at_work)
    for _ in range(int(GIVEN_SECONDS / 2)):
        await first.look()
        assert given not in first.at_work
        clock.advance(timedelta(seconds=2))
    await first.look()
    assert given in first.at_work
    for _ in range(int(BACK_OFF_SECONDS / 2) - 1):  # nor does it try that again soon
        clock.advance(timedelta(seconds=2))
        await first.look()
    assert len(first.ended) == 1


async def test_nothing_is_given_to_who_would_not_take_it(
    first: Process, clock: ManualClock
) -> None:
    """F-4: it may have lost the account a moment ago, or be in a crash loop (F-7);
    then nobody would have it."""
    await first.look()
    second = Process(first.core, 2, [first])
    second.tenure.back_off(3 * SHARE_SECONDS)
    first.others = [second]
    for _ in range(2):
        clock.advance(timedelta(seconds=SHARE_SECONDS))
        await first.look()
        await second.look()
        assert set(first.at_work) == set(NAMES)
    clock.advance(timedelta(seconds=SHARE_SECONDS))
    await first.look()
    await second.look()
    assert len(second.at_work) == 1


async def test_who_has_its_share_is_given_nothing(
    first: Process, clock: ManualClock
) -> None:
    """Of three, one has none because it backs off: the two others keep what they
    have, or they would hand it to and fro."""
    await first.look()
    second, third = Process(first.core, 2, [first]), Peer(3, frozenset())
    first.others = [second]
    for _ in range(8):
        clock.advance(timedelta(seconds=2))
        await first.look()
        await second.look()
    first.others, second.others = [second, third], [first, third]
    before = dict(first.at_work), dict(second.at_work)
    for _ in range(20):
        clock.advance(timedelta(seconds=2))
        await first.look()
        await second.look()
    assert (first.at_work, second.at_work) == before


async def test_a_stopping_process_leaves_at_once(first: Process) -> None:
    """F-5."""
    await first.look()
    second = Process(first.core, 2)
    await second.look()
    assert second.at_work == {}
    await first.tenure.give_back()
    await second.look()
    assert set(second.at_work) == set(NAMES)


async def test_after_a_crash_loop_others_go_first(
    first: Process, clock: ManualClock
) -> None:
    """F-7."""
    first.tenure.back_off(30)
    await first.look()
    assert first.at_work == {}
    second = Process(first.core, 2)
    await second.look()
    assert set(second.at_work) == set(NAMES)
