"""The daily Q&A: fires once, only checked entries, only to who wishes it."""

import asyncio
import dataclasses
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from tortoise.exceptions import OperationalError

from broadcasts import daily, recipients
from broadcasts.schedule import Heartbeat, tick, ticking
from broadcasts.tables import Broadcast, DailyItem, Instant
from gateway import database as db
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.knowledge import entries as knowledge
from gateway.members import consent
from gateway.status import Bucket
from gateway.tables import Audit, Entry, Outbound
from tests.broadcasts.county import County, phone
from tests.labs.recorder import Recorder, drain


async def entry(core: Core, number: int, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "question": f"问题{number}？",
        "answer": f"解答{number}。",
        "basis": "《章程》第一条",
        "matter": "study",
        "created_at": core.clock.now(),
    }
    return await Entry.create(**(values | changes))


@pytest.fixture
async def entries(core: Core, county: County, clock: ManualClock) -> list[Entry]:
    """Three checked entries queued; two subscribers; half past eight."""
    clock.advance(timedelta(hours=-1, minutes=-30))
    found = [await entry(core, number) for number in range(3)]
    for one in found:
        await daily.add(core, county.clerk, one.id)
    await county.subscribe("phone", phone(1))
    await county.subscribe("email", "one@example.org")
    return found


async def test_one_entry_a_day_to_each_subscriber(
    core: Core,
    county: County,
    entries: list[Entry],
    clock: ManualClock,
    sms: Recorder,
    mail: Recorder,
) -> None:
    await tick(core)
    assert await Broadcast.all().count() == 0
    assert daily.next_instant(core).hour == 9
    clock.advance(timedelta(minutes=31))
    for _ in range(3):
        await tick(core)
        await drain(core)
    assert sms.to == [phone(1)]
    assert sms.sent[0].text == (
        "每日一答：问题0？解答0。依据《章程》第一条。拒收请回复R"
    )
    assert mail.sent[0].subject == "每日一答：问题0？"
    assert mail.sent[0].text.startswith("【每日一答】问题0？")
    assert await daily.today(core) == ("问题0？", "解答0。", "《章程》第一条")
    await tick(core)
    [past] = await daily.history()
    assert (past.planned, past.delivered, past.day) == (2, 2, "2026-11-20")
    assert (await Broadcast.get(id=past.broadcast_id)).state == "finished"
    clock.advance(timedelta(days=1))
    await tick(core)
    await drain(core)
    assert len(sms.sent) == 2
    assert [one.title for one in await Broadcast.all().order_by("id")] == [
        "问题0？",
        "问题1？",
    ]


async def test_two_schedulers_and_a_restart_fire_once(
    core: Core, county: County, entries: list[Entry], clock: ManualClock, sms: Recorder
) -> None:
    """F-1: twenty at the same instant."""
    clock.advance(timedelta(minutes=31))
    other = Core(
        settings=core.settings,
        clock=clock,
        keys=core.keys,
        channels=core.channels,
        texts=core.texts,
        calendar=core.calendar,
    )
    await asyncio.gather(*(tick(one) for one in [core, other] * 10))
    await tick(other)
    await drain(core)
    assert sms.to == [phone(1)]
    assert await Instant.all().count() == 1
    assert await Broadcast.all().count() == 1


async def test_two_schedulers_fire_hundreds_of_instants_once(
    core: Core, entries: list[Entry], clock: ManualClock
) -> None:
    """F-1: side by side, day after day; what is pushed and that it is due are one."""

    async def fire() -> None:
        own = ManualClock(daily.instant_on(core, daily.local_day(core)))
        scheduler = dataclasses.replace(core, clock=own)
        for _ in range(300):
            await daily.fire_due(scheduler)
            own.advance(timedelta(days=1))

    await asyncio.gather(fire(), fire())
    results = Counter(await Instant.all().values_list("result", flat=True))
    assert results == {"pushed": len(entries), "empty": 300 - len(entries)}
    assert await Broadcast.all().count() == len(entries)


