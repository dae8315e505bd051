"""A transmitter and a receiver instead of a transceiver (SMPP 3.4, 2.2.1)."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from adapters.smpp import pdu
from adapters.smpp.simulator import Behaviour
from adapters.smpp.simulator.session import Session
from gateway.contract import (
    Accepted,
    ChannelTrouble,
    Connection,
    DeliveryReceipt,
    InboundMessage,
    OutboundMessage,
    Role,
)
from gateway.errors import OutcomeUnknown, TransientFailure
from tests.adapters.smpp.conftest import Talk, talking
from tests.labs.carrier import a_while, until
from tests.labs.smpp_lab import SYSTEM_ID, SmppLab, message

ONLY = Behaviour(transceivers=False)


def messages(count: int) -> list[OutboundMessage]:
    return [message(index) for index in range(count)]


def separate(
    lab: SmppLab, *, connect: bool = True, **changes: object
) -> AbstractAsyncContextManager[Talk]:
    return talking(
        lab.port, lab.data_dir, connect=connect, **{"bind": "separate", **changes}
    )


def sessions(lab: SmppLab, *, receives: bool) -> list[Session]:
    bound = (one for one in lab.centre.sessions if one.system_id)
    return [one for one in bound if one.receives is receives]


def seen(talk: Talk, role: Role) -> Iterator[Connection]:
    return (one for one in talk.account.connections() if one.role is role)


def receiver(talk: Talk) -> Connection:
    [found] = seen(talk, Role.RECEIVER)
    return found


def reported(talk: Talk) -> set[str]:
    return {e.provider_id for e in talk.events if isinstance(e, DeliveryReceipt)}


def is_whole(talk: Talk) -> bool:
    return all(one.state == "open" for one in talk.account.connections())


def cut(lab: SmppLab, *, receives: bool) -> None:
    """End the connection of this kind, for which there is no place any more."""
    lab.centre.behave(Behaviour(transceivers=False, binds=1))
    [session] = sessions(lab, receives=receives)
    session.hang_up()


async def test_messages_leave_by_one_and_what_comes_comes_by_the_other(
    lab: SmppLab,
) -> None:
    lab.centre.behave(ONLY)
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        outcomes = await talk.stream(messages(50))
        assert all(isinstance(one, Accepted) for one in outcomes)
        lab.centre.say(SYSTEM_ID, "8613900139000", "10690000", "参加")
        await until(lambda: len(talk.events) == 51)
        [out] = sessions(lab, receives=False)
        [into] = sessions(lab, receives=True)
        assert (out._sequence, into._sequence) == (0, 51)
    assert lab.centre.counts.receipts == 50


async def test_each_of_the_connections_sends_beside_one_receiver(lab: SmppLab) -> None:
    lab.centre.behave(Behaviour(transceivers=False, receipts=False))
    async with separate(lab, connections=3, connection_window=10) as talk:
        await until(lambda: is_whole(talk) and talk.account.room() == 30)
        talk.account.submit(messages(30))
        found = talk.account.connections()
        assert [(c.name, c.role, c.window, c.awaited) for c in found] == [
            ("1", Role.SENDER, 10, 10),
            ("2", Role.SENDER, 10, 10),
            ("3", Role.SENDER, 10, 10),
            ("4", Role.RECEIVER, 0, 0),
        ]
        await until(lambda: len(talk.told) == 30)
        talk.account.submit(messages(31)[30:])
        await until(lambda: len(talk.told) == 31)
    assert lab.centre.counts.accepted == 31
    assert lab.centre.counts.binds == 4


async def test_a_transceiver_does_both(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir, connections=2) as talk:
        assert {one.role for one in talk.account.connections()} == {Role.BOTH}


async def test_without_a_transmitter_nothing_leaves(lab: SmppLab) -> None:
    lab.centre.behave(ONLY)
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        cut(lab, receives=False)
        await until(lambda: lab.centre.counts.binds_refused)
        assert receiver(talk).state == "open"
        assert talk.account.room() == 0
        outcome = (await talk.account.send([message(0)]))["message-0"]
        assert isinstance(outcome, TransientFailure)
        assert outcome.code == "not_connected"
        lab.centre.behave(ONLY)
        await talk.stream([message(0)])
        await until(lambda: len(talk.events) >= 1)


async def test_without_a_receiver_messages_leave_and_receipts_come_after(
    lab: SmppLab,
) -> None:
    """H-8: its refused login is told, once"""
    lab.centre.behave(ONLY)
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        cut(lab, receives=True)
        await until(lambda: receiver(talk).last_error == "ESME_RALYBND")
        outcomes = await talk.stream(messages(20))
        assert all(isinstance(one, Accepted) for one in outcomes)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:ESME_RALYBND"
        lab.centre.behave(ONLY)
        await until(lambda: lab.centre.counts.receipts == 20)
    assert len(reported(talk)) == 20


@pytest.mark.parametrize("role", [Role.SENDER, Role.RECEIVER])
async def test_a_half_open_connection_of_either_kind_is_found(
    lab: SmppLab, role: Role
) -> None:
    """H-6: enquire_link goes over both."""
    lab.centre.behave(ONLY)
    quick = {"heartbeat_seconds": 0.2, "heartbeat_within_seconds": 0.2}
    async with separate(lab, **quick) as talk:
        await until(lambda: is_whole(talk))
        [dead] = sessions(lab, receives=role is Role.RECEIVER)
        assert dead._transport
        dead._transport.pause_reading()
        await until(lambda: next(seen(talk, role)).last_error == "heartbeat_unanswered")
        dead._transport.resume_reading()
        await until(lambda: lab.centre.counts.binds == 3)
        others = Role.SENDER if role is Role.RECEIVER else Role.RECEIVER
        assert not next(seen(talk, others)).last_error
        await until(lambda: is_whole(talk))
        await talk.stream([message(0)])
        await until(lambda: talk.events)


@pytest.mark.parametrize("bind", ["transceiver", "separate"])
async def test_what_arrives_is_answered_after_the_commit(
    lab: SmppLab, bind: str
) -> None:
    async with separate(lab, bind=bind) as talk:
        await until(lambda: is_whole(talk))
        talk.events.gate.clear()
        lab.centre.say(SYSTEM_ID, "8613900139000", "10690000", "参加")
        await until(lambda: talk.events.batches)
        assert lab.centre.counts.replies == 0
        talk.events.gate.set()
        await until(lambda: lab.centre.counts.replies == 1)
        assert len(talk.events) == 1


async def test_words_brought_again_to_a_new_receiver_are_the_same_message(
    lab: SmppLab,
) -> None:
    """E-1: stored, and the receiver is cut before the answer"""
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        [into] = sessions(lab, receives=True)
        talk.events.meanwhile = into.hang_up
        lab.centre.say(SYSTEM_ID, "8613900139000", "10690000", "参加")
        await until(lambda: len(talk.events) == 1)
        talk.events.meanwhile = lambda: None
        await until(lambda: lab.centre.counts.replies == 1)
        assert len(talk.events) == 2
        assert len({event.key for event in talk.events}) == 1


@pytest.mark.parametrize("receives", [True, False], ids=["receiver", "transmitter"])
async def test_killing_one_of_the_two_under_load_loses_and_doubles_nothing(
    lab: SmppLab, receives: bool
) -> None:
    """A-4, H-6: five times, while messages leave, receipts and words come in"""
    lab.centre.behave(Behaviour(transceivers=False, answer_delay_max=0.02))
    said = 0
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        for turn in range(5):
            batch = [message(1000 * turn + n) for n in range(100)]
            await until(lambda: talk.account.room() == 100)
            talk.account.submit(batch)
            for _ in range(20):
                said += 1
                words = f"参加{said}"
                lab.centre.say(SYSTEM_ID, "8613900139000", "10690000", words)
            aim = 100 * turn + 30
            await until(lambda aim=aim: len(talk.told) > aim)
            for one in sessions(lab, receives=receives):
                one.hang_up()
            await until(lambda: is_whole(talk))
        await until(lambda: len(talk.told) == 500)
        taken = Counter(one.destination for one in lab.centre.taken or ())
        await until(lambda: len(reported(talk)) == len(taken))
        await until(lambda: lab.centre.counts.replies >= said)
        last = [told[-1] for told in talk.told.values()]
        doubt = [one for one in last if isinstance(one, OutcomeUnknown)]
        accepted = [one for one in last if isinstance(one, Accepted)]
        unsent = [one for one in last if isinstance(one, TransientFailure)]
        assert not (receives and doubt)
        assert len(accepted) + len(doubt) + len(unsent) == 500
        assert set(taken.values()) == {1}
        assert len(accepted) <= len(taken) <= 500 - len(unsent)
        assert reported(talk) >= {one.provider_ids[0] for one in accepted}
        keys: dict[str, set[str]] = {}
        for event in talk.events:
            if isinstance(event, InboundMessage):
                keys.setdefault(event.text, set()).add(event.key)
        assert len(keys) == said
        assert {len(found) for found in keys.values()} == {1}


async def test_a_transmitter_that_may_not_send_is_bound_anew(lab: SmppLab) -> None:
    """A-7: and the receiver stays"""
    lab.centre.behave(Behaviour(refuse_share=1.0, refuse_status=0x04))
    async with separate(lab) as talk:
        await until(lambda: is_whole(talk))
        before = receiver(talk).since
        refused = await talk.stream(messages(20))
        assert {one.code for one in refused} == {"ESME_RINVBNDSTS"}  # type: ignore[union-attr]
        lab.centre.behave(ONLY)
        outcomes = await talk.stream(messages(20))
        assert all(isinstance(one, Accepted) for one in outcomes)
        assert receiver(talk).since == before
        assert lab.centre.counts.binds == 3


# --- the simulated centre


async def test_a_receiver_may_not_submit(lab: SmppLab) -> None:
    """SMPP 3.4, table 2-1; asked without our engine, which never does it"""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
    writer.write(pdu.frame(pdu.BIND_RECEIVER, 1, b"lianxin\0lab-pass\0\0\x34\0\0\0"))
    assert await _heard(reader) == (pdu.BIND_RECEIVER_RESP, 0, 1)
    writer.write(pdu.frame(pdu.SUBMIT_SM, 2, b"\0" * 17))
    assert await _heard(reader) == (pdu.SUBMIT_SM_RESP, 0x04, 2)
    writer.close()
    await writer.wait_closed()


async def _heard(reader: asyncio.StreamReader) -> tuple[int, int, int]:
    head = await reader.readexactly(16)
    length, command, code, sequence = pdu.HEADER.unpack(head)
    await reader.readexactly(length - 16)
    return command, code, sequence


async def test_a_centre_of_separate_binds_only_refuses_transceivers(
    lab: SmppLab,
) -> None:
    """What staff see before they set `bind`."""
    lab.centre.behave(ONLY)
    async with talking(lab.port, lab.data_dir, connect=False) as talk:
        await until(lambda: talk.events)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:ESME_RINVCMDID"
        await a_while(0.05)
        assert lab.centre.counts.binds == 0
