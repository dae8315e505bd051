from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import chinese_calendar
import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sla import (
    Calendar,
    Deadline,
    Remaining,
    Unit,
    WorkingHours,
    deadline,
    remaining,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
OFFICIAL = Calendar()
DAY = timedelta(days=1)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


def days_of(first: int, last: int) -> list[date]:
    start = date(first, 1, 1)
    return [start + DAY * n for n in range((date(last + 1, 1, 1) - start).days)]


def test_every_published_day_is_the_librarys_day() -> None:
    for day in days_of(2004, 2026):
        assert OFFICIAL.is_working_day(day) is chinese_calendar.is_workday(day)


def test_every_day_of_2015_to_2026_agrees_with_a_second_source() -> None:
    # `holidays` is kept by other people from the same notices.
    china = holidays.country_holidays("CN", years=range(2015, 2027))
    differing = [
        day
        for day in days_of(2015, 2026)
        if OFFICIAL.is_working_day(day) != china.is_working_day(day)
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("day", "works"),
    [
        ("2026-01-04", True),  # Sunday made up for New Year
        ("2026-02-14", True),  # Saturday before the Spring Festival
        ("2026-02-16", False),
        ("2026-02-28", True),
        ("2026-05-09", True),
        ("2026-10-10", True),
        ("2026-10-07", False),
        ("2026-11-21", False),
        ("2003-10-01", True),  # before the first published year: by weekday
        ("2027-01-01", True),  # not published: by weekday
        ("2027-01-02", False),
    ],
)
def test_single_days(day: str, works: bool) -> None:
    assert OFFICIAL.is_working_day(date.fromisoformat(day)) is works


def test_staff_correct_the_calendar() -> None:
    typhoon, made_up = date(2026, 9, 3), date(2026, 9, 5)
    calendar = Calendar(overrides={typhoon: False, made_up: True})
    assert OFFICIAL.is_working_day(typhoon)
    assert not calendar.is_working_day(typhoon)
    assert calendar.is_working_day(made_up)


def test_the_calendar_is_published_until_the_end_of_a_year() -> None:
    assert OFFICIAL.published_until >= date(2026, 12, 31)
    assert (OFFICIAL.published_until + DAY).timetuple()[1:3] == (1, 1)


@pytest.mark.parametrize(
    ("received", "days", "last"),
    [
        # Saturday 14 and 28 February are worked, 15 to 23 are free.
        ("2026-02-11T10:00", 7, "2026-02-27"),
        ("2026-02-11T10:00", 8, "2026-02-28"),
        ("2026-02-13T10:00", 1, "2026-02-14"),
        ("2026-02-14T23:59", 1, "2026-02-24"),
        ("2026-11-20T09:00", 1, "2026-11-23"),
        # E-7: the day of receipt is the local one, to the last moment.
        ("2026-11-17T23:59:59.900000", 7, "2026-11-26"),
        ("2026-11-17T23:59:59.999999", 7, "2026-11-26"),
        ("2026-11-18T00:00:00", 7, "2026-11-27"),
        ("2026-11-18T07:59:00", 7, "2026-11-27"),  # still the 17th in UTC
        ("2024-02-28T12:00", 1, "2024-02-29"),
        ("2024-02-29T12:00", 1, "2024-03-01"),
        ("2024-02-29T00:00", 7, "2024-03-11"),
        # Received on a free day: the next working day is day 1 all the same.
        ("2026-11-21T10:00", 1, "2026-11-23"),
        ("2026-10-03T10:00", 3, "2026-10-10"),
        ("2025-12-29T10:00", 3, "2026-01-04"),
    ],
)
def test_deadlines(received: str, days: int, last: str) -> None:
    day = date.fromisoformat(last)
    end = datetime.combine(day + DAY, time(), SHANGHAI)
    due = deadline(local(received), days, OFFICIAL, SHANGHAI)
    assert due == Deadline(day=day, at=end.astimezone(UTC), provisional=False)
    assert due.at.tzinfo is UTC


def test_beyond_the_published_year_a_deadline_is_provisional() -> None:
    calendar = Calendar(published_until=date(2026, 12, 31))
    certain = deadline(local("2026-12-29T10:00"), 2, calendar, SHANGHAI)
    assert (certain.day, certain.provisional) == (date(2026, 12, 31), False)
    late = deadline(local("2026-12-29T10:00"), 7, calendar, SHANGHAI)
    assert (late.day, late.provisional) == (date(2027, 1, 7), True)


def test_a_calendar_entered_by_staff_ends_the_doubt() -> None:
    entered = Calendar(
        overrides={date(2027, 1, 1): False}, published_until=date(2027, 12, 31)
    )
    due = deadline(local("2026-12-29T10:00"), 7, entered, SHANGHAI)
    assert (due.day, due.provisional) == (date(2027, 1, 8), False)


def test_an_office_may_count_to_its_closing_time() -> None:
    due = deadline(
        local("2026-11-17T10:00"), 1, OFFICIAL, SHANGHAI, closes=time(17, 30)
    )
    assert due.at == local("2026-11-18T17:30")


@pytest.mark.parametrize("days", [0, -1])
def test_a_deadline_needs_a_day(days: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        deadline(local("2026-11-17T10:00"), days, OFFICIAL, SHANGHAI)


# --- an independent reading of the rule: walk hour by hour, count day ends ----------

overrides = st.dictionaries(st.dates(date(2024, 1, 1), date(2028, 6, 1)), st.booleans())
instants = st.timedeltas(timedelta(0), timedelta(days=1430)).map(
    lambda since: datetime(2024, 1, 1, tzinfo=UTC) + since
)


def slow_deadline(
    received_at: datetime, days: int, changed: dict[date, bool]
) -> datetime:
    published = holidays.country_holidays("CN", years=range(2024, 2027))
    hour = received_at.replace(minute=0, second=0, microsecond=0)
    ended = -1  # the day of receipt ends first and does not count
    while ended < days:
        hour += timedelta(hours=1)
        # Asia/Shanghai is UTC+8 all year; midnight there is 16:00 UTC.
        if hour.hour != 16:
            continue
        day = (hour - timedelta(hours=1) + timedelta(hours=8)).date()
        works = changed.get(
            day,
            published.is_working_day(day) if day.year < 2027 else day.weekday() < 5,
        )
        ended += 1 if ended < 0 else works
    return hour


@given(instants, st.integers(1, 30), overrides)
def test_deadlines_agree_with_a_slow_count(
    received_at: datetime, days: int, changed: dict[date, bool]
) -> None:
    due = deadline(received_at, days, Calendar(overrides=changed), SHANGHAI)
    assert due.at == slow_deadline(received_at, days, changed)


@given(instants, st.integers(1, 20), overrides)
def test_a_deadline_is_the_end_of_a_working_day_after_receipt(
    received_at: datetime, days: int, changed: dict[date, bool]
) -> None:
    calendar = Calendar(overrides=changed)
    due = deadline(received_at, days, calendar, SHANGHAI)
    assert calendar.is_working_day(due.day)
    assert due.at > received_at + DAY * days
    assert due.at < deadline(received_at, days + 1, calendar, SHANGHAI).at


def test_a_midnight_that_the_clock_change_moves() -> None:
    # 28 March 2026 is a Saturday, the clock changes on the 29th.
    due = deadline(datetime(2026, 3, 27, 12, tzinfo=BERLIN), 1, OFFICIAL, BERLIN)
    assert due.at == datetime(2026, 3, 30, 22, tzinfo=UTC)


HOURS = WorkingHours(timezone=SHANGHAI)


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-11-20T08:29:59", False),
        ("2026-11-20T08:30", True),
        ("2026-11-20T11:59:59.999999", True),
        ("2026-11-20T12:00", False),
        ("2026-11-20T13:59", False),
        ("2026-11-20T17:29", True),
        ("2026-11-20T17:30", False),
        ("2026-11-21T10:00", False),
        ("2026-02-14T09:00", True),
        ("2026-02-14T18:00", False),
        ("2026-11-20T00:00", False),
    ],
)
def test_working_hours(at: str, is_open: bool) -> None:
    assert HOURS.is_open(local(at), OFFICIAL) is is_open


