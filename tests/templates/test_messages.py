"""The standard texts: every message in both languages, short enough for SMS."""

import tomllib
from importlib.resources import files

import pytest

from gateway import wording
from gateway.text import segment_count

MESSAGES = {
    "receipt_working",
    "receipt_after_hours",
    "callback",
    "callback_thanks",
    "callback_reopened",
    "opt_out_done",
    "opt_in_done",
    "bind_ask",
    "bind_done",
    "bind_failed",
    "help",
    "daily",
    "daily_subscribed",
    "daily_unsubscribed",
    "notice_rsvp_yes",
    "notice_rsvp_no",
    "answer",
    "extended",
    "bind_code",
    "today",
    "daily_none",
    "progress",
    "progress_none",
    "self_test",
}
# Realistic and rather long values; an answer and a daily lesson are as long as needed.
VALUES = {
    "zh": {
        "name": "欧阳建国",
        "number": "20261121-0001",
        "deadline": "12月1日（星期二）",
        "centre": "禾苑街道党员服务中心",
        "outcome": "支部已上门收取补交的四个月党费，并出具收据。",
        "code": "738215",
        "title": "柳汀村“清水护河”主题党日",
        "options": "1满意 2基本满意 3不满意",
        "hours": "8:30-12:00、14:00-17:30",
    },
    "en": {
        "name": "Ouyang Jianguo",
        "number": "20261121-0001",
        "deadline": "1 December",
        "centre": "Heyuan centre",
        "outcome": "Your branch took the dues of four months.",
        "code": "738215",
        "title": "Clean river day, Liuting",
        "options": "1 yes 2 fairly 3 no",
        "hours": "8:30-12:00, 14:00-17:30",
    },
}
AS_LONG_AS_NEEDED = {"answer", "daily", "today"}
ALLOWED = {
    **{name: name for name in VALUES["en"]},
    **{name: name for name in ("answer", "question", "answer_text", "basis")},
    "姓名": "name",
}
SIGNATURE = "【清禾党员服务中心】"


def texts(language: str) -> dict[str, dict[str, str]]:
    source = files("templates") / "messages" / f"{language}.toml"
    return tomllib.loads(source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_standard_texts_are_complete_and_parse(language: str) -> None:
    messages = texts(language)
    assert messages.keys() == MESSAGES
    for variants in messages.values():
        assert variants.keys() == {"sms", "default", "subject"}
        for text in variants.values():
            assert text == text.strip()
            wording.parse(text, ALLOWED)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_standard_texts_need_no_name(language: str) -> None:
    for variants in texts(language).values():
        for text in variants.values():
            needed = wording.required_fields(wording.parse(text, ALLOWED))
            assert "name" not in needed


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", sorted(MESSAGES - AS_LONG_AS_NEEDED))
def test_short_texts_fit_two_segments(name: str, language: str) -> None:
    parts = wording.parse(texts(language)[name]["sms"], ALLOWED)
    text = wording.render(parts, VALUES[language])
    assert segment_count(SIGNATURE + text, (70, 67)) <= 2, text
    assert "【" not in text


def test_languages_use_the_same_fields() -> None:
    chinese, english = texts("zh"), texts("en")
    for name in MESSAGES:
        for key in ("sms", "default", "subject"):
            fields = [
                wording.fields_used(wording.parse(messages[name][key], ALLOWED))
                for messages in (chinese, english)
            ]
            assert fields[0] - {"name"} == fields[1] - {"name"}, (name, key)


def test_the_daily_push_ends_with_how_to_refuse() -> None:
    assert texts("zh")["daily"]["sms"].endswith("拒收请回复R")
    assert texts("zh")["daily"]["default"].endswith("请回复“退订”。")
