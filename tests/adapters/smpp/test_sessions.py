"""The session engine over real sockets: answers, window, time-outs, the way back."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port
from pydantic import SecretStr
from structlog.testing import capture_logs

from adapters import smpp
from adapters.carrier.account import AGAIN
from adapters.carrier.link import Limits
from adapters.carrier.waiting import TRIES
from adapters.smpp import pdu, status
from adapters.smpp.codec import SmppCodec
from adapters.smpp.settings import MessageIds
from adapters.smpp.simulator import Behaviour
from adapters.smpp.simulator.centre import part_of
from adapters.smpp.simulator.session import Session
from gateway.contract import Accepted, ChannelTrouble, DeliveryReceipt, OutboundMessage
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.retry import ceiling
from tests.adapters.smpp.conftest import Talk, talking
from tests.labs.carrier import context, until
from tests.labs.rude_centre import RudeCentre, rude_centre
from tests.labs.smpp_lab import SmppLab, message, settings

QUICK = Limits(window=20, answer_within=0.4, heartbeat_after=0.2, heartbeat_within=0.2)
HASTY = Limits(window=20, again_after=0.01)
QUIET = Behaviour(receipts=False)


def messages(count: int, text: str = "") -> list[OutboundMessage]:
    return [message(index, text) for index in range(count)]


async def test_a_lost_answer_is_unknown_and_the_connection_comes_back(
    lab: SmppLab,
) -> None:
    """A-4"""
    lab.centre.behave(Behaviour(receipts=False, lose_share=1.0))
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(10))
        await until(lambda: len(talk.told) == 10)
        assert all(isinstance(o, OutcomeUnknown) for [o] in talk.told.values())
        lab.centre.behave(QUIET)
        await until(lambda: lab.centre.counts.binds == 2)
        assert lab.centre.counts.accepted == 10, "nothing left a second time"


async def test_a_late_answer_is_told_too(lab: SmppLab) -> None:
    """A-5"""
    late = Behaviour(receipts=False, answer_delay_min=0.9, answer_delay_max=1.0)
    lab.centre.behave(late)
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        talk.account.submit(messages(5))
        await until(lambda: sum(map(len, talk.told.values())) == 10)
        for first, second in talk.told.values():
            assert isinstance(first, OutcomeUnknown)
            assert first.code == "no_answer"
            assert isinstance(second, Accepted)
        assert lab.centre.counts.accepted == 5


async def test_the_late_answers_of_all_parts_are_told_as_one(lab: SmppLab) -> None:
    """A-5: what is in doubt is told twice, however many parts it has: once that it is,
    and once when all are known."""
    late = Behaviour(receipts=False, answer_delay_min=0.7, answer_delay_max=1.2)
    lab.centre.behave(late)
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        talk.account.submit(messages(3, "党" * 200))
        await until(
            lambda: (
                all(isinstance(told[-1], Accepted) for told in talk.told.values())
                and len(talk.told) == 3
            )
        )
        for first, *others in talk.told.values():
            assert isinstance(first, OutcomeUnknown)
            [second] = others
            assert isinstance(second, Accepted)
            assert len(second.provider_ids) == 3
        assert lab.centre.counts.accepted == 9


async def test_a_timed_out_message_gives_its_place_back(lab: SmppLab) -> None:
    """A-5: a centre that forgets answers must not close the window for ever."""
    lab.centre.behave(Behaviour(receipts=False, drop_share=1.0))
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        talk.account.submit(messages(20))
        assert talk.account.room() == 0
        await until(lambda: talk.account.room() == 20)
        assert talk.readies >= 1


async def test_what_does_not_leave_takes_nothing_of_the_rate(lab: SmppLab) -> None:
    """A-7: on two connections, with one message that can't be said and one of two
    parts."""
    lab.centre.behave(Behaviour(receipts=False))
    async with talking(lab.port, lab.data_dir, connections=2) as talk:
        batch = [message(0, "\ud800"), message(1, "党" * 71), *messages(9)[2:]]
        await until(lambda: talk.account.room() == 200)
        assert talk.account.submit(batch) == 9
        await until(lambda: len(talk.told) == 9)
        assert lab.centre.counts.accepted == 9


async def test_a_slow_centre_makes_nothing_time_out(lab: SmppLab) -> None:
    """A-6: what waits for room has not been written, so its time doesn't run."""
    lab.centre.behave(Behaviour(receipts=False, serve_rate=100.0))
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        found = await talk.stream(messages(120))
    assert all(isinstance(outcome, Accepted) for outcome in found)
    assert all(len(told) == 1 for told in talk.told.values())


