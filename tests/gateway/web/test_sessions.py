"""Sign-in, sessions, forgery: S-29, S-30, S-34, S-35, S-54."""

import asyncio
import re
from datetime import timedelta

import pytest

from gateway.clock import ManualClock
from gateway.database import rows
from gateway.staff import sessions
from gateway.staff.throttle import FREE_TRIES, LONGEST, delay
from gateway.tables import Staff
from gateway.web import access
from gateway.web.keys import ROUTES
from tests.console import PASSWORD, Client, Console


async def _try(client: Client, username: str, password: str) -> int:
    answer = await client.post(
        "/login",
        data={"username": username, "password": password},
        allow_redirects=False,
    )
    return answer.status


async def test_a_page_needs_a_session(console: Console) -> None:
    answer = await console.client.get("/account", allow_redirects=False)
    assert answer.status == 303
    assert answer.headers["Location"] == "/login?next=/account"
    answer = await console.client.get("/account", headers={"HX-Request": "true"})
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/account"


@pytest.mark.parametrize(
    ("page", "back"),
    [
        (
            "http://127.0.0.1/broadcasts/4?state=failed",
            "/broadcasts/4%3Fstate%3Dfailed",
        ),
        ("http://127.0.0.1//elsewhere.example/", "/"),
        ("http://[", "/"),
        ("", "/"),
    ],
)
async def test_who_signs_in_again_comes_back_to_the_page(
    console: Console, page: str, back: str
) -> None:
    answer = await console.client.post(
        "/staff", headers={"Referer": page}, allow_redirects=False
    )
    assert answer.headers["Location"] == f"/login?next={back}"
    piece = {"HX-Request": "true", "HX-Current-URL": page}
    answer = await console.client.get("/account", headers=piece)
    assert answer.headers["HX-Redirect"] == f"/login?next={back}"


async def test_the_cookie_is_shut_off_from_scripts_and_not_stored(
    console: Console,
) -> None:
    answer = await console.client.post(
        "/login",
        data={"username": "clerk_a", "password": PASSWORD},
        allow_redirects=False,
    )
    morsel = answer.cookies["session"]
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"
    stored = await rows("SELECT token_hash FROM sessions")
    assert len(stored) == 1
    assert stored[0]["token_hash"] != morsel.value


async def test_sign_in_makes_a_new_session_id(console: Console) -> None:
    first = await console.browser("clerk_a")
    before = first.client.session.cookie_jar.filter_cookies(first.client.make_url("/"))[
        "session"
    ].value
    assert await _try(first.client, "clerk_a", PASSWORD) == 303
    after = first.client.session.cookie_jar.filter_cookies(first.client.make_url("/"))[
        "session"
    ].value
    assert before != after


@pytest.mark.parametrize("rest", [sessions.IDLE, sessions.LONGEST])
async def test_a_session_ends_by_itself(
    console: Console, clock: ManualClock, rest: timedelta
) -> None:
    browser = await console.browser("clerk_a")
    clock.advance(rest)
    assert (await browser.get("/account")).status == 303


async def test_use_keeps_a_session_alive_but_not_beyond_the_day(
    console: Console, clock: ManualClock
) -> None:
    browser = await console.browser("clerk_a")
    for _ in range(13):
        assert (await browser.get("/account")).status == 200
        clock.advance(timedelta(minutes=55))
    clock.advance(timedelta(minutes=10))
    assert (await browser.get("/account")).status == 303


async def test_a_session_ends_with_log_out(console: Console) -> None:
    browser = await console.browser("clerk_a")
    kept = browser.client.session.cookie_jar.filter_cookies(
        browser.client.make_url("/")
    )["session"].value
    assert (await browser.post("/logout")).status == 303
    answer = await console.client.get(
        "/account", cookies={"session": kept}, allow_redirects=False
    )
    assert answer.status == 303


async def test_a_session_ends_with_its_account(console: Console) -> None:
    browser = await console.browser("clerk_a")
    await Staff.filter(username="clerk_a").update(active=False)
    assert (await browser.get("/account")).status == 303


async def test_a_change_of_password_ends_the_other_sessions(console: Console) -> None:
    here, there = await console.browser("clerk_a"), await console.browser("clerk_a")
    new = "欲穷千里目 更上一层楼 鹳雀"
    answer = await here.post(
        "/account/password", {"old": PASSWORD, "password": new, "repeat": new}
    )
    assert answer.status == 303
    assert (await here.get("/account")).status == 200
    assert (await there.get("/account")).status == 303


