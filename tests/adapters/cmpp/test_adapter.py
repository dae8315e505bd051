"""The real adapter against the simulated gateway, in both versions, over sockets."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.carrier.account import AGAIN, SOON_TRIES
from adapters.cmpp import Settings, build, codes, limits
from adapters.cmpp.pdus import Version
from adapters.cmpp.simulator import Behaviour, Ismg, serving
from gateway.clock import ManualClock
from gateway.contract import (
    Accepted,
    AddressKind,
    ChannelTrouble,
    Event,
    InboundMessage,
    Listens,
    ReceiptState,
    Streams,
)
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.retry import RetryPolicy, ceiling
from tests.adapters.cmpp import tables
from tests.adapters.cmpp.rig import Rig, a_while, message, rig, talking
from tests.adapters.cmpp.tables import pdu
from tests.adapters.cmpp.test_wire import mutated, of_both
from tests.labs.cmpp_lab import SECRET, SP_ID, context, joined, until

BOTH = pytest.mark.parametrize("version", [Version.V20, Version.V30])
NEVER = RetryPolicy(base=timedelta(minutes=1), cap=timedelta(minutes=15))


def provider_id(found: Rig, index: int) -> str:
    outcome = found.last(index)
    assert isinstance(outcome, Accepted)
    [id] = outcome.provider_ids
    return id


@BOTH
async def test_messages_stream_and_their_receipts_come_back(
    version: Version, tmp_path: Path
) -> None:
    """Three sources agree: the answers, the reports and the gateway's ledger. C-4: the
    id of an answer is the id of its report."""
    path = tmp_path / "ledger"
    async with rig(version, ledger=path, connections=2) as found:
        assert isinstance(found.account, Streams)
        assert isinstance(found.account, Listens)
        await found.stream([message(index) for index in range(500)])
        await until(lambda: len(found.receipts) == 500)
        ids = {f"138{index:08}": provider_id(found, index) for index in range(500)}
    ledger = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["to"]: line["id"] for line in ledger} == ids
    assert len(ledger) == 500
    assert ledger[7]["text"].startswith("【连心】第")
    assert {r.provider_id for r in found.receipts} == set(ids.values())
    assert {r.state for r in found.receipts} == {ReceiptState.DELIVERED}
    assert all(
        r.address and r.address.kind is AddressKind.PHONE for r in found.receipts
    )


@BOTH
@pytest.mark.parametrize("charset", ["ucs2", "gbk"])
async def test_long_texts_arrive_whole(version: Version, charset: str) -> None:
    texts = ["党" * 66, "党" * 67, "主题党日" * 100, "党😀" * 60]
    async with rig(version, charset=charset) as found:
        await found.stream([message(i, text) for i, text in enumerate(texts)])
        read = dict(joined(found.taken))
        for index, text in enumerate(texts):
            outcome = found.last(index)
            assert isinstance(outcome, Accepted)
            assert read[f"138{index:08}"] == "【连心】" + text
        parts = [len(o[-1].provider_ids) for o in found.outcomes.values()]  # type: ignore[union-attr]
        assert parts == [1, 2, 7, 3]


@BOTH
async def test_a_text_from_a_member_comes_in(version: Version) -> None:
    async with rig(version, connections=2) as found:
        found.gateway.say(SP_ID, "8613900000001", "1065700001", "组织关系怎么转？")
        await until(lambda: found.texts)
        [text] = found.texts
        assert text.text == "组织关系怎么转？"
        assert text.sender.value == "+8613900000001"
        await until(lambda: found.gateway.counts.replies == 1)


@BOTH
async def test_a_long_text_from_a_member_comes_in_whole(
    version: Version, tmp_path: Path
) -> None:
    """Parts in any order, one of them twice; each is acknowledged, the whole is one."""
    text = "我想问问组织关系怎么转，" * 20
    gateway = Ismg(accounts={SP_ID: SECRET})
    events: list[Event] = []

    async def accept(came: Sequence[Event]) -> None:
        events.extend(came)

    async with serving(gateway) as port:
        settings = Settings(
            host="127.0.0.1",
            port=port,
            version="3.0" if version.wide else "2.0",
            sp_id=SP_ID,
            secret=SecretStr(SECRET),
            service_number="1065700001",
        )
        account = build(settings, context(tmp_path))
        async with account.listen(accept):
            await until(account.room)
            parts = gateway.said(SP_ID, "8613900000001", "1065700001", text)
            assert len(parts) == 4
            gateway.deliver(SP_ID, [*reversed(parts), parts[1]])
            await until(lambda: events and not gateway.stats()["to_bring"])
            assert (gateway.counts.replies, gateway.counts.receipts) == (1, 0)
    [whole] = events
    assert isinstance(whole, InboundMessage)
    assert (whole.text, whole.notes) == (text, ())


@BOTH
async def test_a_4_an_answer_that_never_comes_is_unknown(version: Version) -> None:
    """A-4: taken, the connection dies, and it leaves no second time."""
    async with rig(version, Behaviour(drop_share=1.0)) as found:
        found.account.submit([message(index) for index in range(5)])
        await until(lambda: len(found.taken) == 5)
        found.gateway.hang_up()
        await until(lambda: len(found.outcomes) == 5)
        await until(found.is_open)
        assert all(
            isinstance(outcome, OutcomeUnknown) for [outcome] in found.outcomes.values()
        )
        await a_while()
        assert len(found.taken) == 5


@pytest.mark.parametrize(
    ("version", "login", "answer"), [(Version.V20, 30, 21), (Version.V30, 33, 24)]
)
async def test_a_4_an_answer_cut_off_at_any_octet_is_unknown(
    version: Version, login: int, answer: int
) -> None:
    """A-4: of two that were taken, only that is known whose answer came whole."""
    for octet in range(1, 2 * answer):
        behaviour = Behaviour(receipts=False, hang_up_after=login + octet)
        async with rig(version, behaviour, again=NEVER) as found:
            found.account.submit([message(0), message(1)])
            await until(lambda: len(found.outcomes) == 2)
            heard = octet // answer
            kinds = [type(outcome) for [outcome] in found.outcomes.values()]
            assert kinds == [Accepted] * heard + [OutcomeUnknown] * (2 - heard)
            assert len(found.taken) == 2


@BOTH
async def test_a_5_a_late_answer_turns_unknown_into_accepted(version: Version) -> None:
    """A-5: told twice, sent once."""
    behaviour = Behaviour(answer_delay_min=0.3, answer_delay_max=0.3)
    async with rig(version, behaviour, answer_within_seconds=0.1) as found:
        await found.stream([message(0)])
        await until(lambda: len(found.outcomes["m0"]) == 2)
        first, second = found.outcomes["m0"]
        assert isinstance(first, OutcomeUnknown)
        assert isinstance(second, Accepted)
        assert len(found.taken) == 1


async def test_a_6_a_slow_gateway_is_not_a_silent_one() -> None:
    """A-6: the time-out counts from the moment of writing, the window stays shut."""
    behaviour = Behaviour(serve_rate=100.0)
    async with rig(
        Version.V20, behaviour, connection_window=10, answer_within_seconds=1
    ) as found:
        await found.stream([message(index) for index in range(150)])
        assert all(isinstance(o[0], Accepted) for o in found.outcomes.values())


@BOTH
async def test_a_7_a_throttled_message_goes_later_and_once(version: Version) -> None:
    """A-7: Result 8, at three times the gateway's rate. Nothing is lost or doubled."""
    async with rig(version, Behaviour(throttle_rate=400.0)) as found:
        waiting = [message(index) for index in range(200)]
        throttled = 0
        while waiting:
            await found.stream(waiting)
            again = []
            for one in waiting:
                outcome = found.outcomes.pop(one.id)[-1]
                if isinstance(outcome, TransientFailure):
                    assert outcome.throttled
                    again.append(one)
                else:
                    assert isinstance(outcome, Accepted)
            throttled += len(again)
            waiting = again
        assert throttled
        numbers = Counter(one.dest_terminal_ids for one in found.taken)
        assert len(numbers) == 200
        assert set(numbers.values()) == {1}


