"""Texts of a broadcast: what is refused at which field, and what gets frozen."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broadcasts.content import Draft, digest, event_time, faults, frozen, needed

AT = datetime(2026, 11, 25, 0, 30, tzinfo=UTC)


def draft(**changes: Any) -> Draft:
    values: dict[str, Any] = {"title": "通知", "texts": {"sms": "开会"}, "audience": {}}
    return Draft(**(values | changes))


def test_a_plain_draft_has_no_fault() -> None:
    assert faults(draft()) == {}
    text = "{{姓名}}，{{时间}}在{{地点}}开会，代码{{代码}}"
    complete = draft(texts={"sms": text}, event_at=AT, place="二楼", rsvp=True)
    assert faults(complete) == {}


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"title": " "}, "title", "请写上主题"),
        ({"title": "长" * 121}, "title", "最多120字，现在121字"),
        ({"title": "a\nb"}, "title", "换行"),
        ({"title": "\ud83d"}, "title", "无法保存"),
        ({"place": "长" * 121}, "place", "最多120字"),
        ({"texts": {}}, "sms", "请写上正文"),
        ({"texts": {"sms": "  "}}, "sms", "请写上正文"),
        ({"texts": {"sms": "好\ud800"}}, "sms", "无法保存"),
        ({"texts": {"sms": 7}}, "sms", "无法保存"),
        ({"texts": {"fax": "x", "sms": "x"}}, "fax", "没有这种正文"),
        ({"texts": {"sms": "您好{{姓}}"}}, "sms", "第1行第3个字"),
        ({"texts": {"sms": "{{单号}}"}}, "sms", "没有“单号”这个字段"),
        ({"texts": {"sms": "x", "default": "a\n{{时间}"}}, "default", "第2行"),
        ({"texts": {"sms": "{{时间}}"}}, "sms", "请填写活动时间"),
        ({"texts": {"sms": "{{地点}}"}}, "sms", "请填写地点"),
        ({"texts": {"sms": "{{代码}}"}}, "sms", "请勾选"),
    ],
)
def test_each_fault_stands_at_its_field(
    changes: dict[str, Any], field: str, says: str
) -> None:
    found = faults(draft(**changes))
    assert says in found[field]


def test_gaps_are_closed_when_frozen() -> None:
    assert frozen({"sms": "短"}) == {
        "sms": "短",
        "default": "短",
        "subject": "{{title}}",
    }
    assert frozen({"default": "长", "subject": "题"}) == {
        "sms": "长",
        "default": "长",
        "subject": "题",
    }
    assert frozen({"email": "信"})["sms"] == "信"
    assert needed(frozen({"sms": "{{姓名}}"}).values()) == {"name", "title"}


def test_the_time_is_written_as_people_do() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    assert event_time(AT, zone) == "11月25日（周三）8:30"
    assert event_time(None, zone) == ""


def test_a_digest_changes_with_every_field() -> None:
    base = {"title": "a", "texts": {"sms": "b"}, "at": AT}
    assert digest(base) == digest(dict(reversed(base.items())))
    assert digest(base) != digest({**base, "title": "c"})
    with pytest.raises(TypeError):
        digest({"x": object()})