async def test_parts_beyond_the_window_wait_unwritten(lab: SmppLab) -> None:
    """A-6: a message counts once, its parts fill the window one by one."""
    lab.centre.behave(Behaviour(receipts=False, serve_rate=100.0))
    limits = Limits(window=4, answer_within=0.4)
    async with talking(lab.port, lab.data_dir, limits=limits) as talk:
        assert talk.account.submit(messages(4, "党" * 67 * 15)) == 60
        assert lab.centre.taken == []
        await until(lambda: lab.centre.taken)
        assert len(lab.centre.taken or []) == 4
        assert talk.account.room() == 0
        await until(lambda: len(talk.told) == 4)
    for [outcome] in talk.told.values():
        assert isinstance(outcome, Accepted)
        assert len(outcome.provider_ids) == 15


async def test_throttled_messages_are_certainly_not_sent(lab: SmppLab) -> None:
    """A-7: sent again until taken, each is there once."""
    lab.centre.behave(Behaviour(receipts=False, throttle_rate=400.0))
    async with talking(lab.port, lab.data_dir) as talk:
        left = messages(200)
        throttled = 0
        while left:
            outcomes = dict(zip(left, await talk.stream(left), strict=True))
            left = [m for m, o in outcomes.items() if not isinstance(o, Accepted)]
            for one in left:
                refusal = outcomes[one]
                assert isinstance(refusal, TransientFailure)
                assert refusal.throttled
            throttled += len(left)
    assert throttled == lab.centre.counts.throttled > 0
    assert lab.centre.counts.accepted == 200


@pytest.mark.parametrize("code", [0x0B, 0x58, 0x0E])
async def test_one_part_refused_after_another_was_taken_is_permanent(
    lab: SmppLab, code: int
) -> None:
    """A-17: refuses part 2 of 3, even with what would be transient alone, again and
    again"""
    lab.centre.behave(Behaviour(receipts=False, refuse_part=2, refuse_status=code))
    async with talking(lab.port, lab.data_dir, limits=HASTY) as talk:
        [outcome] = await talk.stream([message(0, "党" * 150)])
    assert isinstance(outcome, PermanentFailure)
    assert outcome.code == "partly_refused"
    assert lab.centre.counts.accepted == 2
    assert lab.centre.counts.refused == (TRIES if code == 0x58 else 1)


async def test_a_part_refused_for_the_rate_follows_the_others(lab: SmppLab) -> None:
    """A-17, A-7: nobody is left with half a message because the centre was busy, and
    what was taken does not leave twice."""
    busy = Behaviour(receipts=False, refuse_part=2, refuse_status=0x58)
    lab.centre.behave(busy)
    async with talking(lab.port, lab.data_dir, limits=HASTY) as talk:
        talk.account.submit([message(0, "党" * 150)])
        await until(lambda: lab.centre.counts.refused >= 2)
        assert talk.account.room() == HASTY.window - 1
        assert not talk.told
        lab.centre.behave(QUIET)
        await until(lambda: talk.told)
    assert lab.centre.taken is not None
    places = [part_of(part) for part in lab.centre.taken]
    assert [place.number for place in places] == [1, 3, 2]
    assert len({place.reference for place in places}) == 1
    expected = Accepted(("0000000001", "0000000003", "0000000002"))
    assert talk.told["message-0"] == [expected]


