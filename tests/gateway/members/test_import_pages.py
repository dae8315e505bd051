"""A sheet on its way in: upload, look, confirm; and sheets that mean harm."""

import io
import re
import zipfile
from typing import Any

import pytest
import xlsxwriter
from aiohttp import FormData
from python_calamine import CalamineWorkbook

from gateway.database import rows
from gateway.members import load, sheets
from gateway.tables import AddressRow, Member, OptOutRow, Subscription
from gateway.web.keys import CORE
from tests.console import Browser, Console

HEADER = [
    "姓名",
    "党组织",
    "手机",
    "邮箱",
    "QQ",
    "入党时间",
    "流动党员",
    "标签",
    "每日一答",
]


def _csv(*lines: str) -> bytes:
    return "\n".join([",".join(HEADER), *lines]).encode()


def _xlsx(table: list[list[Any]]) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(table):
            sheet.write_row(number, 0, row)
    return content.getvalue()


async def _upload(browser: Browser, content: bytes, name: str = "名单.csv"):
    form = FormData()
    form.add_field("csrf", browser.csrf)
    form.add_field("file", io.BytesIO(content), filename=name)
    return await browser.client.post("/members/import", data=form)


def _token(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found, page
    return found[1]


async def _import(browser: Browser, content: bytes) -> str:
    page = await (await _upload(browser, content)).text()
    answer = await browser.post("/members/import/confirm", {"token": _token(page)})
    assert answer.status == 200
    return await answer.text()


async def test_good_rows_come_in_and_bad_rows_come_back(console: Console) -> None:
    browser = await console.browser("clerk_a")
    branch = console.branch_a.name
    content = _csv(
        f"江金凤,{branch},13800138000,a@example.org,10001,2009-07,是,志愿者,是",
        f",{branch},13800138001,,,,,,",
        "洪秀梅,外县支部,12,,,,,,",
        f"蔡军,{branch},,,,,,,",
    )
    page = await (await _upload(browser, content)).text()
    assert "没有填写姓名" in page
    assert "外县支部" in page
    assert await Member.all().count() == 0, "looking writes nothing"
    token = _token(page)
    again = await browser.get(f"/members/import/{token}/faults.xlsx")
    book = CalamineWorkbook.from_filelike(io.BytesIO(await again.read()))
    table = book.get_sheet_by_index(0).to_python()
    assert table[0] == [*HEADER, "要改的地方"]
    assert [row[2] for row in table[1:]] == ["13800138001", "12"]
    assert "没有填写姓名" in table[1][-1]
    done = await browser.post("/members/import/confirm", {"token": token})
    assert "新登记 2 人，更新 0 人，有错未导入 2 行" in await done.text()
    member = await Member.get(name="江金凤").prefetch_related("addresses", "tags")
    assert (member.joined_on, member.mobile_member) == ("2009-07", True)
    assert {a.value for a in member.addresses} == {
        "+8613800138000",
        "a@example.org",
        "10001",
    }
    assert {a.verified_how for a in member.addresses} == {"import"}
    assert [t.tag for t in member.tags] == ["志愿者"]
    wish = await Subscription.get()
    assert (wish.kind, wish.value, wish.member_id) == ("qq", "10001", member.id)


async def test_the_same_sheet_again_doubles_nobody(console: Console) -> None:
    browser = await console.browser("clerk_a")
    branch = console.branch_a.name
    content = _csv(
        f"江金凤,{branch},13800138000,,,2009,,志愿者,是", f"蔡军,{branch},,,,,,,"
    )
    await _import(browser, content)
    before = await rows("SELECT COUNT(*) AS n FROM members")
    plan = await load.plan(console.actors["clerk_a"], await sheets.read(content))
    assert [step.what for step in plan.steps] == ["same", "same"]
    text = await _import(browser, content)
    assert "新登记 0 人，更新 0 人" in text
    assert await rows("SELECT COUNT(*) AS n FROM members") == before


async def test_a_known_number_updates_its_member(console: Console) -> None:
    browser = await console.browser("clerk_a")
    branch = console.branch_a.name
    await _import(browser, _csv(f"江金凤,{branch},13800138000,,,,,志愿者,"))
    text = await _import(
        browser, _csv(f"江金凤,{branch},13800138000,a@example.org,,2009,是,老党员,")
    )
    assert "新登记 0 人，更新 1 人" in text
    member = await Member.get().prefetch_related("addresses", "tags")
    assert (member.joined_on, member.mobile_member) == ("2009", True)
    assert {t.tag for t in member.tags} == {"志愿者", "老党员"}
    assert len(member.addresses) == 2


async def test_a_number_of_somebody_else_is_a_fault(console: Console) -> None:
    county = await console.browser("clerk_county")
    await _import(county, _csv(f"江在乙,{console.centre_b.name},13800138000,,,,,,"))
    await _import(county, _csv(f"江金凤,{console.branch_a.name},13800138001,,,,,,"))
    browser = await console.browser("clerk_a")
    branch = console.branch_a.name
    page = await (
        await _upload(
            browser,
            _csv(f"甲,{branch},13800138000,,,,,,", f"乙,{branch},13800138001,,,,,,"),
        )
    ).text()
    assert "这里不能用" in page
    assert "江在乙" not in page
    assert "江*" in page


async def test_a_refusal_survives_the_import(console: Console) -> None:
    core = console.app[CORE]
    await OptOutRow.create(
        kind="phone", value="+8613800138000", how="word", at=core.clock.now()
    )
    await Subscription.create(
        kind="phone",
        value="+8613800138000",
        how="word",
        at=core.clock.now(),
        ended_at=core.clock.now(),
    )
    browser = await console.browser("clerk_a")
    branch = console.branch_a.name
    await _import(browser, _csv(f"江金凤,{branch},13800138000,,,,,,是"))
    member = await Member.get()
    assert (await OptOutRow.get()).member_id == member.id
    assert (await Subscription.get()).ended_at is not None, "the person's no stays"


async def test_an_address_known_without_a_member_is_taken_over(
    console: Console,
) -> None:
    core = console.app[CORE]
    await AddressRow.create(
        kind="phone", value="+8613800138000", created_at=core.clock.now()
    )
    browser = await console.browser("clerk_a")
    await _import(browser, _csv(f"江金凤,{console.branch_a.name},13800138000,,,,,,"))
    row = await AddressRow.get()
    assert row.member_id == (await Member.get()).id
    assert row.verified_how == "import"


async def test_an_import_of_two_thousand_is_one_entry_in_the_audit(
    console: Console,
) -> None:
    branch = console.branch_a.name
    content = _csv(*(f"党员{n},{branch},139{n:08d},,,,,志愿者,是" for n in range(2000)))
    plan = await load.write(
        console.app[CORE], console.actors["clerk_a"], await sheets.read(content)
    )
    assert plan.count("new") == 2000
    names = await rows(
        "SELECT m.name, a.value FROM members m JOIN addresses a ON a.member_id = m.id"
    )
    assert {(r["name"], r["value"]) for r in names} == {
        (f"党员{n}", f"+86139{n:08d}") for n in range(2000)
    }
    entries = await rows("SELECT detail FROM audit WHERE action = 'members.imported'")
    assert len(entries) == 1


async def test_numbers_dates_and_formulas_in_workbooks(console: Console) -> None:
    content = _xlsx(
        [
            ["姓名", "党组织", "手机", "标签"],
            ["江金凤", console.branch_a.name, 13800138000, '=cmd|"/c calc"!A1'],
        ]
    )
    table = await sheets.read(content)
    assert table[1][2] == "13800138000"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
async def test_sheets_in_every_usual_encoding(encoding: str) -> None:
    content = "姓名,党组织\n江金凤,禾苑\n".encode(encoding)
    assert await sheets.read(content) == [["姓名", "党组织"], ["江金凤", "禾苑"]]


async def test_the_template_can_be_read_back() -> None:
    table = await sheets.read(sheets.blank())
    assert table[0] == [column.name for column in load.importing.COLUMNS]


def _zip_bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * (300 * 1024 * 1024))
    return content.getvalue()


