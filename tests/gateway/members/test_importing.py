import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RequestError
from gateway.members.fields import joined_on, tags_of, yes_or_no
from gateway.members.importing import COLUMNS, parse_rows, places

KNOWN = places(
    [
        (1, "0801", "禾苑党支部"),
        (2, "0802", "柳汀党支部"),
        (3, "0803", "同名"),
        (4, "0804", "同名"),
    ]
)
HEADER = [
    "手机",
    "姓名",
    "党组织",
    "邮箱",
    "QQ",
    "入党时间",
    "流动党员",
    "标签",
    "每日一答",
]


def _one(*cells: str):
    (result,) = parse_rows([HEADER, list(cells)], KNOWN)
    return result


def test_a_good_row_in_any_order_of_columns() -> None:
    result = _one(
        *("138 0013 8000", "江 金凤", "禾苑党支部", "A@Example.ORG", "10001"),
        *("2009年7月", "是", "志愿者，老党员", "是"),
    )
    record = result.record
    assert record is not None
    assert (result.row, record.organisation_id, record.joined_on) == (2, 1, "2009-07")
    assert [a.value for a in record.contacts] == [
        "+8613800138000",
        "A@example.org",
        "10001",
    ]
    assert (record.mobile, record.daily) == (True, True)
    assert record.tags == ("志愿者", "老党员")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("姓名", "", "没有填写姓名"),
        ("姓名", "长" * 65, "最多64个字"),
        ("手机", "1380013800", "位数"),
        ("手机", "138001380000", "位数"),
        ("手机", "010-88888888", "不是手机"),
        ("手机", "电话", "数字以外"),
        ("邮箱", "zhang.example.org", "@"),
        ("QQ", "0123", "QQ号"),
        ("党组织", "", "没有填写党组织"),
        ("党组织", "外县党支部", "范围里没有"),
        ("党组织", "同名", "改填区号"),
        ("入党时间", "去年", "2009-07"),
        ("入党时间", "2009-13", "2009-07"),
        ("流动党员", "也许", "“是”或“否”"),
        ("每日一答", "也许", "“是”或“否”"),
        ("标签", "长" * 40, "最多32个字"),
    ],
)
def test_a_fault_names_the_column_and_the_mend(
    column: str, value: str, words: str
) -> None:
    cells = {"手机": "13800138000", "姓名": "江金凤", "党组织": "0801"} | {
        column: value
    }
    result = _one(*(cells.get(name, "") for name in HEADER))
    assert result.record is None
    (fault,) = result.faults
    assert fault.field == column
    assert fault.value == value
    assert words in fault.message


def test_bad_rows_leave_good_rows_alone() -> None:
    results = parse_rows(
        [
            ["姓名", "党组织", "手机"],
            ["甲", "0801", "13800138000"],
            ["", "0801", "13800138001"],
            [],
            ["乙", "802", "13800138002"],
            ["丙", "0801"],
        ],
        KNOWN,
    )
    assert [r.row for r in results] == [2, 3, 5, 6]
    assert [r.record is not None for r in results] == [True, False, True, True]
    assert results[2].record.organisation_id == 2


def test_a_number_twice_in_one_sheet_is_refused_the_second_time() -> None:
    rows = [
        ["姓名", "党组织", "手机"],
        ["甲", "0801", "13800138000"],
        ["乙", "0801", "+86 138-0013-8000"],
    ]
    first, second = parse_rows(rows, KNOWN)
    assert first.record is not None
    assert "第2行" in second.faults[0].message


def test_a_wish_without_a_contact_is_refused() -> None:
    result = _one("", "甲", "0801", "", "", "", "", "", "是")
    assert result.faults[0].field == "每日一答"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "空"),
        ([["", ""]], "空"),
        ([["手机", "邮箱"]], "姓名"),
        ([["姓名", "手机"]], "党组织"),
        ([["姓名", "党组织", "名字"]], "两列"),
    ],
)
def test_a_sheet_that_cannot_be_used_is_explained(rows, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_rows(rows, KNOWN)
    assert words in caught.value.detail
    assert caught.value.fields


@given(st.lists(st.lists(st.text(max_size=30), max_size=9), max_size=6))
def test_no_cells_make_it_fail(rows: list[list[str]]) -> None:
    for result in parse_rows([[c.name for c in COLUMNS], *rows], KNOWN):
        assert (result.record is None) == bool(result.faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("2009", "2009"),
        ("2009年", "2009"),
        ("2009-7", "2009-07"),
        ("2009.07.01", "2009-07-01"),
        ("2009/7/1", "2009-07-01"),
        ("2009年7月1日", "2009-07-01"),
        ("200907", "2009-07"),
        ("20090701", "2009-07-01"),
        ("2009-07-01 00:00:00", "2009-07-01"),
        ("2009-02-30", None),
        ("1920", None),
        ("九十年代", None),
    ],
)
def test_dates_as_people_write_them(text: str, expected: str | None) -> None:
    assert joined_on(text) == expected


def test_tags_and_answers() -> None:
    assert tags_of("甲，乙、甲; 丙") == ["甲", "乙", "丙"]
    assert [yes_or_no(t) for t in ("是", "否", "Y", "×", "?")] == [
        True,
        False,
        True,
        False,
        None,
    ]