async def test_a_part_that_waits_is_given_up_with_its_connection(lab: SmppLab) -> None:
    """A-17: what is certain is told, not a doubt."""
    busy = Behaviour(receipts=False, refuse_part=2, refuse_status=0x58)
    lab.centre.behave(busy)
    patient = Limits(window=20, again_after=60)
    async with talking(lab.port, lab.data_dir, limits=patient) as talk:
        talk.account.submit([message(0, "党" * 150)])
        await until(lambda: talk.account.room() == patient.window - 1)
        lab.centre.hang_up()
        await until(lambda: talk.told)
    [outcome] = talk.told["message-0"]
    assert isinstance(outcome, PermanentFailure)
    assert outcome.detail == "1:0000000001 2:ESME_RTHROTTLED 3:0000000002"


async def test_a_receipt_may_come_before_its_answer(lab: SmppLab) -> None:
    """C-1"""
    early = Behaviour(early_share=1.0, answer_delay_min=0.1, answer_delay_max=0.2)
    lab.centre.behave(early)
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(20))
        await until(lambda: len(talk.events) == 20)
        assert not talk.told
        await until(lambda: len(talk.told) == 20)
    ids = {o.provider_ids[0] for [o] in talk.told.values() if isinstance(o, Accepted)}
    assert ids == {e.provider_id for e in talk.events if isinstance(e, DeliveryReceipt)}


@pytest.mark.parametrize("ids", list(MessageIds))
async def test_receipts_find_their_message_in_every_spelling(
    lab: SmppLab, ids: MessageIds
) -> None:
    """C-4: over the wire, a centre in every mode; ids with letters in hexadecimal"""
    lab.centre.behave(Behaviour(message_ids=ids))
    lab.centre._id = 0xABC0
    async with talking(lab.port, lab.data_dir, message_ids=ids) as talk:
        outcomes = await talk.stream(messages(30))
        await until(lambda: len(talk.events) == 30)
    told = [o.provider_ids[0] for o in outcomes if isinstance(o, Accepted)]
    assert told == [
        e.provider_id for e in talk.events if isinstance(e, DeliveryReceipt)
    ]


# --- H-6: connections that end, politely or not


async def test_a_centre_that_hangs_up_is_bound_again(lab: SmppLab) -> None:
    """H-6"""
    lab.centre.behave(Behaviour(receipts=False, drop_share=1.0))
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(3))
        await until(lambda: lab.centre.counts.accepted == 3)
        lab.centre.hang_up()
        await until(lambda: len(talk.told) == 3)
        assert {o.code for [o] in talk.told.values()} == {"connection_lost"}  # type: ignore[union-attr]
        assert talk.account.room() == 0
        await until(talk.account.room)
        assert lab.centre.counts.binds == 2


async def test_a_half_open_connection_is_found_and_left(lab: SmppLab) -> None:
    """H-6: enquire_link unanswered"""
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        lab.centre.behave(Behaviour(mute=True))
        talk.account.submit(messages(2))
        await until(lambda: len(talk.told) == 2)
        assert all(isinstance(o, OutcomeUnknown) for [o] in talk.told.values())
        await until(lambda: not talk.account.room())
        [seen] = talk.account.connections()
        assert seen.last_error == "heartbeat_unanswered"
        lab.centre.behave(QUIET)
        await until(talk.account.room)


def test_with_the_usual_settings_a_dead_peer_is_left_within_30_seconds() -> None:
    """H-6"""
    limits = smpp.limits(settings(2775))
    found = limits.heartbeat_after + limits.heartbeat_within + 2 * limits.tick
    assert timedelta(seconds=found) + ceiling(1, AGAIN) <= timedelta(seconds=25)


