from collections.abc import Mapping
from itertools import product

import pytest

from gateway.status import (
    BROADCAST_MOVES,
    INQUIRY_MOVES,
    OUTBOUND_MOVES,
    RANK,
    BroadcastState,
    Bucket,
    InquiryState,
    OutboundState,
    State,
    can_move,
    count_as,
    predecessors,
)

# The tables once more, drawn; a recipient in a chunk is
# planned, and its chunk's mark stands for `sending`.
OUTBOUND = """
planned     -> queued accepted delivered read failed dead unknown
planned     -> suppressed cancelled expired
queued      -> sending suppressed cancelled expired
sending     -> accepted queued failed dead unknown
unknown     -> accepted delivered read failed queued dead
accepted    -> delivered read failed
delivered   -> read
dead        -> queued
failed      -> queued
"""
BROADCAST = """
draft       -> submitted cancelled
submitted   -> draft approved cancelled
approved    -> draft scheduled planning cancelled
scheduled   -> draft planning cancelled
planning    -> draft approved scheduled running cancelled
running     -> paused finished cancelled
paused      -> running cancelled
finished    -> running
"""
INQUIRY = """
new         -> open waiting answered closed
open        -> waiting answered closed
waiting     -> open answered closed
answered    -> open waiting closed
closed      -> open
"""


def drawn(table: str) -> set[tuple[str, str]]:
    lines = (line.split() for line in table.strip().splitlines())
    return {(before, after) for before, _, *afters in lines for after in afters}


@pytest.mark.parametrize("pair", list(product(OutboundState, repeat=2)), ids="-".join)
def test_every_move_of_a_message(pair: tuple[OutboundState, OutboundState]) -> None:
    assert can_move(*pair) is (pair in drawn(OUTBOUND))


@pytest.mark.parametrize("pair", list(product(BroadcastState, repeat=2)), ids="-".join)
def test_every_move_of_a_broadcast(
    pair: tuple[BroadcastState, BroadcastState],
) -> None:
    assert can_move(*pair) is (pair in drawn(BROADCAST))


@pytest.mark.parametrize("pair", list(product(InquiryState, repeat=2)), ids="-".join)
def test_every_move_of_an_inquiry(pair: tuple[InquiryState, InquiryState]) -> None:
    assert can_move(*pair) is (pair in drawn(INQUIRY))


@pytest.mark.parametrize("state", OutboundState)
def test_predecessors_are_the_moves_read_backwards(state: OutboundState) -> None:
    assert predecessors(state) == {s for s, t in drawn(OUTBOUND) if t == state}
    assert all(type(before) is OutboundState for before in predecessors(state))


def reachable(moves: Mapping[State, frozenset[State]], start: State) -> set[State]:
    seen, ahead = set[State](), {start}
    while ahead:
        seen |= ahead
        ahead = {after for before in ahead for after in moves[before]} - seen
    return seen


def test_every_state_is_reached_from_the_first() -> None:
    assert reachable(OUTBOUND_MOVES, OutboundState.PLANNED) == set(OutboundState)
    assert reachable(BROADCAST_MOVES, BroadcastState.DRAFT) == set(BroadcastState)
    assert reachable(INQUIRY_MOVES, InquiryState.NEW) == set(InquiryState)


def test_what_can_have_reached_someone_is_never_queued_unasked() -> None:
    assert predecessors(OutboundState.QUEUED) == {
        OutboundState.PLANNED,  # its first try was refused for now
        OutboundState.SENDING,  # a definite refusal
        OutboundState.UNKNOWN,  # evidence or a person's decision
        OutboundState.DEAD,  # an operator replays it
        OutboundState.FAILED,  # somebody sends again to the failed ones
    }


def test_a_receipt_only_moves_upwards() -> None:
    told = {OutboundState.DELIVERED, OutboundState.READ, OutboundState.FAILED}
    for after in told:
        for before in predecessors(after):
            assert RANK[before] < RANK[after]


def test_every_state_has_a_rank_and_is_counted_once() -> None:
    assert set(RANK) == set(OutboundState)
    assert {count_as(state) for state in OutboundState} == set(Bucket)


@pytest.mark.parametrize(
    ("state", "bucket"),
    [
        ("queued", "waiting"),
        ("sending", "waiting"),
        ("accepted", "accepted"),
        ("delivered", "delivered"),
        ("read", "delivered"),
        ("failed", "refused"),
        ("dead", "refused"),
        ("unknown", "unknown"),
        ("suppressed", "suppressed"),
        ("cancelled", "cancelled"),
        ("expired", "expired"),
    ],
)
def test_buckets(state: str, bucket: str) -> None:
    assert count_as(OutboundState(state)) is Bucket(bucket)
