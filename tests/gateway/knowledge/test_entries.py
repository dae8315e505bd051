"""Knowledge entries: written, found, checked by who may, and previewed."""

from typing import Any

import pytest
from aiohttp import web

from gateway.actors import Actor, Role
from gateway.channels import ChannelSet
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.knowledge import entries, message, pages
from gateway.knowledge.entries import Draft, Filter
from gateway.tables import Audit, Entry
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from tests.console import Console
from tests.labs.recorder import as_channel, recorder


def actor(role: Role) -> Actor:
    return Actor(name=role, role=role, organisation_id=1, path="/1/", staff_id=7)


CLERK, APPROVER = actor(Role.CLERK), actor(Role.APPROVER)
DIRECTOR = actor(Role.DIRECTOR)


def draft(**changes: Any) -> Draft:
    values: dict[str, Any] = {
        "question": "党费怎么交？",
        "answer": "每月交一次，也可以委托代交。",
        "basis": "《党费规定》第一条",
        "matter": "dues",
        "keywords": ("党费", "代交"),
    }
    return Draft(**(values | changes))


async def acts() -> list[str]:
    return [line.action for line in await Audit.all().order_by("id")]


async def test_a_new_entry_waits_for_its_check(core: Core) -> None:
    entry = await entries.add(core, CLERK, draft())
    assert entry.sample
    with pytest.raises(RequestError):
        await entries.check(core, CLERK, entry.id)
    await entries.check(core, APPROVER, entry.id, entries.digest(entry))
    assert not (await entries.find(entry.id)).sample
    with pytest.raises(NotFound):
        await entries.check(core, APPROVER, entry.id)
    with pytest.raises(RequestError):
        await entries.add(core, APPROVER, draft(question="另一问"))
    assert await acts() == ["entry.add", "entry.check"]
    assert (await Audit.all().order_by("-id").first()).staff_id == 7  # type: ignore[union-attr]


async def test_other_words_need_another_check(core: Core) -> None:
    entry = await entries.add(core, CLERK, draft())
    await entries.check(core, DIRECTOR, entry.id)
    same = await entries.change(core, CLERK, entry.id, draft())
    assert not same.sample
    same = await entries.change(core, CLERK, entry.id, draft(keywords=("党费",)))
    assert not same.sample
    changed = await entries.change(core, CLERK, entry.id, draft(answer="改了。"))
    assert changed.sample
    last = await Audit.all().order_by("-id").first()
    assert last is not None
    assert last.detail == {"fields": ["answer", "keywords"], "to_be_checked": True}
    assert await acts() == [
        "entry.add",
        "entry.check",
        "entry.change",
        "entry.change",
    ]


