import time as stopwatch
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import AddressKind, Capabilities, TextEncoding
from gateway.wording import (
    MAX_TEXT,
    MissingValue,
    OutputTooLong,
    Placeholder,
    WordingError,
    check_text,
    fields_used,
    parse,
    render,
    required_fields,
)

FIELDS = {"姓名": "name", "name": "name", "时间": "starts_on", "地点": "place"}


def test_a_text_is_parsed_into_parts() -> None:
    parts = parse(
        '您好{{姓名}}，{{ 时间 | date }}在{{地点|default "本中心"}}。', FIELDS
    )
    assert parts == (
        "您好",
        Placeholder("name"),
        "，",
        Placeholder("starts_on", as_date=True),
        "在",
        Placeholder("place", default="本中心"),
        "。",
    )
    assert fields_used(parts) == {"name", "starts_on", "place"}
    assert required_fields(parts) == {"name", "starts_on"}


def test_quotes_of_a_chinese_keyboard_are_taken() -> None:
    assert parse("{{姓名 | default “同志”}}", FIELDS) == (
        Placeholder("name", default="同志"),
    )


def test_plain_text_and_nothing() -> None:
    assert parse("没有占位符 100% $x \\n", FIELDS) == ("没有占位符 100% $x \\n",)
    assert parse("", FIELDS) == ()
    assert render((), {}) == ""


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("{{7*7}}", 1, 1),
        ("{{''.__class__.__mro__}}", 1, 1),
        ("{{cycler.__init__.__globals__}}", 1, 1),
        ("您好{0.__class__}", 1, 3),
        ("第一行\n{% for a in range(99999) %}x{% endfor %}", 2, 1),
        ("{{member.password_hash}}", 1, 1),
        ("${姓名}", 1, 2),
        ("#{姓名}", 1, 2),
        ("{# 注释 #}", 1, 1),
        ("a\nb\n  {{年龄}}", 3, 3),
        ("{{}}", 1, 1),
        ("{{ }}", 1, 1),
        ("{{姓名", 1, 1),
        ("{{姓名}", 1, 5),
        ("{{姓名{{地点}}}}", 1, 1),
        ("{{{姓名}}}", 1, 1),
        ("{{姓名}}}", 1, 7),
        ("姓名}}", 1, 3),
        ("{{姓名 地点}}", 1, 1),
        ("{{姓名|upper}}", 1, 1),
        ("{{姓名|date|date}}", 1, 1),
        ("{{姓名|default}}", 1, 1),
        ("{{姓名|default 同志}}", 1, 1),
        ('{{姓名|default "a"b"}}', 1, 1),
        ('{{姓名|default "a\nb"}}', 1, 1),
        ("{{姓名()}}", 1, 1),
        ("{{姓名[0]}}", 1, 1),
        ("｛｛姓名｝｝", 1, 1),
        ("{{姓名｝｝", 1, 5),
        ("{{\u202e姓名}}", 1, 1),
    ],
)
def test_all_else_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(WordingError) as caught:
        parse(text, FIELDS)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert caught.value.mend
    assert str(caught.value).startswith(f"第{line}行第{column}个字：")


def test_an_unknown_field_gets_a_suggestion() -> None:
    with pytest.raises(WordingError, match="没有“性名”这个字段。是不是要写：姓名"):
        parse("{{性名}}", FIELDS)
    with pytest.raises(WordingError, match="可以写：姓名、时间、地点。"):
        parse("{{xyz}}", FIELDS)
    with pytest.raises(WordingError, match="没有字段可用"):
        parse("{{xyz}}", {})


def test_a_text_too_long_is_refused() -> None:
    with pytest.raises(WordingError, match="超过"):
        parse("长" * (MAX_TEXT + 1), FIELDS)


