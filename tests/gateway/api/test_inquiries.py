"""Inquiries over the API, from listing to closing."""

import pytest

from gateway.actors import Role
from gateway.tables import Audit, Inquiry, Outbound
from tests.gateway.api.callers import PHONE, Callers
from tests.labs.recorder import Recorder, drain


async def test_the_whole_way_of_one_inquiry(callers: Callers, sms: Recorder) -> None:
    clerk = await callers.caller()
    made = await clerk.post(
        "/inquiries",
        {"text": "党费怎么交", "contact": {"kind": "phone", "value": "138 0013 8000"}},
    )
    assert made.status == 201, made.body
    number = made.body["number"]
    assert made.body["state"] == "new"
    answered = await clerk.post(
        f"/inquiries/{number}/replies", {"text": "每月十日前交支部。"}
    )
    assert answered.status == 201, answered.body
    assert answered.body["channel"] == "sms"
    await drain(callers.core)
    assert "每月十日前交支部。" in sms.sent[0].text
    delivery = await clerk.get(f"/deliveries/{answered.body['delivery_id']}")
    assert delivery.body["state"] == "accepted"
    assert delivery.body["to"] == {"kind": "phone", "value": PHONE}
    assert [a["outcome"] for a in delivery.body["attempts"]] == ["accepted"]
    closed = await clerk.post(f"/inquiries/{number}/close", {"outcome": "已答复"})
    assert closed.body["state"] == "closed"
    detail = (await clerk.get(f"/inquiries/{number}")).body
    kinds = [line["kind"] for line in detail["timeline"]]
    assert kinds[0] == "registered"
    assert {"answer", "callback", "closed"} <= set(kinds)
    assert detail["received_at"].endswith("Z")
    again = await clerk.post(f"/inquiries/{number}/close", {"outcome": "x"})
    assert (again.status, again.code) == (409, "closed")


async def test_lists_are_filtered_and_paged(callers: Callers) -> None:
    clerk = await callers.caller()
    numbers = [(await callers.inquiry()).number for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await clerk.get(f"/inquiries?limit=2&cursor={cursor}")
        assert page.status == 200, page.body
        seen += [one["number"] for one in page.body["items"]]
        if page.body["next"] is None:
            break
        cursor = page.body["next"]
    assert sorted(seen) == sorted(numbers)
    await clerk.post(f"/inquiries/{numbers[0]}/close", {"outcome": "好了"})
    closed = await clerk.get("/inquiries?state=closed")
    assert [one["number"] for one in closed.body["items"]] == numbers[:1]
    found = await clerk.get(f"/inquiries?q={numbers[3]}&channel=counter")
    assert [one["number"] for one in found.body["items"]] == [numbers[3]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("cursor=abc", 400),
        ("cursor=aW5xdWlyaWVzOjE=", 400),
        ("cursor=%E4%BD%A0", 400),
        ("limit=0", 422),
        ("limit=101", 422),
        ("limit=1000000", 422),
        ("limit=x", 422),
        ("state=open&state=new", 400),
        ("state=gone", 422),
        ("sort=phone", 422),
        ("q=%00", 400),
    ],
)
async def test_a_bad_query_is_named(callers: Callers, query: str, status: int) -> None:
    clerk = await callers.caller()
    answer = await clerk.get(f"/inquiries?{query}")
    assert answer.status == status, answer.body
    assert answer.code


async def test_a_cursor_of_another_list_is_refused(callers: Callers) -> None:
    clerk = await callers.caller()
    for number in range(3):
        await callers.member(phone=f"+861380013800{number}")
    cursor = (await clerk.get("/members?limit=1")).body["next"]
    assert (await clerk.get(f"/members?cursor={cursor}")).status == 200
    assert (await clerk.get(f"/inquiries?cursor={cursor}")).code == "cursor"


