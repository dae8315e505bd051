"""The page, over HTTP, with the very channels behind it."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import Locator, Page, async_playwright, expect

from adapters import sandbox
from adapters.sandbox import pages
from adapters.sandbox.adapter import world_of
from adapters.sandbox.devices import STRANGER
from adapters.sandbox.faults import Faults
from adapters.sandbox.records import Medium
from adapters.sandbox.world import World
from gateway.actors import Role
from gateway.channels import ChannelSet, channel
from gateway.contract import (
    AddressKind,
    Event,
    InboundMessage,
    Listens,
    MessageKind,
    OutboundMessage,
)
from gateway.core import Core
from gateway.settings import ChannelCommon, Server, Settings, Storage
from gateway.staff import sessions
from gateway.tables import Organisation, Staff
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from tests.labs.sandbox_lab import Gateway, context
from tests.labs.sandbox_lab import settings as section

Client = TestClient[web.Request, web.Application]
SIGNATURE = "【连心】"
EVENTS = "/sandbox/events"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The page asks the database for members only; test_devices does on both."""
    return sqlite_url


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def settings(tmp_path: Path, server: Server) -> Settings:
    return Settings(sandbox=True, server=server, storage=Storage(data_dir=tmp_path))


@pytest.fixture
def shared() -> dict[str, object]:
    return {}


@pytest.fixture
def channels(tmp_path: Path, shared: dict[str, object]) -> ChannelSet:
    return ChannelSet(
        channel(
            medium,
            sandbox.build(section(medium), context(tmp_path, medium, shared)),
            ChannelCommon(
                adapter="sandbox", signature=SIGNATURE if medium == "sms" else ""
            ),
        )
        for medium in ("sms", "qq", "email")
    )


@pytest.fixture
def world(tmp_path: Path, channels: ChannelSet, shared: dict[str, object]) -> World:
    return world_of(context(tmp_path, shared=shared))


@pytest.fixture
async def client(
    core: Core, world: World, shared: dict[str, object]
) -> AsyncIterator[Client]:
    app = build_app(core)
    add_routes(app, pages.routes(core, shared))
    async with TestClient(TestServer(app)) as client:
        yield client
    for one in core.channels:
        await one.adapter.close()


@pytest.fixture
async def gateway(core: Core) -> AsyncIterator[Gateway]:
    """Listens on every channel and answers what it hears, like the real one."""
    gateway = Echo(core)
    async with AsyncExitStack() as stack:
        for one in core.channels:
            assert isinstance(one.adapter, Listens)
            await stack.enter_async_context(one.adapter.listen(gateway.accept))
        yield gateway


class Echo(Gateway):
    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core

    async def accept(self, events: Sequence[Event]) -> None:
        await super().accept(events)
        for event in events:
            if isinstance(event, InboundMessage):
                await self._answer(event)

    async def _answer(self, event: InboundMessage) -> None:
        to = event.conversation or event.sender
        [by] = self._core.channels.serving(to.kind)
        await by.adapter.send(
            [
                OutboundMessage(
                    id=str(len(self.pushes)),
                    kind=MessageKind.RECEIPT,
                    to=to,
                    text=f"收到：{event.text}",
                    subject="已收到" if by.capabilities.subject else "",
                    mention=event.sender.value if event.conversation else "",
                )
            ]
        )


async def shown(answer: ClientResponse, status: int = 200) -> str:
    page = await answer.text()
    assert answer.status == status, page
    return page


async def csrf(client: Client) -> str:
    page = await shown(await client.get("/sandbox"))
    found = re.search(r'name="csrf" content="([^"]+)"', page)
    assert found
    return found[1]


async def post(client: Client, path: str, **form: str) -> ClientResponse:
    form |= {"csrf": await csrf(client)}
    return await client.post(path, data=form, allow_redirects=False)


async def device(client: Client, kind: str, address: str) -> str:
    """The id of a new device."""
    name = "张三"
    answer = await post(
        client, "/sandbox/devices", kind=kind, address=address, name=name
    )
    assert answer.status == 303
    return answer.headers["Location"].removeprefix("/sandbox#device-")


async def test_a_newcomer_sees_devices_at_once(client: Client) -> None:
    page = await shown(await client.get("/sandbox"))
    assert "这里是沙盒，不是真的" in page
    assert 'data-events="/sandbox/events"' in page
    assert page.count('class="phone"') == 4
    again = await shown(await client.get("/sandbox"))
    assert again.count('class="phone"') == 4


async def test_without_a_sandbox_channel_there_is_no_page(core: Core) -> None:
    app = build_app(core)
    add_routes(app, pages.routes(core, {}))
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/sandbox")).status == 404
    for one in core.channels:
        await one.adapter.close()


async def test_a_text_is_heard_and_answered_on_the_handset(
    client: Client, gateway: Gateway
) -> None:
    handset = await device(client, "sms", "13800138000")
    answer = await post(client, f"/sandbox/{handset}/say", text="怎么交党费")
    assert answer.headers["Location"] == f"/sandbox#device-{handset}"
    [[heard], _] = await gateway.pushed(2)
    assert isinstance(heard, InboundMessage)
    assert heard.sender.value == "+8613800138000"
    assert heard.display_name == "张三"
    page = await shown(await client.get(f"/sandbox/{handset}"))
    assert f"{SIGNATURE}收到：怎么交党费" in page
    assert "计 1 条" in page


