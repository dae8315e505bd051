"""What one text means: every rule of the router, and their order."""

import pytest

from gateway.consent import OPT_OUT_WORDS
from gateway.inbox.route import (
    Answer,
    Append,
    Command,
    CommandName,
    Decision,
    Refuse,
    Register,
    Resume,
    Review,
    Situation,
    decide,
    is_thanks,
    numbers_in,
)
from gateway.prompts import RATING, RSVP, OpenPrompt

RSVP_1 = OpenPrompt(id=1, code="A1", prompt=RSVP)
RSVP_2 = OpenPrompt(id=2, code="C1", prompt=RSVP)
RATING_3 = OpenPrompt(id=3, code="E1", prompt=RATING)


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        # A machine is neither obeyed nor answered.
        ("退订", {"automatic": True}, Review("automatic")),
        ("休假中", {"automatic": True, "thread": 7}, Append(7, "automatic", True)),
        # Consent comes first.
        ("退订", {}, Refuse()),
        ("ＴＤ。", {"open_ones": (5,)}, Refuse()),
        ("TD", {"prompts": (RSVP_1,)}, Refuse()),
        ("退订，另外想问党费", {}, Refuse("另外想问党费")),
        ("恢复接收", {}, Resume()),
        ("我不想退订", {}, Register()),
        # An ambiguous word refuses only where no question takes it.
        ("N", {}, Refuse()),
        ("N", {"prompts": (RSVP_1,)}, Answer(1, "no")),
        ("取消", {"prompts": (RSVP_1,)}, Answer(1, "no")),
        ("取消", {"prompts": (RATING_3,)}, Refuse()),
        # Open questions, by code first.
        ("1", {"prompts": (RSVP_1,)}, Answer(1, "yes")),
        ("C1 参加", {"prompts": (RSVP_1, RSVP_2)}, Answer(2, "yes")),
        ("参加", {"prompts": (RSVP_1, RSVP_2)}, Review("which_prompt", (1, 2))),
        ("1", {"prompts": (RSVP_1, RATING_3)}, Review("which_prompt", (1, 3))),
        ("不满意", {"prompts": (RSVP_1, RATING_3)}, Answer(3, "3")),
        ("1", {}, Review("bare_answer")),
        ("1", {"open_ones": (7,)}, Append(7, "open_inquiry")),
        ("入党", {}, Register()),
        # Commands are whole messages.
        ("帮助", {}, Command(CommandName.HELP)),
        ("？", {}, Command(CommandName.HELP)),
        ("订阅", {}, Command(CommandName.SUBSCRIBE)),
        ("停订", {}, Command(CommandName.UNSUBSCRIBE)),
        ("今日一答", {}, Command(CommandName.TODAY)),
        ("进度", {"open_ones": (5,)}, Command(CommandName.PROGRESS)),
        ("绑定 123456", {}, Command(CommandName.BIND, "123456")),
        ("绑定：138 0013 8000", {}, Command(CommandName.BIND, "13800138000")),
        ("怎么绑定手机", {}, Register()),
        # Thread, number, the one open inquiry, a new one.
        ("好的，周五来", {"thread": 7, "open_ones": (5, 6)}, Append(7, "thread")),
        ("关于单号", {"named": (8,), "open_ones": (5,)}, Append(8, "number")),
        ("两件", {"named": (8, 9)}, Review("several_numbers", (8, 9))),
        ("再问一下", {"open_ones": (5,)}, Append(5, "open_inquiry")),
        ("再问一下", {"open_ones": (5, 6)}, Review("several_open", (5, 6))),
        ("请问党费", {}, Register()),
        ("请问党费", {"closed_ones": (4,)}, Register()),
        # Thanks wait for nothing.
        ("谢谢老师！", {"open_ones": (5,)}, Append(5, "thanks", True)),
        ("谢谢", {"open_ones": (5, 6)}, Append(6, "thanks", True)),
        ("谢谢", {"closed_ones": (3, 4)}, Append(4, "thanks", True)),
        ("谢谢", {"thread": 7}, Append(7, "thread", True)),
        ("谢谢", {}, Register()),
    ],
)
def test_one_text(text: str, more: dict[str, object], expected: Decision) -> None:
    known = {"opt_out_words": OPT_OUT_WORDS} | more
    assert decide(Situation(text=text, **known)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "thanks"),
    [
        ("好的谢谢您", True),
        ("收到，辛苦了！", True),
        ("谢谢，那材料呢", False),
        ("谢" * 30, False),
        ("", False),
    ],
)
def test_thanks(text: str, thanks: bool) -> None:
    assert is_thanks(text) is thanks


def test_numbers_stand_alone() -> None:
    assert numbers_in("单号２０２６１１２０-0001和20261120-0002。") == [
        "20261120-0001",
        "20261120-0002",
    ]
    assert numbers_in("电话 13800138000，编号120261120-0001") == []