async def test_nobody_vouches_for_words_they_did_not_see(core: Core) -> None:
    entry = await entries.add(core, CLERK, draft())
    seen = entries.digest(entry)
    await entries.change(core, CLERK, entry.id, draft(answer="改了。"), seen)
    for act in (
        entries.check(core, DIRECTOR, entry.id, seen),
        entries.change(core, CLERK, entry.id, draft(answer="又改。"), seen),
    ):
        with pytest.raises(RequestError) as refused:
            await act
        assert refused.value.code == "changed"
    assert (await entries.find(entry.id)).answer == "改了。"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("question", {"question": ""}),
        ("question", {"question": "问" * 201}),
        ("answer", {"answer": ""}),
        ("answer", {"answer": "答" * 2001}),
        ("basis", {"basis": "据" * 201}),
        ("matter", {"matter": "gossip"}),
        ("keywords", {"keywords": ("长" * 21,)}),
        ("keywords", {"keywords": tuple(str(n) for n in range(21))}),
    ],
)
async def test_faults_are_told_at_their_field(
    core: Core, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(RequestError) as refused:
        await entries.add(core, CLERK, draft(**changes))
    assert set(refused.value.fields) == {field}
    assert await Entry.all().count() == 0


async def test_a_question_stands_only_once_in_use(core: Core) -> None:
    entry = await entries.add(core, CLERK, draft(question="问" * 200))
    with pytest.raises(RequestError):
        await entries.add(core, CLERK, draft(question="问" * 200))
    await entries.switch(core, CLERK, entry.id, active=False)
    await entries.switch(core, CLERK, entry.id, active=False)
    await entries.add(core, CLERK, draft(question="问" * 200))
    assert await acts() == ["entry.add", "entry.deactivate", "entry.add"]


async def found(**wanted: str) -> list[str]:
    page = await entries.listing(Filter(**wanted))
    assert page.total == len(page.rows)
    return [row["question"] for row in page.rows]


async def test_search_and_filters(core: Core) -> None:
    await entries.add(core, CLERK, draft(question="甲", basis="《A_b》"))
    second = await entries.add(
        core, CLERK, draft(question="乙", matter="study", keywords=("章程",))
    )
    third = await entries.add(core, CLERK, draft(question="丙", answer="百分之5%"))
    await entries.check(core, DIRECTOR, second.id)
    assert await found() == ["甲", "丙", "乙"]
    assert await found(q="a_B") == ["甲"]
    assert await found(q="章程") == ["乙"]
    assert await found(q="5% 党费") == ["丙"]
    assert await found(q="%") == ["丙"]
    assert await found(matter="study") == ["乙"]
    assert await found(standing="checked") == ["乙"]
    assert await found(standing="unchecked") == ["甲", "丙"]
    await entries.switch(core, CLERK, third.id, active=False)
    assert await found(standing="off") == ["丙"]
    assert await found() == ["甲", "乙"]
    assert await entries.counts() == {"total": 2, "unchecked": 1}
    await entries.switch(core, CLERK, third.id, active=True)
    assert "丙" in await found()


def test_keywords_are_split_and_kept_once() -> None:
    assert entries.keywords(" 党费,代交、党费；月 交 ") == ("党费", "代交", "月", "交")


SMS = recorder(AddressKind.PHONE, segments=(70, 67), max_length=200)
MAIL = recorder(AddressKind.EMAIL)


@pytest.mark.parametrize("channels", [ChannelSet([as_channel("mail", MAIL)])])
async def test_looks_without_channels(core: Core) -> None:
    sms, qq = message.looks(core, "问？", "答。", "")
    assert sms.label == qq.label == ""
    assert sms.text == "每日一答：问？答。依据—。拒收请回复R"
    assert (sms.segments, qq.segments) == (1, 0)


@pytest.mark.parametrize(
    "channels",
    [ChannelSet([as_channel("sms", SMS, signature="【中心】", price_fen=4.0)])],
)
async def test_looks_count_segments_and_cut(core: Core) -> None:
    sms, _ = message.looks(core, "问？", "答" * 60, "《【章】》")
    assert sms.text.startswith("【中心】每日一答：问？答答")
    assert "《〔章〕》" in sms.text
    assert (sms.units, sms.segments, sms.price_fen) == (len(sms.text), 2, 8.0)
    assert not sms.cut
    sms, _ = message.looks(core, "问？", "答" * 300, "《章程》")
    assert sms.cut
    assert sms.problem == ""
    assert "答…依据《章程》" in sms.text
    sms, _ = message.looks(core, "问" * 200, "答" * 300, "《章程》")
    assert "太长" in sms.problem


@pytest.mark.parametrize(
    "channels",
    [
        ChannelSet(
            [as_channel("sms", recorder(AddressKind.PHONE, free_text=False))],
        )
    ],
)
async def test_looks_tell_of_a_missing_template(core: Core) -> None:
    sms, _ = message.looks(core, "问？", "答。", "")
    assert "模板" in sms.problem


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    add_routes(app, pages.ROUTES)
    return app


FORM = {
    "question": "党费怎么交？",
    "answer": "每月交一次。",
    "basis": "《党费规定》",
    "matter": "dues",
    "keywords": "党费，代交",
}


async def test_the_pages_from_first_words_to_the_check(console: Console) -> None:
    clerk = await console.browser("clerk_a")
    assert "还没有知识条目" in await (await clerk.get("/entries")).text()
    assert (await clerk.get("/entries/new")).status == 200
    preview = await clerk.post("/entries/preview", FORM)
    assert "每日一答：党费怎么交？" in await preview.text()

    answer = await clerk.post("/entries/new", FORM | {"matter": ""})
    assert answer.status == 422
    page = await answer.text()
    assert "请选择类别" in page
    assert "每月交一次。" in page  # nothing of it is lost
    path = (await clerk.post("/entries/new", FORM)).headers["Location"]
    page = await (await clerk.get(path)).text()
    assert "未核对" in page
    assert f"{path}/check" not in page
    assert (await clerk.post(f"{path}/check")).status == 403

    approver = await console.browser("approver_a")
    page = await (await approver.get(path)).text()
    assert f"{path}/check" in page
    assert 'name="question"' not in page
    stale = await approver.post(f"{path}/check", {"seen": "0" * 16})
    assert stale.headers["Location"] == path
    assert "未核对" in await (await approver.get(path)).text()
    entry = await entries.find(int(path.rsplit("/", 1)[1]))
    await approver.post(f"{path}/check", {"seen": entries.digest(entry)})
    assert "已核对" in await (await approver.get(path)).text()
    assert (await approver.post(path, FORM)).status == 403

    stale = await clerk.post(path, FORM | {"answer": "别的", "seen": "0" * 16})
    assert stale.status == 409
    assert "别的" in await stale.text()
    await clerk.post(path, FORM | {"answer": "别的"})
    assert "未核对" in await (await clerk.get(path)).text()
    await clerk.post(f"{path}/deactivate")
    assert "没有找到" in await (await clerk.get("/entries?q=党费&matter=x")).text()
    assert "党费怎么交" in await (await clerk.get("/entries?standing=off")).text()
    await clerk.post(f"{path}/activate")
    assert "党费怎么交" in await (await clerk.get("/entries?q=党费")).text()


async def test_what_is_not_there_is_not_found(console: Console) -> None:
    browser = await console.browser("administrator_county")
    for id in (0, 99, 2**63, "x"):
        assert (await browser.get(f"/entries/{id}")).status == 404
        for act in ("", "/check", "/deactivate", "/activate"):
            answer = await browser.post(f"/entries/{id}{act}", FORM)
            assert answer.status == 404, (id, act)
    assert (await browser.get("/entries?from=x&matter=%27&standing=no")).status == 200
    assert (
        await browser.post("/entries/new", FORM | {"answer": "长" * 9000})
    ).status == 422
