"""A centre that ends the session itself: unbind in the middle of a window."""

from pathlib import Path

import pytest

from adapters.carrier.link import Limits
from adapters.smpp import pdu
from adapters.smpp.simulator import Behaviour
from gateway.contract import Accepted, OutboundMessage
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from tests.adapters.smpp.conftest import Talk, talking
from tests.labs.carrier import until
from tests.labs.rude_centre import RudeCentre, rude_centre
from tests.labs.smpp_lab import SmppLab, message, receipt

UNBIND = pdu.frame(pdu.UNBIND, 77)
UNBIND_RESP = pdu.frame(pdu.UNBIND_RESP, 77)


async def _submitted(
    talk: Talk, centre: RudeCentre, batch: list[OutboundMessage], parts: int
) -> list[int]:
    """The sequence numbers under which it left."""
    talk.account.submit(batch)
    await until(lambda: len(centre.heard) == parts)
    return [pdu.HEADER.unpack_from(one)[3] for one in centre.heard]


def _answers(sequences: list[int]) -> bytes:
    said = (pdu.frame(pdu.SUBMIT_SM_RESP, one, b"id%d\0" % one) for one in sequences)
    return b"".join(said)


async def test_answers_under_way_are_waited_for() -> None:
    """H-6, A-4: an orderly end leaves nobody in doubt, and nothing new is sent."""
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        sequences = await _submitted(talk, centre, [message(n) for n in range(5)], 5)
        centre.say(_answers(sequences[:2]) + UNBIND)
        await until(lambda: not talk.account.room())
        talk.account.submit([message(9)])
        assert isinstance(talk.told["message-9"][0], TransientFailure)
        centre.say(_answers(sequences[2:]))
        await until(lambda: len(talk.told) == 6)
        for number, sequence in enumerate(sequences):
            told = [Accepted((f"id{sequence}",))]
            assert talk.told[f"message-{number}"] == told
        await until(lambda: centre.binds == 2)
        assert centre.heard[5:] == [UNBIND_RESP]
        await until(talk.account.room)


async def test_a_centre_that_restarts_in_order_leaves_no_doubt(lab: SmppLab) -> None:
    """H-6, A-4: again and again in the middle of a window; none lost, none doubled."""
    slow = Behaviour(receipts=False, answer_delay_min=0.01, answer_delay_max=0.05)
    lab.centre.behave(slow)
    async with talking(lab.port, lab.data_dir, connections=2) as talk:
        for turn in range(3):
            taken = lab.centre.counts.accepted
            batch = [message(100 * turn + n) for n in range(60)]
            talk.account.submit(batch)
            await until(lambda before=taken: lab.centre.counts.accepted == before + 60)
            lab.centre.leave()
            await until(lambda sent=batch: all(m.id in talk.told for m in sent))
            binds = 2 * (turn + 2)
            await until(lambda binds=binds: lab.centre.counts.binds == binds)
            await until(lambda: talk.account.room() == 200)
    assert {type(o) for [o] in talk.told.values()} == {Accepted}
    assert lab.centre.counts.accepted == len(talk.told) == 180


async def test_not_for_ever() -> None:
    """H-6: what is not answered then is unknown."""
    limits = Limits(farewell_within=0.1)
    async with (
        rude_centre() as (centre, port),
        talking(port, Path(), limits=limits) as talk,
    ):
        await _submitted(talk, centre, [message(0)], 1)
        centre.say(UNBIND)
        await until(lambda: talk.told)
        [outcome] = talk.told["message-0"]
        assert isinstance(outcome, OutcomeUnknown)
        await until(lambda: centre.binds == 2)
        assert centre.heard[1:] == [UNBIND_RESP]
        assert talk.account.connections()[0].last_error == "peer_left"


async def test_a_centre_that_does_not_wait_either_leaves_a_doubt() -> None:
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        await _submitted(talk, centre, [message(0)], 1)
        centre.say(UNBIND)
        centre.writers[-1].close()
        await until(lambda: talk.told)
        assert isinstance(talk.told["message-0"][0], OutcomeUnknown)


async def test_what_was_not_written_is_certainly_not_sent() -> None:
    """A-17, A-7: parts beyond the window"""
    limits = Limits(window=2)
    async with (
        rude_centre() as (centre, port),
        talking(port, Path(), limits=limits) as talk,
    ):
        batch = [message(n, "党" * 150) for n in range(2)]
        sequences = await _submitted(talk, centre, batch, 2)
        centre.say(UNBIND + _answers(sequences))
        await until(lambda: len(talk.told) == 2)
        [begun], [unsent] = talk.told["message-0"], talk.told["message-1"]
        assert isinstance(begun, PermanentFailure)
        assert begun.code == "partly_refused"
        assert begun.detail.endswith("3:peer_left")
        assert isinstance(unsent, TransientFailure)
        assert unsent.free


@pytest.mark.parametrize("stored", [True, False])
async def test_what_came_is_answered_first(stored: bool) -> None:
    """Acknowledged after the commit, and before the good-bye."""
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        talk.events.gate.clear()
        brought = pdu.frame(pdu.DELIVER_SM, 5, receipt("7", "DELIVRD").body)
        centre.say(brought + UNBIND)
        await until(lambda: talk.events.batches)
        assert centre.heard == []
        if not stored:
            talk.events.meanwhile = _fails
        talk.events.gate.set()
        await until(lambda: centre.binds == 2)
        answer, goodbye = centre.heard
        code = 0 if stored else 0x64
        assert pdu.HEADER.unpack_from(answer)[1:] == (pdu.DELIVER_SM_RESP, code, 5)
        assert goodbye == UNBIND_RESP


def _fails() -> None:
    raise OSError