@BOTH
async def test_a_17_a_message_taken_in_part_is_not_sent_again(version: Version) -> None:
    """A-17: part 2 of 3 is refused. The whole is reported so, and stays."""
    async with rig(version, Behaviour(refuse_part=2)) as found:
        await found.stream([message(0, "党" * 180)])
        [outcome] = found.outcomes["m0"]
        assert isinstance(outcome, PermanentFailure)
        assert outcome.code == "partly_refused"
        assert "2:result_13" in outcome.detail
        assert len(found.taken) == 2


async def test_a_17_a_part_refused_for_the_rate_follows_the_others() -> None:
    """A-17: Result 8 for part 2 of 3; what was taken does not leave twice."""
    busy = Behaviour(refuse_part=2, refuse_status=8)
    async with rig(Version.V20, busy) as found:
        found.account.submit([message(0, "党" * 180)])
        await until(lambda: found.gateway.counts.refused)
        found.gateway.behave(Behaviour())
        await until(lambda: found.outcomes)
        assert isinstance(found.last(0), Accepted)
        assert [one.pk_number for one in found.taken] == [1, 3, 2]


@BOTH
async def test_c_1_a_report_that_overtakes_its_answer_carries_the_same_id(
    version: Version,
) -> None:
    """C-1: first the report, then the answer; the id joins them."""
    behaviour = Behaviour(early_share=1.0, answer_delay_min=0.05, answer_delay_max=0.05)
    async with rig(version, behaviour) as found:
        found.account.submit([message(0)])
        await until(lambda: found.receipts)
        assert found.outcomes == {}
        await until(lambda: found.outcomes)
        assert found.receipts[0].provider_id == provider_id(found, 0)


