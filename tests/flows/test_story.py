"""Chromium walks the whole story against a real process: handsets, desk, notices.

One gateway and one browser serve all stories of a run. Each story has members of its
own, so that their order doesn't matter.
"""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from playwright.async_api import FloatRect, Page, Response, expect

from tests.labs.walker import (
    APPROVER,
    CLERK,
    DIRECTOR,
    NUMBER,
    PHONE,
    TABLET,
    House,
    Notice,
    Walk,
    answer,
    bubble,
    close,
    device,
    draft,
    heard,
    new_member,
    number_in,
    numbers,
    open_matter,
    opened_house,
    path_of,
    press,
    register,
    release,
    row,
    say,
    seen,
    trouble,
)

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with opened_house(tmp_path_factory.mktemp("story")) as house:
        yield house
    assert house.gateway.process is not None
    assert house.gateway.process.returncode == 0
    assert not re.search(r"\[(error|critical)|Traceback", house.gateway.log)


@pytest_asyncio.fixture(loop_scope="module")
async def walk(house: House) -> AsyncIterator[Walk]:
    walk = Walk(house)
    yield walk
    await walk.leave()
    assert walk.faults == []


async def test_from_a_text_to_a_rating(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK)
    phone = await device(sandbox, "sms", "+8619900000001")
    await say(phone, "同志您好，我退休了，党费按什么标准交？")

    await expect(row(desk, "我退休了").locator(".who")).to_contain_text("江金凤")
    receipt = re.compile(r"单号\d{8}-\d{4}.*月\d+日前答复")
    await expect(heard(phone, receipt)).to_be_visible()
    number = await number_in(phone)

    await open_matter(desk, number)
    await answer(desk, "按每月退休金的百分之零点五交，交到支部即可。")
    await expect(heard(phone, "按每月退休金的百分之零点五交")).to_be_visible()
    await expect(bubble(desk, "按每月退休金")).to_contain_text("已送达")
    await expect(desk.locator("#matter-head")).to_contain_text("已答复")

    await close(desk, "已告知交纳标准。")
    await expect(row(desk, "我退休了")).to_contain_text("已办结")
    await expect(heard(phone, "您满意吗")).to_contain_text("已告知交纳标准")
    await say(phone, "3")
    await expect(heard(phone, "已重新办理")).to_contain_text("主任已经知道")
    await expect(desk.locator("#matter-head")).to_contain_text("第 1 次重办")

    director = await walk.staff(DIRECTOR)
    await open_matter(director, number)
    await expect(director.locator("#matter-head")).to_contain_text("请主任督办")

    await close(desk, "已请支部书记上门说明。")
    await expect(heard(phone, "上门说明")).to_be_visible()
    await say(phone, "1")
    await expect(heard(phone, "谢谢您的评价")).to_be_visible()
    await expect(desk.locator("#timeline")).to_contain_text("评价：满意")
    await desk.reload()
    await expect(desk.locator("[data-side]")).to_contain_text("满意")


def previews(response: Response, notice: Notice) -> bool:
    """What was shown before, to everybody that is, may still be on its way."""
    form = parse_qs(response.request.post_data or "")
    is_preview = response.url.endswith("/broadcasts/preview")
    return is_preview and form.get("audience_code") == [notice.branch]


def first_number(preview: str) -> str:
    found = re.search(r'class="tile"><b>(\d+)</b>', preview)
    assert found, preview
    return found[1]


