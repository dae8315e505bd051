"""The audience becomes recipients: all of them once, or nothing that could leave."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from broadcasts import freeze, notices, planning, recipients, running, stage
from broadcasts.freeze import Superseded
from broadcasts.planning import Terms
from broadcasts.stage import staged
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import verify
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.errors import RequestError
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.status import Bucket
from gateway.tables import Audit, Chunk, Content, Outbound, PromptRow
from tests.broadcasts.county import County, phone
from tests.labs.recorder import Recorder, drain

MANY = 1_203


@pytest.fixture
def core(core: Core) -> Core:
    """No canary: its own tests have one."""
    policy = core.settings.policy.model_copy(update={"canary": 0})
    core.settings = core.settings.model_copy(update={"policy": policy})
    return core


async def crowd(county: County, count: int, mails: int = 0) -> None:
    """Set-based: members with a number each, the last `mails` with mail instead."""
    now = db.to_micros(county.core.clock.now())
    numbers = range(1, count + 1)
    given, values = db.table(
        {"name": "TEXT", "kind": "TEXT", "value": "TEXT"},
        [
            (f"党员{n}", "email", f"m{n}@example.org")
            if n > count - mails
            else (f"党员{n}", "phone", phone(n * 7919 % 100_000))
            for n in numbers
        ],
    )
    falsehood = "FALSE" if db.is_postgres() else "0"
    await db.execute(
        "INSERT INTO members (name, joined_on, mobile_member, preferred_kind, note, "
        f"created_at, organisation_id) SELECT g.name, '', {falsehood}, '', '', "
        f"CAST(? AS BIGINT), CAST(? AS INTEGER) FROM {given} AS g",
        now,
        county.branch.id,
        *values,
    )
    await db.execute(
        "INSERT INTO addresses (kind, value, verified_at, verified_how, display_name, "
        "created_at, member_id) SELECT g.kind, g.value, CAST(? AS BIGINT), '', '', "
        f"CAST(? AS BIGINT), m.id FROM {given} AS g JOIN members m ON m.name = g.name",
        now,
        now,
        *values,
    )


async def begun(county: County, **changes: Any) -> Broadcast:
    """A notice whose plan has been left lying by a process that died at once."""
    broadcast = await county.approved(**changes)
    await Broadcast.filter(id=broadcast.id).update(
        state="planning", code="AB12", plan_token=1, plan_node=None
    )
    return await Broadcast.get(id=broadcast.id)


def terms(core: Core, broadcast: Broadcast) -> Terms:
    return Terms(
        expires_at=core.clock.now() + timedelta(days=1),
        exclude_bad=broadcast.exclude_bad,
        approved_people=broadcast.approved_people,
    )


async def half_written(core: Core, broadcast: Broadcast, slices: int) -> None:
    """Do what a try does until it dies after some slices."""
    planned = await notices.plan_of(core, broadcast)
    async with staged(planned, f"stage_{broadcast.id}") as found:
        people = found.reached
        run = await planning._begin(
            core, broadcast, found, people, terms(core, broadcast)
        )
        async with stage.joined(found):
            for number in range(slices):
                rows = (number * 100 + 1, number * 100 + 100)
                async with db.transaction():
                    await freeze._slice(core, found, run, rows, canary=False)


async def sent_out(core: Core, clock: ManualClock) -> None:
    """A channel begins slowly: let its clock go on until nothing waits."""
    for _ in range(200):
        await drain(core)
        waiting = await moves.counts((await Broadcast.get()).id)
        if not {"planned", "queued", "sending"} & set(waiting):
            return
        clock.advance(timedelta(seconds=5))
    raise AssertionError("not everything left")


async def holds(broadcast_id: int) -> dict[str, int]:
    """Rows by state; their sum is `planned`, and the tallies say the same."""
    rows = await db.rows(
        "SELECT state, COUNT(*) AS n FROM outbox WHERE broadcast_id = ? GROUP BY state",
        broadcast_id,
    )
    counted = {row["state"]: int(row["n"]) for row in rows}
    assert counted == dict(await moves.counts(broadcast_id))
    broadcast = await Broadcast.get(id=broadcast_id)
    assert sum(counted.values()) == broadcast.planned
    return counted


async def test_chunks_are_ranges_of_one_channel_and_hold_everybody(
    core: Core, county: County, clock: ManualClock, sms: Recorder, mail: Recorder
) -> None:
    await crowd(county, MANY, mails=101)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    chunks = await Chunk.all().order_by("first_id")
    assert [(c.channel, c.people, c.state) for c in chunks] == [
        ("mail", 101, "ready"),
        ("sms", 500, "ready"),
        ("sms", 500, "ready"),
        ("sms", 102, "ready"),
    ]
    covered = [(c.channel, n) for c in chunks for n in range(c.first_id, c.last_id + 1)]
    rows = await Outbound.all().order_by("id").values_list("channel", "id")
    assert rows == covered
    assert all(chunk.journalled_to == chunk.first_id - 1 for chunk in chunks)
    assert await holds(broadcast.id) == {"planned": MANY}
    values = [row.value for row in await Outbound.filter(channel="sms").order_by("id")]
    assert values == sorted(values)
    await sent_out(core, clock)
    assert len(sms.to) == len(set(sms.to)) == MANY - 101
    assert len(set(mail.to)) == 101
    assert await holds(broadcast.id) == {"accepted": MANY}
    assert await PromptRow.filter(broadcast_id=broadcast.id).count() == MANY


@pytest.mark.parametrize("slices", [0, 1, 3])
async def test_a_plan_that_died_is_begun_anew_and_nobody_is_there_twice(
    core: Core, county: County, clock: ManualClock, sms: Recorder, slices: int
) -> None:
    await crowd(county, MANY)
    broadcast = await begun(county)
    await half_written(core, broadcast, slices)
    assert sum((await holds(broadcast.id)).values()) == slices * 100
    # Meanwhile a member has changed the number: both would be in a plan that goes on.
    await db.execute(
        "UPDATE addresses SET value = '+8613900000000' WHERE member_id IN "
        "(SELECT id FROM members WHERE name = '党员1')"
    )
    await drain(core)
    assert sms.to == []  # what is half there doesn't leave
    await running.work_off(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "running"
    assert await holds(broadcast.id) == {"planned": MANY}
    assert await PromptRow.filter(broadcast_id=broadcast.id).count() == MANY
    members = await Outbound.all().values_list("member_id", flat=True)
    assert len(members) == len(set(members)) == MANY
    await sent_out(core, clock)
    assert len(sms.to) == len(set(sms.to)) == MANY
    assert "+8613900000000" in sms.to


async def test_what_is_taken_back_adds_up_at_every_moment(
    core: Core, county: County
) -> None:
    await crowd(county, MANY)
    broadcast = await begun(county)
    await half_written(core, broadcast, 3)
    chunks = await Chunk.all().order_by("id")
    async with db.transaction():  # one to whom the text can't be said
        bad = Move(chunks[1].first_id, "suppressed", "bad_text")
        await moves.advance([bad], core.clock.now())
    for chunk in chunks:
        assert await holds(broadcast.id)
        gone = [(chunk.id, chunk.first_id, chunk.last_id)]
        async with db.transaction():
            await freeze._remove(broadcast.id, 1, gone, core.clock.now())
    assert (len(chunks), await holds(broadcast.id)) == (3, {})


async def test_a_try_that_was_taken_over_writes_nothing_more(
    core: Core, county: County
) -> None:
    await crowd(county, MANY)
    broadcast = await begun(county)
    planned = await notices.plan_of(core, broadcast)
    async with staged(planned, "stage_old") as found:
        run = await planning._begin(
            core, broadcast, found, MANY, terms(core, broadcast)
        )
        await running.work_off(core)  # another process finds it lying there
        with pytest.raises(Superseded):
            await freeze.write(core, found, run)
        with pytest.raises(Superseded):
            await freeze.take_back(core, broadcast.id, run.token)
    assert await holds(broadcast.id) == {"planned": MANY}


async def test_a_cancel_ends_the_planning_and_all_is_counted(
    core: Core, county: County, sms: Recorder
) -> None:
    await crowd(county, MANY)
    broadcast = await begun(county)
    await half_written(core, broadcast, 4)
    await running.cancel(core, county.clerk, broadcast.id)
    assert await holds(broadcast.id) == {"cancelled": 400}
    await running.work_off(core)
    await drain(core)
    assert sms.to == []
    assert (await Broadcast.get(id=broadcast.id)).state == "cancelled"
    assert not await PromptRow.filter(closed_at__isnull=True).exists()


async def test_who_is_planned_elsewhere_is_left_alone(
    core: Core, county: County, clock: ManualClock
) -> None:
    await county.crowd(2)
    broadcast = await begun(county)
    await Broadcast.filter(id=broadcast.id).update(
        plan_node=core.node_id, changed_at=clock.now()
    )
    await running.work_off(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "planning"
    clock.advance(timedelta(minutes=3))  # its work failed: nobody goes on with it
    await running.work_off(core)
    assert (await Broadcast.get(id=broadcast.id)).state == "running"


async def test_a_large_one_is_planned_by_the_worker(
    core: Core, county: County, sms: Recorder
) -> None:
    await crowd(county, 40)
    broadcast = await county.approved()
    await Broadcast.filter(id=broadcast.id).update(approved_people=planning.SMALL + 1)
    found = await running.start(core, county.clerk, broadcast.id)
    assert found.state == "planning"
    again = await running.start(core, county.clerk, broadcast.id)
    assert again.state == "planning"
    await drain(core)
    assert sms.to == []
    await running.work_off(core)
    assert await holds(broadcast.id) == {"planned": 40}
    await drain(core)
    assert len(sms.to) == 40
    assert await Audit.filter(action="broadcast.start").count() == 1
    assert await Audit.filter(action="broadcast.frozen").count() == 1


async def test_a_large_one_that_cannot_run_goes_back_with_the_reason(
    core: Core, county: County
) -> None:
    """A-11: refused as a whole, and nothing of it was written."""
    await crowd(county, 30)
    broadcast = await county.approved()
    await Broadcast.filter(id=broadcast.id).update(approved_people=planning.SMALL + 1)
    await db.execute("UPDATE members SET name = '' WHERE name = '党员7'")
    await running.start(core, county.clerk, broadcast.id)
    await running.work_off(core)
    found = await Broadcast.get(id=broadcast.id)
    assert found.state == "draft"
    assert "缺少资料" in found.note
    assert not await Outbound.exists()
    assert not await Content.exists()


async def test_the_bad_are_excluded_by_choice_and_counted(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    """A-11, G-6: the row that can't be said stays in the sum, and nobody gets it."""
    await crowd(county, MANY)
    broadcast = await county.approved(exclude_bad=True)
    odd = {"党员3": "", "党员4": "藏\u202e字", "党员5": "长" * 64}
    text = {"sms": "字" * 420 + "{{姓名}}" * 2}
    await Broadcast.filter(id=broadcast.id).update(texts=text)
    found = await Broadcast.get(id=broadcast.id)
    await Broadcast.filter(id=broadcast.id).update(approved_hash=notices.digest(found))
    for name, other in odd.items():
        await db.execute("UPDATE members SET name = ? WHERE name = ?", other, name)
    await running.start(core, county.clerk, broadcast.id)
    assert await holds(broadcast.id) == {"planned": MANY - 3, "suppressed": 3}
    await sent_out(core, clock)
    assert len(sms.to) == MANY - 3
    details = await Outbound.filter(state="suppressed").values_list("detail", flat=True)
    assert {str(one).partition(" ")[0] for one in details} == {
        "value_missing",
        "invisible",
        "too_long",
    }
    counts = await recipients.counts(broadcast.id)
    assert counts[Bucket.SUPPRESSED] == 3
    balance = await verify.balance(db.rows, broadcast.id)
    assert balance is not None
    assert balance.holds


