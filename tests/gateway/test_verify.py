"""The recount: what holds is silent, and each broken promise is named."""

from pathlib import Path
from typing import Any

import pytest

from broadcasts.tables import Broadcast
from gateway import audit
from gateway.actors import GATEWAY
from gateway.core import Core
from gateway.database import execute, transaction
from gateway.errors import StorageUnavailable
from gateway.recount import as_data, as_text
from gateway.snapshot import snapshot
from gateway.status import Bucket, OutboundState
from gateway.tables import Attempt, Chunk, Inbound, Node, Outbound, Receipt, Tally
from gateway.verify import Balance, Report, balance, verify
from tests.labs.outgoing import queued

BROADCAST = 7


async def planned(core: Core, people: int, **changes: Any) -> None:
    """A broadcast that was frozen; its recipients are rows, its chunk is one."""
    now = core.clock.now()
    await Broadcast.create(
        id=BROADCAST,
        kind="notice",
        title="t",
        organisation_id=1,
        created_by="",
        created_at=now,
        changed_at=now,
        **{"planned": people, "state": "running"} | changes,
    )


async def recipient(core: Core, number: int, state: str, **more: Any) -> Outbound:
    now = core.clock.now()
    values = {"broadcast_id": BROADCAST, "message_kind": "notice", "priority": 10}
    value = f"+86199{number:08d}"
    return await queued(now, **values | {"value": value, "state": state} | more)


async def sent(core: Core, number: int, state: str, **more: Any) -> Outbound:
    row = await recipient(core, number, state, **more)
    await Attempt.create(
        outbound_id=row.id,
        number=1,
        channel=row.channel,
        kind=row.kind,
        value=row.value,
        node_id=1,
        journalled_at=core.clock.now(),
    )
    return row


async def chunk(core: Core, first: int, last: int, to: int, **more: Any) -> None:
    values = {"state": "leased", "node_id": 1} | more
    await Chunk.create(
        broadcast_id=BROADCAST,
        channel="sms",
        priority=10,
        first_id=first,
        last_id=last,
        people=last - first + 1,
        due_at=core.clock.now(),
        journalled_to=to,
        **values,
    )


async def recount(core: Core, url: str, broadcast_id: int | None = None) -> Report:
    async with snapshot(url) as read:
        return await verify(read, core.clock.now(), broadcast_id)


def codes(report: Report) -> list[tuple[str, str]]:
    return [(one.code, one.object) for one in report.deviations]


async def test_an_empty_gateway_holds(core: Core, database_url: str) -> None:
    report = await recount(core, database_url)
    assert (report.deviations, report.unknown, report.links) == ([], [], 0)
    assert report.holds


async def test_planned_is_the_sum_of_the_states(core: Core, database_url: str) -> None:
    await planned(core, 4)
    await recipient(core, 1, "planned")
    await sent(core, 2, "accepted")
    await sent(core, 3, "delivered")
    await recipient(core, 4, "suppressed")
    async with snapshot(database_url) as read:
        found = await balance(read, BROADCAST)
        missing = await balance(read, BROADCAST + 1)
    assert missing is None
    assert found is not None
    assert found.total == found.planned == 4
    assert found.buckets[Bucket.WAITING] == 1
    assert sum(found.buckets.values()) == 4
    assert (await recount(core, database_url)).holds


async def test_a_recipient_that_vanished_is_told(core: Core, database_url: str) -> None:
    await planned(core, 3)
    first = await recipient(core, 1, "planned")
    last = await recipient(core, 2, "planned")
    await chunk(core, first.id, last.id, first.id - 1)
    found = await recount(core, database_url, BROADCAST)
    assert codes(found) == [("sum", "broadcast:7")]
    assert found.deviations[0].detail == "3 planned, 2 in all states"


async def test_rows_beside_the_chunks_are_counted(
    core: Core, database_url: str
) -> None:
    await planned(core, 2)
    first = await recipient(core, 1, "planned")
    await recipient(core, 2, "planned")
    await chunk(core, first.id, first.id, first.id - 1)
    assert (await recount(core, database_url)).holds


async def test_live_numbers_that_drifted_are_told(
    core: Core, database_url: str
) -> None:
    await planned(core, 2)
    await sent(core, 1, "accepted")
    await recipient(core, 2, "queued")
    for slot, state, n in ((0, "planned", 2), (10, "planned", -2), (10, "accepted", 2)):
        await Tally.create(broadcast_id=BROADCAST, slot=slot, state=state, n=n)
    found = await recount(core, database_url)
    assert [one.detail for one in found.deviations] == [
        "accepted: 1 rows, 2 in the live numbers",
        "queued: 1 rows, 0 in the live numbers",
    ]