async def test_a_notice_is_drafted_approved_by_another_and_counted(walk: Walk) -> None:
    desk, approver = await walk.staff(DIRECTOR), await walk.staff(APPROVER)
    sandbox = await walk.sandbox()
    phone = await device(sandbox, "sms", "+8619900000002")
    other = await device(sandbox, "sms", "+8619900000004")
    chat = await device(sandbox, "qq", "9900000004")

    notice = Notice(
        title="植树活动",
        branch="080101",
        sms="{{姓名}}同志，周六上午九点植树，参加回1，请假回2。拒收请回复R",
        other="{{姓名}}同志，您好！周六上午九点植树，请回复“参加”或“请假”。",
        rsvp=True,
    )
    async with desk.expect_response(lambda r: previews(r, notice)) as shown:
        await draft(desk, notice)
    preview = desk.locator("#preview")
    await expect(preview.locator(".say").first).to_contain_text("周六上午九点植树")
    await expect(preview).to_contain_text("每人 1 条")
    people = int(first_number(await (await shown.value).text()))
    assert people > 10
    await expect(preview.locator(".tile b").first).to_have_text(str(people))
    await press(desk, "提请批准")
    await expect(desk.get_by_text("起草人不能批准自己的通知")).to_be_visible()
    await expect(desk.get_by_role("button", name="批准", exact=True)).to_have_count(0)

    await approver.goto(path_of(desk))
    first = await approver.locator("code").first.inner_text()
    await press(approver, "批准", sure=True)

    await seen(desk, "已批准")
    await desk.get_by_role("link", name="修改").click()
    await expect(desk.get_by_text("批准作废")).to_be_visible()
    await desk.get_by_label("短信正文").fill(notice.sms.replace("九点", "八点"))
    await press(desk, "提请批准")
    await expect(desk.locator("#state")).to_contain_text("待批准")
    assert await desk.locator("code").first.inner_text() != first
    await expect(desk.get_by_role("button", name="开始发送")).to_have_count(0)

    await release(desk, approver)
    await expect(heard(phone, "洪秀梅同志，周六上午八点植树")).to_be_visible()
    await expect(heard(chat, "庄诗琪同志，您好！")).to_be_visible()
    await expect(desk.locator("#progress")).to_contain_text(f"共 {people} 人")
    assert sum((await numbers(desk)).values()) == people

    counted = desk.locator("#progress .line").first
    for place, said, total in (
        (phone, "1", "参加 1不参加 0"),
        (chat, "参加", "参加 2不参加 0"),
        (other, "2", "参加 2不参加 1"),
    ):
        await say(place, said)
        await expect(counted).to_contain_text(total)
    await expect(heard(phone, "已记下您参加")).to_be_visible()
    await expect(heard(other, "已记下您这次请假")).to_be_visible()

    await desk.reload()
    await desk.get_by_label("洪秀梅 到场").check()
    await press(desk, "保存到场情况")
    await expect(desk.get_by_label("洪秀梅 到场")).to_be_checked()
    await desk.get_by_role("link", name="洪秀梅").click()
    await expect(desk.locator("#main")).to_contain_text("植树活动")
    await expect(desk.locator(".plain-rows .chip", has_text="到场")).to_be_visible()


async def test_the_page_of_a_run_fits_every_screen(walk: Walk) -> None:
    desk, approver = await walk.staff(DIRECTOR), await walk.staff(APPROVER)
    words = "{{姓名}}同志，周三晚上看电影。拒收请回复R"
    await draft(desk, Notice(title="看电影", branch="080102", sms=words))
    await press(desk, "提请批准")
    await desk.get_by_role("button", name="取消通知").click()
    await desk.locator("#confirm").get_by_role("button", name="返回").click()
    await seen(desk, "待批准")
    await release(desk, approver)
    for size in (TABLET, PHONE):
        page = await walk.staff(DIRECTOR, size)
        await walk.open(page, path_of(desk))
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0]
        heading, search = await place(page, "#people h2"), await place(page, ".search")
        assert heading["x"] + heading["width"] <= search["x"] or (
            heading["y"] + heading["height"] <= search["y"]
        )
    # What somebody unfolded stays so while the numbers go on.
    table = page.locator("#plot-table")
    await table.locator("summary").click()
    await table.evaluate("side => side.dataset.old = ''")
    await page.evaluate("htmx.trigger('#progress', 'live')")
    await expect(page.locator("#plot-table:not([data-old])")).to_have_attribute(
        "open", ""
    )
    # Neither does who walks by keyboard lose the place.
    tile = page.locator("#progress .tile", has_text="已送达")
    await tile.focus()
    await tile.evaluate("tile => tile.dataset.old = ''")
    await page.evaluate("htmx.trigger('#progress', 'live')")
    await expect(page.locator("#progress .tile:focus:not([data-old])")).to_be_attached()
    # On a phone each person is a card; who it is stands above what is ticked.
    name = await place(page, "#people tbody a")
    assert name["y"] < (await place(page, "#people tbody [type=checkbox]"))["y"]


