"""Walks through the console and the sandbox in Chromium, as members and staff do."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    Response,
    StorageState,
    async_playwright,
    expect,
)

from tests.labs.process import Installation, installation

CHROMIUM = "/usr/bin/chromium"
QUIETLY = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PASSWORD = "a walk by the river 8"
CLERK, DIRECTOR, APPROVER = "shaoyuning", "luowenlan", "cenruogu"
NUMBER = re.compile(r"\d{8}-\d{4,6}")
DESKTOP = (1440, 900)
TABLET = (820, 1180)
PHONE = (390, 844)
PATIENCE_MS = 20_000  # the machine may be busy with other tests
REPORT_VIOLATIONS = (
    'document.addEventListener("securitypolicyviolation",'
    ' (e) => console.error("policy violated: " + e.violatedDirective));'
)


@dataclass(slots=True)
class House:
    """The gateway, the browser, and who has signed in before."""

    gateway: Installation
    browser: Browser
    signed_in: dict[str, StorageState] = field(default_factory=dict)

    async def context(
        self, size: tuple[int, int], state: StorageState | None = None
    ) -> BrowserContext:
        context = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            locale="zh-CN",
            timezone_id="Asia/Shanghai",
            base_url=self.gateway.url(""),
            storage_state=state,
        )
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(REPORT_VIOLATIONS)
        return context

    async def first_sign_in(self, username: str) -> StorageState:
        """With the one-time password of the process, which is changed at once."""
        printed = re.search(r"admin / (\S+)", self.gateway.output)
        assert printed
        context = await self.context(DESKTOP)
        page = await context.new_page()
        await page.goto("/login")
        await page.get_by_label("用户名").fill(username)
        await page.get_by_label("密码").fill(printed[1])
        await page.get_by_role("button", name="登录").click()
        await page.wait_for_url("**/password")
        await page.get_by_label("新密码").fill(PASSWORD)
        await page.get_by_label("再输一次").fill(PASSWORD)
        await page.get_by_role("button", name="保存并继续").click()
        await page.wait_for_url("**/inquiries")
        state = await context.storage_state()
        await context.close()
        return state


@asynccontextmanager
async def opened_house(folder: Path) -> AsyncIterator[House]:
    """A demonstration centre in an empty folder, and a browser. Stops it in the end."""
    expect.set_options(timeout=PATIENCE_MS)
    async with installation(folder, demo=True) as gateway, async_playwright() as tools:
        await gateway.start()
        browser = await tools.chromium.launch(
            executable_path=CHROMIUM, args=list(QUIETLY)
        )
        yield House(gateway, browser)
        await browser.close()
        await gateway.stop()


@dataclass
class Walk:
    """The pages of one story, and what went wrong in them."""

    house: House
    faults: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def _page(
        self, size: tuple[int, int], state: StorageState | None = None
    ) -> Page:
        context = await self.house.context(size, state)
        self.contexts.append(context)
        page = await context.new_page()
        context.on("console", self._said)
        context.on("weberror", lambda failed: self.faults.append(str(failed.error)))
        context.on("response", self._answered)
        context.on("requestfailed", self._unanswered)
        page.on("dialog", self._asked)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status} {response.url}")

    def _unanswered(self, request: Request) -> None:
        if not request.url.startswith(self.house.gateway.url("/")):
            self.faults.append(f"another host was asked: {request.url}")

    async def _asked(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog opened: {dialog.type} {dialog.message}")
        await dialog.accept()

    async def staff(self, username: str, size: tuple[int, int] = DESKTOP) -> Page:
        """Somebody's console, on the stream of matters, listening for news."""
        known = self.house.signed_in
        if username not in known:
            known[username] = await self.house.first_sign_in(username)
        page = await self._page(size, known[username])
        await self.open(page, "/inquiries")
        return page

    async def sandbox(self, size: tuple[int, int] = DESKTOP) -> Page:
        page = await self._page(size)
        await self.open(page, "/sandbox")
        return page

    async def leave(self) -> None:
        for context in self.contexts:
            await context.close()

    async def open(self, page: Page, path: str) -> None:
        """Return once the page hears of what happens."""
        await page.goto(path)
        await expect(page.locator("body[data-live-state=on]")).to_be_attached()


# What members do, on the sandbox page.


async def device(page: Page, kind: str, address: str, name: str = "") -> Locator:
    """A handset, account, group or mailbox; added if it isn't there yet."""
    kinds = {"sms": "手机", "qq": "QQ 号", "group": "QQ 群", "email": "邮箱"}
    form = page.locator('form[action="/sandbox/devices"]')
    await form.get_by_label("种类").select_option(label=kinds[kind])
    await form.get_by_label("号码或地址").fill(address)
    await form.get_by_label("姓名").fill(name)
    async with page.expect_navigation():
        await form.get_by_role("button", name="添加").click()
    await expect(page.locator("body[data-live-state=on]")).to_be_attached()
    return page.locator(f"#{urlsplit(page.url).fragment}")


async def say(phone: Locator, text: str, subject: str = "") -> None:
    if subject:
        await phone.get_by_label("标题").fill(subject)
    await phone.locator('[name="text"]').fill(text)
    await phone.get_by_role("button", name="发送").click()
    await expect(phone.locator('[name="text"]')).to_have_value("")


def heard(phone: Locator, text: str | re.Pattern[str]) -> Locator:
    """What the centre wrote to this device."""
    return phone.locator(".say:not(.mine)", has_text=text)