@BOTH
async def test_c_2_repeated_contradicting_and_shuffled_reports_all_come_in(
    version: Version,
) -> None:
    behaviour = Behaviour(
        repeat_share=1.0, contradict_share=1.0, accepted_share=1.0, reorder=True
    )
    async with rig(version, behaviour) as found:
        await found.stream([message(0)])
        await until(lambda: len(found.receipts) == 4)
        said = Counter((r.code, r.state) for r in found.receipts)
        assert said == {
            ("DELIVRD", ReceiptState.DELIVERED): 2,
            ("UNDELIV", ReceiptState.FAILED): 1,
            ("ACCEPTD", ReceiptState.UNKNOWN): 1,
        }
        assert len({r.key for r in found.receipts}) == 3


@BOTH
async def test_what_was_not_stored_is_brought_again(version: Version) -> None:
    """Silence, and after T the same Msg_Id under another Sequence_Id."""
    async with rig(version, Behaviour(deliver_again_after=0.1)) as found:
        found.refuse_to_store = 2
        found.gateway.say(SP_ID, "8613900000001", "1065700001", "R")
        await until(lambda: found.gateway.counts.replies == 1)
        assert len(found.texts) == 1
        assert found.gateway.counts.put_off == 2
        assert found.gateway.counts.given_up == 0


@BOTH
async def test_h_6_a_dead_connection_is_noticed_and_replaced(version: Version) -> None:
    """H-6: a half-open connection; what was on its way is unknown."""
    async with rig(
        version, heartbeat_seconds=0.2, heartbeat_within_seconds=0.2
    ) as found:
        found.gateway.behave(Behaviour(mute=True))
        found.account.submit([message(0)])
        await until(lambda: found.outcomes)
        assert isinstance(found.last(0), OutcomeUnknown)
        [connection] = found.account.connections()
        assert connection.last_error == "heartbeat_unanswered"
        found.gateway.behave(Behaviour())
        found.gateway.hang_up()
        await until(found.is_open)
        await found.stream([message(1)])
        assert isinstance(found.last(1), Accepted)


