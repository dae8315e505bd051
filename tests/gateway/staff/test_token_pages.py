"""The page of API tokens: made and shown once, listed, revoked with a trace."""

import re

from aiohttp import web

from gateway.actors import Role
from gateway.staff import tokens
from gateway.tables import ApiToken, Audit
from gateway.web.keys import CORE
from tests.console import Browser, Console

TOKEN = re.compile(r'id="token">(lx_[\w-]{43})<')


async def page_of(browser: Browser) -> str:
    answer = await browser.get("/tokens")
    assert answer.status == 200
    return await answer.text()


def form(console: Console, **changed: str) -> dict[str, str]:
    good = {"name": "月报", "role": "clerk"}
    return {**good, "organisation_id": str(console.centre_a.id), **changed}


async def test_a_token_is_shown_once_and_works_until_it_is_revoked(
    console: Console,
) -> None:
    chief = await console.browser("administrator_county")
    core, me = console.app[CORE], console.actors["administrator_county"]
    assert "还没有接口令牌" in await page_of(chief)
    made = await chief.post("/tokens", form(console))
    found = TOKEN.search(await made.text())
    assert (made.status, made.headers["Cache-Control"]) == (200, "no-store")
    assert found

    page = await page_of(chief)
    assert found[1] not in page
    for words in (
        "月报",
        me.name,
        "办事员",
        console.centre_a.name,
        "还没有用过",
        "有效",
    ):
        assert words in page, words
    actor = await tokens.verify(core, found[1])
    assert actor is not None
    assert (actor.role, actor.path) == (Role.CLERK, console.centre_a.path)
    assert "还没有用过" not in await page_of(chief)

    token = await ApiToken.get()
    answer = await chief.post(f"/tokens/{token.id}/revoke")
    assert answer.status == 303
    assert await tokens.verify(core, found[1]) is None
    page = await page_of(chief)
    assert "已作废" in page
    assert f"/tokens/{token.id}/revoke" not in page
    acts = Audit.filter(object=f"token:{token.id}").order_by("id")
    assert [(one.action, one.actor) for one in await acts] == [
        ("token.created", me.name),
        ("token.revoked", me.name),
    ]


async def test_what_is_wrong_is_said_and_makes_no_token(console: Console) -> None:
    chief = await console.browser("administrator_county")
    await chief.post("/tokens", form(console))
    for changed, said in (
        ({"name": " "}, "名称为1到64个字符"),
        ({"name": "月报"}, "已有同名的令牌"),
        ({"name": "新", "role": "king"}, "请选择角色"),
    ):
        answer = await chief.post("/tokens", form(console, **changed))
        text = await answer.text()
        assert (answer.status, said in text) == (422, True), changed
        assert "data-open-now" in text
    away = await chief.post("/tokens", form(console, name="新", organisation_id="9999"))
    assert away.status == 404
    assert await ApiToken.all().count() == 1


async def test_tokens_are_for_administrators_of_their_own_subtree(
    console: Console,
) -> None:
    core, county = console.app[CORE], console.actors["administrator_county"]
    command = "command line"
    for name, place in (("甲", console.centre_a), ("乙", console.centre_b)):
        await tokens.create(core, county, name, Role.CLERK, place.id)
    await Audit.filter(action="token.created").update(actor=command)
    chief = await console.browser("administrator_a")
    page = await page_of(chief)
    assert ("甲</b>" in page, "乙</b>" in page) == (True, False)
    assert ("命令行" in page, command in page) == (True, False)
    foreign = await ApiToken.get(name="乙")
    answer = await chief.post(f"/tokens/{foreign.id}/revoke")
    assert answer.status == 404
    assert (await ApiToken.get(name="乙")).revoked_at is None
    for username in ("clerk_a", "director_a", "approver_a"):
        browser = await console.browser(username)
        assert (await browser.get("/tokens")).status == web.HTTPForbidden.status_code
        assert 'href="/tokens"' not in await (await browser.get("/account")).text()


async def test_revoked_ones_stand_last(console: Console) -> None:
    core, county = console.app[CORE], console.actors["administrator_county"]
    for name in ("甲", "乙", "丙"):
        await tokens.create(core, county, name, Role.CLERK, console.county.id)
    newest = await ApiToken.get(name="丙")
    await tokens.revoke(core, county, newest.id)
    assert [one.name for one in await tokens.list_all(county)] == ["乙", "甲", "丙"]


async def test_the_page_speaks_english(console: Console) -> None:
    chief = await console.browser("administrator_county")
    await chief.post("/language", {"lang": "en", "next": "/tokens"})
    await chief.post("/tokens", form(console))
    page = await page_of(chief)
    for words in ("API tokens", "Used for", "Never used", "Revoke", "Valid"):
        assert words in page, words
