"""Receipts of many kinds against messages of two accounts (C-1 to C-8)."""

from collections import Counter
from datetime import timedelta
from itertools import permutations

import pytest

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import DeliveryReceipt, ReceiptState
from gateway.core import Core
from gateway.outbox import receipts
from gateway.tables import Outbound, Part, Receipt
from tests.labs.outgoing import queued
from tests.labs.streams import Carrier, channel

ONE, OTHER = "短信", "备用"
DELIVERED, FAILED, READ, BETWEEN = (
    ReceiptState.DELIVERED,
    ReceiptState.FAILED,
    ReceiptState.READ,
    ReceiptState.UNKNOWN,  # ACCEPTD, ENROUTE
)


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([channel(Carrier(), name) for name in (ONE, OTHER)])


async def sent(
    core: Core, provider_id: str, name: str = ONE, state: str = "accepted"
) -> Outbound:
    """A message that the carrier took, and gave this id."""
    return await queued(
        core.clock.now(),
        channel=name,
        value=f"+86199{await Outbound.all().count():08d}",
        state=state,
        provider_id=provider_id,
    )


async def told(
    core: Core, provider_id: str, *states: ReceiptState, name: str = ONE, ref: str = ""
) -> None:
    before = await Receipt.all().count()
    found = [
        DeliveryReceipt(
            key=f"{before + n}",
            provider_id=provider_id,
            reference=ref,
            state=state,
            raw=b"",
        )
        for n, state in enumerate(states)
    ]
    await core.commits.run(
        lambda: receipts.store(core, name, [(one.key, one) for one in found])
    )


async def state_of(message: Outbound) -> str:
    await message.refresh_from_db()
    return str(message.state)


async def effects(of: Outbound | None = None) -> Counter[str]:
    chosen = Receipt.all() if of is None else Receipt.filter(outbound_id=of.id)
    return Counter(str(one) for one in await chosen.values_list("effect", flat=True))


@pytest.mark.parametrize("together", [True, False])
async def test_however_they_come_a_state_only_moves_forward(
    core: Core, together: bool
) -> None:
    """C-2: every order of what may be told of one message; the history keeps all."""
    wanted = {
        frozenset({DELIVERED, READ}): {"read"},
        frozenset({DELIVERED}): {"delivered"},
    }
    wanted[frozenset({DELIVERED, FAILED})] = {"delivered", "failed"}
    for number, (kinds, ends) in enumerate(wanted.items()):
        orders = sorted(set(permutations([*kinds, *kinds, BETWEEN])))
        for turn, order in enumerate(orders):
            id = f"{number}.{turn}"
            message = await sent(core, id)
            if together:
                await told(core, id, *order)
            else:
                for state in order:
                    await told(core, id, state)
            assert await state_of(message) in ends
            if FAILED in kinds:
                first = next(one for one in order if one != BETWEEN)
                assert await state_of(message) == first
            found = await effects(message)
            assert found.total() == len(order)
            assert found["applied"] >= 1
            assert found["unknown_word"] == 1


async def test_of_two_final_ones_the_first_stands(core: Core) -> None:
    """C-3: the other is kept, as what it is."""
    for id, first, second in (("a", DELIVERED, FAILED), ("b", FAILED, DELIVERED)):
        message = await sent(core, id)
        await told(core, id, first)
        await told(core, id, second)
        assert await state_of(message) == first
        assert await effects(message) == {"applied": 1, "conflict": 1}


async def test_one_account_knows_nothing_of_another(core: Core) -> None:
    """C-5: crossed ids, and the other one's reference."""
    mine, theirs = await sent(core, "7"), await sent(core, "7", OTHER)
    only_mine = await sent(core, "8")
    await told(core, "7", FAILED, name=OTHER)
    assert (await state_of(mine), await state_of(theirs)) == ("accepted", "failed")
    await told(core, "8", DELIVERED, name=OTHER)
    await told(core, "", DELIVERED, name=OTHER, ref=str(only_mine.id))
    assert await state_of(only_mine) == "accepted"
    await told(core, "7", DELIVERED)
    assert (await state_of(mine), await state_of(theirs)) == ("delivered", "failed")
    assert await effects() == {"applied": 2, "": 2}


