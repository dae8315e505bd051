"""Notices over the API: written by one, approved by another, sent once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from broadcasts import api, running
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.actors import Actor, Role
from gateway.api.operations import mount
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure
from gateway.outbox import unknown
from gateway.staff import tokens
from gateway.tables import Outbound
from gateway.web.app import build_app
from tests.broadcasts.county import TEXT, County, phone
from tests.gateway.api.callers import Caller
from tests.labs.recorder import Recorder, drain

PEOPLE = 7


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    mount(app, api.OPERATIONS)
    return app


class Callers:
    """Programs with tokens of the county's people."""

    def __init__(self, county: County, client: Any) -> None:
        self.county = county
        self.client = client

    async def like(self, actor: Actor, name: str) -> Caller:
        head = Actor(name="", role=Role.ADMINISTRATOR, organisation_id=0, path="/")
        value = await tokens.create(
            self.county.core, head, name, actor.role, actor.organisation_id
        )
        return Caller(client=self.client, token=value)


@pytest.fixture
async def callers(
    county: County, app: web.Application, aiohttp_client: AiohttpClient
) -> Callers:
    await county.crowd(PEOPLE)
    return Callers(county, await aiohttp_client(app))


def notice(**changes: Any) -> dict[str, Any]:
    body = {
        "kind": "notice",
        "title": "主题党日",
        "texts": {"sms": TEXT},
        "audience": {"type": "organisation", "code": "0801"},
        "rsvp": True,
    }
    return body | changes


async def _approved(callers: Callers) -> tuple[Caller, int]:
    clerk = await callers.like(callers.county.clerk, "clerk")
    director = await callers.like(callers.county.director, "director")
    made = await clerk.post("/broadcasts", notice(), key="create")
    assert made.status == 201, made.body
    assert made.body["state"] == "submitted"
    id = made.body["id"]
    done = await director.post(
        f"/broadcasts/{id}/approve", {"hash": made.body["hash"]}, key="approve"
    )
    assert (done.status, done.body["state"]) == (200, "approved"), done.body
    return clerk, id


async def test_the_whole_way_of_a_notice(callers: Callers, sms: Recorder) -> None:
    clerk, id = await _approved(callers)
    started = await clerk.post(f"/broadcasts/{id}/start", key="start")
    assert (started.status, started.body["planned"]) == (200, PEOPLE), started.body
    assert started.body["counts"]["waiting"] == PEOPLE
    await drain(callers.county.core)
    await running.settle(callers.county.core)
    found = (await clerk.get(f"/broadcasts/{id}")).body
    assert found["state"] == "finished"
    assert sum(found["counts"].values()) == found["planned"] == PEOPLE
    assert found["answers"] == {"yes": 0, "no": 0, "silent": PEOPLE}
    assert len(sms.sent) == PEOPLE
    replayed = await clerk.post(f"/broadcasts/{id}/start", key="start")
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert replayed.body == started.body


async def test_it_is_not_just_finished_while_nobody_knows_of_somebody(
    callers: Callers, sms: Recorder
) -> None:
    county = callers.county
    clerk, id = await _approved(callers)
    sms.answers[phone(1)] = OutcomeUnknown("timeout")
    await clerk.post(f"/broadcasts/{id}/start", key="start")
    await drain(county.core)
    await running.settle(county.core)
    found = (await clerk.get(f"/broadcasts/{id}")).body
    assert found["state"] == "finished_with_open_questions"
    lost = await Outbound.get(state="unknown")
    await unknown.decide(county.core, county.clerk, lost.id, "sent", "本人说收到了")
    assert (await clerk.get(f"/broadcasts/{id}")).body["state"] == "finished"


async def test_whom_nothing_reaches_is_counted_apart(callers: Callers) -> None:
    await callers.county.member("只有座机")
    clerk, id = await _approved(callers)
    started = await clerk.post(f"/broadcasts/{id}/start")
    assert (started.body["planned"], started.body["left_out"]) == (
        PEOPLE,
        {"no_address": 1},
    )