@pytest.mark.parametrize(
    ("old", "new", "repeat", "words"),
    [
        (
            "wrong",
            "欲穷千里目 更上一层楼 鹳雀",
            "欲穷千里目 更上一层楼 鹳雀",
            "现在的密码不对",
        ),
        (PASSWORD, "short", "short", "太短"),
        (PASSWORD, "欲穷千里目 更上一层楼 鹳雀", "x", "不一样"),
        (PASSWORD, "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "容易猜到"),
        (PASSWORD, "clerk_a-password-123456", "clerk_a-password-123456", "容易猜到"),
        (PASSWORD, PASSWORD, PASSWORD, "和现在的一样"),
    ],
)
async def test_a_bad_new_password_is_explained(
    console: Console, old: str, new: str, repeat: str, words: str
) -> None:
    browser = await console.browser("clerk_a")
    answer = await browser.post(
        "/account/password", {"old": old, "password": new, "repeat": repeat}
    )
    assert answer.status == 422
    assert words in await answer.text()


async def test_a_one_time_password_opens_one_page_only(console: Console) -> None:
    await Staff.filter(username="clerk_a").update(must_change_password=True)
    client = await console.fresh_client()
    assert await _try(client, "clerk_a", PASSWORD) == 303
    answer = await client.get("/account", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/password")
    page = await (await client.get("/password")).text()
    token = page.split('name="csrf" content="')[1].split('"')[0]
    new = "欲穷千里目 更上一层楼 鹳雀"
    answer = await client.post(
        "/password",
        data={"csrf": token, "password": new, "repeat": new},
        allow_redirects=False,
    )
    assert answer.status == 303
    assert (await client.get("/account")).status == 200
    # That way is closed now: only the old password opens the next change.
    answer = await client.post(
        "/password", data={"csrf": token, "password": PASSWORD, "repeat": PASSWORD}
    )
    assert answer.status == 403


def test_the_delay_grows_and_ends() -> None:
    delays = [delay(n) for n in range(FREE_TRIES + 30)]
    assert delays == sorted(delays)
    assert delays[FREE_TRIES - 1] == timedelta(0)
    assert delays[-1] == LONGEST == delay(10**6)


async def test_guessing_is_slowed_down_and_the_owner_still_gets_in(
    console: Console, clock: ManualClock
) -> None:
    owner = await console.browser("clerk_a")
    stranger = await console.fresh_client()
    for _ in range(FREE_TRIES + 2):
        assert await _try(stranger, "clerk_a", "wrong") == 422
        clock.advance(timedelta(minutes=1))
    await Staff.filter(username="clerk_a").update(
        locked_until=clock.now() + timedelta(minutes=5)
    )
    assert await _try(stranger, "clerk_a", PASSWORD) == 422, "right, but too early"
    assert await _try(owner.client, "clerk_a", PASSWORD) == 303, "known device"
    clock.advance(timedelta(minutes=6))
    assert await _try(stranger, "clerk_a", PASSWORD) == 303


async def test_a_resting_account_is_not_kept_resting(
    console: Console, clock: ManualClock
) -> None:
    """Tries during a rest don't count: nobody can lock a person out for ever."""
    client = await console.fresh_client()
    for _ in range(FREE_TRIES):
        await _try(client, "clerk_a", "wrong")
    before = await Staff.get(username="clerk_a")
    assert before.locked_until
    assert before.locked_until > clock.now()
    for _ in range(5):
        assert await _try(client, "clerk_a", "wrong") == 422
    after = await Staff.get(username="clerk_a")
    assert (after.failures, after.locked_until) == (
        before.failures,
        before.locked_until,
    )


async def test_one_network_cannot_try_many_accounts(console: Console) -> None:
    statuses = [await _try(console.client, f"nobody{n}", PASSWORD) for n in range(31)]
    assert set(statuses[:30]) == {422}
    assert statuses[30] == 429


async def test_unknown_and_known_names_get_the_same_answer(console: Console) -> None:
    pages = []
    for name in ("clerk_a", "nobody_"):
        answer = await console.client.post(
            "/login", data={"username": name, "password": "wrong"}
        )
        pages.append((answer.status, (await answer.text()).replace(name, "")))
    assert pages[0] == pages[1]


async def test_many_sign_ins_at_once_queue_up(console: Console) -> None:
    statuses = await asyncio.gather(
        *(_try(console.client, f"nobody{n}", PASSWORD) for n in range(60))
    )
    assert set(statuses) <= {422, 429}
    assert (await console.client.get("/healthz")).status == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/members?q=a", "/members?q=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https:evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("", "/"),
    ],
)
def test_only_local_paths_are_followed(given: str, kept: str) -> None:
    assert access.local_path(given) == kept


async def test_sign_in_leads_back_to_local_pages_only(console: Console) -> None:
    for next, expected in (("/account", "/account"), ("//evil.example/x", "/")):
        client = await console.fresh_client()
        answer = await client.post(
            "/login",
            data={"username": "clerk_a", "password": PASSWORD, "next": next},
            allow_redirects=False,
        )
        assert answer.headers["Location"] == expected


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_post_from_another_site_is_refused(
    console: Console, headers: dict[str, str]
) -> None:
    browser = await console.browser("administrator_county")
    for route in console.app[ROUTES]:
        if route.method == "POST" and route.entry == "session":
            path = re.sub(r"\{[^}]*\}", "1", route.path)
            answer = await browser.post(path, headers=headers)
            assert answer.status == 403, route.path


async def test_a_post_without_the_form_token_is_refused(console: Console) -> None:
    browser = await console.browser("administrator_county")
    for route in console.app[ROUTES]:
        if route.method == "POST" and route.entry == "session":
            path = re.sub(r"\{[^}]*\}", "1", route.path)
            for token in ("", "wrong", "é"):
                answer = await browser.post(path, {"csrf": token})
                assert answer.status == 403, route.path


async def test_a_post_from_our_own_page_goes_through(console: Console) -> None:
    browser = await console.browser("clerk_a")
    origin = str(browser.client.make_url("")).rstrip("/")
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    answer = await browser.post(
        "/language", {"lang": "en", "next": "/account"}, headers=headers
    )
    assert answer.status == 303
    by_header = await browser.client.post(
        "/language",
        data={"lang": "zh", "next": "/account"},
        headers=headers | {"X-CSRF-Token": browser.csrf},
        allow_redirects=False,
    )
    assert by_header.status == 303