async def test_those_in_doubt_are_decided_on_together(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(DIRECTOR)
    approver = await walk.staff(APPROVER)
    words = "{{姓名}}同志，周四下午读书会。拒收请回复R"
    await draft(desk, Notice(title="读书会", branch="080103", sms=words))
    await press(desk, "提请批准")
    async with trouble(sandbox, "扣留回执"), trouble(sandbox, "丢失应答"):
        await release(desk, approver, "还有结果不明")
        await desk.get_by_role("link", name="查看名单").click()
        boxes, ticked = (
            desk.locator("[name=chosen]"),
            desk.locator("[name=chosen]:checked"),
        )
        await expect(boxes.first).to_be_visible()
        people = await boxes.count()
        await desk.get_by_label("本页全部").check()
        await expect(ticked).to_have_count(people)
        await boxes.first.uncheck()
        await expect(desk.get_by_label("本页全部")).not_to_be_checked()
        await desk.locator("#decide").get_by_label("依据").fill("运营商确认已下发")
        await press(desk, "就这样定", sure=True)
        await expect(desk.locator(".toasts")).to_contain_text(f"处理 {people - 1} 人")
        await expect(boxes).to_have_count(1)


async def test_a_page_that_nothing_reaches_says_so(walk: Walk) -> None:
    """And nobody who did nothing is told that it failed."""
    desk = await walk.staff(DIRECTOR)
    await walk.open(desk, "/channels")
    strip = desk.locator("#stale .warning-strip")
    await expect(strip).to_be_hidden()
    await desk.context.set_offline(True)
    await desk.evaluate("htmx.trigger('#channel-cards', 'live')")
    await expect(strip).to_contain_text(re.compile(r"停在 \d+:\d\d:\d\d 的情况"))
    assert await desk.locator(".toast").count() == 0
    await desk.context.set_offline(False)
    await desk.evaluate("htmx.trigger('#channel-cards', 'live')")
    await expect(strip).to_be_hidden()
    told = re.compile("ERR_INTERNET_DISCONNECTED|^htmx:")  # what Chromium and htmx log
    walk.faults[:] = [fault for fault in walk.faults if not told.search(fault)]


async def place(page: Page, what: str) -> FloatRect:
    box = await page.locator(what).first.bounding_box()
    assert box is not None
    return box


async def test_who_opts_out_by_word_gets_no_notice(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK)
    approver = await walk.staff(APPROVER)
    gone = await device(sandbox, "sms", "+8619900000061")
    stays = await device(sandbox, "sms", "+8619900000055")
    await say(gone, "退订")
    await expect(heard(gone, "已停止向您发送通知")).to_be_visible()

    notice = Notice(
        title="消防讲座",
        branch="080104",
        sms="{{姓名}}同志，周五下午消防讲座。拒收请回复R",
    )
    await draft(desk, notice)
    await expect(desk.locator("#preview")).to_contain_text("已退订 1 人")
    await press(desk, "提请批准")
    await release(desk, approver)
    await expect(heard(stays, "消防讲座")).to_be_visible()
    await expect(heard(gone, "消防讲座")).to_have_count(0)
    line = desk.locator("tr", has_text="魏国平")
    await expect(line).to_contain_text(re.compile("不予发送.*退订"))
    await expect(desk.locator("#main")).not_to_contain_text("DELIVRD")
    await line.get_by_role("link", name="魏国平").click()

    proof = desk.locator("section", has_text="同意与退订").last
    await expect(proof.locator(".bubble-text")).to_have_text("退订")
    await expect(desk.locator(".chip.bad", has_text="已退订")).to_be_visible()
    await say(gone, "恢复接收")
    await expect(heard(gone, "已恢复向您发送通知")).to_be_visible()
    await desk.reload()
    await expect(desk.locator(".chip.bad", has_text="已退订")).to_have_count(0)
    await expect(proof).to_contain_text("恢复接收")


async def test_an_ambiguous_text_is_filed_by_hand(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK)
    phone = await device(sandbox, "sms", "+8619900000021")
    await say(phone, "我想把组织关系转到儿子那边，怎么办？")
    await expect(heard(phone, NUMBER)).to_be_visible()
    first = await number_in(phone)
    await register(desk, member="郑荣华", text="询问老党员走访慰问安排")
    second = await desk.locator("[data-matter]").get_attribute("data-number")
    assert second
    assert second != first

    await walk.open(desk, "/review")
    await expect(desk.locator("#tray")).to_contain_text("没有待判的消息")
    await say(phone, "材料我明天送过来")
    item = desk.locator("#tray form", has_text="材料我明天送过来")
    await expect(desk.locator("[data-count=review]")).to_have_text("1")
    await item.get_by_text(second).click()
    await item.get_by_role("button", name="就这样定").click()
    await expect(item).to_have_count(0)
    await expect(desk.locator("[data-count=review]")).to_have_text("")
    await desk.goto(f"/inquiries/{second}")
    await expect(bubble(desk, "材料我明天送过来")).to_be_visible()


async def test_a_matter_from_the_counter_is_printed(walk: Walk) -> None:
    desk = await walk.staff(CLERK)
    text = "儿子入党后在外地工作，问怎样参加组织生活"
    await register(desk, name="傅大娘", phone="19900000888", text=text)
    number = await desk.locator("[data-matter]").get_attribute("data-number")
    async with desk.context.expect_page() as opened:
        await desk.get_by_label("更多操作").click()
        await desk.get_by_role("link", name="打印受（办）理表").click()
    sheet = await opened.value
    for shown in ("党员服务受（办）理表", str(number), "傅大娘", text, "邵予宁"):
        await expect(sheet.locator(".sheet")).to_contain_text(shown)
    paper = await sheet.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) == 1
    assert re.search(rb"/Type\s*/Font\b", paper)  # a blank page needs none