async def test_recipients_are_paged_and_filtered(callers: Callers) -> None:
    clerk, id = await _approved(callers)
    await clerk.post(f"/broadcasts/{id}/start")
    seen: list[int] = []
    cursor = ""
    while cursor is not None:
        page = await clerk.get(f"/broadcasts/{id}/recipients?limit=3&cursor={cursor}")
        assert page.status == 200, page.body
        seen += [one["delivery_id"] for one in page.body["items"]]
        cursor = page.body["next"]
    assert len(set(seen)) == len(seen) == PEOPLE
    assert all("****" in one["to"] for one in page.body["items"])
    for state, number in (("waiting", PEOPLE), ("planned", PEOPLE), ("refused", 0)):
        found = await clerk.get(f"/broadcasts/{id}/recipients?state={state}")
        assert len(found.body["items"]) == number, state


async def test_fifty_starts_send_once(callers: Callers, sms: Recorder) -> None:
    clerk, id = await _approved(callers)
    answers = await asyncio.gather(
        *(clerk.post(f"/broadcasts/{id}/start", key=f"k{n % 2}") for n in range(25)),
        *(clerk.post(f"/broadcasts/{id}/start") for _ in range(25)),
    )
    assert {a.status for a in answers} <= {200, 409}
    assert {a.code for a in answers if a.status == 409} <= {"in_flight"}
    assert {a.body["id"] for a in answers if a.status == 200} == {id}
    await drain(callers.county.core)
    assert sorted(sms.to) == sorted(set(sms.to))
    assert await Outbound.filter(broadcast_id=id).count() == PEOPLE


async def test_pause_resume_cancel(callers: Callers, sms: Recorder) -> None:
    clerk, id = await _approved(callers)
    early = await clerk.post(f"/broadcasts/{id}/pause")
    assert (early.status, early.code) == (409, "wrong_state")
    await clerk.post(f"/broadcasts/{id}/start")
    states = []
    for act in ("pause", "resume", "pause", "cancel", "cancel"):
        answer = await clerk.post(f"/broadcasts/{id}/{act}")
        assert answer.status == 200, answer.body
        states.append(answer.body["state"])
    assert states == ["paused", "running", "paused", "cancelled", "cancelled"]
    assert answer.body["counts"]["cancelled"] == answer.body["planned"] == PEOPLE
    await drain(callers.county.core)
    assert not sms.sent


async def test_nobody_approves_what_the_same_token_wrote(callers: Callers) -> None:
    director = await callers.like(callers.county.director, "one")
    made = (await director.post("/broadcasts", notice())).body
    body = {"hash": made["hash"]}
    own = await director.post(f"/broadcasts/{made['id']}/approve", body)
    assert (own.status, own.code) == (403, "own_draft")
    other = await callers.like(callers.county.director, "other")
    wrong = {"hash": "0" * 64}
    stale = await other.post(f"/broadcasts/{made['id']}/approve", wrong)
    assert (stale.status, stale.code) == (409, "revision_changed")
    good = await other.post(f"/broadcasts/{made['id']}/approve", body)
    assert good.body["approved_by"] == "api:other"


async def test_one_with_a_time_is_scheduled_by_its_approval(callers: Callers) -> None:
    clerk = await callers.like(callers.county.clerk, "clerk")
    director = await callers.like(callers.county.director, "director")
    at = callers.county.core.clock.now() + timedelta(hours=2)
    local = at.isoformat().replace("+00:00", "Z")
    made = (await clerk.post("/broadcasts", notice(send_at=local))).body
    assert made["send_at"] == local
    done = await director.post(
        f"/broadcasts/{made['id']}/approve", {"hash": made["hash"]}
    )
    assert done.body["state"] == "scheduled"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "survey"}, "kind"),
        ({"title": ""}, "title"),
        ({"title": "两\n行"}, "title"),
        ({"texts": {}}, "sms"),
        ({"texts": {"fax": "x"}}, "texts.fax"),
        ({"texts": {"sms": "{{没有}}"}}, "sms"),
        ({"audience": {}}, "audience"),
        ({"audience": {"type": "everybody"}}, "audience"),
        ({"audience": {"type": "organisation", "code": "0999"}}, "audience"),
        ({"audience": {"type": "list"}}, "audience"),
        ({"audience": {"type": "list", "ids": ["1"]}}, "audience.list.ids.0"),
        ({"send_at": "tomorrow"}, "send_at"),
        ({"send_at": "2026-11-20T12:00:00"}, "send_at"),
        ({"send_at": "0001-01-01T00:00:00+14:00"}, "send_at"),
        ({"send_at": "9999-12-31T23:59:59-14:00"}, "send_at"),
        ({"send_at": "2020-01-01T00:00:00Z"}, "send_at"),
        ({"send_at": 1790000000}, "send_at"),
        ({"state": "approved"}, "state"),
        ({"organisation_id": 1}, "organisation_id"),
        ({"created_by": "x"}, "created_by"),
    ],
)
async def test_a_wrong_notice_is_explained_and_leaves_nothing(
    callers: Callers, change: dict[str, Any], field: str
) -> None:
    clerk = await callers.like(callers.county.clerk, "clerk")
    answer = await clerk.post("/broadcasts", notice(**change), key="k")
    assert answer.status == 422, answer.body
    assert field in answer.body["fields"]
    assert not await Broadcast.exists()


