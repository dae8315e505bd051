"""A receipt with an id that nobody heard of ends a doubt, where only one is meant."""

import pytest

from gateway.channels import ChannelSet
from gateway.contract import Accepted, ReceiptState
from gateway.core import Core
from gateway.errors import OutcomeUnknown
from gateway.leases import Lease, LeaseLost
from gateway.outbox.sender import Sender
from gateway.tables import LeaseRow, Outbound, Receipt
from tests.gateway.outbox.test_chunks import broadcast, number, receipt, states
from tests.labs.streams import Carrier, channel, new_sender

DELIVERED = ReceiptState.DELIVERED


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    return ChannelSet([channel(carrier)])


async def doubted(sender: Sender, carrier: Carrier) -> None:
    """Nobody knows of those on their way."""
    for id in list(carrier.waiting):
        carrier.answer(id, OutcomeUnknown("timeout"))
    await sender.step()


async def test_a_receipt_for_the_number_ends_the_doubt(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """A-1, A-4"""
    await broadcast(core, 2)
    await sender.step()
    await doubted(sender, carrier)
    await receipt(core, "x1", DELIVERED, to=number(1))
    assert await states() == {"unknown": 1, "delivered": 1}
    assert (await Outbound.get(provider_id="x1")).value == number(1)


async def test_a_receipt_that_came_before_the_doubt_ends_it_too(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """The answer is given up long after the receipt: nothing waits for a sweep."""
    await broadcast(core, 1)
    await sender.step()
    await receipt(core, "x1", DELIVERED, to=number(0))
    assert await states() == {"planned": 1}
    await doubted(sender, carrier)
    assert await states() == {"delivered": 1}


async def test_a_new_owner_applies_what_waits(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 1)
    await sender.step()
    await receipt(core, "x1", DELIVERED, to=number(0))
    again = await new_sender(core)
    again.lease = Lease("channel:短信", 1)
    await LeaseRow.create(name="channel:短信", node_id=core.node_id, epoch=1)
    await again.mend()
    assert await states() == {"delivered": 1}


async def test_an_early_receipt_of_the_next_message_ends_no_older_doubt(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    """C-1: it is about what is on its way, whose answer is still to come."""
    await broadcast(core, 1)
    await sender.step()
    await doubted(sender, carrier)
    await broadcast(core, 1, id=2)
    await sender.step()
    [id] = carrier.waiting
    await receipt(core, "x2", DELIVERED, to=number(0))
    assert (await states(), await states(2)) == ({"unknown": 1}, {"planned": 1})
    carrier.answer(id, Accepted(("x2",)))
    await sender.step()
    assert (await states(), await states(2)) == ({"unknown": 1}, {"delivered": 1})


async def test_a_message_sent_alone_is_on_its_way_too(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    await broadcast(core, 1)
    await sender.step()
    await doubted(sender, carrier)
    await broadcast(core, 1, id=2)
    await Outbound.filter(broadcast_id=2).update(state="sending")
    await receipt(core, "x2", DELIVERED, to=number(0))
    assert await Outbound.filter(state="unknown").count() == 1


async def test_of_two_doubts_a_receipt_ends_none(
    core: Core, sender: Sender, carrier: Carrier
) -> None:
    for id in (1, 2):
        await broadcast(core, 1, id=id)
        await sender.step()
        await doubted(sender, carrier)
    await receipt(core, "x1", DELIVERED, to=number(0))
    assert (await states(1), await states(2)) == ({"unknown": 1}, {"unknown": 1})
    assert await Receipt.filter(effect="").count() == 1


async def test_one_that_lost_its_lease_calls_nothing_unknown(
    core: Core, sender: Sender
) -> None:
    """F-2: what is on its way is the new owner's, also when the old one starts anew."""
    await broadcast(core, 2)
    await LeaseRow.create(name="channel:短信", node_id=core.node_id, epoch=2)
    sender.lease = Lease("channel:短信", 2)
    await sender.step()
    stale = await new_sender(core)
    stale.lease = Lease("channel:短信", 1)
    with pytest.raises(LeaseLost):
        await stale.mend()
    assert await states() == {"planned": 2}