async def test_a_connection_about_to_end_takes_nothing(lab: SmppLab) -> None:
    """A-4: what would not be written is not in doubt."""
    async with talking(lab.port, lab.data_dir) as talk:
        [seat] = talk.account._seats
        assert seat.link
        seat.link.cut("closed")
        assert talk.account.room() == 0
        talk.account.submit([message(0)])
        [outcome] = talk.told["message-0"]
        assert isinstance(outcome, TransientFailure)


async def test_an_unbind_is_answered_and_bound_again() -> None:
    """H-6"""
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        centre.say(pdu.frame(pdu.UNBIND, 77))
        await until(lambda: centre.heard)
        assert centre.heard == [pdu.frame(pdu.UNBIND_RESP, 77)]
        await until(lambda: centre.binds == 2)
        await until(talk.account.room)


async def test_heartbeats_are_answered_and_keep_a_quiet_connection(
    lab: SmppLab,
) -> None:
    async with talking(lab.port, lab.data_dir, limits=QUICK) as talk:
        [before] = talk.account.connections()
        ended = asyncio.get_running_loop().time() + 1.2
        await until(lambda: asyncio.get_running_loop().time() > ended)
        [after] = talk.account.connections()
        assert after.since == before.since
        assert after.state == "open"


async def test_a_peer_that_never_answers_the_bind_is_left() -> None:
    limits = Limits(login_within=0.2)
    async with rude_centre() as (centre, port):
        centre.silent = True
        async with talking(port, Path(), limits=limits, connect=False) as talk:
            await until(lambda: talk.account.connections()[0].last_error)
            [seen] = talk.account.connections()
            assert seen.last_error == "login_unanswered"


# --- H-7: sequence numbers


async def test_answers_match_across_the_wrap(lab: SmppLab) -> None:
    """H-7: start at wrap - 10"""
    limits = Limits(window=7, first_sequence=pdu.LAST_SEQUENCE - 10)
    lab.centre.behave(QUIET)
    async with talking(lab.port, lab.data_dir, limits=limits) as talk:
        outcomes = await talk.stream(messages(60))
    ids = [o.provider_ids[0] for o in outcomes if isinstance(o, Accepted)]
    assert ids == [f"{number:010}" for number in range(1, 61)]
    assert lab.centre.taken is not None
    sequences = [part.sequence for part in lab.centre.taken]
    assert sequences[9:12] == [pdu.LAST_SEQUENCE, 1, 2]


class Narrow(SmppCodec):
    """So few numbers that they come again while an old one still waits."""

    last_sequence = 8


@pytest.mark.parametrize("patience", [60.0, 0.2], ids=["awaited", "given up"])
async def test_a_number_that_waits_is_not_given_again(patience: float) -> None:
    """H-7: neither while its answer is awaited nor while a late one may come, which
    then means the old message. The numbers come round three times meanwhile."""
    limits = Limits(window=4, answer_within=patience)
    async with (
        rude_centre() as (centre, port),
        talking(port, Path(), limits=limits, codec=Narrow) as talk,
    ):
        first, *others = messages(1 + 3 * Narrow.last_sequence)
        waits = await _sequence(talk, centre, first)
        if patience < 1:
            await until(lambda: talk.told)
        for n, one in enumerate(others):
            found = await _sequence(talk, centre, one)
            assert found != waits
            centre.say(pdu.frame(pdu.SUBMIT_SM_RESP, found, b"other%d\0" % n))
            await until(lambda one=one: one.id in talk.told)
        centre.say(pdu.frame(pdu.SUBMIT_SM_RESP, waits, b"first\0"))
        expected = Accepted(("first",))
        await until(lambda: expected in talk.told.get(first.id, ()))
    told = [talk.told[one.id] for one in others]
    assert told == [[Accepted((f"other{n}",))] for n in range(len(others))]


async def _sequence(talk: Talk, centre: RudeCentre, one: OutboundMessage) -> int:
    """The number under which it left."""
    before = len(centre.heard)
    talk.account.submit([one])
    await until(lambda: len(centre.heard) > before)
    (sequence,) = pdu.HEADER.unpack_from(centre.heard[-1])[3:]
    return int(sequence)