async def test_a_matter_is_handed_on_by_keyboard(walk: Walk) -> None:
    desk = await walk.staff(CLERK)
    await register(desk, name="石大爷", phone="19900000889", text="问困难补助")
    await desk.locator("#matter").focus()
    await desk.keyboard.press("t")
    dialog = desk.locator("#dlg-transfer")
    places = dialog.get_by_label("转给")
    await expect(places).to_be_focused()
    await expect(places.locator("option").nth(1)).to_be_attached()  # they are fetched
    await places.select_option(index=1)
    await dialog.get_by_label("说明").fill("属你处办理")
    await dialog.get_by_role("button", name="转办").click()
    await expect(desk.locator("#timeline")).to_contain_text("属你处办理")


async def test_faults_of_the_channel_are_seen_at_the_desk(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK)
    phone = await device(sandbox, "sms", "+8619900000011")
    await say(phone, "中心什么时候开门？")
    await expect(heard(phone, NUMBER)).to_be_visible()
    await open_matter(desk, await number_in(phone))

    async with trouble(sandbox, "拒收", "1", "0"):
        await answer(desk, "周日休息。")
        await expect(bubble(desk, "周日休息")).to_contain_text("被拒绝")
    await expect(heard(phone, "周日休息")).to_have_count(0)

    async with trouble(sandbox, "扣留回执"), trouble(sandbox, "丢失应答"):
        await answer(desk, "上班时间有人值班。")
        await expect(bubble(desk, "上班时间有人")).to_contain_text("结果不明")
        await expect(heard(phone, "上班时间有人")).to_have_count(1)
    await expect(bubble(desk, "上班时间有人")).to_contain_text("已送达")
    await expect(heard(phone, "上班时间有人")).to_have_count(1)


async def opened(desk: Page, words: str) -> None:
    """The stream may renew itself under a click: then people click again."""
    head = desk.locator("#matter-head", has_text=words)
    for _ in range(5):
        await row(desk, words).click()
        with suppress(AssertionError):
            await expect(head).to_be_visible(timeout=5000)
            return
    await expect(head).to_be_visible()