async def test_a_draft_that_cannot_be_submitted_is_not_kept(callers: Callers) -> None:
    clerk = await callers.like(callers.county.clerk, "clerk")
    nobody = notice(audience={"type": "tag", "tag": "没有"})
    answer = await clerk.post("/broadcasts", nobody)
    assert (answer.status, answer.code) == (422, "nobody")
    assert not await Broadcast.exists()


async def test_who_does_not_work_sees_a_list_masked(callers: Callers) -> None:
    county = callers.county
    clerk = await callers.like(county.clerk, "clerk")
    audience = {
        "type": "list",
        "addresses": [{"kind": "phone", "value": "13800138000"}],
        "ids": [county.members[0].id],
    }
    made = await clerk.post("/broadcasts", notice(audience=audience))
    assert made.body["audience"]["addresses"][0]["value"] == "138****8000"
    whole = await clerk.get(f"/broadcasts/{made.body['id']}")
    assert whole.body["audience"]["addresses"][0]["value"] == "+8613800138000"
    actor = Actor(
        name="x",
        role=Role.APPROVER,
        organisation_id=county.clerk.organisation_id,
        path=county.clerk.path,
    )
    approver = await callers.like(actor, "approver")
    shown = await approver.get(f"/broadcasts/{made.body['id']}")
    assert shown.body["audience"]["addresses"][0]["value"] == "138****8000"


async def test_all_states_are_told_and_they_add_up(callers: Callers) -> None:
    clerk, id = await _approved(callers)
    await clerk.post(f"/broadcasts/{id}/start")
    found = (await clerk.get(f"/broadcasts/{id}")).body
    assert (found["states"], found["balanced"]) == ({"planned": PEOPLE}, True)
    await drain(callers.county.core)
    found = (await clerk.get(f"/broadcasts/{id}")).body
    assert (found["states"], found["balanced"]) == ({"accepted": PEOPLE}, True)
    row = await Outbound.filter(broadcast_id=id).first()
    assert row is not None
    await Outbound.filter(id=row.id).delete()
    await db.execute("DELETE FROM tallies WHERE state = 'accepted'")
    assert (await clerk.get(f"/broadcasts/{id}")).body["balanced"] is False


async def test_the_failed_are_sent_to_again(callers: Callers, sms: Recorder) -> None:
    sms.answers[phone(0)] = PermanentFailure("refused")
    sms.answers[phone(1)] = OutcomeUnknown("timeout")
    clerk, id = await _approved(callers)
    await clerk.post(f"/broadcasts/{id}/start")
    await drain(callers.county.core)
    sms.answers.clear()
    sms.sent.clear()
    unsaid = await clerk.post(f"/broadcasts/{id}/again", {"unknown": True})
    assert (unsaid.status, unsaid.body["fields"].keys()) == (422, {"reason"})
    done = await clerk.post(f"/broadcasts/{id}/again", {}, key="again")
    assert (done.status, done.body["states"]["queued"]) == (200, 1), done.body
    twice = await clerk.post(f"/broadcasts/{id}/again", {}, key="again")
    assert twice.headers["Idempotent-Replayed"] == "true"
    await drain(callers.county.core)
    assert sms.to == [phone(0)]
    none = await clerk.post(f"/broadcasts/{id}/again", {})
    assert (none.status, none.code) == (409, "nobody")