# --- H-9, S-48: rude peers


GARBAGE = [
    pdu.frame(0x00000999, 5),
    pdu.frame(pdu.DELIVER_SM, 6, b"\xff" * 3),
    pdu.frame(pdu.DELIVER_SM, 7, b""),
    pdu.frame(pdu.SUBMIT_SM_RESP, 12345, b"unasked\0"),
    pdu.frame(pdu.GENERIC_NACK, 0, status=3),
    pdu.frame(0x80000021, 9, b"?" * 900),
]


async def test_garbage_is_answered_and_the_reader_goes_on() -> None:
    """H-9: unknown PDU, torn bodies, answers to nothing"""
    async with (
        rude_centre(b"".join(GARBAGE)) as (centre, port),
        talking(port, Path()) as talk,
    ):
        await until(lambda: len(centre.heard) == 3)
        codes = [pdu.HEADER.unpack(f[:16])[1:] for f in centre.heard]
        assert codes == [
            (pdu.GENERIC_NACK, 3, 5),
            (pdu.DELIVER_SM_RESP, 1, 6),
            (pdu.DELIVER_SM_RESP, 1, 7),
        ]
        talk.account.submit([message(0)])
        await until(lambda: len(centre.heard) == 4)
        (sequence,) = pdu.HEADER.unpack(centre.heard[3][:16])[3:]
        centre.say(pdu.frame(pdu.SUBMIT_SM_RESP, sequence, b"42\0"))
        await until(lambda: talk.told)
        assert talk.told["message-0"] == [Accepted(("42",))]


async def test_a_flood_of_garbage_fills_no_log() -> None:
    """H-9: each is answered, and all that came at once are one line."""
    many = 5_000
    with capture_logs() as logs:
        async with rude_centre() as (centre, port), talking(port, Path()):
            centre.say(pdu.frame(pdu.DELIVER_SM, 6, b"\xff" * 3) * many)
            await until(lambda: len(centre.heard) == many)
    counts = [one["count"] for one in logs if one["event"] == "session.malformed"]
    assert sum(counts) == many
    assert len(counts) < many / 10


@pytest.mark.parametrize("length", [0, 2, 15, 65_537, 2**32 - 1])
async def test_a_length_that_cannot_be_ends_the_connection(length: int) -> None:
    """H-9, S-48"""
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        talk.account.submit([message(0)])
        centre.say(length.to_bytes(4, "big") + b"x" * 50)
        await until(lambda: talk.told)
        assert isinstance(talk.told["message-0"][0], OutcomeUnknown)
        [seen] = talk.account.connections()
        assert seen.last_error == f"frame_of_{length}_bytes"
        await until(lambda: centre.binds == 2)


async def test_a_peer_that_never_ends_its_pdu_is_left() -> None:
    """H-6, H-9: single bytes of a long frame are no sign of life."""
    async with (
        rude_centre() as (centre, port),
        talking(port, Path(), limits=QUICK) as talk,
    ):
        centre.say((60_000).to_bytes(4, "big"))

        def trickle() -> bool:
            if centre.binds == 1:
                centre.say(b"x")
            return talk.account.connections()[0].last_error != ""

        await until(trickle)
        [seen] = talk.account.connections()
        assert seen.last_error == "heartbeat_unanswered"
        await until(lambda: centre.binds == 2)


async def test_a_peer_that_asks_and_does_not_read_is_left() -> None:
    """H-9: answers nobody fetches must not fill the memory."""
    limits = Limits(unread_bytes=100_000)
    async with (
        rude_centre() as (centre, port),
        talking(port, Path(), limits=limits) as talk,
    ):
        flood = pdu.frame(pdu.ENQUIRE_LINK, 1) * 20_000
        [writer] = centre.writers
        writer.transport.pause_reading()  # type: ignore[attr-defined]

        def asks() -> bool:
            if not writer.transport.get_write_buffer_size():
                writer.write(flood)
            return talk.account.connections()[0].last_error != ""

        await until(asks)
        assert talk.account.connections()[0].last_error == "peer_does_not_read"
        await until(lambda: centre.binds == 2)


