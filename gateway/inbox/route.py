"""What one text means, in one fixed order. Pure: the situation in, a decision out.

opt-out word → open prompt → exact command → thread or number named → the one open
inquiry → a new inquiry. What could be two things goes to the review tray.
"""

import re
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from gateway.consent import Strength, is_opt_in, opt_out_prefix, opt_out_strength
from gateway.prompts import Choice, NoMatch, OpenPrompt, Undecided, choose
from gateway.text import fold_width, narrow

NUMBER = re.compile(r"(?<!\d)(\d{8}-\d{4,6})(?!\d)")
_SHORTEST_NUMBER = 13  # characters
_REPEATED = 20  # characters: short texts are the same again and again
_EDGES = " \t\r\n.,!~。，！；;、：:"
_THANKS = re.compile(
    r"(好的|收到|明白了?|知道了|谢谢|感谢|多谢|非常感谢|辛苦了?|您|你|了|老师|同志|\s|[.,!~。，！])+"
)


class CommandName(StrEnum):
    HELP = "help"
    BIND = "bind"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    TODAY = "today"
    PROGRESS = "progress"


_WORDS: dict[str, CommandName] = {
    **dict.fromkeys(("帮助", "菜单", "HELP", "?"), CommandName.HELP),
    **dict.fromkeys(("订阅", "订阅每日一答"), CommandName.SUBSCRIBE),
    **dict.fromkeys(("停订", "停订每日一答"), CommandName.UNSUBSCRIBE),
    **dict.fromkeys(("每日一答", "今日一答", "今日问答"), CommandName.TODAY),
    **dict.fromkeys(("进度", "查进度", "查询进度"), CommandName.PROGRESS),
}
_BIND = re.compile(r"绑定\s*[:：]?\s*(\+?[\d\s-]{0,20})")


@dataclass(slots=True, kw_only=True)  # one a message: frozen ones cost twice as much
class Situation:
    """What is known when a text arrives.

    `thread` is the inquiry that a verified reply token or a quoted message of ours
    names; `named` those whose number stands in the text and that this person may
    name; `open_ones` the person's open inquiries inside the window, `closed_ones`
    those closed inside it, oldest first.
    """

    text: str
    automatic: bool = False
    prompts: Sequence[OpenPrompt] = ()
    thread: int | None = None
    named: Collection[int] = ()
    open_ones: Sequence[int] = ()
    closed_ones: Sequence[int] = ()
    opt_out_words: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Refuse:
    """An opt-out; `rest` is what was asked besides."""

    rest: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Answer:
    prompt_id: int
    value: str


@dataclass(frozen=True, slots=True)
class Command:
    name: CommandName
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Append:
    """More on an inquiry; `thanks` changes no state."""

    inquiry_id: int
    reason: str
    thanks: bool = False


@dataclass(frozen=True, slots=True)
class Register:
    pass


@dataclass(frozen=True, slots=True)
class Review:
    """A person has to say; `reason` is a code, `candidates` what it may belong to."""

    reason: str
    candidates: tuple[int, ...] = ()


Decision = Refuse | Resume | Answer | Command | Append | Register | Review


def decide(situation: Situation) -> Decision:
    if situation.automatic:
        return _automatic(situation)
    return (
        _consent(situation)
        or _prompt(situation)
        or _command(situation.text)
        or _inquiry(situation)
    )


def _automatic(situation: Situation) -> Decision:
    """A machine wrote: kept where it belongs, never obeyed, never answered."""
    if situation.thread is not None:
        return Append(situation.thread, "automatic", thanks=True)
    return Review("automatic")


def _consent(situation: Situation) -> Decision | None:
    text, words = situation.text, situation.opt_out_words
    heard = _heard(text, words) if len(text) <= _REPEATED else _spoken(text, words)
    if heard is not Strength.AMBIGUOUS:
        return heard
    answers_nothing = isinstance(choose(text, situation.prompts), NoMatch)
    return Refuse() if answers_nothing else None


def _spoken(
    text: str, words: Set[str]
) -> Resume | Refuse | Literal[Strength.AMBIGUOUS] | None:
    """What a text says of being written to, whoever sent it."""
    if is_opt_in(text):
        return Resume()
    strength = opt_out_strength(text, words)
    if strength is Strength.CERTAIN:
        return Refuse()
    if strength is Strength.AMBIGUOUS:
        return Strength.AMBIGUOUS
    rest = opt_out_prefix(text, words)
    return None if rest is None else Refuse(rest)


_heard = lru_cache(maxsize=1024)(_spoken)


def _prompt(situation: Situation) -> Decision | None:
    if not situation.prompts:
        return None
    match choose(situation.text, situation.prompts):
        case Choice(prompt, value):
            return Answer(prompt.id, value)
        case Undecided(candidates):
            return Review("which_prompt", tuple(one.id for one in candidates))
        case _:
            return None


def _command(text: str) -> Command | None:
    bare = text.strip(_EDGES)
    if found := _BIND.fullmatch(bare):
        return Command(CommandName.BIND, re.sub(r"[\s-]", "", found[1]))
    name = _WORDS.get(fold_width(bare)) if len(bare) <= 12 else None
    return None if name is None else Command(name)


def _inquiry(situation: Situation) -> Decision:
    thanks = is_thanks(situation.text)
    if situation.thread is not None:
        return Append(situation.thread, "thread", thanks)
    if len(situation.named) == 1:
        return Append(next(iter(situation.named)), "number", thanks)
    if len(situation.named) > 1:
        return Review("several_numbers", tuple(situation.named))
    if thanks and (known := situation.open_ones or situation.closed_ones):
        return Append(known[-1], "thanks", thanks=True)
    if len(situation.open_ones) == 1:
        return Append(situation.open_ones[0], "open_inquiry")
    if len(situation.open_ones) > 1:
        return Review("several_open", tuple(situation.open_ones))
    return Review("bare_answer") if _is_bare(situation.text) else Register()


def _is_bare(text: str) -> bool:
    """A lone digit or letter: an answer to a question that is no longer open."""
    if len(text) > 12:  # folding a long text of stacked marks takes seconds
        return False
    bare = fold_width(text).strip(_EDGES)
    return len(bare) == 1 and bare.isascii() and bare.isalnum()


def is_thanks(text: str) -> bool:
    """Whether a text only thanks or confirms: nothing in it waits for an answer."""
    return len(text) <= 20 and _THANKS.fullmatch(text) is not None


def numbers_in(text: str) -> list[str]:
    """Inquiry numbers named in a text."""
    if len(text) < _SHORTEST_NUMBER:
        return []
    return NUMBER.findall(narrow(text))
