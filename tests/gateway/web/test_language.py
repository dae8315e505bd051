"""The console in English: what pages, refusals and toasts say."""

from urllib.parse import unquote

from gateway.web.keys import PAGES
from tests.console import PASSWORD, Browser, Console


async def _english(console: Console, username: str) -> Browser:
    browser = await console.browser(username)
    answer = await browser.post("/language", {"lang": "en", "next": "/account"})
    assert answer.status == 303
    return browser


async def test_a_page_speaks_the_chosen_language(console: Console) -> None:
    browser = await _english(console, "clerk_a")

    text = await (await browser.get("/account")).text()

    assert '<html lang="en">' in text
    assert "Current password" in text
    assert "现在的密码" not in text


async def test_what_is_wrong_is_said_with_its_values(console: Console) -> None:
    browser = await _english(console, "clerk_a")
    form = {"old": PASSWORD, "password": "short", "repeat": "short"}

    text = await (await browser.post("/account/password", form)).text()

    assert "The password is too short; at least 12 characters" in text


async def test_a_refusal_and_a_toast_are_in_english(console: Console) -> None:
    browser = await _english(console, "clerk_a")

    assert "Not allowed" in await (await browser.get("/staff")).text()
    new = "over the hills and far away 7"
    answer = await browser.post(
        "/account/password", {"old": PASSWORD, "password": new, "repeat": new}
    )
    assert "Password changed" in unquote(answer.cookies["toast"].value)


async def test_pages_compiled_beforehand_serve_both_languages(
    console: Console,
) -> None:
    pages = console.app[PAGES]
    pages.compile()

    english = await _english(console, "clerk_a")
    assert "Current password" in await (await english.get("/account")).text()
    chinese = await console.browser("clerk_b")
    assert "现在的密码" in await (await chinese.get("/account")).text()
    for environment in pages._environments.values():
        assert environment.cache is not None
        assert len(environment.cache) == len(environment.list_templates())
