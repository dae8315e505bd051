"""S-37 for the desk: another centre's matter looks like one that never was, on every
route there is and for every role."""

import re

import pytest
from aiohttp import web

from gateway.actors import Role
from gateway.core import Core
from gateway.inquiries import pages, register
from gateway.inquiries.register import NewMatter
from gateway.tables import Inquiry, Member
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from tests.console import Console

_IDS = re.compile(r"\{(\w+)(?::[^}]*)?\}")
# A body with which each act gets as far as its matter.
_BODY = {
    "text": "字",
    "reason": "因",
    "outcome": "果",
    "days": "3",
    "matter": "dues",
    "rating": "1",
    "staff": "clerk_a",
    "organisation": "c1",
}


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    add_routes(app, pages.ROUTES)
    return app


async def matter_of_b(console: Console, core: Core) -> Inquiry:
    new = NewMatter(
        source="counter", text="乙的事", organisation_id=console.centre_b.id
    )
    return await register.by_staff(core, console.actors["clerk_b"], new)


def filled(path: str, ids: dict[str, object]) -> str:
    return _IDS.sub(lambda found: str(ids[found[1]]), path)


async def test_every_route_finds_nothing(console: Console, core: Core) -> None:
    inquiry = await matter_of_b(console, core)
    foreign: dict[str, object] = {"number": inquiry.number, "id": inquiry.id}
    missing: dict[str, object] = {"number": "20200101-0001", "id": 999_999}
    routes = [one for one in pages.ROUTES if _IDS.search(one.path)]
    assert len(routes) > 15
    for role in Role:
        browser = await console.browser(f"{role}_a")
        for route in routes:
            answers = []
            for ids in (foreign, missing):
                path = filled(route.path, ids)
                if route.method == "GET":
                    answer = await browser.get(path)
                else:
                    body = _BODY | {"number": str(ids["number"])}
                    answer = await browser.post(path, body)
                text = re.sub("[0-9a-f]{16}", "", await answer.text())
                answers.append((answer.status, text))
            assert answers[0] == answers[1], (role, route.path)
            assert answers[0][0] in (204, 403, 404), (role, route.path)
    unchanged = await Inquiry.get(id=inquiry.id)
    assert (unchanged.state, unchanged.owner_id) == (inquiry.state, inquiry.owner_id)


async def test_a_body_names_nobody_outside(console: Console, core: Core) -> None:
    """S-39: members, people and matters of another centre, named in a form of one's
    own matter."""
    theirs = await matter_of_b(console, core)
    member = await Member.create(
        name="乙", organisation=console.centre_b, created_at=core.clock.now()
    )
    new = NewMatter(
        source="counter", text="甲的事", organisation_id=console.centre_a.id
    )
    own = await register.by_staff(core, console.actors["clerk_a"], new)
    browser = await console.browser("clerk_a")
    for act, body in (
        ("bind", {"member": str(member.id)}),
        ("merge", {"number": theirs.number}),
        ("assign", {"staff": "clerk_b"}),
        ("transfer", {"organisation": "staff:clerk_b", "reason": "因"}),
    ):
        answer = await browser.post(f"/inquiries/{own.number}/{act}", body)
        assert answer.status in (404, 422), act
    unchanged = await Inquiry.get(id=own.id)
    assert unchanged.member_id is None
    assert unchanged.organisation_id == console.centre_a.id
    assert (await Inquiry.get(id=theirs.id)).state == theirs.state
