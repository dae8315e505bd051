"""Words by which people refuse or resume our messages, and the quiet hours.

An opt-out is the whole message, never a word found inside one: "我不想退订" refuses
nothing.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.text import fold_width

OPT_OUT_WORDS = frozenset(
    {"R", "T", "TD", "N", "QX", "0000", "STOP", "UNSUBSCRIBE"}
    | {"退订", "拒收", "取消", "不再接收"}
)
OPT_IN_WORDS = frozenset({"恢复接收", "取消退订", "START", "UNSTOP"})

# "取消" may call off a registration, a lone letter may choose an option.
_ALSO_ANSWERS = frozenset({"取消"})
# What people put around a word, quotes of the instruction included. No question
# mark: who asks has not refused.
_AROUND = " \t\r\n.,!;:~'\"()[]<>、。…·“”‘’「」『』【】《》"
_LONGEST = 40  # a message of one word, with room for what is around it
_WORD_AND_REST = re.compile(
    r"\s*([^\s,，.。;；:：!！、]+)[\s,，.。;；:：!！、]+(.+)", re.DOTALL
)


def words_of(own: Collection[str]) -> frozenset[str]:
    """The centre's own, where it has set any."""
    return frozenset(own) or OPT_OUT_WORDS


class Strength(StrEnum):
    """How sure an opt-out is where the same address also has an open prompt."""

    CERTAIN = "certain"
    AMBIGUOUS = "ambiguous"  # may also answer an open prompt


def opt_out_strength(
    text: str, words: Collection[str] = OPT_OUT_WORDS
) -> Strength | None:
    """Whether the whole message is an opt-out word, and how sure that is.

    None: it is not. Ambiguous ones are an opt-out unless a prompt that is open for
    this address accepts them.
    """
    word = _bare(text)
    if word not in _folded(frozenset(words)):
        return None
    lone_letter = len(word) == 1 and word.isalpha()
    return (
        Strength.AMBIGUOUS if lone_letter or word in _ALSO_ANSWERS else Strength.CERTAIN
    )


def opt_out_prefix(text: str, words: Collection[str] = OPT_OUT_WORDS) -> str | None:
    """What else was written after a certain opt-out word: "退订 我想问…".

    None where the message doesn't begin so. The opt-out stands and the rest is filed
    as an inquiry. The word has to stand apart: "退订报纸怎么办" is a question.
    """
    found = _WORD_AND_REST.match(text)
    if not found or opt_out_strength(found[1], words) is not Strength.CERTAIN:
        return None
    rest = found[2].strip()
    return rest if rest.strip(_AROUND) else None


def is_opt_in(text: str, words: Collection[str] = OPT_IN_WORDS) -> bool:
    """Whether the whole message resumes what an opt-out stopped."""
    return _bare(text) in _folded(frozenset(words))


@lru_cache(maxsize=16)
def _folded(words: frozenset[str]) -> frozenset[str]:
    return frozenset(map(fold_width, words))


@lru_cache(maxsize=1024)
def _bare(text: str) -> str:
    text = text.strip()
    return fold_width(text).strip(_AROUND) if len(text) <= _LONGEST else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """Local hours without messages; `end` is outside. Equal borders: never quiet.

    Domestic rules allow 8:00 to 21:00.
    """

    start: time = time(21)
    end: time = time(8)

    def is_quiet(self, at: datetime, timezone: ZoneInfo) -> bool:
        now = at.astimezone(timezone).time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def next_allowed(self, at: datetime, timezone: ZoneInfo) -> datetime:
        """`at` itself outside quiet hours, else when they end; UTC."""
        if not self.is_quiet(at, timezone):
            return at.astimezone(UTC)
        today = at.astimezone(timezone).date()
        # Summer time doubles an hour (fold) or skips one: take the first end that is
        # really later and outside.
        ends = (
            datetime.combine(today + timedelta(days), self.end, timezone)
            .replace(fold=fold)
            .astimezone(UTC)
            for days in (0, 1)
            for fold in (0, 1)
        )
        return min(end for end in ends if end > at and not self.is_quiet(end, timezone))
