"""What members write and centres report: stored first, acknowledged then."""

import asyncio

from adapters.carrier import udh
from adapters.carrier.inlet import STOP_READING_AT
from adapters.carrier.link import Limits
from adapters.smpp import pdu
from adapters.smpp.simulator import Behaviour
from adapters.smpp.simulator.session import Item
from gateway.contract import InboundMessage
from gateway.errors import StorageUnavailable
from tests.adapters.smpp.conftest import talking
from tests.labs.carrier import until
from tests.labs.smpp_lab import SYSTEM_ID, SmppLab, message, receipt

SENDER, TO = "8613800138000", "10690000"


def part(number: int, total: int, text: str, reference: int = 7) -> Item:
    """A deliver_sm of one part."""
    place = udh.Concatenation(reference, total, number)
    data = udh.header(place, wide=False) + text.encode("utf-16-be")
    addresses = f"\0\1\1{SENDER}\0\0\1{TO}\0".encode()
    return Item(addresses + b"\x40\0\0\0\0\0\0\x08\0%c%b" % (len(data), data))


async def test_acknowledged_only_after_the_commit(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        talk.events.gate.clear()
        items = [receipt(f"{n:010}", "DELIVRD") for n in range(900)]
        lab.centre.deliver(SYSTEM_ID, items)
        await until(lambda: talk.events.batches)
        # What is answered leaves after an answer to a delivery would have left.
        lab.centre.behave(Behaviour(receipts=False))
        await talk.stream([message(0)])
        assert lab.centre.counts.receipts == 0
        talk.events.gate.set()
        await until(lambda: lab.centre.counts.receipts == 900)
        assert len(talk.events) == 900
        assert len(talk.events.batches) <= 4, "one commit takes all that gathered"


async def test_more_than_can_be_stored_waits_at_the_centre(lab: SmppLab) -> None:
    """What is read and not stored is bounded; a connection that is not read meanwhile
    is not taken for dead."""
    many = 3 * STOP_READING_AT
    lab.centre.behave(Behaviour(deliver_window=many))
    impatient = Limits(heartbeat_after=0.1, heartbeat_within=0.1)
    async with talking(lab.port, lab.data_dir, limits=impatient) as talk:
        talk.events.gate.clear()
        items = [receipt(f"{n:010}", "DELIVRD") for n in range(many)]
        lab.centre.deliver(SYSTEM_ID, items)
        [seat] = talk.account._seats
        assert seat.link
        assert seat.inlet
        link, inlet = seat.link, seat.inlet
        await until(lambda: not link._reading())
        ended = asyncio.get_running_loop().time() + 0.6
        await until(lambda: asyncio.get_running_loop().time() > ended)
        assert len(inlet._waiting) < 2 * STOP_READING_AT
        talk.events.gate.set()
        await until(lambda: lab.centre.counts.receipts == many)
        assert lab.centre.counts.binds == 1
        assert len(talk.events) == many


async def test_what_cannot_be_stored_is_brought_again(lab: SmppLab) -> None:
    lab.centre.behave(Behaviour(deliver_again_after=0.05))
    async with talking(lab.port, lab.data_dir) as talk:
        talk.events.failure = StorageUnavailable("full")
        lab.centre.say(SYSTEM_ID, SENDER, TO, "参加")
        await until(lambda: lab.centre.counts.put_off >= 2)
        talk.events.failure = None
        await until(lambda: lab.centre.counts.replies == 1)
        [said] = talk.events
        assert isinstance(said, InboundMessage)
        assert (said.text, said.sender.value) == ("参加", "+8613800138000")


async def test_a_batch_that_breaks_the_store_does_not_end_the_connection(
    lab: SmppLab,
) -> None:
    lab.centre.behave(Behaviour(deliver_again_after=0.05))
    async with talking(lab.port, lab.data_dir) as talk:
        talk.events.failure = ZeroDivisionError()
        lab.centre.say(SYSTEM_ID, SENDER, TO, "参加")
        await until(lambda: lab.centre.counts.put_off >= 1)
        talk.events.failure = None
        await until(lambda: lab.centre.counts.replies == 1)
        assert lab.centre.counts.binds == 1


async def test_the_same_words_said_twice_are_two_messages(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        for count in (1, 2, 3):
            lab.centre.say(SYSTEM_ID, SENDER, TO, "1")
            await until(lambda: len(talk.events) == count)  # noqa: B023
        assert len({event.key for event in talk.events}) == 3


async def test_what_was_stored_but_not_acknowledged_keeps_its_key(
    lab: SmppLab,
) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        talk.events.meanwhile = lab.centre.hang_up
        lab.centre.say(SYSTEM_ID, SENDER, TO, "1")
        await until(lambda: len(talk.events) == 1)
        talk.events.meanwhile = lambda: None
        await until(lambda: lab.centre.counts.replies == 1)
        first, again = talk.events
        assert first.key == again.key


async def test_a_long_message_is_joined_in_any_order(lab: SmppLab) -> None:
    """B-9; the emoji lies on a border of parts"""
    text = "党" * 66 + "😀" + "员" * 66
    async with talking(lab.port, lab.data_dir) as talk:
        parts = lab.centre.said(SYSTEM_ID, SENDER, TO, text)
        assert len(parts) == 2
        lab.centre.deliver(SYSTEM_ID, parts[::-1])
        await until(lambda: talk.events)
        await until(lambda: not lab.centre.stats()["to_bring"])
        [said] = talk.events
        assert isinstance(said, InboundMessage)
        assert said.text == text
        assert said.notes == ()
        lab.centre.deliver(SYSTEM_ID, parts[:1])
        await until(lambda: not lab.centre.stats()["to_bring"])
        assert len(talk.events) == 1, "a repeated part is nothing new"


async def test_each_part_is_acknowledged_by_itself(lab: SmppLab) -> None:
    """A centre with a window of one brings the second part only then."""
    lab.centre.behave(Behaviour(deliver_window=1))
    async with talking(lab.port, lab.data_dir) as talk:
        lab.centre.say(SYSTEM_ID, SENDER, TO, "党" * 300)
        await until(lambda: talk.events)
        [said] = talk.events
        assert isinstance(said, InboundMessage)
        assert said.text == "党" * 300


async def test_parts_outlive_the_process(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        lab.centre.deliver(SYSTEM_ID, [part(1, 2, "一")])
        await until(lambda: not lab.centre.stats()["to_bring"])
        assert talk.events == []
    async with talking(lab.port, lab.data_dir) as talk:
        lab.centre.deliver(SYSTEM_ID, [part(2, 2, "二")])
        await until(lambda: talk.events)
        # The sweep of the start may find it whole, too: the inbox knows it by its key.
        [said] = {
            e.key: e for e in talk.events if isinstance(e, InboundMessage)
        }.values()
        assert isinstance(said, InboundMessage)
        assert said.text == "一二"


async def test_a_message_with_a_missing_part_is_shown_incomplete(
    lab: SmppLab,
) -> None:
    """B-9: held for a while, then shown; the late part joins"""
    async with talking(lab.port, lab.data_dir, parts_wait_minutes=0.01) as talk:
        lab.centre.deliver(SYSTEM_ID, [part(3, 3, "三"), part(1, 3, "一")])
        await until(lambda: talk.events)
        lab.centre.deliver(SYSTEM_ID, [part(2, 3, "二")])
        await until(lambda: len(talk.events) == 2)
        texts = [
            (e.text, e.notes) for e in talk.events if isinstance(e, InboundMessage)
        ]
        assert texts == [("一…三", ("incomplete",)), ("一二三", ())]


async def test_stopping_lets_what_came_be_stored_and_answered(lab: SmppLab) -> None:
    """I-1"""
    async with talking(lab.port, lab.data_dir) as talk:
        talk.events.gate.clear()
        lab.centre.say(SYSTEM_ID, SENDER, TO, "参加")
        await until(lambda: talk.events.batches)
        asyncio.get_running_loop().call_later(0.1, talk.events.gate.set)
    assert len(talk.events) == 1
    await until(lambda: lab.centre.counts.replies == 1)


async def test_pushed_replies_all_arrive_once(lab: SmppLab) -> None:
    lab.centre.behave(Behaviour(mo_rate=2000.0))
    async with talking(lab.port, lab.data_dir) as talk:
        await until(lambda: lab.centre.counts.replies >= 500)
        lab.centre.behave(Behaviour())
        await until(lambda: not lab.centre.stats()["to_bring"])
        assert len(talk.events) == lab.centre.counts.replies
        assert len({event.key for event in talk.events}) == len(talk.events)


def test_the_parts_in_this_file_are_as_the_codec_wants_them() -> None:
    assert pdu.short(bytes(16) + part(1, 2, "一").body).esm_class == pdu.UDHI
