"""Corrections of the calendar, and deadlines that follow them (E-5, E-6)."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from gateway import sla
from gateway.actors import Actor, Role
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.inquiries import queries, work
from gateway.inquiries.queries import Filter
from gateway.inquiries.register import deadline_from
from gateway.sla import Calendar
from gateway.tables import Audit, Inquiry, InquiryEvent, Organisation
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from gateway.workdays import corrections, pages, recompute
from gateway.workdays.corrections import Draft
from tests.console import Console
from tests.labs.matters import registered

WEDNESDAY = "2026-11-25"


def actor(role: Role) -> Actor:
    return Actor(name=role, role=role, organisation_id=1, path="/1/", staff_id=1)


ADMINISTRATOR = actor(Role.ADMINISTRATOR)


@pytest.fixture
async def county(core: Core) -> Organisation:
    return await Organisation.create(
        code="08", name="清禾县", kind="county", path="/1/"
    )


async def inquiry(core: Core, county: Organisation, **different: Any) -> Inquiry:
    now = core.clock.now()
    due = deadline_from(core, now)
    values = {"deadline_at": due.at, "deadline_provisional": due.provisional}
    return await registered(county.id, now, **values | different)


async def days(core: Core) -> list[date]:
    zone = core.settings.centre.timezone
    found = await Inquiry.all().order_by("id")
    return [recompute.last_day(one.deadline_at, zone) for one in found]


def off(day: str = WEDNESDAY, note: str = "") -> Draft:
    return Draft(day=day, working="0", note=note)


async def test_a_new_holiday_moves_what_spans_it_and_back(
    core: Core, county: Organisation, clock: ManualClock
) -> None:
    one = await inquiry(core, county)
    clock.advance(timedelta(minutes=1))
    assert await days(core) == [date(2026, 12, 1)]

    assert await corrections.correct(core, ADMINISTRATOR, off(note="县里通知")) == 1
    assert not core.calendar.is_working_day(date(2026, 11, 25))
    assert await days(core) == [date(2026, 12, 2)]
    event = await InquiryEvent.get(inquiry_id=one.id)
    assert (event.kind, event.text) == ("recomputed", "2026-12-01 → 2026-12-02")
    assert event.data["before"] == one.deadline_at.isoformat()
    assert event.actor == ADMINISTRATOR.name
    listed = await queries.listing(ADMINISTRATOR, Filter(), core.clock.now())
    assert listed.rows[0]["unread"]
    assert (await Inquiry.get(id=one.id)).changed_at == one.changed_at
    line = await Audit.get(action="calendar.correct")
    assert line.object == f"day:{WEDNESDAY}"
    assert line.detail == {
        "moved": 1,
        "working": False,
        "note": "县里通知",
        "before": None,
    }

    assert await corrections.remove(core, ADMINISTRATOR, WEDNESDAY) == 1
    assert await days(core) == [date(2026, 12, 1)]
    assert core.calendar == Calendar()
    with pytest.raises(NotFound):
        await corrections.remove(core, ADMINISTRATOR, WEDNESDAY)
    assert await InquiryEvent.filter(kind="recomputed").count() == 2


async def test_a_makeup_day_brings_deadlines_forward(
    core: Core, county: Organisation
) -> None:
    await inquiry(core, county)
    saturday = Draft(day="2026-11-28", working="1")
    assert await corrections.correct(core, ADMINISTRATOR, saturday) == 1
    assert await days(core) == [date(2026, 11, 30)]


async def test_others_stay(core: Core, county: Organisation) -> None:
    await inquiry(core, county, state="closed")
    extended = await inquiry(core, county)
    await work.extend(
        core,
        ADMINISTRATOR,
        extended.number,
        working_days=3,
        reason="材料没到",
    )
    earlier = core.clock.now() - timedelta(days=40)
    await inquiry(core, county, received_at=earlier, deadline_at=earlier)
    later = core.clock.now() + timedelta(days=10)
    await inquiry(core, county, received_at=later)
    before = await days(core)
    assert await corrections.correct(core, ADMINISTRATOR, off()) == 0
    assert await days(core) == before
    assert await InquiryEvent.filter(kind="recomputed").count() == 0


async def test_a_reopened_matter_counts_from_its_reopening(
    core: Core, county: Organisation
) -> None:
    long_ago = core.clock.now() - timedelta(days=40)
    one = await inquiry(core, county, received_at=long_ago)
    await InquiryEvent.create(
        inquiry=one, at=long_ago + timedelta(days=2), kind="extended"
    )
    await InquiryEvent.create(inquiry=one, at=core.clock.now(), kind="reopened")
    assert await corrections.correct(core, ADMINISTRATOR, off()) == 1
    assert await days(core) == [date(2026, 12, 2)]


async def test_a_second_correction_of_a_day_replaces_the_first(core: Core) -> None:
    await corrections.correct(core, ADMINISTRATOR, off(note="一"))
    await corrections.correct(core, ADMINISTRATOR, off(note="二"))
    assert [one.note for one in await corrections.of_year(2026)] == ["二"]
    last = await Audit.all().order_by("-id").first()
    assert last is not None
    assert last.detail["before"] == {"working": False, "note": "一"}
    assert await corrections.overrides() == {date(2026, 11, 25): False}


async def test_provisional_deadlines_follow_publication_by_a_persons_act(
    core: Core, county: Organisation, clock: ManualClock
) -> None:
    zone = core.settings.centre.timezone
    clock.set(datetime(2026, 12, 28, 10, tzinfo=zone))
    core.calendar = replace(core.calendar, published_until=date(2026, 12, 31))
    await inquiry(core, county)
    assert (await Inquiry.get()).deadline_provisional
    published = replace(
        core.calendar,
        published_until=date(2027, 12, 31),
        overrides={date(2027, 1, 1): False},
    )
    core.calendar = published
    assert len(await recompute.moves(core, core.calendar)) == 1
    assert await days(core) == [date(2027, 1, 6)]  # nothing moves by itself
    assert await corrections.renew(core, ADMINISTRATOR) == 1
    assert await days(core) == [date(2027, 1, 7)]
    assert not (await Inquiry.get()).deadline_provisional
    assert await corrections.renew(core, ADMINISTRATOR) == 0


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("day", {"day": ""}),
        ("day", {"day": "2026-02-30"}),
        ("day", {"day": "2024-11-25"}),
        ("day", {"day": "2029-11-26"}),
        ("day", {"day": "２０２６-11-25"}),
        ("working", {"working": ""}),
        ("working", {"working": "1"}),
        ("note", {"note": "长" * 81}),
    ],
)
async def test_faults_are_told_at_their_field(
    core: Core, field: str, changes: dict[str, str]
) -> None:
    wrong = replace(off(), **changes)
    with pytest.raises(RequestError) as refused:
        await corrections.correct(core, ADMINISTRATOR, wrong)
    assert list(refused.value.fields) == [field]
    assert core.calendar == Calendar()


async def test_only_administrators_correct(core: Core) -> None:
    for role in (Role.CLERK, Role.DIRECTOR, Role.APPROVER):
        for act in (
            corrections.correct(core, actor(role), off()),
            corrections.remove(core, actor(role), WEDNESDAY),
            corrections.renew(core, actor(role)),
        ):
            with pytest.raises(RequestError) as refused:
                await act
            assert refused.value.status == 403


async def test_a_missing_year_is_told_from_november(
    core: Core, clock: ManualClock
) -> None:
    zone = core.settings.centre.timezone
    core.calendar = replace(core.calendar, published_until=date(2026, 12, 31))
    for day, missing in (
        (datetime(2026, 10, 31, 23, 59, tzinfo=zone), []),
        (datetime(2026, 11, 1, tzinfo=zone), [2027]),
        (datetime(2027, 3, 1, tzinfo=zone), [2027]),
        (datetime(2027, 11, 1, tzinfo=zone), [2027, 2028]),
    ):
        clock.set(day)
        assert corrections.missing_years(core) == missing
    clock.set(datetime(2026, 11, 2, tzinfo=zone))
    assert await pages.count(core, ADMINISTRATOR) == {"calendar": 1}
    assert await pages.count(core, actor(Role.CLERK)) == {"calendar": 0}
    await corrections.correct(core, ADMINISTRATOR, off("2027-01-01"))
    assert await pages.count(core, ADMINISTRATOR) == {"calendar": 0}


def test_kinds_of_days() -> None:
    calendar = Calendar(overrides={date(2026, 11, 25): False})
    kinds = {
        date(2026, 10, 1): "holiday",
        date(2026, 10, 3): "holiday",  # a Saturday of the festival
        date(2026, 10, 10): "makeup",
        date(2026, 11, 21): "weekend",
        date(2026, 11, 24): "work",
        date(2026, 11, 25): "holiday",
    }
    assert {day: pages.kind_of(day, calendar) for day in kinds} == kinds
    assert sla.holiday_name(date(2026, 10, 1)) == "National Day"


@pytest.fixture
async def app(core: Core) -> web.Application:
    core.calendar = replace(core.calendar, published_until=date(2026, 12, 31))
    app = build_app(core)
    add_routes(app, pages.ROUTES)
    return app


async def test_the_page(core: Core, console: Console) -> None:
    clerk = await console.browser("clerk_a")
    page = await (await clerk.get("/calendar")).text()
    assert "2027年放假安排尚未公布，跨年期限按周一至周五暂定" in page
    assert "国庆节" in page
    assert "更正一天" not in page
    form = {"day": "2026-11-25", "working": "0", "note": "<b>调休</b>"}
    assert (await clerk.post("/calendar", form)).status == 403

    head = await console.browser("administrator_county")
    one = await inquiry(core, console.county)
    wrong = await head.post("/calendar?year=2026", form | {"working": "1"})
    assert wrong.status == 422
    assert "不用更正" in await wrong.text()
    assert (await head.post("/calendar", form)).headers["Location"] == (
        "/calendar?year=2026"
    )
    page = await (await clerk.get("/calendar?year=2026")).text()
    assert "&lt;b&gt;调休" in page
    assert "2026-11-25" in page
    page = await (await head.get("/calendar?day=2026-11-25")).text()
    assert 'value="2026-11-25"' in page
    assert (await Inquiry.get(id=one.id)).deadline_at > one.deadline_at
    assert (await head.post("/calendar/2026-11-25/remove")).status == 303
    assert (await Inquiry.get(id=one.id)).deadline_at == one.deadline_at
    assert (await head.post("/calendar/2026-11-25/remove")).status == 404
    assert (await head.post("/calendar/2026-11-25x/remove")).status == 404
    assert (await head.post("/calendar/recompute")).status == 303

    await head.post("/calendar", form | {"day": "2027-01-01"})
    page = await (await head.get("/calendar?year=2027")).text()
    assert "已按录入的更正计算" in page
    for query in ("year=9999", "year=x", "year=0", "day=x", "day=" + "9" * 99):
        assert (await head.get(f"/calendar?{query}")).status == 200, query
