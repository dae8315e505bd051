"""The story of a notice and of the daily Q&A, as staff walk it through the pages."""

import json
import re
from datetime import timedelta
from html import unescape
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from python_calamine import load_workbook

from broadcasts import daily, daily_pages, notices, pages, recipients
from broadcasts.content import Draft
from broadcasts.schedule import tick
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway.clock import ManualClock
from gateway.contract import NotTaken
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.nodes import ALIVE
from gateway.outbox import moves, queries
from gateway.outbox import pages as channel_pages
from gateway.outbox.moves import Move
from gateway.tables import (
    AddressRow,
    Audit,
    ChannelEvent,
    Entry,
    LeaseRow,
    Member,
    MemberTag,
    Node,
    Outbound,
    Subscription,
)
from gateway.web.app import build_app
from gateway.web.keys import COUNTS
from gateway.web.routes import add_routes
from tests.broadcasts.county import phone
from tests.console import Browser, Console
from tests.labs.recorder import Recorder, drain
from tests.labs.recording import queried


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    app[COUNTS].append(pages.counts)
    add_routes(app, pages.ROUTES)
    add_routes(app, daily_pages.ROUTES)
    add_routes(app, channel_pages.ROUTES)
    return app


async def people(core: Core, console: Console, count: int) -> None:
    now = core.clock.now()
    for number in range(count):
        member = await Member.create(
            name=f"党员{number}", organisation=console.branch_a, created_at=now
        )
        await MemberTag.create(member=member, tag="流动党员")
        await AddressRow.create(
            kind="phone",
            value=phone(number),
            member=member,
            verified_at=now,
            created_at=now,
        )


def form(console: Console, **changes: str) -> dict[str, str]:
    return {
        "title": "主题党日",
        "sms": "{{姓名}}同志，{{时间}}在{{地点}}开会。参加回1，不来回2。拒收请回复R",
        "event_at": "2026-11-25T08:30",
        "place": "二楼",
        "rsvp": "1",
        "audience_type": "organisation",
        "audience_code": console.centre_a.code,
        "act": "submit",
    } | changes


async def read(browser: Browser, path: str, status: int = 200) -> str:
    answer = await browser.get(path)
    assert answer.status == status, (path, await answer.text())
    return await answer.text()


async def drafted(browser: Browser, data: dict[str, Any]) -> str:
    answer = await browser.post("/broadcasts/new", data)
    assert answer.status == 303, await answer.text()
    return answer.headers["Location"]


