"""State machines as data: one enumeration and one table of legal moves each.

The store moves a row only from the legal predecessors of its new state; a move that
changes no row is a late or repeated event, counted and not an error.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar


class OutboundState(StrEnum):
    PLANNED = "planned"  # a recipient in a chunk: frozen, checked, not tried yet
    QUEUED = "queued"
    SENDING = "sending"  # its intent is journalled; bytes may have left
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"  # refused by the provider, or undeliverable by its receipt
    DEAD = "dead"  # attempts used up; an operator may replay it
    UNKNOWN = "unknown"  # perhaps sent; leaves by evidence or a person's decision
    SUPPRESSED = "suppressed"  # opt-out, cap or no permitted channel
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class BroadcastState(StrEnum):
    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    PLANNING = "planning"  # its recipients are being written and checked
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class Standing(StrEnum):
    """What else is said of a broadcast than its state."""

    OPEN_QUESTIONS = "finished_with_open_questions"  # of somebody nobody knows


class InquiryState(StrEnum):
    NEW = "new"  # 待受理
    OPEN = "open"  # 办理中
    WAITING = "waiting"  # 待会员补充
    ANSWERED = "answered"  # 已答复
    CLOSED = "closed"  # 已办结


class Bucket(StrEnum):
    """What a broadcast's planned recipients add up to (docs/why.md)."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"
    WAITING = "waiting"


State = TypeVar("State", OutboundState, BroadcastState, InquiryState)
_O, _B, _I = OutboundState, BroadcastState, InquiryState

# By the words themselves: the flow asks a million times a minute.
OUTBOUND_MOVES: Mapping[str, frozenset[str]] = {
    # The intent of a planned one is its chunk's mark: no state between it and the end.
    _O.PLANNED: frozenset(
        {
            _O.QUEUED,
            _O.ACCEPTED,
            _O.DELIVERED,
            _O.READ,
            _O.FAILED,
            _O.DEAD,
            _O.UNKNOWN,
            _O.SUPPRESSED,
            _O.CANCELLED,
            _O.EXPIRED,
        }
    ),
    _O.QUEUED: frozenset({_O.SENDING, _O.SUPPRESSED, _O.CANCELLED, _O.EXPIRED}),
    _O.SENDING: frozenset({_O.ACCEPTED, _O.QUEUED, _O.FAILED, _O.DEAD, _O.UNKNOWN}),
    _O.UNKNOWN: frozenset(
        {_O.ACCEPTED, _O.DELIVERED, _O.READ, _O.FAILED, _O.QUEUED, _O.DEAD}
    ),
    _O.ACCEPTED: frozenset({_O.DELIVERED, _O.READ, _O.FAILED}),
    _O.DELIVERED: frozenset({_O.READ}),
    _O.DEAD: frozenset({_O.QUEUED}),
    _O.READ: frozenset(),
    _O.FAILED: frozenset({_O.QUEUED}),  # somebody sends again to the failed ones
    _O.SUPPRESSED: frozenset(),
    _O.CANCELLED: frozenset(),
    _O.EXPIRED: frozenset(),
}

# What a receipt can tell, in order of weight. A receipt moves a message to a higher
# rank only; of two that contradict each other at one rank the first stands (C-3).
RANK: Mapping[str, int] = {
    _O.PLANNED: 0,
    _O.QUEUED: 0,
    _O.SENDING: 1,
    _O.UNKNOWN: 2,
    _O.ACCEPTED: 3,
    _O.DELIVERED: 4,
    _O.FAILED: 4,
    _O.DEAD: 4,
    _O.SUPPRESSED: 4,
    _O.CANCELLED: 4,
    _O.EXPIRED: 4,
    _O.READ: 5,
}

# An edit of a broadcast voids its approval: back to draft.
BROADCAST_MOVES: Mapping[BroadcastState, frozenset[BroadcastState]] = {
    _B.DRAFT: frozenset({_B.SUBMITTED, _B.CANCELLED}),
    _B.SUBMITTED: frozenset({_B.DRAFT, _B.APPROVED, _B.CANCELLED}),
    _B.APPROVED: frozenset({_B.DRAFT, _B.SCHEDULED, _B.PLANNING, _B.CANCELLED}),
    _B.SCHEDULED: frozenset({_B.DRAFT, _B.PLANNING, _B.CANCELLED}),
    # Back to where it came from where the plan shows that it can't run.
    _B.PLANNING: frozenset(
        {_B.DRAFT, _B.APPROVED, _B.SCHEDULED, _B.RUNNING, _B.CANCELLED}
    ),
    _B.RUNNING: frozenset({_B.PAUSED, _B.FINISHED, _B.CANCELLED}),
    _B.PAUSED: frozenset({_B.RUNNING, _B.CANCELLED}),
    _B.FINISHED: frozenset({_B.RUNNING}),  # sent again to the failed ones
    _B.CANCELLED: frozenset(),
}

# Closed reopens on a new message inside its window and on a dissatisfied rating.
INQUIRY_MOVES: Mapping[InquiryState, frozenset[InquiryState]] = {
    _I.NEW: frozenset({_I.OPEN, _I.WAITING, _I.ANSWERED, _I.CLOSED}),
    _I.OPEN: frozenset({_I.WAITING, _I.ANSWERED, _I.CLOSED}),
    _I.WAITING: frozenset({_I.OPEN, _I.ANSWERED, _I.CLOSED}),
    _I.ANSWERED: frozenset({_I.OPEN, _I.WAITING, _I.CLOSED}),
    _I.CLOSED: frozenset({_I.OPEN}),
}

_BUCKETS: Mapping[OutboundState, Bucket] = {
    _O.PLANNED: Bucket.WAITING,
    _O.QUEUED: Bucket.WAITING,
    _O.SENDING: Bucket.WAITING,
    _O.ACCEPTED: Bucket.ACCEPTED,
    _O.DELIVERED: Bucket.DELIVERED,
    _O.READ: Bucket.DELIVERED,
    _O.FAILED: Bucket.REFUSED,
    _O.DEAD: Bucket.REFUSED,
    _O.UNKNOWN: Bucket.UNKNOWN,
    _O.SUPPRESSED: Bucket.SUPPRESSED,
    _O.CANCELLED: Bucket.CANCELLED,
    _O.EXPIRED: Bucket.EXPIRED,
}


_MOVES: Mapping[type[StrEnum], Mapping[Any, frozenset[Any]]] = {
    OutboundState: OUTBOUND_MOVES,
    BroadcastState: BROADCAST_MOVES,
    InquiryState: INQUIRY_MOVES,
}


def can_move(before: State, after: State) -> bool:
    """Whether the table of this kind of state allows the move."""
    return after in _MOVES[type(before)][before]


def predecessors(after: State) -> frozenset[State]:
    """The states from which `after` may be reached; for one restricted update."""
    return frozenset(before for before in type(after) if can_move(before, after))


def count_as(state: OutboundState) -> Bucket:
    """The one bucket in which a recipient in `state` is counted."""
    return _BUCKETS[state]


def standing(state: BroadcastState, unknown: int) -> BroadcastState | Standing:
    """What is said of a broadcast with so many unknown: never just that it is
    finished, as long as nobody knows of somebody."""
    if state is BroadcastState.FINISHED and unknown:
        return Standing.OPEN_QUESTIONS
    return state
