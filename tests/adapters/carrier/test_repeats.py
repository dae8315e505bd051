"""The same words brought again, or said again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.carrier.link import Ears, Limits, Link, State
from adapters.carrier.repeats import KEPT, WITHIN, Repeats
from adapters.smpp.codec import SmppCodec
from gateway.clock import ManualClock
from tests.labs.carrier import context
from tests.labs.smpp_lab import settings

NOW = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
EARS = Ears(
    answered=lambda id, outcome: None,
    delivered=lambda link, deliveries: None,
    opened=lambda link: None,
    moved=lambda: None,
    closed=lambda link: None,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def link(clock: ManualClock) -> Link:
    about = context("smpp", Path(), clock=clock)
    made = Link("1", SmppCodec(settings(2775), about), Limits(), clock, EARS)
    made.state = State.OPEN
    return made


def test_words_without_an_answer_are_brought_again(
    clock: ManualClock, link: Link
) -> None:
    repeats = Repeats(clock)
    first = repeats.keys("words", link)
    clock.advance(timedelta(minutes=1))
    assert repeats.keys("words", link) == first


def test_answered_words_are_said_again(clock: ManualClock, link: Link) -> None:
    repeats = Repeats(clock)
    first = repeats.keys("words", link)
    repeats.answered("words", link)
    clock.advance(timedelta(seconds=1))
    assert repeats.keys("words", link) != first


@pytest.mark.parametrize(("lived", "same"), [(0.0, True), (6.0, False)])
def test_an_answer_into_a_dying_connection_may_not_have_come(
    clock: ManualClock, link: Link, lived: float, same: bool
) -> None:
    repeats = Repeats(clock)
    first = repeats.keys("words", link)
    repeats.answered("words", link)
    link.heard_at = clock.monotonic() + lived
    link.state = State.CLOSED
    clock.advance(timedelta(seconds=20))
    assert (repeats.keys("words", link) == first) is same


def test_the_next_process_recognises_what_this_one_stored(
    clock: ManualClock, link: Link
) -> None:
    stored = Repeats(clock).keys("words", link).key
    for minutes, same in ((2, True), (5, True), (11, False)):
        clock.set(NOW + timedelta(minutes=minutes))
        assert (stored in Repeats(clock).keys("words", link)) is same


def test_no_boundary_of_time_lies_between_two_processes(
    clock: ManualClock, link: Link
) -> None:
    """B-4: stored a moment before a window ends, brought again a moment later."""
    clock.set(NOW + WITHIN / 2 - timedelta(seconds=1))
    stored = Repeats(clock).keys("words", link).key
    clock.advance(timedelta(seconds=2))
    assert Repeats(clock).keys("words", link).earlier == stored


def test_long_after_a_start_nothing_earlier_is_looked_for(
    clock: ManualClock, link: Link
) -> None:
    repeats = Repeats(clock)
    clock.advance(WITHIN)
    assert repeats.keys("words", link).earlier == ""


def test_memory_is_bounded(clock: ManualClock, link: Link) -> None:
    repeats = Repeats(clock)
    for index in range(KEPT + 10):
        repeats.keys(str(index), link)
    assert len(repeats._known) == KEPT
