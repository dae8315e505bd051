"""Corrections of the published calendar, and what follows from one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from gateway import audit
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import transaction
from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase, together
from gateway.sla import Calendar
from gateway.tables import Holiday
from gateway.workdays import recompute
from gateway.workdays.recompute import Move

LONGEST_NOTE = 80  # characters
YEARS_AHEAD = 2
_NEXT_YEAR_IS_MISSED_FROM = 11  # November: the State Council publishes it about then


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What staff enter; `working` is "1" or "0"."""

    day: str  # ISO date
    working: str
    note: str = ""


async def overrides() -> Mapping[date, bool]:
    days = await Holiday.all()
    return {date.fromisoformat(one.day): one.working for one in days}


async def of_year(year: int) -> list[Holiday]:
    return await Holiday.filter(day__startswith=f"{year:04d}-").order_by("day")


async def find(day: str) -> Holiday | None:
    """None too for what is no date."""
    known = _day(day)
    return None if known is None else await Holiday.get_or_none(day=known.isoformat())


def today(core: Core) -> date:
    return core.clock.now().astimezone(core.settings.centre.timezone).date()


def years(core: Core) -> range:
    """Years whose days may be corrected."""
    return range(today(core).year - 1, today(core).year + YEARS_AHEAD + 1)


def missing_years(core: Core) -> list[int]:
    """Years that deadlines already reach, or soon will, and that nobody published."""
    day = today(core)
    ends = day.year + (day.month >= _NEXT_YEAR_IS_MISSED_FROM)
    published = core.calendar.published_until.year
    return [year for year in range(day.year, ends + 1) if year > published]


def is_entered(core: Core, year: int) -> bool:
    """Whether staff entered anything of this year."""
    return any(day.year == year for day in core.calendar.overrides)


async def correct(core: Core, actor: Actor, draft: Draft) -> int:
    """Say of one day whether it is worked; how many deadlines that moved."""
    actor.require(Action.ADMINISTER)
    day, working = _checked(core, draft)
    async with transaction():
        old = await Holiday.get_or_none(day=draft.day)
        before = None if old is None else {"working": old.working, "note": old.note}
        await Holiday.update_or_create(
            day=draft.day, defaults={"working": working, "note": draft.note}
        )
        calendar, found = await _follow(core, actor, day)
        await _record(
            core,
            actor,
            "calendar.correct",
            f"day:{day}",
            found,
            working=working,
            note=draft.note,
            before=before,
        )
    return await _in_force(core, calendar, found)


async def remove(core: Core, actor: Actor, day: str) -> int:
    """Back to what was published; how many deadlines that moved."""
    actor.require(Action.ADMINISTER)
    async with transaction():
        old = await find(day)
        if old is None:
            raise NotFound(f"correction {day[:10]}")
        await old.delete()
        calendar, found = await _follow(core, actor, date.fromisoformat(day))
        before = {"working": old.working, "note": old.note}
        await _record(
            core, actor, "calendar.remove", f"day:{day}", found, before=before
        )
    return await _in_force(core, calendar, found)


async def renew(core: Core, actor: Actor) -> int:
    """Recompute provisional deadlines once more is published; how many moved."""
    actor.require(Action.ADMINISTER)
    async with transaction():
        found = await recompute.moves(core, core.calendar)
        await recompute.carry_out(core, actor, found)
        await _record(core, actor, "calendar.recompute", "calendar:", found)
    return await _in_force(core, core.calendar, found)


async def _follow(core: Core, actor: Actor, day: date) -> tuple[Calendar, list[Move]]:
    calendar = replace(core.calendar, overrides=await overrides())
    found = await recompute.moves(core, calendar, day)
    await recompute.carry_out(core, actor, found)
    return calendar, found


async def _record(
    core: Core,
    actor: Actor,
    action: str,
    object: str,
    found: list[Move],
    **detail: Any,
) -> None:
    moved = sum(move.moved for move in found)
    await audit.record(core.clock, actor, action, object, moved=moved, **detail)


async def _in_force(core: Core, calendar: Calendar, found: list[Move]) -> int:
    core.calendar = calendar
    core.hub.publish("calendar", "")
    await recompute.announce(core, found)
    return sum(move.moved for move in found)


def _checked(core: Core, draft: Draft) -> tuple[date, bool]:
    faults: dict[str, str] = {}
    day = _day(draft.day)
    span = years(core)
    if day is None:
        faults["day"] = "请选择日期，写成 2027-01-04 这样"
    elif day.year not in span:
        faults["day"] = phrase(
            "只能更正{first}年到{last}年", first=span[0], last=span[-1]
        )
    if draft.working not in ("0", "1"):
        faults["working"] = "请选择上班或休息"
    elif day is not None and _is_idle(core, day, draft.working == "1"):
        faults["working"] = "这一天本来就是这样，不用更正"
    if len(draft.note) > LONGEST_NOTE:
        faults["note"] = phrase("说明最多{n}个字", n=LONGEST_NOTE)
    if faults or day is None:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )
    return day, draft.working == "1"


def _day(text: str) -> date | None:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _is_idle(core: Core, day: date, working: bool) -> bool:
    """A new correction that says what the calendar says anyhow."""
    if day in core.calendar.overrides:
        return False
    return core.calendar.is_working_day(day) == working
