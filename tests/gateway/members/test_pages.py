"""The list, the card, registration, consent."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from gateway.contract import Address, AddressKind
from gateway.database import rows, transaction
from gateway.errors import RequestError
from gateway.members import consent, registry
from gateway.members.registry import Draft, Filter
from gateway.tables import AddressRow, Inbound, Member, OptOutRow, PromptRow
from gateway.web.keys import CORE
from tests.console import Console


async def _member(
    console: Console, name: str, phone: str = "", place: Any = None, tags: str = ""
) -> Member:
    draft = Draft(name=name, organisation_id=(place or console.branch_a).id, tags=tags)
    given = [Address(AddressKind.PHONE, phone)] if phone else []
    actor = console.actors["administrator_county"]
    return await registry.add(console.app[CORE], actor, draft, given)


async def test_the_list_masks_numbers_and_the_card_shows_them(
    console: Console,
) -> None:
    member = await _member(console, "江金凤", "+8613800138000", tags="志愿者")
    browser = await console.browser("clerk_a")
    text = await (await browser.get("/members")).text()
    assert "江金凤" in text
    assert "138****8000" in text
    assert "13800138000" not in text
    card = await (await browser.get(f"/members/{member.id}")).text()
    assert "13800138000" in card


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("金凤", {"江金凤"}),
        ("13800138000", {"江金凤"}),
        ("+86 138 0013 8000", {"江金凤"}),
        ("8001", {"洪秀梅"}),
        ("志愿者", {"洪秀梅"}),
        ("1380013", set()),
        ("%", set()),
        ("_", set()),
        ("' OR 1=1--", set()),
        ("", {"江金凤", "洪秀梅"}),
    ],
)
async def test_search(console: Console, q: str, found: set[str]) -> None:
    await _member(console, "江金凤", "+8613800138000")
    await _member(console, "洪秀梅", "+8613800138001", tags="志愿者")
    actor = console.actors["clerk_a"]
    page = await registry.page(actor, Filter(text=q))
    assert {member.name for member in page.members} == found


async def test_paging_goes_through_everybody_once_and_back(console: Console) -> None:
    for n in range(7):
        await _member(console, f"党员{n}")
    actor = console.actors["clerk_a"]
    first = await registry.page(actor, Filter(), size=3)
    second = await registry.page(actor, Filter(), after=first.after, size=3)
    third = await registry.page(actor, Filter(), after=second.after, size=3)
    assert [len(p.members) for p in (first, second, third)] == [3, 3, 1]
    assert [p.first for p in (first, second, third)] == [1, 4, 7]
    assert (first.before, third.after) == (None, None)
    back = await registry.page(actor, Filter(), before=third.before, size=3)
    assert [m.id for m in back.members] == [m.id for m in second.members]


async def test_a_list_of_many_pages_leads_on_and_back_to_its_beginning(
    console: Console,
) -> None:
    for n in range(registry.PAGE + 1):
        await _member(console, f"党员{n}")
    browser = await console.browser("clerk_a")
    page = await (await browser.get("/members?q=党员")).text()
    assert f"第 1–{registry.PAGE} 条，共 {registry.PAGE + 1} 条" in page
    assert "首页" not in page
    link = re.search(r'href="([^"]+)" rel="next"', page)
    assert link
    answer = await browser.get(unescape(link[1]))
    assert answer.status == 200
    page = await answer.text()
    link = re.search(r'href="([^"]+)">首页', page)
    assert link
    assert (await browser.get(unescape(link[1]))).status == 200
    assert 'rel="prev"' in page


async def test_the_list_tells_when_each_wrote_last(console: Console) -> None:
    wrote = await _member(console, "江金凤", "+8613800138000")
    silent = await _member(console, "洪秀梅", "+8613800138001")
    now = console.app[CORE].clock.now()
    for hours, automatic in ((30, False), (20, False), (10, True)):
        await Inbound.create(
            channel="短信",
            key=f"{hours} hours",
            kind="phone",
            value="+8613800138000",
            text="您好",
            automatic=automatic,
            payload=b"",
            received_at=now - timedelta(hours=hours),
        )
    found = await registry.last_contacts([wrote, silent])
    assert found == {wrote.id: now - timedelta(hours=20)}


async def test_register_change_and_see_it_in_the_audit(console: Console) -> None:
    browser = await console.browser("clerk_a")
    fields = {
        "name": "江金凤",
        "organisation_id": str(console.branch_a.id),
        "joined_on": "2009年7月",
        "tags": "志愿者，老党员",
        "phone": "138 0013 8000",
    }
    answer = await browser.post("/members/new", fields)
    assert answer.status == 303
    path = answer.headers["Location"]
    changed = fields | {"name": "江金风", "tags": "老党员", "note": "<b>"}
    assert (await browser.post(path, changed)).status == 303
    card = await (await browser.get(path)).text()
    assert "江金风" in card
    assert "志愿者" not in card
    assert "&lt;b&gt;" in card
    acts = [row["action"] for row in await rows("SELECT action FROM audit ORDER BY id")]
    assert acts[-2:] == ["member.added", "member.changed"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "1到64"),
        ("joined_on", "去年", "2009-07"),
        ("phone", "12", "手机号码"),
        ("tags", "长" * 40, "32"),
    ],
)
async def test_what_is_wrong_stands_beside_the_field(
    console: Console, field: str, value: str, words: str
) -> None:
    browser = await console.browser("clerk_a")
    fields = {"name": "甲", "organisation_id": str(console.branch_a.id)}
    answer = await browser.post("/members/new", fields | {field: value})
    assert answer.status == 422
    assert words in await answer.text()
    assert await Member.all().count() == 0


async def test_an_address_is_one_members_only(console: Console) -> None:
    await _member(console, "江金凤", "+8613800138000")
    other = await _member(console, "洪秀梅")
    browser = await console.browser("clerk_a")
    answer = await browser.post(
        f"/members/{other.id}/addresses", {"kind": "phone", "value": "13800138000"}
    )
    assert answer.status == 422
    assert "已登记给别人" in await answer.text()


async def test_an_address_can_be_added_and_removed(console: Console) -> None:
    member = await _member(console, "江金凤")
    browser = await console.browser("clerk_a")
    path = f"/members/{member.id}"
    added = await browser.post(f"{path}/addresses", {"kind": "qq", "value": "10001"})
    assert added.status == 303
    row = await AddressRow.get(value="10001")
    assert row.verified_how == "staff"
    assert (await browser.post(f"{path}/addresses/{row.id}/remove")).status == 303
    row = await AddressRow.get(value="10001")
    assert (row.member_id, row.verified_at) == (None, None)
    again = await browser.post(f"{path}/addresses/{row.id}/remove")
    assert again.status == 404


async def test_a_refusal_made_before_binding_holds_for_the_member(
    console: Console,
) -> None:
    core = console.app[CORE]
    address = Address(AddressKind.PHONE, "+8613800138000")
    async with transaction():
        await consent.opt_out(core, address, how="word", evidence="退订")
    member = await _member(console, "江金凤", address.value)
    stored = await registry.find(console.actors["clerk_a"], member.id)
    assert await registry.stopped([stored]) == {member.id}


async def test_staff_note_a_refusal_with_its_words(console: Console) -> None:
    member = await _member(console, "江金凤", "+8613800138000")
    browser = await console.browser("clerk_a")
    path = f"/members/{member.id}"
    empty = await browser.post(f"{path}/opt-out", {"evidence": ""})
    assert empty.status == 422
    await browser.post(f"{path}/opt-out", {"evidence": "电话里说不要再发"})
    refusal = await OptOutRow.get()
    assert (refusal.how, refusal.evidence) == ("staff", "电话里说不要再发")
    assert "电话里说不要再发" in await (await browser.get(path)).text()
    await browser.post(f"{path}/opt-in", {"evidence": "来中心说要恢复"})
    assert (await OptOutRow.get()).ended_at is not None


async def test_a_binding_code_is_the_only_open_one(console: Console) -> None:
    member = await _member(console, "江金凤")
    actor, core = console.actors["clerk_a"], console.app[CORE]
    first = await registry.binding_code(core, actor, member.id)
    second = await registry.binding_code(core, actor, member.id)
    assert re.fullmatch("[0-9]{6}", second)
    still_open = await PromptRow.filter(closed_at__isnull=True)
    assert [(p.prompt, p.code, p.kind, p.value) for p in still_open] == [
        ("binding", second, "", "")
    ]
    assert first != second
    browser = await console.browser("clerk_a")
    answer = await browser.post(f"/members/{member.id}/code")
    assert re.search("绑定 [0-9]{6}", await answer.text())


async def test_roles_that_only_read_cannot_change(console: Console) -> None:
    member = await _member(console, "江金凤")
    browser = await console.browser("approver_a")
    assert (await browser.get(f"/members/{member.id}")).status == 200
    assert (await browser.post(f"/members/{member.id}", {"name": "x"})).status == 403
    draft = Draft(name="x", organisation_id=console.branch_a.id)
    with pytest.raises(RequestError, match="forbidden"):
        await registry.add(console.app[CORE], console.actors["approver_a"], draft)


async def test_a_member_cannot_be_moved_out_of_sight(console: Console) -> None:
    member = await _member(console, "江金凤")
    browser = await console.browser("clerk_a")
    answer = await browser.post(
        f"/members/{member.id}",
        {"name": "江金凤", "organisation_id": str(console.centre_b.id)},
    )
    assert answer.status == 404


async def test_a_picker_finds_members_of_the_own_subtree(console: Console) -> None:
    await _member(console, "江金凤")
    await _member(console, "江在乙", place=console.centre_b)
    browser = await console.browser("clerk_a")
    text = await (await browser.get("/members/suggest?q=江")).text()
    assert "江金凤" in text
    assert "江在乙" not in text