async def test_htmx_gets_the_device_alone(client: Client) -> None:
    handset = await device(client, "sms", "13800138000")
    headers = {"HX-Request": "true", "X-CSRF-Token": await csrf(client)}
    path = f"/sandbox/{handset}/say"
    answer = await client.post(path, data={"text": "<b>您好"}, headers=headers)
    page = await shown(answer)
    assert page.lstrip().startswith('<div class="phone-body')
    assert "&lt;b&gt;您好" in page


async def test_in_a_group_a_person_speaks_and_calls(
    client: Client, gateway: Gateway
) -> None:
    group = await device(client, "group", "800100200")
    speaker = await device(client, "qq", "10001")
    path = f"/sandbox/{group}/say"
    await post(client, path, text="天气不错", speaker=speaker)
    await post(client, path, text="几点开会", speaker=speaker, calling="on")
    [[heard]] = await gateway.pushed(1)
    assert isinstance(heard, InboundMessage)
    assert heard.text == "几点开会"
    assert heard.conversation is not None
    page = await shown(await client.get(f"/sandbox/{group}"))
    assert "没有@机器人，网关没有收到" in page
    assert "@机器人 几点开会" in page
    assert "@张三 收到：几点开会" in page
    assert (await post(client, path, text="谁", speaker="d99")).status == 404


async def test_a_mail_is_answered_in_its_thread(
    client: Client, gateway: Gateway
) -> None:
    mailbox = await device(client, "email", "zhang@example.org")
    path = f"/sandbox/{mailbox}/say"
    await post(client, path, subject="转接", text="怎么转组织关系")
    await gateway.pushed(1)
    page = await shown(await client.get(f"/sandbox/{mailbox}"))
    found = re.search(r'name="in_reply_to" value="([^"]+)"', page)
    assert found
    identifier = found[1].replace("&lt;", "<").replace("&gt;", ">")
    await post(client, path, text="谢谢", in_reply_to=identifier)
    [_, [heard]] = await gateway.pushed(2)
    assert isinstance(heard, InboundMessage)
    assert heard.subject == "回复：已收到"
    assert heard.answers_to == (identifier,)
    assert "> 收到：怎么转组织关系" in heard.quoted


async def test_switches_are_set_and_shown(client: Client, world: World) -> None:
    wrong = {"refuse_every": "2", "delay_seconds": "1.5", "repeat": "on"}
    answer = await post(client, "/sandbox/faults", medium="sms", **wrong)
    assert answer.status == 303
    assert world.faults(Medium.SMS) == Faults(
        refuse_every=2, delay_seconds=1.5, repeat=True
    )
    assert world.faults(Medium.QQ) == Faults()
    assert "正在出错" in await shown(await client.get("/sandbox"))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/sandbox/faults", {"medium": "pigeon"}),
        ("/sandbox/faults", {"medium": "sms", "refuse_every": "-1"}),
        ("/sandbox/faults", {"medium": "sms", "delay_seconds": "soon"}),
        ("/sandbox/devices", {"kind": "pigeon"}),
        ("/sandbox/devices", {"kind": "sms", "address": "12"}),
        ("/sandbox/d1/say", {"text": " "}),
        ("/sandbox/d1/say", {"text": "党" * 22_000}),
    ],
)
async def test_bad_input_is_answered_with_400(
    client: Client, path: str, form: dict[str, str]
) -> None:
    answer = await post(client, path, **form)
    assert answer.status == 400
    assert "沙盒" not in answer.headers.get("Location", "")


async def test_a_device_can_be_taken_away(client: Client) -> None:
    handset = await device(client, "sms", "13800138000")
    assert (await post(client, f"/sandbox/{handset}/remove")).status == 303
    assert (await client.get(f"/sandbox/{handset}")).status == 404
    assert (await post(client, f"/sandbox/{handset}/remove")).status == 404


async def test_the_page_hears_at_once_of_an_answer(
    client: Client, world: World
) -> None:
    async with client.get(EVENTS) as stream:
        assert stream.status == 200
        world.set_faults(Medium.QQ, Faults(repeat=True))
        lines = [await stream.content.readline() for _ in range(2)]
    assert [line.strip() for line in lines] == [b"event: sandbox", b"data: qq"]


# Who may come in.


async def test_a_form_without_its_token_changes_nothing(
    client: Client, world: World
) -> None:
    for token in ({}, {"csrf": "0" * 64}, {"csrf": "ü"}):
        form = {"medium": "sms", "repeat": "on"} | token
        answer = await client.post("/sandbox/faults", data=form)
        assert answer.status == 403
    assert not world.faults(Medium.SMS).any


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_form_of_another_site_changes_nothing(
    client: Client, world: World, headers: dict[str, str]
) -> None:
    form = {"medium": "sms", "repeat": "on", "csrf": await csrf(client)}
    answer = await client.post("/sandbox/faults", data=form, headers=headers)
    assert answer.status == 403
    assert not world.faults(Medium.SMS).any


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Host": "[broken"},
    ],
)
@pytest.mark.parametrize("path", ["/sandbox", "/sandbox/d1", EVENTS])
async def test_others_have_to_sign_in(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers, allow_redirects=False)
    assert answer.status in (303, 400, 401)


