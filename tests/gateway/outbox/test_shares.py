"""Two accounts of one kind: who sends how much, and what moves when one fails."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Connection, MessageKind
from gateway.core import Core
from gateway.errors import OutcomeUnknown, TransientFailure
from gateway.outbox.report import Reports
from gateway.outbox.sender import Sender
from gateway.outbox.shares import (
    FEW,
    Account,
    Balance,
    Condition,
    Supply,
    based,
    condition,
    may_take,
    reassign,
    shares,
    stepped,
    transfers,
)
from gateway.settings import Binding, ChannelCommon
from gateway.tables import Chunk, InquiryEvent, Node, Outbound
from tests.console import organisation
from tests.gateway.outbox.test_chunks import BROADCAST, broadcast, number, states
from tests.labs.matters import registered
from tests.labs.outgoing import queued
from tests.labs.streams import Carrier, channel

WELL, SLOW, DOWN, TRIAL = Condition
A, B, C = "甲", "乙", "丙"


def accounts(*given: tuple[int, int, Condition]) -> Sequence[Account]:
    """(share, lost, condition) of 甲, 乙, 丙."""
    return [
        Account(name=name, share=share, lost=lost, condition=state)
        for name, (share, lost, state) in zip((A, B, C), given, strict=False)
    ]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({A: None, B: None}, {A: 100, B: 0}),
        ({A: None, B: 30}, {A: 0, B: 30}),
        ({A: 70, B: 30}, {A: 70, B: 30}),
    ],
)
def test_shares_by_the_settings(
    wanted: Mapping[str, int | None], found: Mapping[str, int]
) -> None:
    assert based(wanted) == found


NOW = 1_000_000
OPEN = {"open_since": 1, "probe_at": NOW + 1, "probing": False, "away": False}


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({}, WELL),
        ({"answered": FEW, "slow": 0.14}, WELL),
        ({"answered": FEW, "slow": 0.15}, SLOW),
        ({"answered": FEW - 1, "slow": 1.0}, WELL),
        ({"throttled_share": 0.5}, SLOW),
        (OPEN, DOWN),
        ({**OPEN, "probe_at": NOW}, TRIAL),
        ({**OPEN, "probe_at": NOW, "probing": True}, DOWN),
        ({**OPEN, "probe_at": NOW, "away": True}, DOWN),
    ],
)
def test_the_condition_by_the_report(
    report: Mapping[str, Any], found: Condition
) -> None:
    assert condition(report, NOW, 0.15) is found


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        (((50, 0, WELL), (50, 0, WELL)), (0, 0)),
        (((50, 0, SLOW), (50, 0, WELL)), (10, 0)),
        (((50, 45, SLOW), (50, 0, WELL)), (50, 0)),
        (((50, 20, WELL), (50, 0, WELL)), (10, 0)),
        (((50, 20, SLOW), (50, 0, SLOW)), (20, 0)),  # all are slow
        (((50, 20, SLOW), (50, 0, DOWN)), (20, 0)),
        (((50, 0, DOWN), (50, 10, WELL)), (10, 0)),
        (((100, 0, WELL), (0, 0, SLOW)), (0, 0)),
    ],
)
def test_points_are_lost_and_regained_by_steps(
    given: Sequence[tuple[int, int, Condition]], lost: Sequence[int]
) -> None:
    assert tuple(stepped(accounts(*given), 10).values()) == lost


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (((100, 0, WELL), (0, 0, WELL)), (1.0, 0.0)),
        (((70, 0, WELL), (30, 0, WELL)), (0.7, 0.3)),
        (((100, 10, SLOW), (0, 0, WELL)), (0.9, 0.1)),
        (((50, 20, SLOW), (50, 0, WELL)), (0.3, 0.7)),
        (((50, 0, DOWN), (50, 0, WELL)), (0.0, 1.0)),
        (((100, 0, TRIAL), (0, 0, WELL)), (0.0, 1.0)),
        (((50, 10, WELL), (50, 0, WELL)), (0.4, 0.6)),
        (((50, 0, DOWN), (50, 0, SLOW)), (0.0, 1.0)),
        (((50, 20, SLOW), (50, 0, SLOW)), (0.375, 0.625)),
        (((50, 0, DOWN), (30, 0, WELL), (20, 0, WELL)), (0.0, 0.6, 0.4)),
    ],
)
def test_what_each_sends(
    given: Sequence[tuple[int, int, Condition]], parts: Sequence[float]
) -> None:
    assert tuple(shares(accounts(*given)).values()) == pytest.approx(parts)


@pytest.mark.parametrize(
    ("supply", "parts", "found"),
    [
        ({A: Supply(10, 10)}, {A: 1.0, B: 0.0}, []),
        ({A: Supply(10, 10)}, {A: 0.5, B: 0.5}, [(A, B, 5)]),
        ({A: Supply(3, 10)}, {A: 0.0, B: 1.0}, [(A, B, 3)]),
        ({A: Supply(4, 5), B: Supply(5, 5)}, {A: 0.5, B: 0.5}, []),
        ({A: Supply(2, 5), B: Supply(0, 6)}, {A: 0.5, B: 0.5}, []),
        ({A: Supply(9, 9)}, {A: 0.0, B: 0.6, C: 0.4}, [(A, B, 5), (A, C, 4)]),
        ({A: Supply(5, 7)}, {A: 0.0, B: 0.6, C: 0.4}, [(A, B, 3), (A, C, 2)]),
        ({A: Supply(1, 1)}, {A: 0.9, B: 0.1}, []),
    ],
)
def test_how_many_chunks_move(
    supply: Mapping[str, Supply],
    parts: Mapping[str, float],
    found: Sequence[tuple[str, str, int]],
) -> None:
    assert list(transfers(supply, parts)) == found


def test_only_what_can_be_said_alike_moves(clock: ManualClock) -> None:
    now, notice = clock.now(), MessageKind.NOTICE
    one, other = channel(Carrier(), A), channel(Carrier(), B)
    assert may_take(one, other, notice, now)
    assert not may_take(one, other, MessageKind.TEST, now)
    other.common = ChannelCommon(adapter="carrier", signature="【清禾】")
    assert not may_take(one, other, notice, now)  # it has room for less
    assert may_take(other, one, notice, now)
    bound = Binding(template="T1", variables={"x": "{{text}}"})
    other.common = ChannelCommon(adapter="carrier", bindings={notice: bound})
    other.capabilities = replace(other.capabilities, free_text=False)
    assert not may_take(one, other, notice, now)  # a template says it in other words
    assert may_take(other, one, notice, now)


# --- with the database


class House:
    """Two accounts with their senders, and who shares out between them."""

    def __init__(self, core: Core, clock: ManualClock, *carriers: Carrier) -> None:
        self.core, self.clock = core, clock
        self.one, self.other = carriers
        self.senders = [Sender(core, one) for one in core.channels]
        self.reports = Reports(core, lambda: self.senders)
        self.balance = Balance(core)

    async def second(self) -> None:
        """What happens in one second."""
        for sender in self.senders:
            while await sender.step():
                pass
        await self.reports.step()
        await self.balance.work()
        self.clock.advance(timedelta(seconds=1))

    async def until_sent(self, *answering: Carrier, seconds: int = 200) -> None:
        for _ in range(seconds):
            await self.second()
            for carrier in answering:
                carrier.answer_all()
            left = await states()
            if not left.get("planned") and not left.get("queued"):
                break
        for sender in self.senders:
            await sender.step()

    def away(self, carrier: Carrier, is_away: bool = True) -> None:
        carrier.is_away = is_away
        state = "closed" if is_away else "open"
        now = self.clock.now()
        carrier.shown = (
            Connection(name="1", state=state, since=now, window=10, awaited=0),
        )

    def sent(self) -> Counter[str]:
        both = [*self.one.submitted, *self.other.submitted]
        return Counter(message.to.value for message in both)


@pytest.fixture
def carriers() -> tuple[Carrier, Carrier]:
    return Carrier(), Carrier()


@pytest.fixture
def channels(carriers: tuple[Carrier, Carrier]) -> ChannelSet:
    return ChannelSet([channel(carriers[0]), channel(carriers[1], "备用")])


@pytest.fixture
async def house(
    core: Core, clock: ManualClock, carriers: tuple[Carrier, Carrier]
) -> House:
    node = await Node.create(started_at=clock.now(), seen_at=clock.now())
    core.node_id = node.id
    return House(core, clock, *carriers)


async def test_who_stands_by_sends_nothing_while_the_first_is_well(
    core: Core, house: House
) -> None:
    await broadcast(core, 100)
    await house.until_sent(house.one, house.other)
    assert house.other.submitted == []
    assert await states() == {"accepted": 100}


async def test_a_share_of_the_chunks_leaves_by_each(core: Core, house: House) -> None:
    for one in core.channels:
        one.common = ChannelCommon(adapter="carrier", share=50)
    await broadcast(core, 400)
    await house.balance.work()
    by_channel = Counter(one.channel for one in await Chunk.all())
    assert by_channel == {"短信": 10, "备用": 10}
    await house.until_sent(house.one, house.other)
    assert len(house.one.submitted) == len(house.other.submitted) == 200
    assert max(house.sent().values()) == 1


async def test_what_is_certainly_not_sent_leaves_by_the_other(
    core: Core, house: House, clock: ManualClock
) -> None:
    """A-10: the session is gone; what was on its way is unknown and stays."""
    await broadcast(core, 100)
    await house.senders[0].step()
    flying = list(house.one.waiting)
    assert len(flying) == 10
    house.away(house.one)
    for id in flying:
        house.one.answer(id, OutcomeUnknown("connection_lost"))
    await house.until_sent(house.other)
    assert await states() == {"unknown": 10, "accepted": 90}
    stayed = await Outbound.filter(state="unknown")
    assert {row.channel for row in stayed} == {"短信"}
    assert {str(row.id) for row in stayed} == set(flying)
    assert max(house.sent().values()) == 1
    house.one.answer(flying[0])  # a late answer still ends the doubt
    await house.senders[0].step()
    assert await states() == {"unknown": 9, "accepted": 91}


async def test_a_chunk_with_messages_on_their_way_stays(
    core: Core, house: House
) -> None:
    """A-10: its mark is the journal of those; only untouched ones are given away."""
    await broadcast(core, 60)
    await house.senders[0].step()
    leased = await Chunk.get(state="leased")
    moved = await core.commits.run(lambda: reassign(BROADCAST, "短信", "备用", 9))
    assert moved == 2
    await leased.refresh_from_db()
    assert (leased.channel, leased.state) == ("短信", "leased")
    rows = await Outbound.filter(channel="短信").values_list("id", flat=True)
    assert sorted(rows) == list(range(leased.first_id, leased.last_id + 1))
    await house.until_sent(house.one, house.other)
    assert await states() == {"accepted": 60}
    assert max(house.sent().values()) == 1


async def test_what_failed_for_now_goes_by_the_other_at_its_next_try(
    core: Core, house: House
) -> None:
    """A-10"""
    await broadcast(core, 60)
    for _ in range(300):
        await house.second()
        for id in list(house.one.waiting):
            house.one.answer(id, TransientFailure("refused_connection"))
        house.other.answer_all()
    assert await states() == {"accepted": 60}
    assert {m.to.value for m in house.other.submitted} == {number(n) for n in range(60)}
    moved = await Outbound.filter(reason="rerouted")
    assert moved
    assert {row.detail for row in moved} == {"短信:unreachable"}


async def test_it_comes_back_by_a_probe_and_by_steps(core: Core, house: House) -> None:
    """A-10, A-9: what is down gets one message, what is back its share stepwise."""
    house.away(house.one)
    await broadcast(core, 40)
    for _ in range(70):
        await house.second()
        house.other.answer_all()
    lost = await db.rows("SELECT lost FROM channel_reports WHERE channel = '短信'")
    assert lost[0]["lost"] == 10
    assert len(house.other.submitted) == 40
    house.away(house.one, is_away=False)
    await broadcast(core, 400, id=2)
    await house.second()
    await house.second()
    assert len(house.one.submitted) == 1
    house.one.answer_all()
    for _ in range(40):
        await house.second()
        house.one.answer_all()
        house.other.answer_all()
    assert await states(2) == {"accepted": 400}
    assert not house.senders[0].breaker.is_open
    assert len(house.one.submitted) > 1


async def test_nothing_moves_when_both_are_slow(
    core: Core, house: House, clock: ManualClock
) -> None:
    """A-10"""
    for one in core.channels:
        one.common = ChannelCommon(adapter="carrier", share=50)
    await broadcast(core, 2000)
    for _ in range(12):  # both answer after twenty seconds
        for sender in house.senders:
            await sender.step()
        clock.advance(timedelta(seconds=20))
        house.one.answer_all()
        house.other.answer_all()
        await house.second()
    found = await db.rows("SELECT data, lost FROM channel_reports")
    assert [row["lost"] for row in found] == [0, 0]
    by_channel = Counter(one.channel for one in await Chunk.all())
    assert by_channel == {"短信": 50, "备用": 50}


async def test_the_slow_one_loses_ten_points_a_step(
    core: Core, house: House, clock: ManualClock
) -> None:
    """A-10"""
    for one in core.channels:
        one.common = ChannelCommon(adapter="carrier", share=50)
    await broadcast(core, 2000)
    points = []
    for second in range(300):
        await house.second()
        house.other.answer_all()
        if second % 20 == 19:
            house.one.answer_all()
        found = await db.rows("SELECT lost FROM channel_reports WHERE channel = '短信'")
        points.append(found[0]["lost"])
    assert points[-1] >= 30
    assert {b - a for a, b in pairwise(points)} <= {0, 10}
    counted = Counter(one.channel for one in await Chunk.all())
    assert counted["备用"] > 60


async def test_a_change_of_account_is_in_the_timeline(
    core: Core, house: House, clock: ManualClock
) -> None:
    house.away(house.one)
    now = clock.now()
    matter = await registered((await organisation("清禾县", kind="county")).id, now)
    expires = now + timedelta(days=3)
    row = await queued(now, channel="短信", inquiry_id=matter.id, expires_at=expires)
    for _ in range(10):
        await house.second()
        house.other.answer_all()
    await house.senders[1].step()
    sent = await Outbound.get(id=row.id)
    assert (sent.channel, sent.state) == ("备用", "accepted")
    event = await InquiryEvent.get(kind="rerouted")
    assert (event.data["from"], event.data["to"]) == ("短信", "备用")
