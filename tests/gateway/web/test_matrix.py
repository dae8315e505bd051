"""S-37 in small: whatever a route names that isn't yours is not found, and looks like
what never was. Generated from the route table, so that a new route is in by itself."""

import re

from gateway.actors import Role
from gateway.contract import Address, AddressKind
from gateway.members import registry
from gateway.members.registry import Draft
from gateway.staff import tokens
from gateway.tables import ApiToken
from gateway.web.keys import CORE, ROUTES
from gateway.web.routes import Entry, Route
from tests.console import Console

_IDS = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_NOWHERE = 999_999_999
# A body with which each posting route gets as far as its objects.
_BODY = {
    "name": "名",
    "organisation_id": "1",
    "kind": "qq",
    "value": "10009",
    "evidence": "电话里说的",
    "code": "zz",
    "token": "x" * 22,
}


def _named(console: Console) -> list[Route]:
    return [
        route
        for route in console.app[ROUTES]
        if route.entry is Entry.SESSION and _IDS.search(route.path)
    ]


def _fill(route: Route, ids: dict[str, object]) -> str:
    return _IDS.sub(lambda found: str(ids[found[1]]), route.path)


async def _objects(console: Console) -> dict[str, dict[str, object]]:
    """Ids in centre B, by the first part of the path that names them."""
    core, actor = console.app[CORE], console.actors["administrator_county"]
    member = await registry.add(
        core,
        actor,
        Draft(name="乙", organisation_id=console.centre_b.id),
        [Address(AddressKind.PHONE, "+8613800138000")],
    )
    stored = await registry.find(actor, member.id)
    await tokens.create(core, actor, "乙", Role.CLERK, console.centre_b.id)
    return {
        "members": {
            "id": member.id,
            "address": stored.addresses[0].id,
            "token": "y" * 22,
        },
        "staff": {"id": console.actors["clerk_b"].staff_id},
        "organisations": {"id": console.centre_b.id},
        "account": {"id": 1},
        "tokens": {"id": (await ApiToken.get()).id},
    }


async def test_foreign_objects_look_like_missing_ones(console: Console) -> None:
    objects = await _objects(console)
    await console.browser("clerk_b")  # session 1 is somebody else's
    for username in ("clerk_a", "director_a", "approver_a", "administrator_a"):
        browser = await console.browser(username)
        actor = console.actors[username]
        for route in _named(console):
            foreign = objects[route.path.split("/")[1]]
            missing: dict[str, object] = dict.fromkeys(foreign, _NOWHERE)
            missing |= {"token": "z" * 22}
            answers = []
            for ids in (foreign, missing):
                path = _fill(route, ids)
                if route.method == "GET":
                    answer = await browser.get(path)
                else:
                    answer = await browser.post(path, _BODY)
                text = re.sub(r"[0-9a-f]{16}", "", await answer.text())
                answers.append((answer.status, text))
            assert route.action is not None
            expected = 404 if actor.may(route.action) else 403
            assert answers[0] == answers[1], (username, route.path)
            assert answers[0][0] == expected, (username, route.path)


async def test_impossible_ids_are_not_found(console: Console) -> None:
    browser = await console.browser("administrator_county")
    for route in _named(console):
        for id in (0, 2**31, 2**63, 10**30, "%00", "x", "-1", "1e3"):
            path = _fill(route, {"id": id, "address": id, "token": id})
            if route.method == "GET":
                answer = await browser.get(path)
            else:
                answer = await browser.post(path, _BODY)
            assert answer.status in (400, 404), (answer.status, path)


async def test_without_a_session_every_page_leads_to_sign_in(console: Console) -> None:
    for route in console.app[ROUTES]:
        if route.entry is not Entry.SESSION:
            continue
        path = _fill(route, {"id": 1, "address": 1, "token": "x"})
        answer = await console.client.request(route.method, path, allow_redirects=False)
        assert answer.status in (303, 401), route.path


async def test_a_foreign_organisation_in_a_query_is_not_found(
    console: Console,
) -> None:
    browser = await console.browser("clerk_a")
    for id in (console.centre_b.id, console.county.id, _NOWHERE, 0, "x", 10**30):
        answer = await browser.get(f"/members?organisation={id}")
        assert answer.status == 404, id


async def test_a_strange_query_is_never_a_5xx(console: Console) -> None:
    browser = await console.browser("administrator_county")
    values = (
        "%00",
        "%ff",
        "9" * 400,
        "-1",
        "'",
        "%25",
        "<b>",
        "%f0%9f%98%80",
        "x" * 900,
    )
    for route in console.app[ROUTES]:
        if route.method != "GET" or _IDS.search(route.path) or route.path == "/events":
            continue
        for value in values:
            query = "&".join(
                f"{name}={value}"
                for name in ("q", "after", "before", "from", "tag", "action", "lang")
            )
            answer = await browser.get(f"{route.path}?{query}")
            assert answer.status < 500, (route.path, value)
