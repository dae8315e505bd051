"""The desk's pages: who sees what, what a form does, and that words stay words."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import AddressKind, Attachment
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.inbox import pages as review_pages
from gateway.inbox.router import Router
from gateway.inquiries import act_pages, pages
from gateway.outbox import pages as channel_pages
from gateway.tables import (
    AddressRow,
    Audit,
    Canned,
    Inquiry,
    Member,
    Node,
    Outbound,
)
from gateway.web.app import build_app
from gateway.web.keys import COUNTS
from gateway.web.routes import add_routes
from tests.console import Browser, Console
from tests.labs.centre import PHONE, Centre, nothing_today
from tests.labs.recording import qq, sms

HTMX = {"HX-Request": "true"}
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([sms(), qq()])


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    for part in (pages, review_pages, channel_pages):
        add_routes(app, part.ROUTES)
    app[COUNTS].extend([pages.count, review_pages.count])
    return app


@pytest.fixture
async def desk(console: Console, core: Core, clock: ManualClock) -> Centre:
    """The county of `console`, with a member of branch A and a running inbox."""
    node = await Node.create(started_at=clock.now(), seen_at=clock.now())
    core.node_id = node.id
    member = await Member.create(
        name="张三", organisation=console.branch_a, created_at=clock.now()
    )
    made = Centre(
        core=core,
        clock=clock,
        county=console.county,
        centre_a=console.centre_a,
        branch_a=console.branch_a,
        centre_b=console.centre_b,
        clerk=console.actors["clerk_a"],
        director=console.actors["director_a"],
        other=console.actors["clerk_b"],
        member=member,
        inbox=Inbox(core),
        router=Router(core, nothing_today),
    )
    await made.bind(AddressKind.PHONE, PHONE)
    return made


@pytest.fixture
async def clerk(console: Console) -> Browser:
    return await console.browser("clerk_a")


async def page_of(browser: Browser, path: str, status: int = 200, **more: Any) -> str:
    answer = await browser.get(path, **more)
    text = await answer.text()
    assert answer.status == status, text
    return text


def form_token(page: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', page)
    assert found
    return found[1]


PATHS = (
    "/inquiries/{number}",
    "/inquiries/{number}?alone=1",
    "/inquiries/{number}/print",
    "/inquiries/{number}/attachments/1",
    "/inquiries/{id}/live",
)
POSTS = (
    "replies",
    "replies/1/undo",
    "preview",
    "notes",
    "told",
    "claim",
    "assign",
    "transfer",
    "extend",
    "classify",
    "bind",
    "close",
    "reopen",
    "rate",
    "seen",
    "messages/1/move",
    "messages/1/split",
)
FIELDS = {"text": "x", "reason": "x", "outcome": "x", "rating": "1", "days": "3"}
FIELDS |= {"member": "1", "staff": "clerk_b", "organisation": "c1", "to": "x"}


async def test_another_centre_finds_nothing_whatever_it_tries(
    console: Console, desk: Centre
) -> None:
    message = await desk.arrives(
        "请问党费", attachments=(Attachment("a.txt", "text/plain", b"x"),)
    )
    inquiry = await desk.inquiry()
    other = await console.browser("clerk_b")
    missing = {"number": "20200101-0001", "id": 10**9}
    real = {"number": inquiry.number, "id": inquiry.id}
    for path in PATHS:
        for names in (real, missing):
            await page_of(other, path.format(**names), 404)
    for path in POSTS:
        for names in (real, missing):
            target = f"/inquiries/{names['number']}/{path}"
            answer = await other.post(target, FIELDS)
            assert answer.status == 404, (target, await answer.text())
    answer = await other.get(f"/inquiries/{inquiry.id}/row?tab=all")
    assert answer.status == 204
    listed = await page_of(other, "/inquiries?tab=all")
    assert inquiry.number not in listed
    assert (
        await other.post(f"/review/{message.id}", {"decision": "new"})
    ).status == 404
    unchanged = await desk.inquiry()
    assert unchanged.state == "new"
    assert unchanged.changed_at == inquiry.changed_at


async def test_an_approver_reads_and_does_not_work(
    console: Console, desk: Centre
) -> None:
    await desk.arrives("请问党费")
    number = (await desk.inquiry()).number
    approver = await console.browser("approver_a")
    shown = await page_of(approver, f"/inquiries/{number}")
    assert 'id="answer-text"' not in shown
    for path in POSTS:
        answer = await approver.post(f"/inquiries/{number}/{path}", FIELDS)
        assert answer.status == 403, path


async def test_words_of_members_stay_words(clerk: Browser, desk: Centre) -> None:
    await desk.arrives(
        NASTY,
        "n@example.org",
        AddressKind.EMAIL,
        subject=NASTY,
        quoted=NASTY,
        display_name=NASTY,
        notes=(NASTY,),
        attachments=(Attachment(NASTY, "text/html", b"<script>"),),
    )
    inquiry = await desk.inquiry()
    inquiry.organisation_id = desk.centre_a.id
    inquiry.first_organisation_id = desk.centre_a.id
    await inquiry.save()
    await Canned.create(title=NASTY, text=NASTY)
    for path in (
        "/inquiries?tab=all",
        f"/inquiries?tab=all&q={'%3Cscript%3E'}",
        f"/inquiries/{inquiry.number}",
        f"/inquiries/{inquiry.id}/live",
        f"/inquiries/{inquiry.number}/print",
    ):
        page = await page_of(clerk, path)
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path


async def test_a_file_is_saved_and_never_shown(clerk: Browser, desk: Centre) -> None:
    await desk.arrives(
        "附件",
        attachments=(Attachment('坏"名\r\n.html', "text/html", b"<script>"),),
    )
    number = (await desk.inquiry()).number
    page = await page_of(clerk, f"/inquiries/{number}")
    found = re.search(r'href="(/inquiries/[^"]+/attachments/\d+)"', page)
    assert found
    answer = await clerk.get(found[1])
    assert answer.status == 200
    assert await answer.read() == b"<script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment;")


async def test_only_masked_telephones_are_shown(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("请问党费")
    await desk.arrives("再问")
    inquiry = await desk.inquiry()
    for path in (
        "/inquiries?tab=all",
        f"/inquiries?q={PHONE.removeprefix('+86')}",
        f"/inquiries/{inquiry.number}",
        f"/inquiries/{inquiry.id}/live",
        "/review",
        "/channels",
    ):
        page = await page_of(clerk, path)
        assert "13800138000" not in page.replace('value="13800138000"', ""), path
    printed = await page_of(clerk, f"/inquiries/{inquiry.number}/print")
    assert "13800138000" in printed
    assert await Audit.filter(action="inquiry.printed").count() == 1


async def test_the_form_says_that_a_deadline_is_provisional(
    clerk: Browser, desk: Centre
) -> None:
    await desk.arrives("请问党费")
    path = f"/inquiries/{(await desk.inquiry()).number}/print"
    assert "2026-12-01（普通）" in await page_of(clerk, path)
    await Inquiry.all().update(deadline_provisional=True)
    assert "2026-12-01（普通，暂定）" in await page_of(clerk, path)


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("党费", True),
        ("20261120-0001", True),
        ("张三", True),
        ("13800138000", True),
        ("8000", True),
        ("1380013", False),  # finer than the mask
        ("00138000", False),
        ("%", False),
        ("_", False),
        ("李四", False),
    ],
)
async def test_searching(clerk: Browser, desk: Centre, q: str, found: bool) -> None:
    await desk.arrives("请问党费怎么交")
    answer = await clerk.get("/inquiries", params={"q": q, "tab": "all"}, headers=HTMX)
    assert ("20261120-0001" in await answer.text()) is found


@pytest.mark.parametrize("tab", ["open", "all", "overdue"])
async def test_the_stream_pages_by_cursor(
    clerk: Browser, desk: Centre, tab: str
) -> None:
    for number in range(60):
        await desk.arrives(f"第{number}件", f"+86139001390{number:02}")
    await Inquiry.all().update(
        organisation_id=desk.centre_a.id, deadline_at=desk.clock.now()
    )
    path: str | None = f"/inquiries?tab={tab}"
    seen: list[str] = []
    while path:
        page = await page_of(clerk, path, headers=HTMX)
        seen += re.findall(r'data-number="([^"]+)"', page)
        more = re.search(r'hx-get="([^"]*cursor=[^"]*)"', page)
        path = more[1].replace("&amp;", "&") if more else None
    assert len(seen) == len(set(seen)) == 60
    assert seen[0].endswith("-0060")


@pytest.mark.parametrize("cursor", ["x", "W10=", "WzEsMl0=", "bnVsbA==", "é", "😀"])
async def test_a_broken_cursor_starts_anew(clerk: Browser, cursor: str) -> None:
    answer = await clerk.get("/inquiries", params={"cursor": cursor}, headers=HTMX)
    assert answer.status == 200


async def test_an_answer_by_htmx_comes_with_its_undo(
    clerk: Browser, desk: Centre
) -> None:
    await desk.arrives("请问党费")
    number = (await desk.inquiry()).number
    token = form_token(await page_of(clerk, f"/inquiries/{number}"))
    fields = {"text": "每月交给支部", "form": token}
    path = f"/inquiries/{number}/replies"
    answers = await asyncio.gather(
        *(clerk.post(path, fields, headers=HTMX) for _ in range(3))
    )
    assert {answer.status for answer in answers} == {200}
    assert await Outbound.filter(message_kind="answer").count() == 1
    toast = json.loads(answers[0].headers["HX-Trigger"])["toast"]
    assert "每月交给支部" in await answers[0].text()
    undone = await clerk.post(toast["undo"], headers=HTMX)
    assert undone.status == 200
    assert "每月交给支部</textarea>" in await undone.text()
    again = await clerk.post(toast["undo"], headers=HTMX)
    assert again.status == 409
    assert (await desk.inquiry()).state == "new"


async def test_a_refused_act_keeps_what_was_typed(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("请问党费")
    number = (await desk.inquiry()).number
    path = f"/inquiries/{number}"
    answer = await clerk.post(f"{path}/replies", {"text": "您好{{谁}}"}, headers=HTMX)
    assert answer.status == 422
    assert "您好{{谁}}</textarea>" in await answer.text()
    fields = {"organisation": "", "reason": "因为属地"}
    answer = await clerk.post(f"{path}/transfer", fields)
    page = await answer.text()
    assert answer.status == 422
    assert "因为属地</textarea>" in page
    assert "没有这个单位" in page
    assert "data-open-now" in page
    answer = await clerk.post(f"{path}/extend", {"days": "x", "reason": "等"})
    assert answer.status == 422


async def test_places_to_hand_on_to_come_when_they_are_wanted(
    clerk: Browser, desk: Centre
) -> None:
    await desk.arrives("请问党费")
    path = f"/inquiries/{(await desk.inquiry()).number}"
    option = f'<option value="{desk.centre_b.code}">'
    assert option not in await page_of(clerk, path)
    places = await page_of(clerk, f"{path}/places")
    assert option in places
    assert '<option value="staff:director_a">' in places
    fields = {"organisation": desk.centre_b.code, "reason": ""}
    refused = await (await clerk.post(f"{path}/transfer", fields)).text()
    assert f'<option value="{desk.centre_b.code}" selected>' in refused


async def test_every_act_of_a_clerk(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("请问党费")
    number = (await desk.inquiry()).number

    async def act(path: str, **fields: str) -> Inquiry:
        answer = await clerk.post(f"/inquiries/{number}/{path}", fields)
        assert answer.status == 303, (path, await answer.text())
        return await desk.inquiry()

    assert (await act("notes", text="查一下")).state == "new"
    assert (await act("claim")).state == "open"
    assert (await act("assign", staff="director_a")).attention == "director"
    assert (await act("seen")).attention == ""
    assert (await act("classify", matter="study", urgency="urgent")).matter == "study"
    assert (await act("extend", days="5", reason="等上级")).state == "open"
    assert (await act("told", text="电话说了")).state == "answered"
    assert (await act("replies", text="再补一句", asks="1")).state == "waiting"
    assert (await act("replies", text="当面说的", spoken="1")).state == "answered"
    assert (await act("close", outcome="办好了", call_back="1")).state == "closed"
    assert (await act("rate", rating="3")).state == "open"
    assert (await act("close", outcome="又办好了")).state == "closed"
    assert (await act("reopen", reason="还没完")).reopened == 2
    answer = await clerk.post(f"/inquiries/{number}/reopen", {"reason": "x"})
    assert answer.status == 409
    shown = await page_of(clerk, f"/inquiries/{number}")
    for words in ("内部备注", "等上级", "当面说的", "评价：不满意", "还没完"):
        assert words in shown


async def test_a_matter_that_leaves_sight_leads_back_to_the_stream(
    console: Console, desk: Centre
) -> None:
    await desk.arrives("请问党费")
    inquiry = await desk.inquiry()
    inquiry.first_organisation_id = desk.county.id
    await inquiry.save()
    clerk = await console.browser("clerk_a")
    code = desk.centre_b.code
    answer = await clerk.post(
        f"/inquiries/{inquiry.number}/transfer",
        {"organisation": code, "reason": "属乙中心"},
    )
    assert answer.status == 303
    assert answer.headers["Location"] == "/inquiries"


async def test_a_walk_in_is_registered_once(clerk: Browser, desk: Centre) -> None:
    page = await page_of(clerk, "/inquiries/new")
    fields = {
        "source": "counter",
        "text": "想转组织关系",
        "phone": "12",
        "form": form_token(page),
    }
    refused = await clerk.post("/inquiries/new", fields)
    assert refused.status == 422
    page = await refused.text()
    assert "想转组织关系</textarea>" in page
    fields |= {"phone": "13800138000", "form": form_token(page)}
    answers = await asyncio.gather(
        *(clerk.post("/inquiries/new", fields) for _ in range(2))
    )
    assert {one.status for one in answers} == {303}
    assert len({one.headers["Location"] for one in answers}) == 1
    assert (await desk.inquiry()).member_id == desk.member.id
    shown = await page_of(clerk, answers[0].headers["Location"])
    assert "已登记，单号" in shown


async def test_a_foreign_member_cant_be_chosen(clerk: Browser, desk: Centre) -> None:
    foreign = await Member.create(
        name="别家", organisation=desk.centre_b, created_at=desk.clock.now()
    )
    fields = {"source": "counter", "text": "x", "member_id": str(foreign.id)}
    answer = await clerk.post("/inquiries/new", fields)
    assert answer.status == 422
    assert "别家" not in await answer.text()
    await desk.arrives("请问党费", "+8613900139000")
    inquiry = await desk.inquiry()
    inquiry.organisation_id = desk.centre_a.id
    await inquiry.save()
    path = f"/inquiries/{inquiry.number}/bind"
    answer = await clerk.post(path, {"member": str(foreign.id)})
    assert answer.status == 404


async def test_counts_and_rows_follow(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("请问党费")
    inquiry = await desk.inquiry()
    counts = await page_of(clerk, "/inquiries/counts?tab=open", headers=HTMX)
    assert '<i data-for="inquiries">1</i>' in counts
    assert '<i data-for="tab-open">1</i>' in counts
    row = await page_of(clerk, f"/inquiries/{inquiry.id}/row?tab=open", headers=HTMX)
    assert f'data-number="{inquiry.number}"' in row
    closed = await clerk.get(f"/inquiries/{inquiry.id}/row?tab=closed")
    assert closed.status == 204


async def test_the_preview_says_what_it_costs(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("请问党费")
    number = (await desk.inquiry()).number
    answer = await clerk.post(f"/inquiries/{number}/preview", {"text": "长" * 60})
    page = await answer.text()
    assert f"（单号{number}）" in page
    assert "2 条短信" in page
    assert "0.09 元" in page


async def test_push_addresses_are_for_administrators_only(
    console: Console, desk: Centre
) -> None:
    clerk = await console.browser("clerk_a")
    assert "dlg-test-" not in await page_of(clerk, "/channels")
    answer = await clerk.post("/channels/短信/test", {"to": PHONE, "text": "x"})
    assert answer.status == 403
    chief = await console.browser("administrator_county")
    assert "dlg-test-" in await page_of(chief, "/channels")
    answer = await chief.post("/channels/短信/test", {"to": PHONE, "text": "试"})
    assert answer.status == 303
    assert await Outbound.filter(message_kind="test").count() == 1


async def test_the_tray_by_page(clerk: Browser, desk: Centre) -> None:
    await desk.arrives("第一件")
    first = await desk.inquiry()
    await Inquiry.filter(id=first.id).update(state="closed", closed_at=first.changed_at)
    await desk.arrives("第二件")
    await Inquiry.filter(id=first.id).update(state="open")
    message = await desk.arrives("再问一下")
    page = await page_of(clerk, "/review")
    assert "再问一下" in page
    assert f"inquiry:{first.number}" in page
    answer = await clerk.post(
        f"/review/{message.id}", {"decision": f"inquiry:{first.number}"}, headers=HTMX
    )
    assert answer.status == 200
    assert "没有待判的消息" in await answer.text()


async def test_candidates_are_the_actors_own(clerk: Browser, desk: Centre) -> None:
    await Member.create(
        name="李四", organisation=desk.centre_b, created_at=desk.clock.now()
    )
    mine = await Member.create(
        name="李四", organisation=desk.branch_a, created_at=desk.clock.now()
    )
    number = "20261120-0001"
    await desk.arrives("我是李四", "+8613900139000", display_name="李四")
    await Inquiry.filter(number=number).update(organisation_id=desk.centre_a.id)
    page = await page_of(clerk, f"/inquiries/{number}")
    options = re.findall(r'<option value="(\d+)">李四', page)
    assert options == [str(mine.id)]
    answer = await clerk.post(f"/inquiries/{number}/bind", {"member": str(mine.id)})
    assert answer.status == 303
    assert (await desk.inquiry()).member_id == mine.id
    row = await AddressRow.get(value="+8613900139000")
    assert row.verified_at is None


def test_an_answer_may_be_taken_back_for_some_seconds() -> None:
    assert timedelta(seconds=3) <= act_pages.UNDO <= timedelta(seconds=10)
