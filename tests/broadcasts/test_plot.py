"""The course of a run from its tallies: totals, points, rate."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcasts import plot
from broadcasts.plot import change

AT = int(datetime(2026, 11, 20, 2, tzinfo=UTC).timestamp())


def run(slots: int) -> list[plot.Change]:
    """A hundred leave in each slot; all but one arrive a slot later."""
    found = [change(AT, "planned", 100 * slots)]
    for number in range(slots):
        slot = AT + 10 * number
        found += [
            change(slot, "planned", -100),
            change(slot, "accepted", 99),
            change(slot, "failed", 1),
            change(slot + 10, "accepted", -99),
            change(slot + 10, "delivered", 99),
        ]
    return found


def test_the_course_ends_at_what_became_of_all() -> None:
    moments = plot.course(run(5))
    assert (moments[0].sent, moments[0].delivered) == (0, 0)
    last = moments[-1]
    assert (last.sent, last.delivered, last.refused) == (500, 495, 5)
    assert all(a.sent <= b.sent for a, b in pairwise(moments))


def test_a_long_run_keeps_its_first_and_last_moment() -> None:
    moments = plot.course(run(1_000))
    assert len(moments) == plot.POINTS
    assert (moments[0].sent, moments[-1].sent) == (0, 100_000)
    assert len(plot.table(moments)) == plot.ROWS
    assert plot.table(moments)[-1] == moments[-1]


def test_the_lines_stay_inside_the_picture() -> None:
    lines = plot.lines(plot.course(run(30)), 3_000)
    for points in lines.values():
        for pair in points.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= plot.WIDTH
            assert 0 <= y <= plot.HEIGHT
    assert lines["sent"].endswith(f"{plot.WIDTH}.0,0.0")


@pytest.mark.parametrize(
    ("planned", "marks"),
    [
        (1, [1, 0]),
        (3, [3, 2, 1, 0]),
        (8, [8, 6, 4, 2, 0]),
        (6_200, [7_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000, 0]),
        (2_500_000, [2_500_000, 2_000_000, 1_500_000, 1_000_000, 500_000, 0]),
    ],
)
def test_the_axis_has_round_numbers(planned: int, marks: list[int]) -> None:
    assert plot.marks(planned) == marks


@given(st.integers(1, 10**7))
def test_everybody_fits_under_the_top_of_the_axis(planned: int) -> None:
    top, *rest = marks = plot.marks(planned)
    assert top >= planned > rest[0]
    assert len({a - b for a, b in pairwise(marks)}) == 1
    assert 2 <= len(marks) <= plot.PARTS + 1
    assert 0 <= plot.height(planned, planned) < plot.HEIGHT / (len(marks) - 1)


def test_a_run_that_just_began_or_ended_early_fills_its_picture() -> None:
    moments = plot.course(run(5))
    assert [plot.scale(moments, planned) for planned in (500, 2_000, 2_001)] == [
        500,
        2_000,
        500,
    ]
    assert plot.lines(moments, 500)["sent"].endswith(f"{plot.WIDTH}.0,0.0")


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot.course([]) == []
    assert plot.scale([], 10) == 0
    assert plot.lines([], 10) == {}
    assert plot.course([change(AT, "planned", 5)]) == []


def test_the_rate_is_that_of_the_last_minute() -> None:
    now = datetime.fromtimestamp(AT + 100, UTC)
    assert plot.rate(run(10), now, now - timedelta(hours=1)) == 10
    assert plot.rate([], now, now) == 0


def steady(first: int, last: int) -> list[plot.Change]:
    """Twenty a second from the one second to the other, as the tallies have it."""
    return [change((AT + n) // 10 * 10, "accepted", 20) for n in range(first, last)]


def rate_at(second: int, run: list[plot.Change]) -> float:
    started = datetime.fromtimestamp(AT + 3, UTC)
    return plot.rate(run, datetime.fromtimestamp(AT + second, UTC), started)


def test_a_steady_rate_stays_where_it_is() -> None:
    for second in range(5, 130):
        assert rate_at(second, steady(3, second)) == 20


def test_a_pause_is_no_part_of_the_rate() -> None:
    """At first nobody can tell; then it is told rightly, for as long as the pause is
    within the minute and after."""
    before = steady(3, 117)
    for second in range(148, 152):
        assert rate_at(second, before + steady(147, second)) == 0
    for second in range(152, 290):
        assert rate_at(second, before + steady(147, second)) == 20


def test_the_lines_are_level_where_nothing_happened() -> None:
    moments = plot.course(steady(0, 20) + steady(80, 100))
    level = [one for one in moments if one.sent == 400]
    assert [(one.at.timestamp() - AT) for one in level] == [20, 80]