async def test_a_notice_from_draft_to_attendance(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    await people(core, console, 3)
    clerk = await console.browser("clerk_a")
    assert "还没有通知" in await read(clerk, "/broadcasts")
    assert "流动党员（3 人）" in await read(clerk, "/broadcasts/new")
    path = await drafted(clerk, form(console))
    page = await read(clerk, path)
    assert "起草人不能批准" in page
    assert (await clerk.post(f"{path}/approve", {"hash": "0" * 12})).status == 403

    director = await console.browser("director_a")
    assert "待我批准" in await read(director, "/broadcasts")
    page = await read(director, path)
    assert "党员0同志，11月25日（周三）8:30在二楼开会" in page  # what they will read
    assert "名单" not in page.partition("大家会收到的样子")[2]  # nobody is frozen yet
    found = re.search(r'name="hash" value="(\w+)"', page)
    assert found
    answer = await director.post(f"{path}/approve", {"hash": found[1]})
    assert answer.status == 303

    assert "开始发送" in await read(clerk, path)
    await clerk.post(f"{path}/start")
    await clerk.post(f"{path}/start")
    await drain(core)
    await tick(core)
    assert sms.sent[0].text == (
        "党员0同志，11月25日（周三）8:30在二楼开会。参加回1，不来回2。拒收请回复R"
    )
    page = await read(clerk, path)
    assert "党员2" in page
    assert "138****0002" in page
    assert phone(2) not in page
    assert "共 3 人" in await read(clerk, f"{path}/progress")
    over = await clerk.client.get(f"{path}/progress?state=running")
    assert (over.status, over.headers["HX-Refresh"]) == (204, "true")
    assert "共 3 人" in await read(clerk, f"{path}/progress?state=finished")
    assert "没有符合条件的人" in await read(clerk, f"{path}?state=refused")
    assert "党员1" in await read(clerk, f"{path}?state=nonsense&q=%E5%85%9A%E5%91%981")

    clock.set((await Broadcast.first()).event_at)  # type: ignore[union-attr]
    clerk = await console.browser("clerk_a")  # the old session has ended
    id = int(path.rsplit("/", 1)[1])
    rows = await recipients.recipients(console.actors["clerk_a"], id)
    shown = [str(row.id) for row in rows]
    answer = await clerk.client.post(
        f"{path}/attendance",
        data=[
            ("csrf", clerk.csrf),
            *[("shown", one) for one in shown],
            *[("attended", one) for one in [*shown[:2], "x"]],
        ],
        allow_redirects=False,
    )
    assert answer.status == 303
    assert (await read(clerk, path)).count(" checked") >= 2
    answer = await clerk.get(f"{path}/export")
    assert answer.headers["Content-Disposition"].endswith(f'"notice-{id}.xlsx"')
    book = load_workbook(BytesIO(await answer.read()))
    assert len(book.get_sheet_by_index(0).to_python()) == 4
    narrowed = await read(clerk, f"{path}?state=accepted&q=%E5%85%9A%E5%91%981")
    link = re.search(r'href="([^"]+/export[^"]*)" download>导出筛选结果', narrowed)
    assert link
    answer = await clerk.get(unescape(link[1]))
    rows = load_workbook(BytesIO(await answer.read())).get_sheet_by_index(0)
    assert [row[0] for row in rows.to_python()] == ["姓名", "党员1"]


async def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(
    core: Core, console: Console
) -> None:
    await people(core, console, 1)
    clerk = await console.browser("clerk_a")
    wrong = form(
        console, title="", sms="您好{{姓}}", send_at="gestern", event_at="0001-01-01"
    )
    answer = await clerk.post("/broadcasts/new", wrong)
    page = await answer.text()
    assert answer.status == 422
    assert "还不能保存" in page
    for words in ("请写上主题", "第1行第3个字", "请写成", "您好{{姓}}", "gestern"):
        assert words in page
    wrong = form(
        console, audience_type="list", audience_members="17\n1380013800\n13800138000"
    )
    answer = await clerk.post("/broadcasts/new", wrong)
    assert answer.status == 422
    page = await answer.text()
    assert "第2个：" in page
    assert "13800138000" in page
    assert await Broadcast.all().count() == 0


async def test_in_english_what_is_wrong_is_said_in_english(console: Console) -> None:
    clerk = await console.browser("clerk_a")
    await clerk.post("/language", {"lang": "en", "next": "/account"})
    wrong = form(console, title="", sms="您好{{姓}}", send_at="gestern")
    page = await (await clerk.post("/broadcasts/new", wrong)).text()
    assert "Please write a subject" in page
    assert "Line 1, character 3: There is no field “姓”. Did you mean" in page
    assert "请写" not in page


async def test_the_preview_follows_the_typing(core: Core, console: Console) -> None:
    await people(core, console, 2)
    clerk = await console.browser("clerk_a")
    answer = await clerk.post("/broadcasts/preview", form(console))
    page = await answer.text()
    assert answer.status == 200, page
    assert "【北区中心】党员0同志，11月25日（周三）8:30在二楼开会" in page
    assert "¥0.09" in page
    for broken in ({}, form(console, title="", sms="{{"), {"audience_type": "list"}):
        assert (await clerk.post("/broadcasts/preview", broken)).status == 200
    answer = await clerk.post("/broadcasts/preview", form(console, sms="{{"))
    assert "正文是空的" not in await answer.text()  # it isn't: it can't be filled in


async def test_a_saved_draft_that_cannot_be_submitted_shows_why(
    core: Core, console: Console
) -> None:
    await people(core, console, 2)
    clerk = await console.browser("clerk_a")
    answer = await clerk.post("/broadcasts/new", form(console, sms="字" * 501))
    assert answer.status == 422
    page = await answer.text()
    assert "正文太长" in page
    assert "草稿已保存" in page
    assert "还不能保存" not in page
    [found] = await Broadcast.all()
    answer = await clerk.post(f"/broadcasts/{found.id}/edit", form(console))
    assert answer.status == 303
    assert await Broadcast.all().count() == 1
    assert (await Broadcast.get(id=found.id)).state == "submitted"


async def test_an_edit_keeps_what_the_form_does_not_show(
    core: Core, console: Console
) -> None:
    await people(core, console, 2)
    actor = console.actors["clerk_a"]
    code = console.centre_a.code
    found = await notices.create(
        core,
        actor,
        Draft(
            title="通知",
            texts={"sms": "短", "wechat": "微信"},
            audience={"type": "organisation", "code": code, "with_subtree": False},
            expires_at=core.clock.now() + timedelta(days=1),
        ),
    )
    clerk = await console.browser("clerk_a")
    page = await read(clerk, f"/broadcasts/{found.id}/edit")
    assert "短</textarea>" in page
    data = form(console, sms="更短", act="save")
    await clerk.post(f"/broadcasts/{found.id}/edit", data)
    changed = await Broadcast.get(id=found.id)
    assert changed.texts == {"sms": "更短", "wechat": "微信"}
    assert changed.audience["with_subtree"] is False
    assert changed.expires_at == found.expires_at


async def test_acts_out_of_turn_say_so_on_the_page(
    core: Core, console: Console
) -> None:
    await people(core, console, 1)
    clerk = await console.browser("clerk_a")
    path = await drafted(clerk, form(console, act="save"))
    for act in ("start", "pause", "resume", "attendance", "attendance/all"):
        answer = await clerk.post(f"{path}/{act}")
        assert answer.status == 303
        assert answer.headers["Location"] == path
        assert "bad" in unquote(answer.headers["Set-Cookie"])
    assert (await clerk.post(f"{path}/submit")).status == 303
    director = await console.browser("director_a")
    answer = await director.post(f"{path}/reject", {"reason": "写明时间"})
    assert "写明时间" in await read(clerk, path)
    await clerk.post(f"{path}/cancel")
    assert (await clerk.get(f"{path}/edit")).status == 409


async def test_pages_of_another_branch_are_not_there(
    core: Core, console: Console
) -> None:
    await people(core, console, 1)
    clerk = await console.browser("clerk_a")
    path = await drafted(clerk, form(console))
    other = await console.browser("director_b")
    for tail in ("", "/edit", "/progress", "/export"):
        assert (await other.get(f"{path}{tail}")).status == 404
    for act in ("submit", "approve", "reject", "start", "pause", "resume", "cancel"):
        answer = await other.post(f"{path}/{act}", {"hash": "x", "reason": "x"})
        assert answer.status == 404, act
    assert "主题党日" not in await read(other, "/broadcasts")
    assert (await other.get("/broadcasts/x")).status == 404
    assert (await other.get(f"/broadcasts/{2**63}")).status == 404


async def test_the_daily_queue_is_kept_on_its_page(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    now = clock.now()
    entries = [
        await Entry.create(
            question=f"问题{n}？",
            answer="解答。",
            basis="《章程》",
            matter="study",
            sample=n == 0,
            created_at=now,
        )
        for n in range(3)
    ]
    await Subscription.create(kind="phone", value=phone(1), how="word", at=now)
    clerk = await console.browser("clerk_a")
    assert "队列空着" in await read(clerk, "/daily")
    for one in entries:
        await clerk.post("/daily/add", {"entry": str(one.id)})
    await clerk.post("/daily/add", {"entry": str(entries[0].id)})
    await clerk.post("/daily/add", {"entry": "x"})
    page = await read(clerk, "/daily")
    assert "每日一答：问题1？" in page
    assert "核对无误" not in page
    first, second, third = [item.id for item in await daily.queue()]
    assert (await clerk.post(f"/daily/{first}/check")).status == 403
    director = await console.browser("director_a")
    assert "核对无误" in await read(director, "/daily")
    answer = await director.post(
        f"/daily/{first}/check", headers={"HX-Request": "true"}
    )
    assert answer.status == 200
    assert "问题0？" in await answer.text()
    await clerk.post(f"/daily/{third}/up")
    await clerk.post(f"/daily/{third}/down")
    await clerk.post(f"/daily/{second}/skip")
    await clerk.post(f"/daily/{third}/remove")
    assert [item.id for item in await daily.queue()] == [first]
    assert (await clerk.post(f"/daily/{third}/up")).status == 404
    clock.set(daily.instant_on(core, daily.local_day(core)) + timedelta(hours=3))
    await tick(core)
    clerk = await console.browser("clerk_a")
    assert "今天补发" in await read(clerk, "/daily/queue")
    await clerk.post("/daily/push")
    assert "不用补发" in unquote(
        (await clerk.post("/daily/push")).headers["Set-Cookie"]
    )
    await drain(core)
    assert sms.to == [phone(1)]
    assert "2026-11-20" in await read(clerk, "/daily")
    county = await console.browser("director_county")
    [found] = await Broadcast.all()
    assert "未登记的号码" in await read(county, f"/broadcasts/{found.id}")
    assert (await clerk.get(f"/broadcasts/{found.id}")).status == 404


async def test_the_page_shows_the_run_and_who_failed(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    await people(core, console, 3)
    clerk = await console.browser("clerk_a")
    path = await drafted(clerk, form(console))
    director = await console.browser("director_a")
    found = re.search(r'name="hash" value="(\w+)"', await read(director, path))
    assert found
    assert "0 / 0" not in await read(director, "/broadcasts")
    await director.post(f"{path}/approve", {"hash": found[1]})
    sms.answers[phone(0)] = PermanentFailure("refused")
    sms.answers[phone(1)] = OutcomeUnknown("timeout")
    await clerk.post(f"{path}/start")
    assert "0 / 3" in await read(clerk, "/broadcasts")
    clock.advance(timedelta(seconds=20))
    await drain(core)
    page = await read(clerk, path)
    assert "再发给失败" not in page  # it isn't over
    assert "到场" not in page
    await tick(core)
    page = await read(clerk, path)
    assert re.search(r">\d\d:\d\d:\d\d</time>", page)  # a short run, told in seconds
    for words in ("再发给失败的 1 人", "1 条结果不明", "<polyline", "用表格看"):
        assert words in page, words
    assert "党员1" in await read(clerk, f"{path}?state=unknown")
    assert "党员1" not in await read(clerk, f"{path}?state=failed")
    report = await read(clerk, f"{path}/print")
    assert "2026-" in report  # paper is read next year, too
    assert re.search(r"被拒绝：[^<]+　1</div>", report)
    assert re.search(r"结果不明：[^<]+　1</div>", report)
    assert "党员1" not in report  # it says how many, and why; the list says who
    sms.answers.clear()
    answer = await clerk.post(f"{path}/again", {"unknown": "1", "reason": ""})
    assert "bad" in unquote(answer.headers["Set-Cookie"])
    await clerk.post(f"{path}/again")
    await drain(core)
    assert [one.to.value for one in sms.sent[3:]] == [phone(0)]


async def test_an_approver_is_told_that_the_draft_was_changed(
    core: Core, console: Console
) -> None:
    """Their page loads anew by itself: not in silence, or the new text is taken for
    the one they read."""
    await people(core, console, 2)
    clerk = await console.browser("clerk_a")
    path = await drafted(clerk, form(console))
    director = await console.browser("director_a")
    asked = re.search(r'hx-get="([^"]+/progress[^"]+)"', await read(director, path))
    assert asked
    live = unescape(asked[1])
    assert "共" not in await read(director, live)  # nothing to say of it yet
    answer = await clerk.post(f"{path}/edit", form(console, place="三楼"))
    assert answer.status == 303
    answer = await director.get(live)
    assert (answer.status, answer.headers["HX-Refresh"]) == (204, "true")
    assert "刚刚改过，现在是第 2 稿" in toast(answer)
    assert "刚刚改过" in await read(director, path)
    assert "刚刚改过" not in await read(director, path)


async def begun(
    core: Core, console: Console, count: int, place: str = "a"
) -> tuple[Browser, str]:
    """A notice to so many that was approved and started; nothing has left yet."""
    await people(core, console, count)
    clerk = await console.browser(f"clerk_{place}")
    path = await drafted(clerk, form(console))
    director = await console.browser(f"director_{place}")
    found = re.search(r'name="hash" value="(\w+)"', await read(director, path))
    assert found
    await director.post(f"{path}/approve", {"hash": found[1]})
    await clerk.post(f"{path}/start")
    return clerk, path


async def in_doubt(
    core: Core,
    console: Console,
    sms: Recorder,
    clock: ManualClock,
    count: int,
    place: str = "a",
) -> tuple[Browser, str, list[int]]:
    """A broadcast has been sent, and nobody knows of anybody whether it arrived."""
    clerk, path = await begun(core, console, count, place)
    sms.answers.update({phone(n): OutcomeUnknown("timeout") for n in range(count)})
    clock.advance(timedelta(seconds=20))
    await drain(core)
    sms.answers.clear()
    sms.sent.clear()
    return clerk, path, [row.id for row in await Outbound.all().order_by("id")]


async def test_a_run_whose_channel_is_out_of_reach_says_so(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    """Else the clerk wonders why nothing leaves, and is promised an end."""
    clerk, path = await begun(core, console, 2)
    assert "1 分钟内发完" in await read(clerk, f"{path}/progress")
    lost = {"name": "1", "state": "closed", "since": 1, "window": 10, "awaited": 0}
    report = {"open_since": 1, "connections": [lost | {"last_error": "TimeoutError"}]}
    await db.execute(
        "INSERT INTO channel_reports (channel, node_id, at, data, lost) "
        "VALUES ('sms', 0, 0, ?, 0)",
        json.dumps(report),
    )
    shown = await read(clerk, f"{path}/progress")
    assert "sms联系不上对方，2 人在等" in shown
    assert "连接超时 (TimeoutError)" in shown
    assert "分钟内发完" not in shown
    code = "login_refused:TimeoutError"
    await ChannelEvent.create(channel="sms", key="1", code=code, at=clock.now())
    assert "sms登录被对方拒绝，2 人在等" in await read(clerk, f"{path}/progress")
    await clerk.post(f"{path}/pause")
    assert "人在等" not in await read(clerk, f"{path}/progress")


async def test_a_run_whose_channel_no_process_serves_says_so(
    core: Core, console: Console, clock: ManualClock
) -> None:
    """The sender was killed: nobody is there to say anything of the channel."""
    clerk, path = await begun(core, console, 2)
    node = await Node.create(
        name="a:1", roles="sender", started_at=clock.now(), seen_at=clock.now()
    )
    await LeaseRow.create(name="channel:sms", node_id=node.id, epoch=1)
    assert "1 分钟内发完" in await read(clerk, f"{path}/progress")
    clock.advance(ALIVE + timedelta(seconds=1))
    shown = await read(clerk, f"{path}/progress")
    assert "sms暂时没有进程负责，2 人在等" in shown
    assert "分钟内发完" not in shown


def toast(answer: Any) -> str:
    return unquote(answer.headers["Set-Cookie"])


async def test_those_in_doubt_are_decided_on_together(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    clerk, path, ids = await in_doubt(core, console, sms, clock, 3)
    assert 'name="chosen"' not in await read(clerk, path)
    page = await read(clerk, f"{path}?state=unknown")
    assert page.count('name="chosen"') == page.count('name="shown"') == 3
    assert "本页全部 3 人" in page
    assert "一并处理" in await read(clerk, path)  # the way there
    async with db.transaction():
        now = core.clock.now()
        await moves.advance([Move(ids[0], "delivered", "receipt")], now)
    decision = {"decision": "again", "reason": "运营商确认没有下发"}
    answer = await clerk.post(
        f"{path}/decide", [*decision.items(), *(("chosen", str(i)) for i in ids[:2])]
    )
    assert answer.headers["Location"] == f"{path}?state=unknown#people"
    assert "处理 1 人，另有 1 人这期间有了结果" in toast(answer)
    await drain(core)
    assert sms.to == [phone(1)]
    # Without a script the box for all stands for everybody the page showed.
    shown = [("shown", str(ids[2])), ("all", "1"), *decision.items()]
    answer = await clerk.post(f"{path}/decide", shown)
    assert "处理 1 人" in toast(answer)
    assert 'name="chosen"' not in await read(clerk, f"{path}?state=unknown")
    lines = await Audit.filter(action="message.decided").order_by("id")
    assert [line.object for line in lines] == [f"outbox:{id}" for id in ids[1:]]


async def test_it_is_not_just_finished_while_nobody_knows_of_somebody(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    """On the page, in the list, on paper; until the last of them has a receipt."""
    clerk, path, ids = await in_doubt(core, console, sms, clock, 2)
    await tick(core)
    for one in (path, "/broadcasts", f"{path}/print"):
        page = await read(clerk, one)
        assert "发完了，还有结果不明" in page
        assert "已完成" not in page
    progress = f"{path}/progress?state=finished_with_open_questions&revision=1"
    for id in ids:
        assert "查看名单" in await read(clerk, progress)
        async with db.transaction():
            await moves.advance([Move(id, "delivered", "receipt")], clock.now())
    over = await clerk.get(progress)
    assert (over.status, over.headers["HX-Refresh"]) == (204, "true")
    for one in (path, "/broadcasts", f"{path}/print"):
        assert "已完成" in await read(clerk, one)


async def test_in_a_cancelled_one_nobody_is_sent_to_again(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    clerk, path, ids = await in_doubt(core, console, sms, clock, 1)
    await clerk.post(f"{path}/cancel", {})
    decision = {"decision": "again", "reason": "没有收到", "chosen": str(ids[0])}
    answer = await clerk.post(f"{path}/decide", decision)
    assert answer.headers["Location"] == f"{path}?state=unknown#people"
    assert "通知已取消，不能再发" in toast(answer)
    assert (await Outbound.get()).state == "unknown"


async def test_the_channels_page_leads_to_where_they_are_decided_on(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    """One line for a notice, not one form for each of its people; but who can't see
    the notice decides on their own people one by one."""
    clerk, path, ids = await in_doubt(core, console, sms, clock, 3, "county")
    page = await read(clerk, "/channels")
    assert "3 条结果不明" in page
    assert f'href="{path}?state=unknown#people"' in page
    assert 'action="/messages/' not in page
    below = await read(await console.browser("clerk_a"), "/channels")
    assert path not in below
    assert [f'action="/messages/{id}/decide"' in below for id in ids] == [True] * 3
    beside = await read(await console.browser("clerk_b"), "/channels")
    assert "结果不明的消息" not in beside


async def test_what_is_asked_of_the_provider_is_shown(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    """On the notice in one line, on the page of channels for each message."""
    _, path, ids = await in_doubt(core, console, sms, clock, 3, "county")
    director = await console.browser("director_county")
    clerk = await console.browser("clerk_a")
    assert "查询" not in await read(director, path)
    assert "/ask" not in await read(clerk, "/channels")
    channel = core.channels.get("sms")
    assert channel is not None
    provider = queried(channel)
    assert "系统也在向服务商查询：已查 0 条" in await read(director, path)
    assert "还没有向服务商查询过" in await read(clerk, "/channels")
    foreign = await console.browser("clerk_b")
    assert (await foreign.post(f"/messages/{ids[0]}/ask", {})).status == 404
    answer = await clerk.post(f"/messages/{ids[0]}/ask", {})
    assert "正在向服务商查询" in toast(answer)

    provider.found = NotTaken()
    await queries.step(core, channel)
    assert [one.id for one in provider.asked] == [str(ids[0])]
    assert "系统也在向服务商查询：已查 1 条" in await read(director, path)
    page = await read(clerk, "/channels")
    assert "已向服务商查询 1 次" in page
    assert "没有查到这一条，但服务商的记录有时来得晚" in page
    provider.found = TransientFailure("no_answer")
    await clerk.post(f"/messages/{ids[0]}/ask", {})
    await queries.step(core, channel)
    assert "渠道没有回话" in await read(clerk, "/channels")
    clock.advance(queries.LAST + timedelta(minutes=1))
    director = await console.browser("director_county")
    clerk = await console.browser("clerk_a")
    assert "系统也在向服务商查询" not in await read(director, path)
    assert "已经过了一周，不再查询" in await read(clerk, "/channels")


async def test_deciding_together_has_the_rules_of_deciding_on_one(
    core: Core, console: Console, sms: Recorder, clock: ManualClock
) -> None:
    clerk, path, ids = await in_doubt(core, console, sms, clock, 2)
    chosen = [("chosen", str(id)) for id in ids]
    sent, why = ("decision", "sent"), ("reason", "问过本人")
    for data, words in (
        ([sent, why], "请先勾选"),
        ([*chosen, sent, ("reason", " ")], "写明依据"),
        ([*chosen, ("decision", "burn"), why], "写明依据"),
        ([("chosen", "x"), sent, why], "请先勾选"),
    ):
        answer = await clerk.post(f"{path}/decide", data)
        assert "bad" in toast(answer)
        assert words in toast(answer)
    full = [*chosen, sent, why]
    foreign = await console.browser("clerk_b")
    assert (await foreign.post(f"{path}/decide", full)).status == 404
    more = [("chosen", str(max(ids) + 1)), *full]
    assert (await clerk.post(f"{path}/decide", more)).status == 404
    reader = await console.browser("approver_a")
    assert 'name="chosen"' not in await read(reader, f"{path}?state=unknown")
    assert (await reader.post(f"{path}/decide", full)).status == 403
    assert {row.state for row in await Outbound.all()} == {"unknown"}


async def test_a_long_preparation_is_seen_and_can_be_cancelled(
    core: Core, console: Console
) -> None:
    await people(core, console, 1)
    clerk = await console.browser("clerk_a")
    path = await drafted(clerk, form(console))
    await Broadcast.all().update(state="planning", people=2_500_000, planned=20_000)
    page = await read(clerk, path)
    assert "正在整理名单" in page
    assert "20,000 / 2,500,000 人" in page
    await Broadcast.all().update(planned=0)
    await clerk.post(f"{path}/cancel")
    assert "已取消" in await read(clerk, path)
