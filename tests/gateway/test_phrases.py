"""Phrases read as Chinese, and can be told in another language."""

import json

from gateway.phrases import phrase, together, translated

ENGLISH = {
    "乙": "B",
    "最多 {n} 个字符": "At most {n} characters",
    "第{n}个：{what}": "{n}: {what}",
}


def english(text: str) -> str:
    return ENGLISH.get(text, text)


def test_reads_as_chinese() -> None:
    found = phrase("最多 {n} 个字符", n=64)

    assert found == "最多 64 个字符"
    assert json.dumps([found], ensure_ascii=False) == '["最多 64 个字符"]'


def test_is_told_in_another_language_with_its_values() -> None:
    assert translated(phrase("最多 {n} 个字符", n=64), english) == (
        "At most 64 characters"
    )


def test_values_are_translated_but_never_filled_in_again() -> None:
    inner = phrase("最多 {n} 个字符", n=2)

    assert translated(phrase("第{n}个：{what}", n=1, what=inner), english) == (
        "1: At most 2 characters"
    )
    assert translated(
        phrase("第{n}个：{what}", n=1, what="{n.__class__}"), english
    ) == ("1: {n.__class__}")


def test_data_are_never_taken_for_words() -> None:
    assert translated(phrase("第{n}个：{what}", n=1, what="乙"), english) == "1: 乙"


def test_survives_as_the_text_of_an_exception() -> None:
    error = ValueError(phrase("最多 {n} 个字符", n=64))

    assert translated(str(error), english) == "At most 64 characters"


def test_a_text_without_values_is_marked_and_keeps_its_braces() -> None:
    found = phrase("请改用 {{ 和 }}")

    assert phrase(found) is found
    assert translated(found, english) == "请改用 {{ 和 }}"


def test_plain_text_is_looked_up_and_else_left() -> None:
    assert translated("无", english) == "无"


def test_several_faults_are_one_text() -> None:
    found = together(["甲", phrase("最多 {n} 个字符", n=3), "乙"])

    assert found == "甲；最多 3 个字符；乙"
    assert translated(found, english) == "甲；At most 3 characters；B"
    assert together(["甲"]) == "甲"
