"""The checker itself: every kind of damage is seen, and nothing else is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drill.checker import Barred, Evidence, Kill, Message, Verdict, judge
from gateway.drill.ledgers import Acknowledged, Arrived, Fact, Refused
from gateway.status import OutboundState

CHANNEL = "mail"


def arrived(number: int, at: float = 1.0) -> Arrived:
    return Arrived(CHANNEL, f"p{number}", at)


def message(number: int, state: str, **more: Any) -> Message:
    made = Message(number, CHANNEL, f"p{number}", OutboundState(state), True, 1)
    return replace(made, **more)


def verdict(
    messages: list[Message], facts: list[Fact], planned: int | None = None, **more: Any
) -> Verdict:
    people = len(messages) if planned is None else planned
    return judge(
        Evidence(
            facts=facts,
            messages=messages,
            planned=people,
            **({"inbound": {}} | more),
        )
    )


def test_everything_in_order() -> None:
    messages = [
        message(1, "accepted"),
        message(2, "delivered"),
        message(3, "failed"),
        message(4, "unknown"),
        message(5, "unknown"),
        message(6, "suppressed"),
    ]
    facts = [arrived(1), arrived(2), Refused(CHANNEL, "p3"), arrived(4)]
    found = verdict(messages, facts)
    assert found.holds
    assert (found.lost, found.doubled, found.unknown_left) == (0, 0, 2)
    assert found.unknown_left_really_sent == 1
    assert found.really_sent_left == {CHANNEL: 1}


@pytest.mark.parametrize("state", ["accepted", "delivered", "read"])
def test_said_to_be_sent_but_never_arrived(state: str) -> None:
    found = verdict([message(1, state)], [])
    assert (found.lost, found.doubled) == (1, 0)
    assert found.reasons == ["1 lost: mail p1"]


@pytest.mark.parametrize("state", ["planned", "queued", "sending"])
def test_left_in_a_state_that_nobody_reads(state: str) -> None:
    found = verdict([message(1, state)], [])
    assert found.lost == 1
    assert any("neither sent nor unknown" in one for one in found.reasons)


def test_stuck_although_it_arrived_is_not_lost_but_wrong() -> None:
    found = verdict([message(1, "sending")], [arrived(1)])
    assert (found.lost, found.doubled, found.holds) == (0, 0, False)


def test_said_to_be_refused_but_nobody_refused() -> None:
    assert verdict([message(1, "failed")], []).lost == 1
    assert verdict([message(1, "failed")], [arrived(1)]).holds, "refused by a receipt"


@pytest.mark.parametrize("state", ["accepted", "unknown", "failed", "queued"])
def test_arrived_twice(state: str) -> None:
    assert verdict([message(1, state)], [arrived(1), arrived(1)]).doubled == 1


@pytest.mark.parametrize("state", ["suppressed", "cancelled", "expired"])
def test_arrived_although_it_never_left(state: str) -> None:
    assert verdict([message(1, state)], [arrived(1)]).doubled == 1


def test_refused_and_sent_all_the_same() -> None:
    facts: list[Fact] = [Refused(CHANNEL, "p1"), arrived(1)]
    assert verdict([message(1, "failed")], facts).doubled == 1


def test_two_messages_to_one_person_are_two() -> None:
    both = [message(1, "accepted"), message(2, "accepted", address="p1")]
    assert verdict(both, [arrived(1), arrived(1)]).holds
    assert verdict(both, [arrived(1)]).lost == 1


def test_a_planned_recipient_without_a_row() -> None:
    found = verdict([message(1, "accepted")], [arrived(1)], planned=2)
    assert found.lost == 1
    assert "2 planned, 1 in all states" in found.reasons


def test_sent_without_an_intent() -> None:
    found = verdict([message(1, "accepted", journalled=False)], [arrived(1)])
    assert found.reasons == ["1 sent without an intent: message 1"]


def test_more_in_doubt_than_a_window() -> None:
    kills = [Kill(at=1.0, open={CHANNEL: frozenset(range(33))})]
    messages = [message(number, "unknown") for number in range(33)]
    found = verdict(messages, [], kills=kills, windows={CHANNEL: 32})
    assert found.reasons == ["kill 1: 33 in doubt on mail, its window is 32"]
    assert (found.unknown_at_kills, found.kills_under_load) == (33, 1)
    assert verdict(messages, [], kills=kills, windows={CHANNEL: 33}).holds


def test_a_kill_that_met_no_broadcast_is_not_under_load() -> None:
    messages = [
        message(1, "unknown"),
        message(2, "accepted", broadcast_id=None),
        message(3, "unknown", channel="smpp"),
    ]
    opened = [
        {},
        {CHANNEL: frozenset({2})},  # an answer to somebody
        {CHANNEL: frozenset({1, 2})},
        {CHANNEL: frozenset({1})},  # nothing has left since
        {CHANNEL: frozenset({1}), "smpp": frozenset({3})},
    ]
    facts = [arrived(2)]
    found = verdict(messages, facts, 2, kills=[Kill(at=1.0, open=o) for o in opened])
    assert (found.kills, found.kills_under_load) == (5, 2)
    assert found.kills_by_channel == {CHANNEL: 1, "smpp": 1}


def test_inbound_lost_and_doubled() -> None:
    facts: list[Fact] = [Acknowledged(CHANNEL, key) for key in ("a", "b", "a")]
    found = verdict([], facts, inbound={"a": 2})
    assert (found.inbound_acknowledged, found.inbound_lost) == (2, 1)
    assert found.inbound_doubled == 1
    assert verdict([], facts, inbound={"a": 1, "b": 1, "unheard": 1}).holds


def test_sent_after_an_opt_out() -> None:
    messages = [message(1, "accepted")]
    barred = [Barred(CHANNEL, "p1", 10.0)]
    assert verdict(messages, [arrived(1, 10.5)], barred=barred).holds
    assert verdict(messages, [arrived(1, 12.0)], barred=barred).after_opt_out == 1
    barred = [Barred(CHANNEL, "p1", 10.0, erased=True), Barred("other", "p1", 10.0)]
    late = verdict(messages, [arrived(1, 12.0)], barred=barred)
    assert (late.opted_out, late.erased, late.after_opt_out) == (1, 1, 1)
    assert not late.holds


def test_what_the_recount_says_counts() -> None:
    assert verdict([], [], deviations=["sum: broadcast:1: x"]).reasons == [
        "sum: broadcast:1: x"
    ]


@given(st.lists(st.sampled_from(["accepted", "unknown", "failed"]), max_size=30))
def test_an_honest_run_holds_and_each_theft_and_copy_is_seen(states: list[str]) -> None:
    messages = [message(number, state) for number, state in enumerate(states)]
    facts: list[Fact] = [
        Refused(CHANNEL, one.address) if one.state == "failed" else arrived(one.id)
        for one in messages
    ]
    assert verdict(messages, facts).holds
    reached = [fact for fact in facts if isinstance(fact, Arrived)]
    for fact in reached:
        assert verdict(messages, [*facts, fact]).doubled == 1
    claimed = {one.address for one in messages if one.state == "accepted"}
    for fact in reached:
        without = [one for one in facts if one is not fact]
        assert verdict(messages, without).lost == (fact.address in claimed)