@pytest.mark.parametrize(
    "spells",
    [
        (),
        ((time(12), time(8)),),
        ((time(8), time(8)),),
        ((time(8), time(12)), (time(11), time(17))),
        ((time(14), time(17)), (time(8), time(12))),
    ],
)
def test_hours_that_make_no_sense(spells: tuple[tuple[time, time], ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        WorkingHours(timezone=SHANGHAI, spells=spells)


@pytest.mark.parametrize(
    ("now", "unit", "amount"),
    [
        # Due Thursday 26 November at 24:00.
        ("2026-11-17T10:00", Unit.WORKING_DAYS, 7),
        ("2026-11-20T23:00", Unit.WORKING_DAYS, 4),
        ("2026-11-21T10:00", Unit.WORKING_DAYS, 4),
        ("2026-11-25T23:59", Unit.WORKING_DAYS, 1),
        ("2026-11-26T00:00", Unit.HOURS, 24),
        ("2026-11-26T22:59", Unit.HOURS, 1),
        ("2026-11-26T23:30", Unit.HOURS, 0),
        ("2026-11-27T00:00", Unit.OVERDUE_DAYS, 1),
        ("2026-11-27T12:00", Unit.OVERDUE_DAYS, 1),
        ("2026-11-29T12:00", Unit.OVERDUE_DAYS, 1),
        ("2026-11-30T12:00", Unit.OVERDUE_DAYS, 2),
    ],
)
def test_the_countdown(now: str, unit: Unit, amount: int) -> None:
    at = local("2026-11-27T00:00").astimezone(UTC)
    left = at - local(now)
    told = remaining(at, local(now), OFFICIAL, SHANGHAI)
    assert told == Remaining(unit=unit, amount=amount, left=left)
    assert told.overdue is (left <= timedelta(0))


def test_the_countdown_to_a_closing_time() -> None:
    at = local("2026-11-27T17:30")
    assert remaining(at, local("2026-11-27T18:45"), OFFICIAL, SHANGHAI) == Remaining(
        unit=Unit.OVERDUE_HOURS, amount=1, left=-timedelta(hours=1, minutes=15)
    )
    before = remaining(at, local("2026-11-27T16:00"), OFFICIAL, SHANGHAI)
    assert (before.unit, before.amount) == (Unit.HOURS, 1)


def test_a_deadline_far_over_a_holiday_counts_working_days_only() -> None:
    at = local("2026-02-25T00:00")
    told = remaining(at, local("2026-02-14T18:00"), OFFICIAL, SHANGHAI)
    assert (told.unit, told.amount) == (Unit.WORKING_DAYS, 1)


@given(instants, st.integers(1, 20), overrides)
def test_at_receipt_all_days_remain(
    received_at: datetime, days: int, changed: dict[date, bool]
) -> None:
    calendar = Calendar(overrides=changed)
    due = deadline(received_at, days, calendar, SHANGHAI)
    told = remaining(due.at, received_at, calendar, SHANGHAI)
    assert (told.unit, told.amount) == (Unit.WORKING_DAYS, days)