@pytest.mark.parametrize(
    "unit",
    ["{{", "{{姓名", "{", "}", "{{ ", '{{姓名|default "', "\n", "{{姓名}}", "| "],
)
def test_parsing_is_linear(unit: str) -> None:
    text = unit * (MAX_TEXT // len(unit))
    begin = stopwatch.process_time()
    try:
        parse(text, FIELDS)
    except WordingError as error:
        assert error.line >= 1  # noqa: PT017
    assert stopwatch.process_time() - begin < 1


fragments = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from(
            ["{", "}", "{{", "}}", "|", '"', "姓名", "date", "default", " "]
        ),
    )
).map("".join)


@given(fragments)
def test_any_text_is_parsed_or_refused_inside_itself(text: str) -> None:
    try:
        parts = parse(text, FIELDS)
    except WordingError as error:
        lines = text.split("\n")
        assert error.column <= len(lines[error.line - 1]) + 1  # noqa: PT017
        return
    values = {"name": "张三", "starts_on": "周五", "place": "三楼"}
    assert len(render(parts, values)) <= len(text)


@given(st.text().filter(lambda text: not set("{}｛｝") & set(text)))
def test_a_text_without_braces_is_itself(text: str) -> None:
    assert render(parse(text, FIELDS), {}) == text


@given(st.text(min_size=1))
def test_values_are_data(value: str) -> None:
    parts = parse("您好{{姓名}}！", FIELDS)
    assert render(parts, {"name": value}) == f"您好{value}！"


@pytest.mark.parametrize("name", ["{{ 7*7 }}", "${x}", "{0.__class__}", "{{姓名}}"])
def test_a_value_that_looks_like_a_placeholder(name: str) -> None:
    assert render(parse("{{姓名}}", FIELDS), {"name": name}) == name


def test_dates_are_written_out() -> None:
    parts = parse("{{时间}}，{{时间 | date}}", FIELDS)
    day = date(2026, 3, 5)
    assert render(parts, {"starts_on": day}) == "2026-03-05，2026年3月5日"
    at = datetime(2026, 3, 5, 9, tzinfo=UTC)
    assert render(parts[-1:], {"starts_on": at}) == "2026年3月5日"
    assert render(parts[-1:], {"starts_on": "周五"}) == "周五"


@pytest.mark.parametrize("values", [{}, {"name": ""}])
def test_a_missing_value(values: dict[str, str]) -> None:
    assert render(parse('{{姓名|default ""}}', FIELDS), values) == ""
    with pytest.raises(MissingValue) as caught:
        render(parse("{{姓名}}", FIELDS), values)
    assert caught.value.field == "name"


def test_zero_is_a_value() -> None:
    assert render(parse("{{姓名}}分", FIELDS), {"name": 0}) == "0分"


def test_the_output_is_bound() -> None:
    parts = parse("{{姓名}}" * 100, FIELDS)
    assert len(render(parts, {"name": "x" * 10}, limit=1000)) == 1000
    with pytest.raises(OutputTooLong, match="1100"):
        render(parts, {"name": "x" * 11}, limit=1000)


SMS = Capabilities(
    address_kinds=frozenset({AddressKind.PHONE}),
    encoding=TextEncoding.UCS2,
    max_length=20,
    segments=(70, 67),
)
MAIL = Capabilities(
    address_kinds=frozenset({AddressKind.EMAIL}),
    encoding=TextEncoding.UTF8,
    max_length=100,
)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("您好", []),
        ("党" * 16, []),
        ("党" * 17, ["too_long"]),
        ("😀" * 8, []),
        ("😀" * 8 + "a", ["too_long"]),
        ("【通知】您好", ["brackets"]),
        ("  \n", ["empty"]),
        ("您好\u202e", ["invisible"]),
        ("【" * 17 + "\x07", ["too_long", "brackets", "invisible"]),
    ],
)
def test_what_a_text_channel_would_not_carry(text: str, codes: list[str]) -> None:
    assert [p.code for p in check_text(text, SMS, signature="【连心】")] == codes


def test_mail_carries_brackets_and_counts_bytes() -> None:
    assert check_text("【通知】", MAIL) == []
    (problem,) = check_text("党" * 34, MAIL)
    assert problem.message == "正文太长，超出2个计数单位"
