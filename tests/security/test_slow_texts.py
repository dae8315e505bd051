"""S-28: no text of a stranger stops the gateway, however it is made up."""

import time

import pytest

from adapters.mail.quotes import split_reply
from gateway.consent import OPT_OUT_WORDS
from gateway.inbox.route import Situation, decide, numbers_in

LONGEST = 64 * 1024
WORST = {
    "marks in the wrong order": "a" + "\u0301" * (LONGEST // 2) + "\u0323" * LONGEST,
    "alternating marks": "a" + "\u0323\u0301" * (LONGEST // 2),
    "digits": "1" * LONGEST,
    "almost numbers": "20261121-12 " * (LONGEST // 12),
    "blanks": " " * LONGEST + "x",
    "commas": "TD" + "," * LONGEST,
    "thanks": "谢谢了" * (LONGEST // 3) + "?",
    "bindings": "绑定" + "1 " * (LONGEST // 2) + "?",
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
@pytest.mark.parametrize("lead", ["", "TD ", "绑定 "])
def test_the_router_reads_it_at_once(text: str, lead: str) -> None:
    text = (lead + text)[:LONGEST]
    started = time.process_time()
    decide(Situation(text=text, opt_out_words=OPT_OUT_WORDS))
    numbers_in(text)
    assert time.process_time() - started < 0.25


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
@pytest.mark.parametrize("line", [10, 400, LONGEST])
def test_quoted_mail_is_cut_at_once(text: str, line: int) -> None:
    lines = (text[at : at + line] for at in range(0, len(text), line))
    started = time.process_time()
    split_reply("\n> ".join(lines))
    assert time.process_time() - started < 0.5


def test_numbers_are_found_however_wide_they_are_typed() -> None:
    wide = "咨询单２０２６１１２１－００１２，谢谢"
    assert numbers_in(wide) == ["20261121-0012"]
    assert numbers_in("2026\u200b1121-0012") == ["20261121-0012"]
