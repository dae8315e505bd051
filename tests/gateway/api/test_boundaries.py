"""Nobody reaches what is not theirs (S-37, S-39): foreign answers like missing.

The matrix comes from the operations themselves, so a new one is tested unasked.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from broadcasts import api as broadcasts_api
from broadcasts.tables import Broadcast
from gateway.actors import GRANTS, Role
from gateway.api import deliveries, inquiries, members
from gateway.api.operations import Operation
from gateway.inquiries import work
from gateway.status import BroadcastState
from gateway.web.keys import ROUTES
from gateway.web.routes import Entry
from tests.gateway.api.callers import Answered, Callers

ALL: tuple[Operation, ...] = (
    *inquiries.OPERATIONS,
    *members.OPERATIONS,
    *deliveries.OPERATIONS,
    *broadcasts_api.OPERATIONS,
)
ON_ONE = [one for one in ALL if one.parameters]
BODIES: Mapping[str, dict[str, Any]] = {
    "reply": {"text": "好的"},
    "transfer": {"reason": "归口", "organisation": "c1"},
    "close": {"outcome": "好了"},
    "approve_broadcast": {"hash": "0" * 64},
}
MISSING = {"number": "20000101-0001", "id": "999999"}


def _name(one: Operation) -> str:
    return one.handler.__name__


async def test_every_token_route_is_an_operation(app: web.Application) -> None:
    routes = {(r.method, r.path) for r in app[ROUTES] if r.entry is Entry.TOKEN}
    assert routes == {(one.method, one.full_path) for one in ALL}


async def _objects(callers: Callers) -> dict[str, str]:
    """One of each of centre A: what stands in paths, by the operation's beginning."""
    inquiry = await callers.inquiry()
    sent = await work.answer(
        callers.core, callers.actor("clerk_a"), inquiry.number, "好的"
    )
    now = callers.core.clock.now()
    actor = callers.actor("clerk_a")
    broadcast = await Broadcast.create(
        kind="notice",
        title="主题党日",
        texts={"sms": "开会"},
        audience={"type": "tag", "tag": "a"},
        organisation_id=actor.organisation_id,
        state=BroadcastState.SUBMITTED,
        created_by=actor.name,
        created_at=now,
        changed_at=now,
    )
    return {
        "/inquiries": inquiry.number,
        "/deliveries": str(sent.id),
        "/broadcasts": str(broadcast.id),
    }


def _path(one: Operation, objects: Mapping[str, str] | None) -> str:
    start = "/" + one.path.split("/")[1]
    parameter = one.parameters[0]
    value = MISSING[parameter] if objects is None else objects[start]
    return one.path.replace(f"{{{parameter}}}", value)


async def _call(callers: Callers, one: Operation, path: str, who: Any) -> Answered:
    if one.method == "GET":
        return await who.get(path)  # type: ignore[no-any-return]
    return await who.post(path, BODIES.get(_name(one)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("one", ON_ONE, ids=_name)
async def test_a_foreign_object_answers_like_a_missing_one(
    callers: Callers, one: Operation
) -> None:
    objects = await _objects(callers)
    for role in Role:
        stranger = await callers.caller(role, "b")
        foreign = await _call(callers, one, _path(one, objects), stranger)
        missing = await _call(callers, one, _path(one, None), stranger)
        expected = 404 if one.action in GRANTS[role] else 403
        assert foreign.status == missing.status == expected, foreign.body
        assert foreign.body == missing.body


@pytest.mark.parametrize("one", ON_ONE, ids=_name)
async def test_the_own_and_the_higher_place_reach_it(
    callers: Callers, one: Operation
) -> None:
    objects = await _objects(callers)
    for where in ("a", "county"):
        owner = await callers.caller(Role.ADMINISTRATOR, where)
        answer = await _call(callers, one, _path(one, objects), owner)
        assert answer.status not in (401, 403, 404), answer.body


@pytest.mark.parametrize("one", ALL, ids=_name)
async def test_a_role_without_the_right_is_refused(
    callers: Callers, one: Operation
) -> None:
    objects = await _objects(callers)
    path = _path(one, objects) if one.parameters else one.path
    for role in Role:
        if one.action not in GRANTS[role]:
            answer = await _call(callers, one, path, await callers.caller(role))
            assert (answer.status, answer.code) == (403, "forbidden")
    assert (await _call(callers, one, path, callers.nobody())).status == 401


async def test_lists_hold_the_own_subtree_only(callers: Callers) -> None:
    await callers.member("a")
    await callers.inquiry("a")
    for where, number in (("a", 1), ("county", 1), ("b", 0)):
        clerk = await callers.caller(Role.CLERK, where)
        for path in ("/inquiries", "/members"):
            assert len((await clerk.get(path)).body["items"]) == number, (where, path)


async def test_foreign_ids_in_bodies_and_queries_are_missing_ones(
    callers: Callers,
) -> None:
    member = await callers.member("a")
    stranger = await callers.caller(Role.CLERK, "b")
    foreign = callers.console.branch_a.code
    calls = [
        ("/inquiries", {"text": "x", "member_id": member.id}),
        ("/inquiries", {"text": "x", "member_id": 999_999}),
        (
            "/inquiries",
            {
                "text": "x",
                "organisation": foreign,
                "contact": {"kind": "qq", "value": "12345678"},
            },
        ),
        ("/members", {"name": "x", "organisation": foreign}),
        ("/members", {"name": "x", "organisation": "nowhere"}),
    ]
    answers = [await stranger.post(path, body) for path, body in calls]
    answers.append(await stranger.get(f"/members?organisation={foreign}"))
    assert {answer.status for answer in answers} == {404}
    assert all(answer.body == answers[0].body for answer in answers)


@pytest.mark.parametrize("id", ["0", "-1", "9" * 30, "1e3", "１", "x", "%00", "1%20"])
async def test_a_strange_id_is_nobodys(callers: Callers, id: str) -> None:
    clerk = await callers.caller()
    for path in ("deliveries", "broadcasts", "inquiries"):
        assert (await clerk.get(f"/{path}/{id}")).status in (400, 404)
