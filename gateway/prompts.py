"""What a reply to an open question means. Reads words, keeps nothing.

Only what is surely an answer is taken as one: "不参加" never means 参加, a long text
or a question is a message for a person.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from gateway.text import fold_width

LONGEST_REPLY = 12  # characters
# NFKC lengthens some characters and shortens none to nothing: text far beyond the limit
# can't come under it, so it is not even looked at.
_LONGEST_TEXT = 4 * LONGEST_REPLY


class PromptKind(StrEnum):
    RSVP = "rsvp"
    RATING = "rating"
    BINDING = "binding"


Option = tuple[str, tuple[str, ...]]
"""A value and the words that mean it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """One of ours, told from others by what it is, not by what it holds: it stands in
    the keys of caches."""

    kind: PromptKind
    options: tuple[Option, ...]


def option(value: str, words: str) -> Option:
    """An option whose words are given apart by blanks."""
    return value, tuple(words.split())


RSVP = Prompt(
    kind=PromptKind.RSVP,
    options=(
        option(
            "yes",
            "1 Y YES 是 参加 报名 出席 到会 去 能参加 可以参加 准时参加 按时参加",
        ),
        option(
            "no",
            "2 N NO 否 不参加 不报名 不出席 不去 去不了 不能参加 无法参加"
            " 参加不了 不能到会 请假 有事请假 取消 取消报名",
        ),
    ),
)
RATING = Prompt(
    kind=PromptKind.RATING,
    options=(
        option("1", "1 1分 满意 很满意 非常满意 十分满意"),
        option("2", "2 2分 基本满意 比较满意 一般 还可以"),
        option("3", "3 3分 不满意 很不满意 非常不满意 不太满意"),
    ),
)


@dataclass(frozen=True, slots=True)
class Match:
    value: str


@dataclass(frozen=True, slots=True)
class NoMatch:
    pass


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """More than one value of a prompt was named."""

    values: tuple[str, ...]


Reading = Match | NoMatch | Ambiguous

_BREAKS = re.compile(r"[\s,.;:!~'\"()\[\]、。…·“”‘’「」『』【】《》]+")
# Politeness around an answer. None of these negates.
_FILLERS = frozenset(
    {"我", "我们", "本人", "选", "选择", "回复", "OK", "嗯", "行", "收到"}
    | {"好", "好的", "好滴", "谢谢", "谢谢您", "您好", "你好"}
)
_LEADS = (
    *("我们", "我要", "我会", "我想", "我选", "我", "本人"),
    *("好的", "确认", "确定", "选择", "选", "回复"),
)
_TAILS = ("谢谢", "哦", "啊", "吧", "的", "了", "哈", "呢")


def read_reply(text: str, prompt: Prompt) -> Reading:
    """The value of `prompt` that `text` names, whatever its width and punctuation."""
    reply = _folded(text)
    if not reply or len(reply) > LONGEST_REPLY or "?" in reply:
        return NoMatch()
    return _read(reply, prompt)


@lru_cache(maxsize=1024)
def _read(reply: str, prompt: Prompt) -> Reading:
    meanings = _meanings(prompt)
    silent = _FILLERS - meanings.keys()
    words = [word for word in _BREAKS.split(reply) if word and word not in silent]
    readings = [_look_up(word, meanings) for word in words]
    if not readings or not all(readings):
        return NoMatch()
    values = sorted(frozenset().union(*readings))
    return Match(values[0]) if len(values) == 1 else Ambiguous(tuple(values))


def _folded(text: str) -> str:
    text = text.strip()
    return fold_width(text) if len(text) <= _LONGEST_TEXT else ""


@lru_cache(maxsize=64)
def _meanings(prompt: Prompt) -> Mapping[str, set[str]]:
    meanings = defaultdict[str, set[str]](set)
    for value, words in prompt.options:
        for word in words:
            meanings[fold_width(word)].add(value)
    return dict(meanings)


def _look_up(word: str, meanings: Mapping[str, set[str]]) -> set[str]:
    """Values of a word as it stands, else without what people say around it."""
    lead = next((lead for lead in _LEADS if word.startswith(lead)), "")
    tail = next((tail for tail in _TAILS if word.endswith(tail)), "")
    without_lead = word.removeprefix(lead)
    forms = (
        word,
        without_lead,
        word.removesuffix(tail),
        without_lead.removesuffix(tail),
    )
    return next((meanings[form] for form in forms if form in meanings), set())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPrompt:
    """A prompt that one address may still answer; `code` was told with the question."""

    id: int
    code: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Choice:
    prompt: OpenPrompt
    value: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """The text may answer each of these; a person or the member has to say which."""

    candidates: tuple[OpenPrompt, ...]


def choose(text: str, prompts: Sequence[OpenPrompt]) -> Choice | NoMatch | Undecided:
    """Which open prompt a text answers, and how: by its code first.

    "A1 2" and "A1参加" answer the prompt with code A1 and no other; without a code the
    text has to fit exactly one prompt.
    """
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return NoMatch()
    heard = [(prompt, *_heard(text, prompt.code, prompt.prompt)) for prompt in prompts]
    named = [(prompt, reading) for prompt, by_code, reading in heard if by_code]
    if named:
        return _decide([max(named, key=lambda one: len(one[0].code))])
    return _decide([(prompt, reading) for prompt, _, reading in heard])


@lru_cache(maxsize=1024)
def _heard(text: str, code: str, prompt: Prompt) -> tuple[bool, Reading]:
    """Whether a text names the code, and what it answers, behind the code then."""
    reply, code = _folded(text), fold_width(code)
    start = _BREAKS.match(reply)
    reply = reply[start.end() :] if start else reply
    if not code or not reply.startswith(code):
        return False, read_reply(text, prompt)
    return True, read_reply(reply.removeprefix(code).lstrip("-+=# "), prompt)


def _decide(
    readings: Sequence[tuple[OpenPrompt, Reading]],
) -> Choice | NoMatch | Undecided:
    fitting = [(p, r) for p, r in readings if not isinstance(r, NoMatch)]
    match fitting:
        case []:
            return NoMatch()
        case [(prompt, Match(value))]:
            return Choice(prompt, value)
        case _:
            return Undecided(tuple(prompt for prompt, _ in fitting))