async def test_a_refusal_by_generic_nack_reaches_its_message() -> None:
    async with rude_centre() as (centre, port), talking(port, Path()) as talk:
        talk.account.submit([message(0)])
        await until(lambda: centre.heard)
        (sequence,) = pdu.HEADER.unpack(centre.heard[0][:16])[3:]
        centre.say(pdu.frame(pdu.GENERIC_NACK, sequence, status=2))
        await until(lambda: talk.told)
        assert isinstance(talk.told["message-0"][0], PermanentFailure)


@pytest.mark.parametrize("at", [10, 60, 200, 1000, 2500])
async def test_a_centre_that_hangs_up_at_any_byte_doubles_nothing(
    lab: SmppLab, at: int
) -> None:
    """A-4: what was written is unknown, what was not is safe to repeat."""
    lab.centre.behave(Behaviour(receipts=False, hang_up_at=at))
    connect = at > 60
    async with talking(lab.port, lab.data_dir, connect=connect) as talk:
        talk.account.submit(messages(30))
        await until(lambda: len(talk.told) == 30)
        sure = [o for [o] in talk.told.values() if isinstance(o, TransientFailure)]
        taken = lab.centre.counts.accepted
        assert taken <= 30 - len(sure)


BIND_ANSWER, SUBMIT_ANSWER = 16 + len(b"simulator\0"), 16 + len(b"0000000001\0")


@pytest.mark.parametrize("byte", range(1, 2 * SUBMIT_ANSWER))
async def test_an_answer_cut_off_at_any_byte_is_unknown(
    lab: SmppLab, byte: int
) -> None:
    """A-4: of two that were taken, only that is known whose answer came whole."""
    at = BIND_ANSWER + byte
    lab.centre.behave(Behaviour(receipts=False, hang_up_after=at))
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit(messages(2))
        await until(lambda: len(talk.told) == 2)
    heard = byte // SUBMIT_ANSWER
    for number, [outcome] in enumerate(talk.told.values()):
        if number < heard:
            assert outcome == Accepted((f"{number + 1:010}",))
        else:
            assert isinstance(outcome, OutcomeUnknown)
            assert outcome.code == "connection_lost"
    assert lab.centre.counts.accepted == 2


# --- logins


async def test_a_refused_login_is_told_once_and_not_repeated_soon(
    lab: SmppLab,
) -> None:
    """H-8 in SMPP's way: clear alarm, no lock-out loop"""
    wrong = SecretStr("wrong")
    async with talking(
        lab.port, lab.data_dir, connect=False, password=wrong, connections=2
    ) as talk:
        await until(lambda: lab.centre.counts.binds_refused == 2)
        await until(lambda: talk.events)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:ESME_RINVPASWD"
        assert {c.last_error for c in talk.account.connections()} == {"ESME_RINVPASWD"}
        ended = asyncio.get_running_loop().time() + 2.0
        await until(lambda: asyncio.get_running_loop().time() > ended)
        assert lab.centre.counts.binds_refused == 2
        outcome = (await talk.account.send([message(0)]))["message-0"]
        assert isinstance(outcome, TransientFailure)
        assert outcome.code == "not_connected"


@pytest.mark.parametrize("code", [*sorted(status.NAMES), 0x411])
async def test_every_refused_login_is_told_by_its_name(lab: SmppLab, code: int) -> None:
    """H-8: each status of the specification, and one of a vendor's own"""
    lab.centre.behave(Behaviour(login_status=code))
    async with talking(lab.port, lab.data_dir, connect=False) as talk:
        await until(lambda: talk.events)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == f"login_refused:{status.name(code)}"
        assert not talk.account.room()


