"""What strangers send to the JSON entries: S-4, S-5, sizes, media types, tokens."""

import gzip
import time

import pytest

from gateway.api import strict_json
from gateway.errors import RequestError
from gateway.staff import tokens
from gateway.tables import ApiToken, Inquiry
from tests.gateway.api.callers import Callers

JSON = "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"[" * 100_000,
        b'{"text":"a","text":"b"}',
        b'{"text":1e400}',
        b'{"text":NaN}',
        b'{"text":-Infinity}',
        b'{"member_id":' + b"9" * 5000 + b"}",
        b'{"member_id":9223372036854775808}',
        b'{"text":"\\ud800"}',
        b'{"\\udc00":1}',
        b'{"text":"a\\u0000b"}',
        b'{"text":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"text":"a"} x',
        b"{",
        b"'",
        b"   ",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_not_plain_json_is_a_400_at_once(
    callers: Callers, body: bytes
) -> None:
    clerk = await callers.caller()
    started = time.perf_counter()
    answer = await clerk.send("POST", "/inquiries", body, Content_Type=JSON)
    assert (answer.status, answer.code) == (400, "json")
    assert time.perf_counter() - started < 2, "linear in the size of the body"
    assert not await Inquiry.exists()


def test_depth_is_counted_exactly() -> None:
    deepest = strict_json.DEEPEST
    assert strict_json.parse(b"[" * deepest + b"]" * deepest)
    with pytest.raises(RequestError, match="deeper"):
        strict_json.parse(b"[" * (deepest + 1) + b"]" * (deepest + 1))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 9223372036854775807}', {"a": 2**63 - 1}),
        (b"-9223372036854775808", -(2**63)),
        (b"1e308", 1e308),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"党费"'.encode(), "党费"),
    ],
)
def test_what_is_json_is_read(body: bytes, value: object) -> None:
    assert strict_json.parse(body) == value


def test_the_canonical_form_ignores_order_and_blanks() -> None:
    one = strict_json.parse(b'{"a": 1, "b": ["\\u515a"]}')
    other = strict_json.parse('{"b":["党"],"a":1}'.encode())
    assert strict_json.canonical(one) == strict_json.canonical(other)


@pytest.mark.parametrize(
    "media",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=gbk",
        "application/jsonp",
        "nonsense",
        "multipart/form-data; boundary=x",
    ],
)
async def test_other_media_types_are_a_415(callers: Callers, media: str) -> None:
    clerk = await callers.caller()
    answer = await clerk.send("POST", "/inquiries", b"{}", Content_Type=media)
    assert (answer.status, answer.code) == (415, "media_type")


async def test_a_large_body_is_a_413(callers: Callers) -> None:
    clerk = await callers.caller()
    body = b'{"text":"' + b"x" * strict_json.LARGEST_BODY + b'"}'
    answer = await clerk.send("POST", "/inquiries", body, Content_Type=JSON)
    assert (answer.status, answer.code) == (413, "too_large")


async def test_a_packed_body_is_measured_unpacked(callers: Callers) -> None:
    clerk = await callers.caller()
    body = gzip.compress(b'{"text":"' + b"x" * 30_000_000 + b'"}')
    assert len(body) < strict_json.LARGEST_BODY
    answer = await clerk.send(
        "POST", "/inquiries", body, Content_Type=JSON, Content_Encoding="gzip"
    )
    assert answer.status in (400, 413)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic eDp4", "lx_", "Bearer " + "x" * 7000],
)
async def test_without_a_good_token_there_is_a_401(
    callers: Callers, header: str
) -> None:
    nobody = callers.nobody()
    headers = {"Authorization": header} if header else {}
    answer = await nobody.send("GET", "/inquiries", **headers)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_revoked_token_is_a_401(callers: Callers) -> None:
    clerk = await callers.caller()
    assert (await clerk.get("/inquiries")).status == 200
    token = await ApiToken.get()
    await tokens.revoke(callers.core, callers.actor("administrator_county"), token.id)
    assert (await clerk.get("/inquiries")).status == 401


async def test_the_browsers_session_does_not_open_the_api(callers: Callers) -> None:
    browser = await callers.console.browser("clerk_a")
    assert (await browser.get("/api/v1/inquiries")).status == 401
