"""Members over the API: listed, added, imported."""

from io import BytesIO
from typing import Any

import pytest
import xlsxwriter
from aiohttp import FormData

from gateway.actors import Role
from gateway.tables import AddressRow, Member
from tests.gateway.api.callers import PHONE, Answered, Caller, Callers

SHEET = """姓名,党组织,手机,标签
江金凤,甲支部,13800138000,志愿者
王大山,甲支部,123,
,甲支部,13800138001,
李小河,没有的支部,13800138002,
"""
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def test_a_member_is_added_and_found(callers: Callers) -> None:
    clerk = await callers.caller()
    made = await clerk.post(
        "/members",
        {
            "name": "江金凤",
            "organisation": callers.console.branch_a.code,
            "addresses": [{"kind": "phone", "value": "13800138000"}],
            "tags": ["志愿者", "老党员"],
            "joined_on": "2009-07",
        },
    )
    assert made.status == 201, made.body
    assert made.body["organisation"]["name"] == "甲支部"
    assert "addresses" not in made.body, "it is kept with its key"
    shown = (await clerk.get("/members")).body["items"][0]
    assert shown["addresses"] == [{"kind": "phone", "value": PHONE, "verified": True}]
    assert shown["tags"] == ["志愿者", "老党员"]
    for query in ("q=金凤", "q=8000", "q=13800138000", "tag=老党员"):
        found = await clerk.get(f"/members?{query}")
        assert [one["id"] for one in found.body["items"]] == [made.body["id"]], query
    none = await clerk.get("/members?q=1380013")
    assert none.body["items"] == [], "no part of a number finds anybody"


async def test_members_are_paged(callers: Callers) -> None:
    clerk = await callers.caller()
    for number in range(5):
        await callers.member(phone=f"+861380013800{number}", name=f"党员{number}")
    names: list[str] = []
    cursor = ""
    while cursor is not None:
        page = await clerk.get(f"/members?limit=2&cursor={cursor}")
        assert page.body["total"] == 5
        names += [one["name"] for one in page.body["items"]]
        cursor = page.body["next"]
    assert names == [f"党员{number}" for number in range(5)]


async def test_addresses_are_masked_for_an_approver(callers: Callers) -> None:
    await callers.member()
    approver = await callers.caller(Role.APPROVER)
    found = await approver.get("/members")
    assert found.body["items"][0]["addresses"][0]["value"] == "138****8000"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"joined_on": "2009-13"}, "joined_on"),
        ({"joined_on": "yesterday"}, "joined_on"),
        ({"tags": ["a,b"]}, "tags.0"),
        ({"preferred_kind": "fax"}, "preferred_kind"),
        ({"addresses": [{"kind": "phone", "value": "12"}]}, "addresses.0.value"),
        ({"id": 7}, "id"),
        ({"organisation_id": 1}, "organisation_id"),
    ],
)
async def test_a_wrong_member_is_explained(
    callers: Callers, change: dict[str, Any], field: str
) -> None:
    clerk = await callers.caller()
    answer = await clerk.post("/members", {"name": "江金凤"} | change)
    assert answer.status == 422, answer.body
    assert field in answer.body["fields"]
    assert not await Member.exists()


async def _send(clerk: Caller, content: bytes, media: str, query: str = "") -> Answered:
    return await clerk.send(
        "POST", f"/members/import{query}", content, Content_Type=media
    )


async def test_a_sheet_is_tried_then_imported(callers: Callers) -> None:
    clerk = await callers.caller()
    tried = await _send(clerk, SHEET.encode(), "text/csv", "?dry_run=true")
    assert tried.status == 200, tried.body
    assert not await Member.exists()
    done = await _send(clerk, SHEET.encode(), "text/csv")
    assert tried.body == done.body | {"dry_run": True}
    assert (done.body["new"], done.body["left_out"]) == (1, 3)
    assert {fault["row"] for fault in done.body["faults"]} == {3, 4, 5}
    assert all(fault["column"] and fault["message"] for fault in done.body["faults"])
    again = await _send(clerk, SHEET.encode(), "text/csv")
    assert (again.body["new"], again.body["same"]) == (0, 1)
    assert await AddressRow.all().count() == 1


async def test_a_workbook_is_sent_as_a_form_or_as_it_is(callers: Callers) -> None:
    clerk = await callers.caller()
    content = BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["姓名", "党组织"])
        sheet.write_row(1, 0, ["江金凤", "甲支部"])
    plain = await _send(clerk, content.getvalue(), XLSX, "?dry_run=1")
    assert plain.body["new"] == 1
    form = FormData()
    form.add_field("file", content.getvalue(), filename="党员.xlsx")
    answer = await clerk.client.post(
        "/api/v1/members/import",
        data=form,
        headers={"Authorization": f"Bearer {clerk.token}"},
    )
    assert (await answer.json())["new"] == 1


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        (b"", "text/csv", 422),
        (b"\x00\x01\x02", "text/csv", 422),
        (b"PK\x03\x04broken", XLSX, 422),
        ("地址,电话\n".encode(), "text/csv", 422),
        (b"x", "application/json", 415),
        (b"x", "", 415),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b"--b--", "multipart/form-data; boundary=b", 422),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b", 400),
    ],
)
async def test_what_is_no_sheet_is_explained(
    callers: Callers, content: bytes, media: str, status: int
) -> None:
    clerk = await callers.caller()
    answer = await _send(clerk, content, media)
    assert answer.status == status, answer.body
    assert answer.code


async def test_a_sheet_over_the_limit_is_a_413(callers: Callers) -> None:
    clerk = await callers.caller()
    answer = await _send(clerk, b"x" * (21 * 1024 * 1024), "text/csv")
    assert (answer.status, answer.code) == (413, "too_large")