class TestPublished:
    """A gateway with an address of its own: the page is for staff."""

    @pytest.fixture
    def server(self) -> Server:
        return Server(public_url="http://service.example")

    async def sign_in(self, core: Core) -> dict[str, str]:
        county = await Organisation.create(
            code="1", name="某县", kind="county", path="/1/"
        )
        clerk = await Staff.create(
            username="clerk",
            name="小王",
            role=Role.CLERK,
            organisation=county,
            password_hash="",
            must_change_password=False,
            created_at=core.clock.now(),
        )
        return {"session": await sessions.start(core, clerk.id, "127.0.0.1")}

    async def test_a_guest_is_sent_to_sign_in(self, client: Client) -> None:
        for path in ("/sandbox", "/sandbox/d1"):
            answer = await client.get(path, allow_redirects=False)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/login")
        form = {"medium": "sms", "repeat": "on"}
        answer = await client.post("/sandbox/faults", data=form, allow_redirects=False)
        assert answer.status == 303

    async def test_staff_get_the_page_in_the_console(
        self, client: Client, core: Core, world: World
    ) -> None:
        client.session.cookie_jar.update_cookies(await self.sign_in(core))
        page = await shown(await client.get("/sandbox"))
        assert 'data-events="/events"' in page
        assert "小王" in page
        answer = await post(client, "/sandbox/faults", medium="sms", repeat="on")
        assert answer.status == 303
        assert world.faults(Medium.SMS).repeat

    async def test_staff_need_the_token_of_their_session(
        self, client: Client, core: Core, world: World
    ) -> None:
        client.session.cookie_jar.update_cookies(await self.sign_in(core))
        form = {"medium": "sms", "repeat": "on", "csrf": pages.guest_token(core)}
        answer = await client.post("/sandbox/faults", data=form)
        assert answer.status == 403
        assert not world.faults(Medium.SMS).any


@pytest.fixture
async def browser_page(client: Client) -> AsyncIterator[Page]:
    """The page in Chromium; fails the test if a script of it fails."""
    faults: list[str] = []
    async with async_playwright() as browsers:
        browser = await browsers.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = await browser.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text))
        await page.goto(str(client.make_url("/sandbox")))
        yield page
        await browser.close()
    assert faults == []


def device_with(page: Page, inner: str) -> Locator:
    return page.locator("section.phone", has=page.locator(inner))


@pytest.mark.slow
async def test_an_answer_appears_without_a_reload(
    gateway: Gateway, browser_page: Page
) -> None:
    handset = browser_page.locator("#device-d1")
    await handset.get_by_label("以党员身份写").fill("怎么交党费")
    await handset.get_by_label("发送", exact=True).click()
    await expect(handset.locator(".say")).to_have_text(
        ["怎么交党费", f"{SIGNATURE}收到：怎么交党费"]
    )
    await expect(handset.get_by_text("已回执")).to_be_visible()
    await expect(handset.get_by_label("以党员身份写")).to_have_value("")


@pytest.mark.slow
async def test_a_chosen_reply_stays_chosen_while_mail_comes_in(
    gateway: Gateway, world: World, browser_page: Page
) -> None:
    mailbox = device_with(browser_page, "textarea")
    await mailbox.get_by_label("标题").fill("转接")
    await mailbox.get_by_label("正文").fill("怎么转组织关系")
    await mailbox.get_by_label("发送", exact=True).click()
    reply = mailbox.get_by_label("回复这封").first
    await reply.check()
    address = STRANGER.addresses[AddressKind.EMAIL]
    world.write(Medium.EMAIL, address, "还有一件事")
    await expect(mailbox.locator(".say")).to_have_count(4)
    await expect(reply).to_be_checked()
    await mailbox.get_by_label("正文").fill("谢谢")
    await mailbox.get_by_label("发送", exact=True).click()
    await expect(mailbox.get_by_text("回复：已收到")).to_be_visible()
    await expect(reply).not_to_be_checked()


@pytest.mark.slow
async def test_a_switch_works_as_soon_as_it_is_moved(
    gateway: Gateway, world: World, browser_page: Page
) -> None:
    row = browser_page.locator("#faults-sms")
    async with browser_page.expect_response("**/sandbox/faults") as answer:
        await row.get_by_label("拒收").select_option("1")
    assert (await answer.value).status == 204
    assert world.faults(Medium.SMS) == Faults(refuse_every=1)


@pytest.mark.slow
async def test_the_page_fits_a_phone(browser_page: Page) -> None:
    await browser_page.set_viewport_size({"width": 390, "height": 844})
    width = "document.documentElement.scrollWidth"
    assert await browser_page.evaluate(width) <= 390