async def test_mail_chat_and_group_are_answered_where_they_came_from(
    walk: Walk,
) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK)
    mailbox = await device(sandbox, "email", "lv.007@example.org")
    chat = await device(sandbox, "qq", "9900000006")
    await device(sandbox, "qq", "9900000005")
    group = await device(sandbox, "group", "990000801")

    await say(mailbox, "请问补交党费要什么手续？", subject="补交党费")
    await say(chat, "预备期满要交什么材料？")
    await group.get_by_label("谁在说").select_option(label="刘彩霞")
    await say(group, "活动室周末可以借用吗？")
    answers = {
        "补交党费": (mailbox, "说明原因，交到支部。"),
        "预备期满": (chat, "请交转正申请书。"),
        "活动室周末": (group, "可以，请提前两天登记。"),
    }
    for words, (place, reply) in answers.items():
        await expect(heard(place, NUMBER)).to_be_visible()
        await opened(desk, words)
        await answer(desk, reply)
    for place, reply in answers.values():
        await expect(heard(place, reply)).to_be_visible()
    await expect(heard(mailbox, "说明原因").locator("b")).to_have_text("Re: 补交党费")
    await expect(heard(group, "提前两天")).to_contain_text("@刘彩霞")


async def shows(page: Page, path: str, text: str) -> None:
    await page.goto(path)
    await expect(page.locator("#main")).to_contain_text(text)


async def test_hostile_words_are_only_words(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(DIRECTOR)
    long = "长" * (64 * 1024 // 3)
    phone = await device(sandbox, "sms", "+8619900000777", f"{HOSTILE[:28]}")
    await say(phone, f"{HOSTILE} 怎么入党？")
    mailbox = await device(sandbox, "email", "bad@example.org")
    await say(mailbox, HOSTILE, subject=HOSTILE)
    handset = await device(sandbox, "sms", "+8619900000012")
    await say(handset, long)
    for place in (phone, mailbox, handset):
        await expect(heard(place, NUMBER)).to_be_visible()
    await expect(heard(phone, "<img")).to_have_count(0)
    await sandbox.reload()

    await row(desk, "长长长").click()
    await expect(bubble(desk, "长长长")).to_be_visible()
    await register(desk, name=HOSTILE, text=f"{HOSTILE} 来访")
    await answer(desk, f"{HOSTILE} 已收到")
    path = path_of(desk)
    await shows(desk, path, HOSTILE)
    await desk.goto(f"{path}/print")
    await expect(desk.locator(".sheet")).to_contain_text(HOSTILE)
    await draft(desk, Notice(title=HOSTILE, branch="080103", sms=f"{HOSTILE} 好"))
    await expect(desk.locator("#preview .say").first).to_contain_text(HOSTILE)
    await press(desk, "提请批准")
    await shows(desk, "/broadcasts", HOSTILE)
    await new_member(desk, HOSTILE)
    for page in ("/members", "/audit", "/review", "/daily", "/channels", "/inquiries"):
        await walk.open(desk, page)


async def test_an_answer_from_a_phone(walk: Walk) -> None:
    sandbox, desk = await walk.sandbox(), await walk.staff(CLERK, PHONE)
    phone = await device(sandbox, "sms", "+8619900000022")
    await say(phone, "党员活动证丢了，怎么补办？")
    await row(desk, "党员活动证").click()
    box = desk.locator("[data-answer]")
    await expect(box).to_be_in_viewport()
    await expect(desk.locator("#stream")).to_be_hidden()
    await box.fill("带身份证到中心即可补办。")
    await desk.get_by_role("button", name="发送答复").click()
    await expect(heard(phone, "带身份证到中心")).to_be_visible()
    await expect(bubble(desk, "带身份证")).to_contain_text("已送达")
    width = "document.documentElement.scrollWidth"
    assert await desk.evaluate(width) <= PHONE[0]
    await desk.get_by_label("返回列表").click()
    await expect(row(desk, "党员活动证")).to_be_in_viewport()