async def test_a_refused_start_leaves_the_approval_as_it_was(
    core: Core, county: County
) -> None:
    await county.crowd(2)
    broadcast = await county.approved()
    await db.execute("UPDATE members SET name = ''")
    with pytest.raises(RequestError) as refused:
        await running.start(core, county.clerk, broadcast.id)
    assert refused.value.code == "bad_texts"
    found = await Broadcast.get(id=broadcast.id)
    assert (found.state, found.planned, found.plan_node) == ("approved", 0, None)


def test_slices_grow_and_shrink_in_whole_chunks() -> None:
    assert freeze._resized(10_000, 0.01) == 20_000
    assert freeze._resized(50_000, 0.01) == 50_000
    assert freeze._resized(10_000, 0.1) == 10_000
    assert freeze._resized(10_500, 0.5) % freeze.CHUNK == 0
    assert freeze._resized(2_000, 9) == 2_000


async def test_ahead_of_the_rest_goes_the_canary_of_each_channel(
    core: Core, county: County
) -> None:
    await crowd(county, MANY, mails=30)
    policy = core.settings.policy.model_copy(update={"canary": 100})
    other = dataclasses.replace(
        core, settings=core.settings.model_copy(update={"policy": policy})
    )
    broadcast = await county.approved()
    await running.start(other, county.clerk, broadcast.id)
    chunks = await Chunk.all().order_by("first_id")
    assert [(c.channel, c.people, c.canary, c.state) for c in chunks] == [
        ("mail", 30, True, "ready"),
        ("sms", 100, True, "ready"),
        ("sms", 500, False, "held"),
        ("sms", 500, False, "held"),
        ("sms", 73, False, "held"),
    ]