async def number_in(phone: Locator) -> str:
    """The number of the newest matter that a receipt names."""
    text = await heard(phone, NUMBER).last.inner_text()
    found = NUMBER.search(text)
    assert found
    return found[0]


async def faulty(page: Page, switch: str, value: str = "") -> None:
    """Set one switch of the SMS channel; `value` chooses in a list."""
    row = page.locator("#faults-sms")
    async with page.expect_response("**/sandbox/faults"):
        if value:
            await row.get_by_label(switch).select_option(value)
        else:
            await row.get_by_label(switch).click()


@asynccontextmanager
async def trouble(
    page: Page, switch: str, on: str = "", off: str = ""
) -> AsyncIterator[None]:
    await faulty(page, switch, on)
    try:
        yield
    finally:
        await faulty(page, switch, off)


# What staff do, in the console.


def row(desk: Page, text: str) -> Locator:
    return desk.locator("#stream .row", has_text=text)


async def open_matter(desk: Page, number: str) -> Locator:
    """Click the line of the stream; the matter beside it."""
    await desk.locator(f'#stream .row[data-number="{number}"]').click()
    matter = desk.locator(f'[data-matter][data-number="{number}"]')
    await expect(matter).to_be_visible()
    return matter


async def answer(desk: Page, text: str) -> None:
    """By keyboard, as somebody does who answers all day."""
    await desk.locator("#matter").focus()
    await desk.keyboard.press("r")
    await expect(desk.locator("[data-answer]")).to_be_focused()
    await desk.keyboard.insert_text(text)
    await desk.keyboard.press("Control+Enter")
    await expect(bubble(desk, text)).to_be_visible()
    await expect(desk.locator("[data-answer]")).to_have_value("")


def bubble(desk: Page, text: str) -> Locator:
    """One message of the timeline."""
    return desk.locator("#timeline .bubble", has_text=text)


async def close(desk: Page, outcome: str) -> None:
    await desk.locator("#matter").focus()
    await desk.keyboard.press("c")
    dialog = desk.locator("#dlg-close")
    await dialog.get_by_label("办理结果").fill(outcome)
    await dialog.get_by_role("button", name="办结").click()
    await expect(desk.locator("#matter-head")).to_contain_text("已办结")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    title: str
    branch: str  # its code
    sms: str
    other: str = ""
    rsvp: bool = False


async def draft(desk: Page, notice: Notice) -> None:
    """Fill in the form of a notice; nothing is sent off yet."""
    await desk.goto("/broadcasts/new")
    form = desk.locator("#draft")
    await form.get_by_label("主题", exact=True).fill(notice.title)
    await form.get_by_label("短信正文").fill(notice.sms)
    await form.get_by_label("QQ 与邮件正文").fill(notice.other)
    await form.get_by_label("组织", exact=True).select_option(notice.branch)
    await form.get_by_label("请党员回复 1 参加").set_checked(notice.rsvp)


async def press(desk: Page, name: str, *, sure: bool = False) -> None:
    """A button of the page head or a card that leads to a new page."""
    await desk.evaluate("document.body.dataset.old = 'yes'")
    await desk.get_by_role("button", name=name, exact=True).click()
    if sure:
        await desk.locator("#confirm").get_by_role("button", name="确定").click()
    # The page may renew itself before the answer comes: any new one will do.
    fresh = desk.locator("body[data-live-state=on]:not([data-old])")
    await expect(fresh).to_be_attached()


def path_of(desk: Page) -> str:
    return urlsplit(desk.url).path


async def seen(desk: Page, state: str) -> None:
    """The open page of a notice shows the state by itself, and is at rest."""
    await expect(desk.locator("#state")).to_contain_text(state)
    await expect(desk.locator("body[data-live-state=on]")).to_be_attached()


async def release(desk: Page, approver: Page, end: str = "已完成") -> None:
    """What the notice open at `desk`, just submitted, needs until it is at its end."""
    if path_of(approver) != path_of(desk):
        await approver.goto(path_of(desk))
    await seen(approver, "待批准")
    await press(approver, "批准", sure=True)
    await seen(desk, "已批准")
    await press(desk, "开始发送", sure=True)
    await seen(desk, end)


async def numbers(desk: Page) -> dict[str, int]:
    """The progress of a notice, by label."""
    tiles = desk.locator("#progress .tile")
    texts = [(await tile.inner_text()).split() for tile in await tiles.all()]
    return {label: int(number) for number, label in texts}


async def register(
    desk: Page, *, text: str, member: str = "", name: str = "", phone: str = ""
) -> None:
    """Write down what somebody says at the counter."""
    await desk.goto("/inquiries/new")
    await desk.get_by_text("来访", exact=True).click()
    if member:
        await desk.get_by_label("党员", exact=True).fill(member)
        await desk.locator("#member-choices").get_by_text(member).click()
    await desk.get_by_label("来人姓名").fill(name)
    await desk.get_by_label("联系电话").fill(phone)
    await desk.get_by_label("诉求内容").fill(text)
    await desk.get_by_label("咨询类别").select_option(index=1)
    await desk.get_by_role("button", name="登记", exact=True).click()
    await expect(bubble(desk, text)).to_be_visible()


async def new_member(desk: Page, name: str) -> None:
    await desk.goto("/members/new")
    await desk.get_by_label("姓名").fill(name)
    await desk.get_by_label("组织", exact=True).select_option(index=1)
    await press(desk, "登记")
    await expect(desk.locator("h1")).to_have_text(name)