async def test_an_id_that_came_again_means_the_newest(
    core: Core, clock: ManualClock
) -> None:
    """C-8: a carrier that begins anew after 1,000 ids, three times round."""
    for _ in range(3):
        now = core.clock.now()
        await Outbound.bulk_create(
            Outbound(
                message_kind="answer",
                priority=5,
                channel=ONE,
                kind="phone",
                value=f"+86199{number:08d}",
                text="您好",
                state="accepted",
                provider_id=str(number),
                due_at=now,
                created_at=now,
                changed_at=now,
            )
            for number in range(1000)
        )
        clock.advance(timedelta(days=1))
    said = [
        DeliveryReceipt(key=f"{n}", provider_id=f"{n}", state=DELIVERED, raw=b"")
        for n in range(1000)
    ]
    given = [(one.key, one) for one in said]
    await core.commits.run(lambda: receipts.store(core, ONE, given))
    found = await db.rows(
        "SELECT state, COUNT(*) AS n, MIN(id) AS first FROM outbox GROUP BY state "
        "ORDER BY state"
    )
    assert [(row["state"], row["n"]) for row in found] == [
        ("accepted", 2000),
        ("delivered", 1000),
    ]
    assert found[1]["first"] > found[0]["first"] + 1999


async def test_an_id_that_came_again_means_the_newest_also_of_a_part(
    core: Core,
) -> None:
    """C-8: a lone message, a long one, and a lone one with the same ids in turn."""
    first = [await sent(core, id) for id in ("7", "8")]
    long = await sent(core, "")
    for number, id in enumerate(("7", "8"), 1):
        await Part.create(
            channel=ONE, provider_id=id, outbound_id=long.id, number=number, of_all=2
        )
    await told(core, "7", DELIVERED)
    assert await state_of(long) == "accepted"
    await told(core, "8", DELIVERED)
    assert await state_of(long) == "delivered"
    last = await sent(core, "7")
    await told(core, "7", FAILED)
    assert await state_of(last) == "failed"
    assert await state_of(long) == "delivered"
    assert [await state_of(one) for one in first] == ["accepted", "accepted"]


async def test_an_id_of_long_ago_means_nothing(core: Core, clock: ManualClock) -> None:
    """C-8: after seven days it is another message's, that we don't know."""
    old = await sent(core, "7")
    clock.advance(timedelta(days=7, seconds=1))
    await told(core, "7", DELIVERED)
    assert await state_of(old) == "accepted"
    clock.advance(-timedelta(seconds=2))
    recent = await sent(core, "8")
    clock.advance(timedelta(days=7) - timedelta(seconds=1))
    await told(core, "8", DELIVERED)
    assert await state_of(recent) == "delivered"


async def test_one_that_waits_finds_its_message_for_three_days(
    core: Core, clock: ManualClock
) -> None:
    """C-1: kept, tried again, and after 72 hours a deviation of the recount."""
    messages = {id: await sent(core, "", state="unknown") for id in ("soon", "late")}
    for id in messages:
        await told(core, id, DELIVERED)
    await Outbound.filter(id=messages["soon"].id).update(provider_id="soon")
    clock.advance(timedelta(hours=71, minutes=59))
    async with db.transaction():
        await receipts.apply_waiting(core, ONE)
    assert await state_of(messages["soon"]) == "delivered"
    clock.advance(timedelta(minutes=2))
    await Outbound.filter(id=messages["late"].id).update(provider_id="late")
    async with db.transaction():
        await receipts.apply_waiting(core, ONE)
    assert await state_of(messages["late"]) == "unknown"
    assert await effects() == {"applied": 1, "": 1}
