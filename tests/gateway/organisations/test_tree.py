import pytest

from gateway.errors import NotFound, RequestError
from gateway.organisations import tree
from gateway.organisations.tree import Draft
from gateway.tables import Organisation
from gateway.web.keys import CORE
from tests.console import Console


def _draft(name: str, code: str, parent: int | None) -> Draft:
    return Draft(name=name, code=code, kind="branch", parent_id=parent)


async def test_a_new_organisation_gets_its_path(console: Console) -> None:
    core = console.app[CORE]
    actor = console.actors["administrator_county"]
    new = await tree.add(core, actor, _draft("新支部", "9", console.centre_a.id))
    assert new.path == f"{console.centre_a.path}{new.id}/"


async def test_a_move_takes_everything_below_along(console: Console) -> None:
    core, actor = console.app[CORE], console.actors["administrator_county"]
    await tree.change(
        core,
        actor,
        console.centre_a.id,
        Draft(name="甲", code="a", kind="centre", parent_id=console.centre_b.id),
    )
    branch = await Organisation.get(id=console.branch_a.id)
    moved = await Organisation.get(id=console.centre_a.id)
    assert moved.path == f"{console.centre_b.path}{moved.id}/"
    assert branch.path == f"{moved.path}{branch.id}/"
    assert moved.name == "甲"


async def test_nothing_is_moved_below_itself(console: Console) -> None:
    core, actor = console.app[CORE], console.actors["administrator_county"]
    draft = _draft("甲", "a", console.branch_a.id)
    with pytest.raises(RequestError, match="下级"):
        await tree.change(core, actor, console.centre_a.id, draft)
    assert (await Organisation.get(id=console.centre_a.id)).name == "甲中心"


async def test_nothing_leaves_or_enters_what_one_sees(console: Console) -> None:
    core, actor = console.app[CORE], console.actors["administrator_a"]
    with pytest.raises(NotFound):
        await tree.add(core, actor, _draft("x", "x", console.centre_b.id))
    with pytest.raises(NotFound):
        await tree.change(core, actor, console.centre_b.id, _draft("x", "x", None))
    with pytest.raises(RequestError, match="上级"):
        await tree.add(core, actor, _draft("x", "x", None))
    with pytest.raises(RequestError, match="自己所在"):
        await tree.change(
            core, actor, console.centre_a.id, _draft("x", "x", console.branch_a.id)
        )


@pytest.mark.parametrize(
    ("name", "code", "field"),
    [("", "z", "name"), ("x", "", "code"), ("x", "中", "code"), ("x", "c0", "code")],
)
async def test_faults_name_their_field(
    console: Console, name: str, code: str, field: str
) -> None:
    core, actor = console.app[CORE], console.actors["administrator_county"]
    with pytest.raises(RequestError) as caught:
        await tree.add(core, actor, _draft(name, code, console.county.id))
    assert field in caught.value.fields


async def test_the_page_counts_below(console: Console) -> None:
    browser = await console.browser("clerk_a")
    text = await (await browser.get("/organisations")).text()
    assert "甲支部" in text
    assert "乙中心" not in text
    administrator = await console.browser("administrator_county")
    answer = await administrator.post(
        "/organisations",
        {"name": "新中心", "code": "77", "kind": "centre", "parent": "1"},
    )
    assert answer.status == 303
    answer = await administrator.post("/organisations", {"name": "", "parent": "1"})
    assert answer.status == 422


async def test_an_organisation_is_renamed_in_its_form(console: Console) -> None:
    browser = await console.browser("administrator_a")
    for id, path in (
        (console.centre_a.id, console.centre_a.path),
        (console.branch_a.id, console.branch_a.path),
    ):
        page = await (await browser.get(f"/organisations?edit={id}")).text()
        assert f'action="/organisations/{id}"' in page
        parent = "" if id == console.centre_a.id else str(console.centre_a.id)
        answer = await browser.post(
            f"/organisations/{id}",
            {"name": "新名", "code": f"n{id}", "kind": "centre", "parent": parent},
        )
        assert answer.status == 303
        stored = await Organisation.get(id=id)
        assert (stored.name, stored.path) == ("新名", path)
    answer = await browser.post(
        f"/organisations/{console.branch_a.id}",
        {"name": "", "code": "x", "kind": "centre", "parent": "x"},
    )
    assert answer.status == 422
    assert "1到120" in await answer.text()
    for foreign in (console.centre_b.id, 0, 10**12, "x"):
        answer = await browser.get(f"/organisations?edit={foreign}")
        assert answer.status == 404


async def test_a_branch_becomes_a_top_organisation_only_for_who_sees_all(
    console: Console,
) -> None:
    """An empty parent is no way out of the own subtree."""
    browser = await console.browser("administrator_a")
    answer = await browser.post(
        f"/organisations/{console.branch_a.id}",
        {"name": "甲支部", "code": "x", "kind": "branch", "parent": ""},
    )
    assert answer.status == 422
    stored = await Organisation.get(id=console.branch_a.id)
    assert stored.path == console.branch_a.path
