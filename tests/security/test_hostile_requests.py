"""What no browser of ours sends: refused or ignored, never a 5xx."""

import base64
import json
from urllib.parse import quote

import pytest
from aiohttp import web

from gateway.core import Core
from gateway.inquiries import pages
from gateway.web.app import build_app
from gateway.web.routes import add_routes
from tests.console import Console

DEEP = b"[" * 4000
CURSORS = (
    DEEP,
    b"[" + b"9" * 4400 + b",0,0]",
    json.dumps([2**62, 2**62, -(2**62)]).encode(),
    json.dumps([2**31, 0, 0]).encode(),
    b"[1e999,0,0]",
    b"[true,0,0]",
    b"\xff\xfe",
    b"",
)


@pytest.fixture
async def app(core: Core) -> web.Application:
    app = build_app(core)
    add_routes(app, pages.ROUTES)
    return app


@pytest.mark.parametrize("place", CURSORS, ids=range(len(CURSORS)))
async def test_an_invented_cursor_shows_a_page(console: Console, place: bytes) -> None:
    browser = await console.browser("clerk_a")
    cursor = base64.urlsafe_b64encode(place).decode()
    answer = await browser.get(f"/inquiries?cursor={cursor}")
    assert answer.status == 200


async def test_an_invented_toast_is_not_shown(console: Console) -> None:
    browser = await console.browser("clerk_a")
    for toast in ("[" * 2000, '{"text": {}}', "9" * 4000, "\\ud800"):
        browser.client.session.cookie_jar.update_cookies({"toast": quote(toast)})
        assert (await browser.get("/account")).status == 200
