"""The page of the working-day calendar: one year, its corrections, what is missing."""

from calendar import Calendar as Weeks
from collections.abc import Mapping
from datetime import date
from typing import Any

from aiohttp import web

from gateway import sla
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import RequestError
from gateway.sla import Calendar
from gateway.tables import Holiday
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page
from gateway.workdays import corrections, recompute
from gateway.workdays.corrections import Draft

FIRST_YEAR = 2004  # of the published calendar
_SATURDAY = 5
_HOLIDAYS: Mapping[str, str] = {
    "New Year's Day": "元旦",
    "Spring Festival": "春节",
    "Tomb-sweeping Day": "清明节",
    "Labour Day": "劳动节",
    "Dragon Boat Festival": "端午节",
    "National Day": "国庆节",
    "Mid-autumn Festival": "中秋节",
}


async def count(core: Core, actor: Actor) -> Mapping[str, int]:
    """For the navigation: years that wait for an administrator."""
    if not actor.may(Action.ADMINISTER):
        return {"calendar": 0}
    missing = corrections.missing_years(core)
    waiting = [year for year in missing if not corrections.is_entered(core, year)]
    return {"calendar": len(waiting)}


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    """With `?day=` that day stands in the form."""
    day = request.query.get("day", "")
    if not day or not actor.may(Action.ADMINISTER):
        return await _page(request, actor, _year(request))
    known = await corrections.find(day)
    form = {"day": day[:10], "working": "", "note": known.note if known else ""}
    if known is not None:
        form["working"] = str(int(known.working))
    return await _page(request, actor, _year(request), form)


def _year(request: web.Request) -> int:
    core = request.app[CORE]
    last = corrections.years(core)[-1]
    asked = forms.whole_number(request.query.get("year", ""))
    this = corrections.today(core).year
    return this if asked is None else min(max(asked, FIRST_YEAR), last)


async def _page(
    request: web.Request,
    actor: Actor,
    year: int,
    form: dict[str, str] | None = None,
    error: RequestError | None = None,
) -> web.Response:
    core = request.app[CORE]
    corrected = {date.fromisoformat(c.day): c for c in await corrections.of_year(year)}
    faults = error.fields if error else {}
    months = [_month(request, year, month, corrected) for month in range(1, 13)]
    return await render(
        request,
        "calendar.html",
        active="calendar",
        status=422 if error else 200,
        year=year,
        previous=year - 1 if year > FIRST_YEAR else None,
        next=year + 1 if year < corrections.years(core)[-1] else None,
        months=months,
        working_days=sum(month["working_days"] for month in months),
        published=year <= core.calendar.published_until.year,
        entered=corrections.is_entered(core, year),
        missing=[
            {"year": missing, "entered": corrections.is_entered(core, missing)}
            for missing in corrections.missing_years(core)
        ],
        stale=len(await recompute.moves(core, core.calendar)),
        corrections=[_correction(one) for one in corrected.values()],
        may_edit=actor.may(Action.ADMINISTER),
        opened=form is not None,
        form=form or {"day": "", "working": "", "note": ""},
        errors={name: text(request, words) for name, words in faults.items()},
    )


def _correction(one: Holiday) -> dict[str, Any]:
    return {"day": one.day, "working": one.working, "note": one.note}


def _month(
    request: web.Request, year: int, month: int, corrected: Mapping[date, Holiday]
) -> dict[str, Any]:
    core: Core = request.app[CORE]
    weeks = Weeks().monthdatescalendar(year, month)
    days = [day for week in weeks for day in week if day.month == month]
    return {
        "number": month,
        "working_days": sum(map(core.calendar.is_working_day, days)),
        "weeks": [
            [
                _cell(request, day, corrected.get(day)) if day.month == month else None
                for day in week
            ]
            for week in weeks
        ],
    }


def _cell(
    request: web.Request, day: date, correction: Holiday | None
) -> dict[str, Any]:
    core: Core = request.app[CORE]
    name = sla.holiday_name(day) if correction is None else ""
    note = correction.note if correction else ""
    return {
        "iso": day.isoformat(),
        "number": day.day,
        "kind": kind_of(day, core.calendar),
        "corrected": correction is not None,
        "today": day == corrections.today(core),
        "title": note or text(request, _HOLIDAYS.get(name, name)),
    }


def kind_of(day: date, calendar: Calendar) -> str:
    """work, weekend, holiday (休) or makeup (班)."""
    at_weekend = day.weekday() >= _SATURDAY
    if calendar.is_working_day(day):
        return "makeup" if at_weekend else "work"
    named = bool(sla.holiday_name(day))
    return "holiday" if named or not at_weekend else "weekend"


async def correct(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    given = {name: form.get(name) for name in ("day", "working", "note")}
    try:
        moved = await corrections.correct(request.app[CORE], actor, Draft(**given))
    except RequestError as error:
        if not error.fields:
            raise
        return await _page(request, actor, _year(request), given, error)
    return _done(request, given["day"][:4], moved)


async def remove(request: web.Request, actor: Actor) -> web.StreamResponse:
    day = request.match_info["day"]
    moved = await corrections.remove(request.app[CORE], actor, day)
    return _done(request, day[:4], moved)


async def renew(request: web.Request, actor: Actor) -> web.StreamResponse:
    moved = await corrections.renew(request.app[CORE], actor)
    return _done(request, str(_year(request)), moved)


def _done(request: web.Request, year: str, moved: int) -> web.StreamResponse:
    said = "日历已更新，{n} 件咨询的期限随之重算" if moved else "日历已更新"
    return redirect(request, f"/calendar?year={year}", text(request, said, n=moved))


_EDIT = Action.ADMINISTER
ROUTES = (
    page("GET", "/calendar", show, Action.READ),
    page("POST", "/calendar", correct, _EDIT),
    page("POST", "/calendar/recompute", renew, _EDIT),
    page("POST", "/calendar/{day}/remove", remove, _EDIT),
)