async def test_addresses_are_masked_for_who_does_not_work(callers: Callers) -> None:
    inquiry = await callers.inquiry()
    approver = await callers.caller(Role.APPROVER)
    shown = await approver.get(f"/inquiries/{inquiry.number}")
    assert shown.body["contact"] == {"kind": "phone", "value": "138****8000"}
    refused = await approver.post(
        f"/inquiries/{inquiry.number}/replies", {"text": "好"}
    )
    assert (refused.status, refused.code) == (403, "forbidden")


async def test_a_transfer_goes_to_one_of_both(callers: Callers) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    path = f"/inquiries/{number}/transfer"
    both = {"reason": "归口", "organisation": "c1", "staff": "clerk_b"}
    assert (await clerk.post(path, both)).status == 422
    assert (await clerk.post(path, {"reason": "归口"})).status == 422
    code = callers.console.centre_b.code
    moved = await clerk.post(path, {"reason": "归口办理", "organisation": code})
    assert moved.status == 200, moved.body
    assert moved.body["organisation"] == "乙中心"
    assert (await clerk.get(f"/inquiries/{number}")).status == 200, "first receiver"


@pytest.mark.parametrize(
    "extra",
    [
        {"owner_id": 1},
        {"state": "closed"},
        {"deadline_at": "2030-01-01T00:00:00Z"},
        {"created_at": "2030-01-01T00:00:00Z"},
        {"organisation_id": 1},
        {"first_organisation_id": 1},
    ],
)
async def test_nothing_but_the_named_fields_can_be_set(
    callers: Callers, extra: dict[str, object]
) -> None:
    clerk = await callers.caller()
    body = {"text": "x", "contact": {"kind": "qq", "value": "12345678"}} | extra
    answer = await clerk.post("/inquiries", body)
    assert answer.status == 422
    assert list(answer.body["fields"]) == list(extra)
    assert not await Inquiry.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "   ", "contact": {"kind": "qq", "value": "12345678"}}, "text"),
        ({"text": "x" * 4001}, "text"),
        ({"text": {"a": 1}}, "text"),
        ({"text": "x"}, "contact"),
        ({"text": "x", "member_id": {"1=1 --": 1}}, "member_id"),
        ({"text": "x", "member_id": "1"}, "member_id"),
        ({"text": "x", "member_id": True}, "member_id"),
        ({"text": "x", "member_id": 0}, "member_id"),
        ({"text": "x", "contact": {"kind": "fax", "value": "1"}}, "contact.kind"),
        ({"text": "x", "contact": {"kind": "phone", "value": "1"}}, "contact.value"),
        ([], "body"),
        ("text", "body"),
        (None, "text"),
    ],
)
async def test_what_is_wrong_is_said_by_field(
    callers: Callers, body: object, field: str
) -> None:
    clerk = await callers.caller()
    answer = await clerk.post("/inquiries", body)
    assert answer.status == 422, answer.body
    assert field in answer.body["fields"]


async def test_a_placeholder_that_cannot_be_filled_is_the_callers_fault(
    callers: Callers,
) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    for text in ("{{nothing}}", "{{", "{{姓名}}{{姓名}}"):
        answer = await clerk.post(f"/inquiries/{number}/replies", {"text": text})
        assert answer.status in (201, 422), answer.body


async def test_an_act_is_audited_under_the_name_of_the_token(callers: Callers) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    await clerk.post(f"/inquiries/{number}/replies", {"text": "好的"})
    entry = await Audit.filter(action="inquiry.answer").get()
    assert entry.actor.startswith("api:clerk-a")
    assert await Outbound.all().count() == 1


async def test_a_known_address_says_whose_matter_it_is(callers: Callers) -> None:
    member = await callers.member("a")
    contact = {"kind": "phone", "value": "13800138000"}
    for where, known in (("a", member.id), ("b", None)):
        clerk = await callers.caller(Role.CLERK, where)
        made = await clerk.post("/inquiries", {"text": "党费", "contact": contact})
        detail = await clerk.get(f"/inquiries/{made.body['number']}")
        assert detail.body["member_id"] == known
