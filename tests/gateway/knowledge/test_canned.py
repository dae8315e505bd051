"""Canned answers: kept in order, their placeholders checked to the character."""

import pytest
from aiohttp import web

from gateway.actors import Actor, Role
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.knowledge import canned, canned_pages
from gateway.knowledge.canned import Draft
from gateway.tables import Audit, Canned
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from tests.console import Console

CLERK = Actor(name="办事员", role=Role.CLERK, organisation_id=1, path="/1/", staff_id=1)


async def titles() -> list[str]:
    return [one.title for one in await canned.listing()]


async def test_order_follows_what_staff_say(core: Core) -> None:
    one, two, three = [
        await canned.add(core, CLERK, Draft(title=title, text="{{姓名}}好"))
        for title in ("一", "二", "三")
    ]
    assert await titles() == ["一", "二", "三"]
    await canned.shift(core, CLERK, three.id, up=True)
    assert await titles() == ["一", "三", "二"]
    await canned.shift(core, CLERK, one.id, up=True)
    await canned.shift(core, CLERK, two.id, up=False)
    assert await titles() == ["一", "三", "二"]
    await canned.shift(core, CLERK, one.id, up=False)
    assert await titles() == ["三", "一", "二"]
    await canned.delete(core, CLERK, one.id)
    await canned.change(core, CLERK, two.id, Draft(title="贰", text="好"))
    assert await titles() == ["三", "贰"]
    for act in (
        canned.delete(core, CLERK, one.id),
        canned.shift(core, CLERK, one.id, up=True),
        canned.change(core, CLERK, one.id, Draft(title="x", text="y")),
    ):
        with pytest.raises(NotFound):
            await act
    lines = await Audit.all().order_by("id")
    assert [line.action for line in lines] == [
        *["canned.add"] * 3,
        *["canned.move"] * 2,
        "canned.delete",
        "canned.change",
    ]
    assert lines[5].detail == {"title": "一"}


async def test_equal_positions_can_still_be_told_apart(core: Core) -> None:
    for title in ("一", "二", "三"):
        await Canned.create(title=title, text="好")
    last = (await canned.listing())[2]
    await canned.shift(core, CLERK, last.id, up=True)
    assert await titles() == ["一", "三", "二"]


@pytest.mark.parametrize(
    ("field", "title", "text", "said"),
    [
        ("title", "", "好", "标题"),
        ("title", "长" * 81, "好", "80"),
        ("title", "有了", "好", "同名"),
        ("text", "新", "", "正文"),
        ("text", "新", "长" * 2001, "2000"),
        ("text", "新", "您好\n{{姓明}}同志", "第2行第1个字"),
        ("text", "新", "您好 {%", "第1行第4个字"),
    ],
)
async def test_faults_are_told_at_their_field(
    core: Core, field: str, title: str, text: str, said: str
) -> None:
    await canned.add(core, CLERK, Draft(title="有了", text="好"))
    with pytest.raises(RequestError) as refused:
        await canned.add(core, CLERK, Draft(title=title, text=text))
    assert list(refused.value.fields) == [field]
    assert said in refused.value.fields[field]


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    add_routes(app, canned_pages.ROUTES)
    return app


async def test_the_page(console: Console) -> None:
    clerk = await console.browser("clerk_a")
    assert "还没有常用语" in await (await clerk.get("/canned")).text()
    wrong = await clerk.post("/canned", {"title": "<b>一</b>", "text": "{{姓明}}好"})
    page = await wrong.text()
    assert wrong.status == 422
    assert "第1行第1个字：没有“姓明”这个字段。是不是要写：姓名。" in page
    assert "{{姓明}}好" in page
    assert (await clerk.post("/canned", {"title": "一", "text": "好"})).status == 303
    one = (await canned.listing())[0]
    page = await (await clerk.get(f"/canned?edit={one.id}")).text()
    assert f'action="/canned/{one.id}"' in page
    assert "{{姓名}}" in page
    path = f"/canned/{one.id}"
    assert (await clerk.post(path, {"title": "", "text": "好"})).status == 422
    await clerk.post(path, {"title": "壹", "text": "好"})
    for act in ("up", "down"):
        assert (await clerk.post(f"{path}/{act}")).status == 303
    assert await titles() == ["壹"]

    approver = await console.browser("approver_a")
    page = await (await approver.get("/canned?edit=1")).text()
    assert "壹" in page
    assert "新建常用语" not in page
    assert (await approver.post(f"{path}/delete")).status == 403
    assert (await clerk.post(f"{path}/delete")).status == 303
    assert await titles() == []
    for id in (one.id, 0, 2**31, "x"):
        assert (await clerk.get(f"/canned?edit={id}")).status == 404
        for act in ("", "/up", "/down", "/delete"):
            answer = await clerk.post(f"/canned/{id}{act}", {"title": "a", "text": "b"})
            assert answer.status == 404
