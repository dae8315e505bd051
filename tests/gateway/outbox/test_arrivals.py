"""Receipts that come with answers: one commit, one write, nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.contract import DeliveryReceipt, ReceiptState
from gateway.core import Core
from gateway.outbox.arrivals import Keyed
from gateway.outbox.sender import Sender
from gateway.tables import Attempt, Outbound, Receipt
from tests.gateway.outbox.test_chunks import broadcast, states
from tests.labs.process import until
from tests.labs.streams import Carrier, channel

LONG_SECONDS = 60.0


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


def told(id: str, state: ReceiptState, n: int = 0) -> Keyed:
    key = f"{id}:{state}:{n}"
    return key, DeliveryReceipt(key=key, provider_id=id, state=state, raw=b"raw")


@asynccontextmanager
async def handed(
    sender: Sender, receipts: Sequence[Keyed]
) -> AsyncIterator[asyncio.Task[bool]]:
    """They wait for the next commit."""
    sender.arrivals.open()
    task = asyncio.create_task(sender.arrivals.put(receipts))
    await asyncio.sleep(0)
    yield task
    sender.arrivals.close()
    await task


async def effects() -> list[tuple[str, int | None]]:
    found = await Receipt.all().order_by("id")
    return [(one.effect, one.outbound_id) for one in found]


async def test_answer_and_receipt_are_settled_at_once(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 3)
    await sender.step()
    ids = sorted(carrier.waiting, key=int)
    carrier.answer_all()
    receipts = [
        told(f"c{ids[0]}", ReceiptState.DELIVERED),
        told(f"c{ids[1]}", ReceiptState.FAILED),
        told("of nobody", ReceiptState.DELIVERED),
        told(f"c{ids[0]}", ReceiptState.DELIVERED, 2),
        told(f"c{ids[0]}", ReceiptState.READ),
    ]
    async with handed(sender, receipts) as stored:
        await sender.step()
        assert await stored
    assert await states() == {"read": 1, "failed": 1, "accepted": 1}
    first, second = int(ids[0]), int(ids[1])
    assert await effects() == [
        ("applied", first),
        ("applied", second),
        ("", None),
        ("repeated", first),
        ("applied", first),
    ]
    assert {one.outcome for one in await Attempt.all()} == {"accepted"}
    providers = {one.id: one.provider_id for one in await Outbound.all()}
    assert providers == {int(id): f"c{id}" for id in ids}


async def test_a_receipt_that_comes_later_finds_its_message(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 2)
    await sender.step()
    carrier.answer_all()
    await sender.step()
    one = carrier.submitted[0].id
    async with handed(sender, [told(f"c{one}", ReceiptState.DELIVERED)]) as stored:
        await sender.step()
        assert await stored
    assert await states() == {"delivered": 1, "accepted": 1}


async def test_what_the_database_refuses_keeps_nobody_from_leaving(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 20)
    await sender.step()
    carrier.answer_all()
    key, good = told("c1", ReceiptState.DELIVERED)
    bad = DeliveryReceipt(
        key=key, provider_id="c1", state=good.state, raw=cast(bytes, None)
    )
    async with handed(sender, [(key, bad)]) as stored:
        await sender.step()
        assert not await stored
    assert not await Receipt.exists()
    assert len(carrier.submitted) == 20
    assert await states() == {"accepted": 10, "planned": 10}


async def test_nobody_takes_them_where_no_sender_works(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    receipts = [told("c1", ReceiptState.DELIVERED)]
    assert not await sender.arrivals.put(receipts)
    working = asyncio.create_task(sender.run())
    await until(lambda: sender.arrivals.put(receipts), LONG_SECONDS)
    assert await effects() == [("", None)]
    await sender.stop(0)
    await working
    assert not await sender.arrivals.put(receipts)
    assert len(await db.rows("SELECT id FROM receipts")) == 1