@BOTH
async def test_h_7_sequence_numbers_wrap_without_a_mix_up(version: Version) -> None:
    """H-7: from ten before the last number, answers in any order."""
    behaviour = Behaviour(answer_delay_max=0.05, refuse_numbers=("13800000007",))
    start = 0x7FFF_FFFF - 10
    async with rig(version, behaviour, first_sequence=start) as found:
        await found.stream([message(index) for index in range(60)])
        assert isinstance(found.last(7), PermanentFailure)
        ids = {provider_id(found, index): index for index in range(60) if index != 7}
        await until(lambda: len(found.receipts) == 59)
        for receipt in found.receipts:
            assert receipt.address is not None
            index = ids[receipt.provider_id]
            assert receipt.address.value == f"+86138{index:08}"


@BOTH
async def test_h_8_clocks_ten_minutes_apart_are_named_and_not_insisted_on(
    version: Version,
) -> None:
    """H-8: one try, a trouble that says what to do, then a long pause."""
    clock = ManualClock(datetime.now(UTC) + timedelta(minutes=10))
    async with rig(
        version,
        Behaviour(clock_tolerance=60),
        clock=clock,
        refused=NEVER,
        wait=lambda found: found.events,
    ) as found:
        [trouble] = found.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:" + codes.LOGINS[3]
        assert "本机时钟" in trouble.code
        [connection] = found.account.connections()
        assert connection.last_error == codes.LOGINS[3]
        await a_while()
        assert found.gateway.counts.binds_refused == 1
        outcome = (await found.account.send([message(0)]))["m0"]
        assert isinstance(outcome, TransientFailure)


@BOTH
async def test_h_8_a_clock_that_runs_away_is_told_apart_from_a_wrong_secret(
    version: Version,
) -> None:
    """H-8: the same secret was let in before. Set right, the login succeeds."""
    clock = ManualClock(datetime.now(UTC))
    async with rig(version, Behaviour(clock_tolerance=60), clock=clock) as found:
        clock.advance(timedelta(minutes=10))
        found.gateway.hang_up()
        await until(lambda: found.events)
        [trouble] = found.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:" + codes.CLOCKS_DIFFER
        clock.set(datetime.now(UTC))
        await until(found.is_open)
        assert len(found.events) == 1, "told once, however often it was refused"


async def test_a_gateway_of_2_0_tells_a_client_of_3_0_so() -> None:
    async with rig(
        Version.V30, highest=Version.V20, refused=NEVER, wait=lambda f: f.events
    ) as found:
        [connection] = found.account.connections()
        assert connection.last_error == codes.LOGINS[4]


async def test_a_wrong_secret_is_tried_once() -> None:
    async with rig(
        Version.V20,
        secret=SecretStr("another"),
        refused=NEVER,
        wait=lambda found: found.events,
    ) as found:
        await a_while()
        assert found.gateway.counts.binds_refused == 1


async def test_connections_beyond_the_accounts_limit_wait() -> None:
    async with rig(
        Version.V30,
        Behaviour(binds=1),
        connections=2,
        refused=NEVER,
        wait=lambda found: found.events,
    ) as found:
        states = sorted(one.state for one in found.account.connections())
        assert states == ["closed", "open"]
        await found.stream([message(index) for index in range(100)])
        assert all(isinstance(o[0], Accepted) for o in found.outcomes.values())


def test_h_6_with_the_usual_settings_it_takes_30_seconds_at_most() -> None:
    """H-6"""
    usual = Settings(
        host="127.0.0.1",
        sp_id=SP_ID,
        secret=SecretStr(SECRET),
        service_number="1065700001",
    )
    found = limits(usual)
    seconds = found.heartbeat_after + found.heartbeat_within + 2 * found.tick
    assert timedelta(seconds=seconds) + ceiling(1, AGAIN) <= timedelta(seconds=30)