async def test_a_send_left_open_by_a_dead_process_is_told(
    core: Core, database_url: str
) -> None:
    now = core.clock.now()
    dead = await Node.create(started_at=now, seen_at=now, stopped_at=now)
    alive = await Node.create(started_at=now, seen_at=now)
    await planned(core, 4)
    await sent(core, 1, "sending", node_id=alive.id)
    left = await sent(core, 2, "sending", node_id=dead.id)
    marked = await recipient(core, 3, "planned")
    await recipient(core, 4, "planned")
    await chunk(core, marked.id, marked.id + 1, marked.id, node_id=dead.id)
    found = await recount(core, database_url)
    assert codes(found) == [
        ("left_open", f"outbox:{left.id}"),
        ("left_open", f"outbox:{marked.id}"),
    ]


async def test_a_send_without_intent_is_told(core: Core, database_url: str) -> None:
    await planned(core, 2)
    good = await recipient(core, 1, "delivered")
    await chunk(core, good.id, good.id, good.id, state="done")
    bad = await recipient(core, 2, "accepted")
    found = await recount(core, database_url)
    assert codes(found) == [("not_journalled", f"outbox:{bad.id}")]


async def test_an_attempt_without_its_message_is_told(
    core: Core, database_url: str
) -> None:
    row = await sent(core, 1, "accepted", broadcast_id=None)
    await row.delete()
    found = await recount(core, database_url)
    assert codes(found) == [("stray_attempt", f"outbox:{row.id}")]


async def test_unknown_sends_are_listed_by_name(core: Core, database_url: str) -> None:
    await planned(core, 1)
    row = await sent(core, 1, "unknown", reason="process_ended")
    found = await recount(core, database_url)
    assert found.holds
    assert [(one.id, one.reason) for one in found.unknown] == [
        (row.id, "process_ended")
    ]
    assert row.value not in found.unknown[0].to


async def test_inbound_that_nobody_decides_on_is_told(
    core: Core, database_url: str
) -> None:
    now = core.clock.now()
    for key, state, inquiry in (("1", "handled", None), ("2", "filed", 99)):
        await Inbound.create(
            channel="sms",
            key=key,
            kind="phone",
            value="+8619900000001",
            text="问",
            payload=b"",
            state=state,
            inquiry_id=inquiry,
            received_at=now,
        )
    found = await recount(core, database_url)
    assert found.inbound == {"handled": 1, "filed": 1}
    assert [one.code for one in found.deviations] == ["no_inquiry"]
    await execute("UPDATE inbound SET state = 'stored', received_at = 0")
    found = await recount(core, database_url)
    assert [one.code for one in found.deviations] == ["undecided", "undecided"]


@pytest.mark.parametrize(("hours", "told"), [(1, 0), (73, 1)])
async def test_a_receipt_without_a_message_is_told_at_last(
    hours: int, told: int, core: Core, database_url: str
) -> None:  # C-1
    await Receipt.create(
        channel="sms",
        key="r1",
        state="delivered",
        received_at=core.clock.now(),
        payload=b"",
    )
    await execute(
        "UPDATE receipts SET received_at = received_at - ?", hours * 3600 * 10**6
    )
    found = await recount(core, database_url)
    assert found.unmatched == 1
    assert len(found.deviations) == told


async def test_the_audit_is_checked(core: Core, database_url: str) -> None:
    for number in range(3):
        async with transaction():
            await audit.record(core.clock, GATEWAY, "thing.changed", f"thing:{number}")
    assert (await recount(core, database_url)).links == 3
    await execute("UPDATE audit SET actor = 'x' WHERE object = 'thing:1'")
    found = await recount(core, database_url)
    assert [one.code for one in found.deviations] == ["audit"]


def test_a_draft_has_no_sum_to_hold() -> None:
    draft = Balance(
        broadcast_id=1,
        state="draft",
        planned=0,
        states={OutboundState.PLANNED: 3},
        tallied={},
    )
    assert draft.holds


async def test_without_a_database_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"none\.sqlite3"):
        async with snapshot(f"sqlite://{tmp_path}/none.sqlite3"):
            raise AssertionError("there is nothing to read")


def test_a_run_with_unknown_is_finished_with_open_questions() -> None:
    states = {OutboundState.ACCEPTED: 2, OutboundState.UNKNOWN: 1}
    found = Balance(
        broadcast_id=7, state="finished", planned=3, states=states, tallied=states
    )
    told = as_text(Report(balances=[found]))
    said = "broadcast 7 (finished with open questions): 3 planned = "
    assert told.startswith(f"{said}2 accepted, 1 unknown\n")
    [shown] = as_data(Report(balances=[found]))["broadcasts"]
    assert shown["state"] == "finished_with_open_questions"
