import time as stopwatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.prompts import (
    RATING,
    RSVP,
    Ambiguous,
    Choice,
    Match,
    NoMatch,
    OpenPrompt,
    Prompt,
    PromptKind,
    Undecided,
    choose,
    option,
    read_reply,
)

YES = [
    *("1", "１", "①", "1.", "1。", "“1”", "y", "Ｙ", "Yes"),
    *("参加", " 参加 ", "参加！", "参加\n", "【参加】", "参加吧", "参加了 谢谢"),
    *("我参加", "我要参加", "好的参加", "好的，参加", "好的，我参加。", "收到，参加"),
    *("报名", "我报名"),
]
NO = [
    *("2", "２", "②", "n", "N。", "不参加", "不参加!", "我不参加", "请假", "我请假"),
    *("好的，请假", "有事请假", "参加不了", "无法参加", "取消"),
]
NOTHING = [
    "",
    " ",
    "？",
    "参加吗？",
    "参加?",
    "参加吗",
    "好的",
    "收到",
    "谢谢",
    "不",
    "不 参加",
    "没参加",
    "别参加",
    "不想参加",
    "可能参加",
    "参加不参加",
    "参加2人",
    "12",
    "3",
    "0",
    "-1",
    "11",
    "1/2",
    "1-2",
    "1人",
    "1个人参加，请安排车",
    "我想问一下活动能不能改期参加",
    "参加" * 7,
]


@pytest.mark.parametrize("text", YES)
def test_yes(text: str) -> None:
    assert read_reply(text, RSVP) == Match("yes")


@pytest.mark.parametrize("text", NO)
def test_no(text: str) -> None:
    assert read_reply(text, RSVP) == Match("no")


@pytest.mark.parametrize("text", NOTHING)
def test_no_answer(text: str) -> None:
    assert read_reply(text, RSVP) == NoMatch()


@pytest.mark.parametrize("text", ["1 2", "1、2", "参加，请假", "2。1"])
def test_two_answers_at_once(text: str) -> None:
    assert read_reply(text, RSVP) == Ambiguous(("no", "yes"))


@given(st.text(max_size=6), st.sampled_from("不没未别无"), st.text(max_size=6))
def test_a_negation_before_the_word_never_means_yes(
    before: str, negation: str, after: str
) -> None:
    assert read_reply(f"{before}{negation}参加{after}", RSVP) != Match("yes")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"),
        ("１。", "1"),
        ("满意", "1"),
        ("非常满意！谢谢", "1"),
        ("2", "2"),
        ("基本满意", "2"),
        ("3", "3"),
        ("不满意", "3"),
        ("我不满意", "3"),
        ("很不满意！", "3"),
        ("选3", "3"),
        ("3分", "3"),
    ],
)
def test_ratings(text: str, value: str) -> None:
    assert read_reply(text, RATING) == Match(value)


@pytest.mark.parametrize("text", ["4", "0", "1.5", "并不满意", "满意个鬼", "不是满意"])
def test_what_is_no_rating(text: str) -> None:
    assert read_reply(text, RATING) == NoMatch()


def test_a_binding_code_is_an_option_like_any_other() -> None:
    prompt = Prompt(kind=PromptKind.BINDING, options=(option("bind", "048213"),))
    assert read_reply("０４８２１３。", prompt) == Match("bind")
    assert read_reply("0482131", prompt) == NoMatch()
    assert read_reply("048 213", prompt) == NoMatch()


def test_a_word_that_two_options_share_is_ambiguous() -> None:
    prompt = Prompt(
        kind=PromptKind.RATING, options=(option("a", "1 好"), option("b", "2 好吧"))
    )
    assert read_reply("好吧", prompt) == Match("b")
    shared = Prompt(
        kind=PromptKind.RATING, options=(option("a", "会"), option("b", "会"))
    )
    assert read_reply("会", shared) == Ambiguous(("a", "b"))


def test_a_polite_word_that_is_an_option_counts() -> None:
    prompt = Prompt(kind=PromptKind.RATING, options=(option("yes", "好"),))
    assert read_reply("好", prompt) == Match("yes")


def test_an_empty_word_accepts_nothing() -> None:
    prompt = Prompt(kind=PromptKind.RATING, options=(("x", ("",)), ("y", ("我",))))
    assert read_reply("。", prompt) == NoMatch()
    assert read_reply("我", prompt) == Match("y")


@given(st.sampled_from([RSVP, RATING]), st.data())
def test_every_accepted_word_is_read_in_any_dress(
    prompt: Prompt, data: st.DataObject
) -> None:
    value, words = data.draw(st.sampled_from(prompt.options))
    word = data.draw(st.sampled_from(words))
    dress = data.draw(st.sampled_from(["{}", " {}。", "“{}”", "{}!!", "好的，{}"]))
    assert read_reply(dress.format(word).lower(), prompt) == Match(value)


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert isinstance(read_reply(text, RSVP), Match | NoMatch | Ambiguous)
    assert isinstance(choose(text, [DINNER]), Choice | NoMatch | Undecided)


def test_a_hostile_text_costs_nothing() -> None:
    begin = stopwatch.process_time()
    assert read_reply("e" + "\u0301\u0316" * 32_000, RSVP) == NoMatch()
    assert stopwatch.process_time() - begin < 1


DINNER = OpenPrompt(id=1, code="A1", prompt=RSVP)
OUTING = OpenPrompt(id=2, code="A2", prompt=RSVP)
STARS = OpenPrompt(id=3, code="AA1", prompt=RATING)
ALL = [DINNER, OUTING, STARS]


@pytest.mark.parametrize(
    ("text", "prompt", "value"),
    [
        ("A1 2", DINNER, "no"),
        ("A1参加", DINNER, "yes"),
        ("ａ１　参加！", DINNER, "yes"),
        ("a2:1", OUTING, "yes"),
        ("A2-1", OUTING, "yes"),
        ("A2 - 1", OUTING, "yes"),
        ("A22", OUTING, "no"),
        ("【A2】1", OUTING, "yes"),
        ("AA1 3", STARS, "3"),
        ("不满意", STARS, "3"),
    ],
)
def test_the_code_decides_first(text: str, prompt: OpenPrompt, value: str) -> None:
    assert choose(text, ALL) == Choice(prompt, value)


@pytest.mark.parametrize("text", ["A1", "A1 3", "A1 你好", "A3 1", "你好", "A1？"])
def test_no_open_prompt_is_answered(text: str) -> None:
    assert choose(text, ALL) == NoMatch()


def test_without_code_several_may_be_meant() -> None:
    assert choose("1", ALL) == Undecided((DINNER, OUTING, STARS))
    assert choose("参加", ALL) == Undecided((DINNER, OUTING))
    assert choose("参加", [DINNER, STARS]) == Choice(DINNER, "yes")
    assert choose("1", [OUTING]) == Choice(OUTING, "yes")
    assert choose("1", []) == NoMatch()


def test_two_answers_to_one_prompt_are_for_a_person() -> None:
    assert choose("A1 1 2", ALL) == Undecided((DINNER,))
    assert choose("1 2", [DINNER]) == Undecided((DINNER,))


def test_a_prompt_without_code_is_found_by_its_words() -> None:
    plain = OpenPrompt(id=4, code="", prompt=RATING)
    assert choose("满意", [plain, DINNER]) == Choice(plain, "1")