async def test_a_centre_that_knows_no_transceivers_says_so() -> None:
    """4.3.1: a generic_nack is all that it can answer."""
    async with rude_centre() as (centre, port):
        centre.silent = True
        async with talking(port, Path(), connect=False) as talk:
            await until(lambda: centre.binds)
            centre.say(pdu.frame(pdu.GENERIC_NACK, 1, status=3))
            await until(lambda: talk.events)
            [trouble] = talk.events
            assert isinstance(trouble, ChannelTrouble)
            assert trouble.code == "login_refused:ESME_RINVCMDID"
            await until(lambda: centre.binds == 2)


async def test_too_many_binds_are_tried_again_soon(lab: SmppLab) -> None:
    lab.centre.behave(Behaviour(binds=1))
    async with talking(lab.port, lab.data_dir, connections=2) as talk:
        await until(lambda: lab.centre.counts.binds_refused >= 1)
        lab.centre.behave(Behaviour(binds=2))
        await until(lambda: lab.centre.counts.binds == 2)
        await until(lambda: talk.account.room() == 200)


@pytest.mark.parametrize("known", [True, False])
async def test_tls_insists_on_a_certificate_that_is_known(
    lab: SmppLab, certificate: tuple[Path, Path], known: bool
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Session(lab.centre), "127.0.0.1", 0, ssl=tls
    )
    lab.centre.behave(QUIET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        authority = {"tls_ca": certificate[0]} if known else {}
        async with talking(
            port, lab.data_dir, connect=known, tls=True, **authority
        ) as talk:
            if known:
                [outcome] = await talk.stream([message(0)])
                assert isinstance(outcome, Accepted)
                return
            await until(lambda: talk.account.connections()[0].last_error)
            [seen] = talk.account.connections()
            assert seen.last_error == "SSLCertVerificationError"
    assert lab.centre.counts.binds == 0


# --- the seam to the sender


async def test_several_connections_share_the_work(lab: SmppLab) -> None:
    lab.centre.behave(QUIET)
    async with talking(
        lab.port, lab.data_dir, connections=4, connection_window=10
    ) as talk:
        await until(lambda: talk.account.room() == 40)
        talk.account.submit(messages(40))
        assert [c.awaited for c in talk.account.connections()] == [10] * 4
        await until(lambda: len(talk.told) == 40)
        assert [c.name for c in talk.account.connections()] == ["1", "2", "3", "4"]


async def test_more_than_room_is_certainly_not_sent(lab: SmppLab) -> None:
    lab.centre.behave(QUIET)
    async with talking(lab.port, lab.data_dir, connection_window=5) as talk:
        talk.account.submit(messages(8))
        refused = [o for told in talk.told.values() for o in told]
        assert [o.code for o in refused] == ["window_full"] * 3  # type: ignore[union-attr]
        await until(lambda: len(talk.told) == 8)
        assert lab.centre.counts.accepted == 5


async def test_ready_is_called_when_room_appears_where_none_was(lab: SmppLab) -> None:
    lab.centre.behave(QUIET)
    async with talking(lab.port, lab.data_dir, connection_window=5) as talk:
        before = talk.readies
        talk.account.submit(messages(3))
        await until(lambda: len(talk.told) == 3)
        assert talk.readies == before
        talk.account.submit(messages(5))
        await until(lambda: len(talk.told) == 5)
        await until(lambda: talk.readies == before + 1)


async def test_a_text_that_cannot_be_sent_is_answered_at_once(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        talk.account.submit([message(0, "a\ud800"), message(1)])
        assert isinstance(talk.told["message-0"][0], PermanentFailure)
        await until(lambda: "message-1" in talk.told)


async def test_without_a_listener_nothing_is_sent(tmp_path: Path) -> None:
    account = smpp.build(settings(unused_port()), context("smpp", tmp_path))
    outcome = (await account.send([message(0)]))["message-0"]
    assert isinstance(outcome, TransientFailure)
    assert account.connections() == []
    await account.close()
