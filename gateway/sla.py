"""Working days, working hours and deadlines in them. Time always comes as argument.

The rule of a deadline of n working days: the day of receipt does not count; day 1 is
the next working day after it; the deadline is the end of day n. Days are those of the
centre's time zone, make-up Saturdays and Sundays count as working days.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import count, pairwise
from zoneinfo import ZoneInfo

from chinese_calendar import constants

DAY = timedelta(days=1)


def _last_published_day() -> date:
    return date(max(constants.holidays).year, 12, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The State Council's calendar, corrected by what the centre's staff entered.

    `overrides` says of single days whether one works. After `published_until` the
    plain weekday rule stands in, and what rests on it is provisional.
    """

    overrides: Mapping[date, bool] = field(default_factory=dict)
    published_until: date = field(default_factory=_last_published_day)

    def is_working_day(self, day: date) -> bool:
        override = self.overrides.get(day)
        return _is_official_working_day(day) if override is None else override

    def working_days_after(self, day: date) -> Iterator[date]:
        """Endless, ascending, `day` itself left out."""
        later = (day + DAY * n for n in count(1))
        return filter(self.is_working_day, later)


def _is_official_working_day(day: date) -> bool:
    # The library's own question searches its tables for the first and last year on
    # each call. A year without entries answers by weekday, as it should.
    if day.weekday() < 5:
        return day not in constants.holidays
    return day in constants.workdays


def holiday_name(day: date) -> str:
    """The published holiday that `day` belongs to, in English; empty for other days."""
    name: str = constants.holidays.get(day, "")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """`day` is the last working day, local; `at` the moment it is over, UTC."""

    day: date
    at: datetime
    provisional: bool


def deadline(
    received_at: datetime,
    days: int,
    calendar: Calendar,
    timezone: ZoneInfo,
    *,
    closes: time | None = None,
) -> Deadline:
    """`days` working days after the day of receipt, at the end of the last one.

    That end is 24:00 (the next midnight), or `closes` where an office counts only to
    its closing time. Raises ValueError for less than one day.
    """
    if days < 1:
        raise ValueError(f"a deadline needs at least one working day, not {days}")
    later = calendar.working_days_after(received_at.astimezone(timezone).date())
    day = next(d for n, d in enumerate(later, start=1) if n == days)
    end = (day + DAY, time.min) if closes is None else (day, closes)
    at = datetime.combine(*end, tzinfo=timezone).astimezone(UTC)
    return Deadline(day=day, at=at, provisional=day > calendar.published_until)


Spell = tuple[time, time]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingHours:
    """Spells of one working day, local, ascending; the end of a spell is outside."""

    timezone: ZoneInfo
    spells: tuple[Spell, ...] = ((time(8, 30), time(12)), (time(14), time(17, 30)))

    def __post_init__(self) -> None:
        borders = [border for spell in self.spells for border in spell]
        if not borders or any(a >= b for a, b in pairwise(borders)):
            raise ValueError("working hours need ascending spells, at least one")

    def is_open(self, at: datetime, calendar: Calendar) -> bool:
        local = at.astimezone(self.timezone)
        now = local.time()
        return calendar.is_working_day(local.date()) and any(
            start <= now < end for start, end in self.spells
        )


class Unit(StrEnum):
    """In what the countdown to a deadline is told."""

    WORKING_DAYS = "working_days"  # whole working days after today
    HOURS = "hours"  # the last working day: whole hours left
    OVERDUE_HOURS = "overdue_hours"  # whole hours past, no working day gone by
    OVERDUE_DAYS = "overdue_days"  # working days begun since


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What the countdown chip shows; `left` is negative once overdue."""

    unit: Unit
    amount: int
    left: timedelta

    @property
    def overdue(self) -> bool:
        return self.unit in (Unit.OVERDUE_HOURS, Unit.OVERDUE_DAYS)


def remaining(
    deadline_at: datetime, now: datetime, calendar: Calendar, timezone: ZoneInfo
) -> Remaining:
    """How far off a deadline is, in the unit a person would use."""
    left = deadline_at - now
    # 24:00 belongs to the day that ends.
    last = (deadline_at - timedelta.resolution).astimezone(timezone).date()
    today = now.astimezone(timezone).date()
    if left <= timedelta(0):
        days = _count_working_days(last, today, calendar)
        unit, hours = Unit.OVERDUE_DAYS, Unit.OVERDUE_HOURS
    else:
        days = _count_working_days(today, last, calendar)
        unit, hours = Unit.WORKING_DAYS, Unit.HOURS
    if days:
        return Remaining(unit=unit, amount=days, left=left)
    return Remaining(unit=hours, amount=abs(left) // timedelta(hours=1), left=left)


def _count_working_days(after: date, until: date, calendar: Calendar) -> int:
    span = range(1, (until - after).days + 1)
    return sum(calendar.is_working_day(after + DAY * n) for n in span)
