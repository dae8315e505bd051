import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import audit
from gateway.actors import Role
from gateway.core import Core
from gateway.database import execute, rows
from gateway.errors import NotFound, RequestError
from gateway.staff import people, tokens
from gateway.staff.audit_pages import ACTIONS
from gateway.tables import ApiToken, Organisation, Staff
from gateway.web.keys import CORE, HASHER
from tests.console import Console

ROOT = Path(__file__).parents[3]


async def test_the_first_start_makes_one_administrator(core: Core) -> None:
    password = await people.first_administrator(core)
    assert password is not None
    assert re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", password)
    assert await people.first_administrator(core) is None
    staff = await Staff.get()
    assert (staff.role, staff.must_change_password) == ("administrator", True)
    assert (await Organisation.get()).path == f"/{staff.organisation_id}/"


async def test_an_account_begins_with_a_one_time_password(console: Console) -> None:
    browser = await console.browser("administrator_county")
    answer = await browser.post(
        "/staff",
        {
            "username": "quxiaohe",
            "name": "瞿小荷",
            "role": "clerk",
            "organisation_id": str(console.centre_a.id),
        },
    )
    found = re.search(r'<b class="mono">([^<]+)</b>', await answer.text())
    assert found
    client = await console.fresh_client()
    answer = await client.post(
        "/login",
        data={"username": "quxiaohe", "password": found[1]},
        allow_redirects=False,
    )
    assert answer.status == 303
    assert (await client.get("/members", allow_redirects=False)).headers[
        "Location"
    ] == "/password"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "clerk_a"),
        ("username", "<script>"),
        ("name", ""),
        ("role", "king"),
    ],
)
async def test_a_faulty_account_is_explained(
    console: Console, field: str, value: str
) -> None:
    browser = await console.browser("administrator_county")
    good = {
        "username": "new",
        "name": "新人",
        "role": "clerk",
        "organisation_id": str(console.centre_a.id),
    }
    before = await Staff.all().count()
    answer = await browser.post("/staff", good | {field: value})
    assert answer.status == 422
    assert await Staff.all().count() == before


async def test_nobody_grants_outside_the_own_subtree(console: Console) -> None:
    core, hasher = console.app[CORE], console.app[HASHER]
    actor = console.actors["administrator_a"]
    for place in (console.centre_b, console.county):
        with pytest.raises(NotFound):
            await people.create_staff(
                core,
                hasher,
                actor,
                username="x1",
                name="x",
                role="clerk",
                organisation_id=place.id,
            )
        with pytest.raises(NotFound):
            await tokens.create(core, actor, "x", Role.CLERK, place.id)
    foreign = console.actors["clerk_b"].staff_id or 0
    with pytest.raises(NotFound):
        await people.reset_password(core, hasher, actor, foreign)
    with pytest.raises(NotFound):
        await people.set_active(core, actor, foreign, False)


@pytest.mark.parametrize("role", ["clerk", "director", "approver"])
async def test_only_administrators_manage_staff(console: Console, role: str) -> None:
    browser = await console.browser(f"{role}_county")
    assert (await browser.get("/staff")).status == 403
    assert (await browser.post("/staff", {"username": "x"})).status == 403
    with pytest.raises(RequestError, match="forbidden"):
        await people.list_staff(console.actors[f"{role}_county"])


async def test_a_stopped_account_is_out_at_once(console: Console) -> None:
    clerk = await console.browser("clerk_a")
    administrator = await console.browser("administrator_county")
    id = console.actors["clerk_a"].staff_id
    assert (await administrator.post(f"/staff/{id}/lock")).status == 303
    assert (await clerk.get("/members")).status == 303
    assert (await administrator.post(f"/staff/{id}/unlock")).status == 303
    own = console.actors["administrator_county"].staff_id
    assert (await administrator.post(f"/staff/{own}/lock")).status == 409


async def test_a_reset_ends_sessions_and_shows_a_password_once(
    console: Console,
) -> None:
    clerk = await console.browser("clerk_a")
    administrator = await console.browser("administrator_county")
    id = console.actors["clerk_a"].staff_id
    answer = await administrator.post(f"/staff/{id}/reset")
    assert "一次性密码" in await answer.text()
    assert (await clerk.get("/members")).status == 303
    page = await (await administrator.get("/staff")).text()
    assert '<b class="mono">' not in page


async def test_a_token_works_until_it_is_revoked(console: Console) -> None:
    core, actor = console.app[CORE], console.actors["administrator_county"]
    value = await tokens.create(core, actor, "报表", Role.CLERK, console.centre_a.id)
    assert value.startswith("lx_")
    stored = await ApiToken.get()
    assert value not in stored.token_hash
    found = await tokens.verify(core, value)
    assert found is not None
    assert (found.role, found.path) == (Role.CLERK, console.centre_a.path)
    for wrong in ("", "lx_", value[:-1], value + "x", "\ud800"):
        assert await tokens.verify(core, wrong) is None
    with pytest.raises(RequestError, match="同名"):
        await tokens.create(core, actor, "报表", Role.CLERK, console.centre_a.id)
    await tokens.revoke(core, actor, stored.id)
    assert await tokens.verify(core, value) is None
    assert [t.name for t in await tokens.list_all(actor)] == ["报表"]


async def test_the_audit_page_shows_acts_and_the_state_of_the_chain(
    console: Console,
) -> None:
    browser = await console.browser("administrator_county")
    await tokens.create(
        console.app[CORE],
        console.actors["administrator_county"],
        "报表",
        Role.CLERK,
        console.centre_a.id,
    )
    text = await (await browser.get("/audit?action=token.created")).text()
    assert "新建接口令牌" in text
    assert "链条完整" in text
    assert (await audit.check(rows))[1] == []
    await execute("UPDATE audit SET actor = ? WHERE id = ?", "x", 2)
    assert "链条有 1 处断开" in await (await browser.get("/audit")).text()
    for query in ("q=x", "from=99999999999", "action=%27", "from=-1", "q=" + "x" * 500):
        assert (await browser.get(f"/audit?{query}")).status == 200
    assert (await (await console.browser("clerk_a")).get("/audit")).status == 403


def recorded(file: Path) -> Iterator[str]:
    """Actions that stand whole in calls of `audit.record`."""
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "audit.record":
            action = call.args[2]
            if isinstance(action, ast.Constant) and isinstance(action.value, str):
                yield action.value


def test_every_act_has_a_name_on_the_page() -> None:
    files = [f for d in ("gateway", "broadcasts") for f in (ROOT / d).rglob("*.py")]
    found = {action for file in files for action in recorded(file)}
    assert "broadcast.again" in found
    assert found - ACTIONS.keys() == set()


async def test_a_director_audits_the_own_subtree_only(console: Console) -> None:
    await console.browser("clerk_b")
    browser = await console.browser("director_a")
    text = await (await browser.get("/audit")).text()
    assert "同志clerk_b" not in text
    assert "同志director_a" in text