def _lying_zip() -> bytes:
    """Claims 10 bytes, inflates to 50 MiB."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"\0" * (50 * 1024 * 1024))
    size = (50 * 1024 * 1024).to_bytes(4, "little")
    return content.getvalue().replace(size, (10).to_bytes(4, "little"))


def _far_cell() -> bytes:
    """Two cells that span seventeen thousand million."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "姓名")
        sheet.write(1_048_575, 16_383, "x")
    return content.getvalue()


def _entity_bomb() -> bytes:
    good = _xlsx([["姓名", "党组织"]])
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY a%d "&a%d;&a%d;">' % (n, n - 1, n - 1) for n in range(1, 40)
    )
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(good)) as old,
        zipfile.ZipFile(content, "w") as new,
    ):
        for entry in old.namelist():
            body = old.read(entry)
            if entry.endswith("sheet1.xml"):
                body = body.replace(b"<?xml", bomb + b"]><!--<?xml", 1)
            new.writestr(entry, body)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 not a zip",
        b"\xd0\xcf\x11\xe0" + b"\0" * 600,
        b"\x00\x01\x02\xff\xfe\xfd" * 50,
        "姓名,党组织\n".encode() * 60_000,
        b",".join([b"a"] * 70),
        b'"' + b"x" * 200_000,
        _zip_bomb(),
        _lying_zip(),
        _far_cell(),
        _entity_bomb(),
        _xlsx([["手机"], ["13800138000"]]),
    ],
    ids=[
        *("empty", "broken-zip", "broken-xls", "binary", "too-many-rows"),
        *("too-many-columns", "long-cell", "zip-bomb", "lying-zip", "far-cell"),
        *("entity-bomb", "no-name"),
    ],
)
async def test_a_bad_file_is_explained_and_harms_nobody(
    console: Console, content: bytes
) -> None:
    browser = await console.browser("clerk_a")
    answer = await _upload(browser, content)
    assert answer.status == 422
    text = await answer.text()
    assert 'role="alert"' in text
    assert (await console.client.get("/healthz")).status == 200


async def test_a_file_over_twenty_megabytes_is_refused(console: Console) -> None:
    browser = await console.browser("clerk_a")
    answer = await _upload(browser, b"x" * (21 * 1024 * 1024))
    assert answer.status == 413


async def test_a_sheet_is_its_uploaders_alone(console: Console) -> None:
    browser = await console.browser("clerk_a")
    page = await (
        await _upload(browser, _csv(f"江金凤,{console.branch_a.name},,,,,,,"))
    ).text()
    token = _token(page)
    other = await console.browser("director_a")
    for path in (f"/members/import/{token}/faults.xlsx",):
        assert (await other.get(path)).status == 404
    answer = await other.post("/members/import/confirm", {"token": token})
    assert answer.status == 404
    for bad in ("", "../../secret", "x" * 22):
        answer = await browser.post("/members/import/confirm", {"token": bad})
        assert answer.status == 404