async def test_h_6_a_connection_that_the_gateway_still_counts_is_waited_for() -> None:
    """H-6: after a half-open one there are too many, till the gateway has missed it."""
    async with rig(Version.V20, refused=NEVER) as found:
        found.gateway.behave(Behaviour(login_status=5))
        found.gateway.hang_up()
        await until(lambda: found.gateway.counts.binds_refused >= SOON_TRIES // 2)
        found.gateway.behave(Behaviour())
        await until(found.is_open)
        assert len(found.events) == 1, "told once, however often it was refused"


async def test_what_is_refused_for_long_is_tried_seldom() -> None:
    async with rig(
        Version.V20, Behaviour(login_status=5), refused=NEVER, wait=lambda f: f.events
    ) as found:
        counts = found.gateway.counts
        await until(lambda: counts.binds_refused == SOON_TRIES + 1)
        await a_while()
        assert counts.binds_refused == SOON_TRIES + 1


@BOTH
async def test_heartbeats_of_the_gateway_are_answered(version: Version) -> None:
    async with rig(version, Behaviour(heartbeat_every=0.02)) as found:
        await found.stream([message(index) for index in range(20)])
        await a_while()
        assert found.is_open()
        assert found.gateway.counts.malformed == 0


@BOTH
async def test_closing_says_good_bye(version: Version) -> None:
    async with rig(version, connections=3) as found:
        pass
    assert found.gateway.sessions == set()
    assert {one.last_error for one in found.account.connections()} == {"peer_left"}


@pytest.mark.parametrize("version", [Version.V20, Version.V30])
async def test_a_1_wherever_the_connection_breaks_nothing_is_lost_or_doubled(
    version: Version,
) -> None:
    """A-1: cut at octet n. Transient means not taken, taken means not transient."""
    login = 12 + 27
    submit = 12 + (117 + 21 + 1 + 8 if version is Version.V20 else 129 + 32 + 2 + 20)
    whole = login + submit + 16
    for cut in {1, 11, 12, login, login + 1, login + 12, whole - 1, whole, whole + 9}:
        async with rig(
            version, Behaviour(hang_up_at=cut), again=NEVER, wait=lambda f: True
        ) as found:
            await until(lambda: found.account.connections()[0].state != "connecting")
            batch = [message(0), message(1)]
            found.account.submit(batch)
            await until(lambda: len(found.outcomes) == 2)
            taken = {one.dest_terminal_ids[0] for one in found.taken}
            for index in range(2):
                [outcome] = found.outcomes[f"m{index}"]
                if f"138{index:08}" in taken:
                    assert not isinstance(outcome, TransientFailure)
                else:
                    assert not isinstance(outcome, Accepted)


@BOTH
async def test_h_9_garbage_does_not_end_a_session_that_can_still_be_read(
    version: Version,
) -> None:
    """H-9: unknown commands, PDUs cut short; what follows is read."""
    good = tables.deliver(
        version,
        9,
        msg_id=1 << 60,
        sender="8613900000001",
        content="在吗".encode("utf-16-be"),
    )
    junk = (
        pdu(0x99, 1)
        + pdu(5, 2, b"short")
        + pdu(0x80000004, 3, b"xx")
        + pdu(0x80000004, 4, bytes(24))
        + pdu(0xFFFFFFFF, 0xFFFFFFFF, bytes(100))
    )
    async with talking(version, junk + good) as (found, heard):
        await until(lambda: found.texts)
        assert found.texts[0].text == "在吗"
        await until(lambda: tables.deliver_resp(version, 9, 1 << 60) in heard)
        assert found.is_open()


@BOTH
async def test_h_9_a_session_outlives_20_000_mutated_pdus(version: Version) -> None:
    """H-9: each with the length that it has, so that what follows can be read."""
    dice = random.Random(20261122)
    bases = [octets for spoken, _, octets in of_both() if spoken == version]
    garbage = (
        mutated(dice.choice(bases), dice).ljust(12, b"\0") for _ in range(20_000)
    )
    framed = (len(one).to_bytes(4, "big") + one[4:] for one in garbage)
    ends = {b"\0\0\0\2", b"\x80\0\0\2"}  # TERMINATE: over, politely
    words = b"".join(one for one in framed if one[4:8] not in ends)
    good = tables.deliver(
        version, 9, msg_id=1 << 60, sender="8613900000009", content=b"\0R"
    )
    async with talking(version, words + good) as (found, _):
        await until(lambda: "+8613900000009" in {t.sender.value for t in found.texts})
        assert found.is_open()


@pytest.mark.parametrize("length", [0, 2, 11, 65_537, 0xFFFF_FFFF])
async def test_s_48_a_length_that_can_not_be_ends_the_connection(length: int) -> None:
    """S-48, H-9: cut at once, and dialled again."""
    junk = length.to_bytes(4, "big") + bytes(8)
    async with talking(Version.V30, junk) as (found, _):
        await until(
            lambda: (
                f"frame_of_{length}_bytes"
                in {one.last_error for one in found.account.connections()}
            )
        )


# --- the gateway's other moods


async def test_reports_that_tell_a_failure_late_or_never_come() -> None:
    failing = Behaviour(
        fail_share=1.0,
        fail_stat="MK:0001",
        receipt_delay_min=0.02,
        receipt_delay_max=0.05,
    )
    async with rig(behaviour=failing, blacklist_stats=["MK:0001"]) as found:
        await found.stream([message(index) for index in range(20)])
        await until(lambda: len(found.receipts) == 20)
        assert {(r.code, r.opted_out) for r in found.receipts} == {("MK:0001", True)}
        found.gateway.behave(Behaviour(withhold_share=1.0))
        await found.stream([message(index) for index in range(20, 40)])
        await a_while()
        assert len(found.receipts) == 20


async def test_a_text_that_the_gateway_does_not_like_is_refused_alone() -> None:
    async with rig(behaviour=Behaviour(refuse_words=("贷款",))) as found:
        await found.stream([message(0, "低息贷款"), message(1)])
        assert isinstance(found.last(0), PermanentFailure)
        assert isinstance(found.last(1), Accepted)


async def test_c_8_ids_begin_again_after_a_wrap() -> None:
    """C-8"""
    async with rig(behaviour=Behaviour(id_wrap=10, receipts=False)) as found:
        await found.stream([message(index) for index in range(30)])
        assert len({provider_id(found, index) for index in range(30)}) == 10


async def test_what_is_never_stored_is_given_up_after_the_third_time() -> None:
    """Clause 7.1: a disk that is full for longer than that loses what came."""
    again = Behaviour(deliver_again_after=0.05, deliver_times=3)
    async with rig(behaviour=again) as found:
        found.refuse_to_store = 99
        found.gateway.say(SP_ID, "8613900000001", "1065700001", "R")
        await until(lambda: found.gateway.counts.given_up)
        assert found.gateway.counts.put_off == 2
        assert found.texts == []


@BOTH
async def test_pushed_replies_all_arrive_once(version: Version) -> None:
    """Also where the gateway waits for each answer before it brings the next."""
    pushing = Behaviour(mo_rate=1000.0, mo_text="报名", deliver_window=1)
    async with rig(version, pushing) as found:
        counts = found.gateway.counts
        await until(lambda: counts.replies >= 300)
        found.gateway.behave(Behaviour())
        await until(lambda: not found.gateway.stats()["to_bring"])
        assert len({text.key for text in found.texts}) == counts.replies
        assert len(found.texts) == counts.replies
        assert all(text.text.startswith("报名") for text in found.texts)


@BOTH
async def test_h_6_an_orderly_end_leaves_nobody_in_doubt(version: Version) -> None:
    """H-6, A-4: TERMINATE in the middle of a window is answered after the rest."""
    slow = Behaviour(receipts=False, answer_delay_min=0.1, answer_delay_max=0.3)
    async with rig(version, slow) as found:
        found.account.submit([message(index) for index in range(30)])
        await until(lambda: len(found.taken) == 30)
        [session] = found.gateway.sessions
        found.gateway.leave()
        await until(lambda: not found.account.room())
        await until(lambda: len(found.outcomes) == 30)
        assert all(type(o) is Accepted for [o] in found.outcomes.values())
        await until(lambda: session not in found.gateway.sessions)
        await until(found.is_open)
        [connection] = found.account.connections()
        assert connection.last_error == "peer_left"
