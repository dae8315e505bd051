"""The page on which a director erases a member."""

import pytest

from gateway.contract import Address, AddressKind
from gateway.members import registry
from gateway.members.registry import Draft
from gateway.tables import Audit, Member, Outbound
from gateway.web.keys import CORE
from tests.console import Console
from tests.labs.outgoing import queued

NAME, NUMBER = "江金凤", "+8613800138000"


@pytest.fixture
async def member(console: Console) -> Member:
    core = console.app[CORE]
    draft = Draft(name=NAME, organisation_id=console.branch_a.id)
    address = Address(AddressKind.PHONE, NUMBER)
    member = await registry.add(
        core, console.actors["administrator_county"], draft, [address]
    )
    await queued(core.clock.now(), value=NUMBER, member_id=member.id)
    return member


async def test_the_page_says_what_goes_and_does_it(
    console: Console, member: Member
) -> None:
    browser = await console.browser("director_a")
    path = f"/members/{member.id}/erase"
    assert path in await (await browser.get(f"/members/{member.id}")).text()
    asked = await (await browser.get(path)).text()
    assert "待发的消息 1 条" in asked
    assert "不能恢复" in asked
    done = await browser.post(path, {"reason": "本人书面申请", "name": f" {NAME} "})
    assert (done.status, done.headers["Location"]) == (303, "/members")
    listed = await (await browser.get("/members")).text()
    assert "个人信息已删除，取消待发消息 1 条" in listed
    assert NAME not in listed
    assert (await browser.get(f"/members/{member.id}")).status == 404
    assert (await browser.get(path)).status == 404
    assert await Audit.filter(action="member.erased").count() == 1


@pytest.mark.parametrize(
    ("reason", "name", "fault"),
    [
        ("本人书面申请", "江金", "姓名不一致"),
        ("", NAME, "请写明理由"),
        (f"{NAME}申请", NAME, "不要写姓名"),
    ],
)
async def test_what_is_not_confirmed_is_not_done(
    console: Console, member: Member, reason: str, name: str, fault: str
) -> None:
    browser = await console.browser("director_a")
    path = f"/members/{member.id}/erase"
    answer = await browser.post(path, {"reason": reason, "name": name})
    assert answer.status == 422
    said = await answer.text()
    assert fault in said
    assert f'value="{reason}"' in said
    assert await Member.exists(id=member.id)
    [row] = await Outbound.all()
    assert row.state == "queued"


@pytest.mark.parametrize(("who", "status"), [("clerk_a", 403), ("director_b", 404)])
async def test_others_may_not(
    console: Console, member: Member, who: str, status: int
) -> None:
    browser = await console.browser(who)
    path = f"/members/{member.id}/erase"
    assert (await browser.get(path)).status == status
    told = {"reason": "本人书面申请", "name": NAME}
    assert (await browser.post(path, told)).status == status
    card = await browser.get(f"/members/{member.id}")
    assert path not in await card.text()
    assert await Member.exists(id=member.id)