async def test_an_instant_whose_work_failed_was_not_fired(
    core: Core, entries: list[Entry], clock: ManualClock
) -> None:
    """F-1: its row and the work are one transaction, or it would be missed."""
    clock.advance(timedelta(minutes=31))
    await db.execute("ALTER TABLE broadcasts RENAME TO away")
    with pytest.raises(OperationalError):
        await daily.fire_due(core)
    await db.execute("ALTER TABLE away RENAME TO broadcasts")
    assert not await Instant.exists()
    await daily.fire_due(core)
    assert await daily.state_of_today(core) == "pushed"


async def test_slept_over_but_inside_the_grace(
    core: Core, entries: list[Entry], clock: ManualClock
) -> None:
    clock.advance(timedelta(minutes=30) + timedelta(minutes=15))
    await tick(core)
    assert await daily.state_of_today(core) == "pushed"


async def test_slept_over_asks_a_person_once(
    core: Core, county: County, entries: list[Entry], clock: ManualClock, sms: Recorder
) -> None:
    clock.advance(timedelta(days=3, hours=2))
    await tick(core)
    await drain(core)
    assert sms.sent == []
    assert await daily.state_of_today(core) == "missed"
    assert await Instant.all().count() == 1
    results = await asyncio.gather(
        *(daily.push_now(core, county.clerk) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(one, Broadcast) for one in results) == 1
    assert sum(isinstance(one, RequestError) for one in results) == 4
    await drain(core)
    assert sms.to == [phone(1)]
    assert await Audit.filter(action="daily.push").count() == 1


async def test_only_checked_entries_leave(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    sample = await entry(core, 1, sample=True)
    await daily.add(core, county.clerk, sample.id)
    await county.subscribe("phone", phone(1))
    assert await daily.today(core) is None
    clock.set(daily.instant_on(core, daily.local_day(core)))
    await tick(core)
    assert await daily.state_of_today(core) == "unchecked"
    with pytest.raises(RequestError) as refused:
        await daily.push_now(core, county.clerk)
    assert refused.value.code == "unchecked"
    with pytest.raises(RequestError):
        await knowledge.check(core, county.clerk, sample.id)
    await knowledge.check(core, county.director, sample.id)
    with pytest.raises(NotFound):
        await knowledge.check(core, county.director, sample.id)
    await daily.push_now(core, county.clerk)
    await drain(core)
    assert sms.to == [phone(1)]


async def test_an_empty_queue_and_nobody_are_told(
    core: Core, county: County, clock: ManualClock
) -> None:
    clock.set(daily.instant_on(core, daily.local_day(core)))
    await tick(core)
    assert await daily.state_of_today(core) == "nobody"
    await county.subscribe("phone", phone(1))
    clock.advance(timedelta(days=1))
    await tick(core)
    assert await daily.state_of_today(core) == "empty"


async def test_who_left_between_plan_and_send_gets_nothing(
    core: Core, county: County, entries: list[Entry], clock: ManualClock, sms: Recorder
) -> None:
    await county.subscribe("phone", phone(2))
    await county.subscribe("phone", phone(3))
    clock.advance(timedelta(minutes=31))
    await tick(core)
    first = Address(AddressKind.PHONE, phone(2))
    await consent.unsubscribe(core, first)
    second = Address(AddressKind.PHONE, phone(3))
    await consent.opt_out(core, second, how="word", evidence="R")
    await drain(core)
    assert sms.to == [phone(1)]
    [past] = await daily.history()
    counts = await recipients.counts(past.broadcast_id)
    assert (counts[Bucket.SUPPRESSED], counts[Bucket.ACCEPTED]) == (2, 2)
    gone = await Outbound.filter(state="suppressed")
    assert {row.reason for row in gone} == {"unsubscribed", "opted_out"}


async def test_a_subscriber_without_a_channel_is_counted(
    core: Core, county: County, entries: list[Entry], clock: ManualClock
) -> None:
    await county.subscribe("wechat", "follower")
    clock.advance(timedelta(minutes=31))
    await tick(core)
    [found] = await Broadcast.all()
    assert found.planned == 2
    assert [(one["reason"], one["count"]) for one in found.left_out] == [
        ("no_channel", 1)
    ]


async def test_a_long_answer_is_shortened_for_text_messages(
    core: Core, county: County, clock: ManualClock, sms: Recorder, mail: Recorder
) -> None:
    await county.subscribe("phone", phone(1))
    await county.subscribe("email", "one@example.org")
    long = await entry(
        core, 1, answer="很长的解答。" * 200, question="【问】{{name}}？"
    )
    await daily.add(core, county.clerk, long.id)
    clock.set(daily.instant_on(core, daily.local_day(core)))
    await tick(core)
    await drain(core)
    assert len(sms.sent[0].text) < 200
    assert sms.sent[0].text.startswith("每日一答：〔问〕{{name}}？很长的解答。")
    assert long.answer in mail.sent[0].text


async def test_what_cannot_be_said_is_suppressed_and_counted(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    await county.subscribe("phone", phone(1))
    odd = await entry(core, 1, answer="藏着\u202e字")
    await daily.add(core, county.clerk, odd.id)
    clock.set(daily.instant_on(core, daily.local_day(core)))
    await tick(core)
    await drain(core)
    assert sms.sent == []
    row = await Outbound.get(message_kind="daily")
    assert (row.state, row.reason) == ("suppressed", "bad_text")
    assert row.detail.startswith("invisible ")


async def test_the_queue_is_rearranged(
    core: Core, county: County, entries: list[Entry]
) -> None:
    first, second, third = [item.id for item in await daily.queue()]
    await daily.shift(core, county.clerk, third, up=True)
    await daily.shift(core, county.clerk, first, up=True)
    await daily.shift(core, county.clerk, second, up=False)
    assert [item.id for item in await daily.queue()] == [first, third, second]
    await daily.skip(core, county.clerk, first)
    await daily.remove(core, county.clerk, second)
    assert [item.id for item in await daily.queue()] == [third]
    assert (await DailyItem.get(id=first)).state == "skipped"
    for call in (
        daily.skip(core, county.clerk, first),
        daily.shift(core, county.clerk, first, up=True),
        daily.add(core, county.clerk, 424242),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(RequestError) as refused:
        await daily.add(core, county.clerk, entries[2].id)
    assert refused.value.code == "queued_already"
    await daily.add(core, county.clerk, entries[0].id)
    assert len(await daily.queue()) == 2
    assert [e["id"] for e in await daily.entries_to_add()] == [entries[1].id]
    assert await daily.subscribers() == {AddressKind.EMAIL: 1, AddressKind.PHONE: 1}


async def test_a_broken_part_does_not_stop_the_others(
    core: Core, county: County, entries: list[Entry], clock: ManualClock, sms: Recorder
) -> None:
    """A broadcast with an unreadable audience fails; the daily one still leaves."""
    await county.crowd(1, first=60)
    found = await county.approved(send_at=clock.now() + timedelta(minutes=20))
    await Broadcast.filter(id=found.id).update(audience={"type": "broken"})
    clock.advance(timedelta(minutes=31))
    await tick(core)
    await drain(core)
    assert sms.to == [phone(1)]


async def test_the_scheduler_ticks_and_stops(core: Core) -> None:
    async with ticking(Heartbeat(core)):
        await asyncio.sleep(0)


class Noting(Heartbeat):
    """Notes what it was asked to do, and does nothing."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.seen: list[str] = []
        self.has_beaten = asyncio.Event()

    async def beat(self) -> None:
        self.seen.append("beat")
        self.has_beaten.set()

    async def work(self) -> None:
        self.seen.append("work")

    async def balance(self) -> None:
        self.seen.append("balance")


async def test_the_first_tick_waits_for_nothing(core: Core) -> None:
    """What is done each second is not done twice before it."""
    heartbeat = Noting(core)
    async with ticking(heartbeat), asyncio.timeout(60):
        await heartbeat.has_beaten.wait()
    assert sorted(heartbeat.seen) == ["balance", "beat", "work"]
