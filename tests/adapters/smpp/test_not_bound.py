"""What a centre says to a connection that may not send: ESME_RINVBNDSTS."""

from collections import Counter

from adapters.carrier.link import Limits
from adapters.smpp.simulator import Behaviour
from gateway.contract import Accepted, OutboundMessage
from gateway.errors import PermanentFailure, TransientFailure
from tests.adapters.smpp.conftest import talking
from tests.labs.carrier import until
from tests.labs.smpp_lab import SmppLab, message

NOT_BOUND = Behaviour(
    receipts=False, refuse_share=1.0, refuse_status=0x04, answer_delay_max=0.01
)
QUIET = Behaviour(receipts=False)


def messages(count: int) -> list[OutboundMessage]:
    return [message(index) for index in range(count)]


async def test_a_connection_that_may_not_send_is_bound_anew(lab: SmppLab) -> None:
    """A-7: certainly not sent, none in doubt, and no fault of the message"""
    lab.centre.behave(NOT_BOUND)
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(50))
        await until(lambda: len(talk.told) == 50)
        for [outcome] in talk.told.values():
            assert isinstance(outcome, TransientFailure)
            assert outcome.code == "ESME_RINVBNDSTS"
            assert outcome.free
            assert not outcome.throttled
            assert outcome.retry_after is None
        lab.centre.behave(QUIET)
        outcomes = await talk.stream(messages(50))
        assert all(isinstance(one, Accepted) for one in outcomes)
        assert lab.centre.counts.binds == 2
        [seen] = talk.account.connections()
        assert seen.last_error == "ESME_RINVBNDSTS"


async def test_what_is_not_written_yet_is_not_sent_either(lab: SmppLab) -> None:
    """A-7: parts beyond the window"""
    lab.centre.behave(NOT_BOUND)
    limits = Limits(window=2)
    async with talking(lab.port, lab.data_dir, limits=limits) as talk:
        talk.account.submit([message(n, "党" * 67 * 5) for n in range(2)])
        await until(lambda: len(talk.told) == 2)
        for [outcome] in talk.told.values():
            assert isinstance(outcome, TransientFailure)
            assert outcome.code == "ESME_RINVBNDSTS"
        assert lab.centre.counts.refused == 2


async def test_answers_under_way_are_waited_for(lab: SmppLab) -> None:
    """A-4: those who were taken are known, not in doubt."""
    numbers = tuple(f"86{13800138000 + n}" for n in range(10))
    lab.centre.behave(
        Behaviour(
            receipts=False,
            refuse_numbers=numbers,
            refuse_status=0x04,
            answer_delay_min=0.2,
            answer_delay_max=0.4,
        )
    )
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(60))
        await until(lambda: len(talk.told) == 60)
        assert talk.account.room() == 0
        last = [type(told[-1]) for told in talk.told.values()]
        assert Counter(last) == {TransientFailure: 10, Accepted: 50}
        await until(talk.account.room)
        assert lab.centre.counts.binds == 2


async def test_a_message_of_which_a_part_was_taken_does_not_leave_again(
    lab: SmppLab,
) -> None:
    """A-17"""
    lab.centre.behave(Behaviour(receipts=False, refuse_part=2, refuse_status=0x04))
    async with talking(lab.port, lab.data_dir) as talk:
        [outcome] = await talk.stream([message(0, "党" * 150)])
        assert isinstance(outcome, PermanentFailure)
        assert outcome.code == "partly_refused"
        assert lab.centre.counts.accepted == 2
