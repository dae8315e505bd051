"""The closed placeholder language of texts that staff write.

A text is plain characters and `{{ field }}`, `{{ field | date }}` or
`{{ field | default "…" }}`. No loops, attributes, calls. It is parsed once; filling
it in is linear, and values are data: braces in them mean nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches

from gateway.contract import Capabilities
from gateway.phrases import phrase
from gateway.text import length, visible

MAX_TEXT = 20_000  # characters of a text with its placeholders
MAX_OUTPUT = 20_000  # characters of a text filled in
MAX_FIELD = 40  # characters of a field's name

Value = str | int | date


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`field` is the canonical name from the allowlist."""

    field: str
    default: str | None = None
    as_date: bool = False


Part = str | Placeholder


class WordingError(ValueError):
    """A text outside the language: where (from 1), what is wrong, how to mend it."""

    def __init__(self, line: int, column: int, problem: str, mend: str) -> None:
        super().__init__(
            phrase(
                "第{line}行第{column}个字：{problem}。{mend}。",
                line=line,
                column=column,
                problem=phrase(problem),
                mend=phrase(mend),
            )
        )
        self.line = line
        self.column = column
        self.problem = problem
        self.mend = mend


class MissingValue(LookupError):
    """No value and no default for `field`."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class OutputTooLong(ValueError):
    """The values make the text longer than `limit` characters."""


_BRACE = re.compile(r"[{}｛｝]")
_INSIDE = re.compile(
    r"""\s*(?P<field>[^\s|"“”{}]+)\s*
    (?:\|\s*(?:(?P<date>date)|default\s*["“](?P<default>[^"“”{}\n]*)["”])\s*)?""",
    re.VERBOSE,
)
_MEND = '占位符只能写成 {{姓名}}、{{日期 | date}} 或 {{姓名 | default "同志"}}'


def parse(text: str, fields: Mapping[str, str]) -> tuple[Part, ...]:
    """The parts of a text; linear in its length.

    `fields` maps every name staff may write to its canonical name. Raises
    WordingError for the first thing that is not of the language.
    """
    if len(text) > MAX_TEXT:
        raise WordingError(1, 1, phrase("文本超过{n}字", n=MAX_TEXT), "请缩短")
    parts: list[Part] = []
    position = 0
    while found := _BRACE.search(text, position):
        parts.append(text[position : found.start()])
        end = _end_of_placeholder(text, found.start())
        parts.append(_placeholder(text, found.start(), end, fields))
        position = end + 2
    parts.append(text[position:])
    return tuple(part for part in parts if part != "")


def _end_of_placeholder(text: str, start: int) -> int:
    """Where the closing braces of the placeholder opened at `start` stand."""
    opening = text[start : start + 2]
    if opening != "{{":
        raise _error(text, start, *_explain_brace(opening))
    closing = _BRACE.search(text, start + 2)
    if closing is None or closing[0] not in "}｝":
        raise _error(text, start, "占位符没有写完，缺少 }}", _MEND)
    if text[closing.start() : closing.start() + 2] != "}}":
        raise _error(text, closing.start(), "占位符的结尾不是 }}", _MEND)
    return closing.start()


def _explain_brace(opening: str) -> tuple[str, str]:
    if opening in ("{%", "{#"):
        return phrase("这里不支持 {opening} 语句", opening=opening), _MEND
    if opening[0] in "｛｝":
        return "这是全角的花括号", "请改用半角的 {{ 和 }}"
    if opening[0] == "}":
        return "多出了 }", "请删去，或在前面补上 {{"
    return "单个花括号不能用", _MEND


def _placeholder(
    text: str, start: int, end: int, fields: Mapping[str, str]
) -> Placeholder:
    inside = text[start + 2 : end]
    found = _INSIDE.fullmatch(inside)
    if found is None:
        raise _error(text, start, *_explain_inside(inside))
    name = found["field"]
    if name not in fields:
        raise _error(text, start, *_explain_field(name, fields))
    return Placeholder(fields[name], found["default"], found["date"] is not None)


def _explain_inside(inside: str) -> tuple[str, str]:
    if not inside.strip():
        return "占位符是空的", _MEND
    if "|" in inside:
        return '竖线后只能写 date 或 default "…"', _MEND
    return "占位符里只能写一个字段名", _MEND


def _explain_field(name: str, fields: Mapping[str, str]) -> tuple[str, str]:
    if re.search(r"[.(\[]", name):
        return "字段名里不能有点、括号", _MEND
    if not fields:
        return "这里没有字段可用", "请删去占位符"
    near = get_close_matches(name[:MAX_FIELD], fields, n=3, cutoff=0.4)
    # Names in Latin letters are understood too, but nobody has to learn them.
    own = [one for one in fields if not one.isascii()] or list(fields)
    known = "、".join(near or own[:8])
    hint = phrase("是不是要写：{known}" if near else "可以写：{known}", known=known)
    return phrase("没有“{name}”这个字段", name=visible(name[:MAX_FIELD])), hint


def _error(text: str, position: int, problem: str, mend: str) -> WordingError:
    before = text[:position]
    line = before.count("\n") + 1
    return WordingError(line, position - before.rfind("\n"), problem, mend)


def fields_used(parts: Iterable[Part]) -> frozenset[str]:
    """Canonical names of the fields a text needs."""
    return frozenset(part.field for part in parts if isinstance(part, Placeholder))


def required_fields(parts: Iterable[Part]) -> frozenset[str]:
    """Those of them that have no default in some place."""
    return frozenset(
        part.field
        for part in parts
        if isinstance(part, Placeholder) and part.default is None
    )


def render(
    parts: Sequence[Part], values: Mapping[str, Value], limit: int = MAX_OUTPUT
) -> str:
    """The text with its values. Raises MissingValue or OutputTooLong, nothing else.

    An empty text or None counts as missing. Dates are shown as they stand: callers
    hand in local ones.
    """
    pieces = [part if isinstance(part, str) else _fill(part, values) for part in parts]
    size = sum(map(len, pieces))
    if size > limit:
        raise OutputTooLong(f"{size} characters, at most {limit}")
    return "".join(pieces)


def _fill(part: Placeholder, values: Mapping[str, Value]) -> str:
    value = values.get(part.field)
    if value is None or value == "":
        if part.default is None:
            raise MissingValue(part.field)
        return part.default
    if part.as_date and isinstance(value, date):
        return f"{value.year}年{value.month}月{value.day}日"
    return str(value)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a channel would not carry a text; `code` is stable, `message` Chinese."""

    code: str
    message: str


def check_text(
    text: str, capabilities: Capabilities, signature: str = ""
) -> list[Problem]:
    """What is wrong with a filled-in text for one channel; empty if nothing.

    `signature` is what the gateway or the provider puts before it and counts.
    """
    problems = []
    if not text.strip():
        problems.append(Problem("empty", "正文是空的"))
    size = length(signature + text, capabilities.encoding)
    if size > capabilities.max_length:
        over = size - capabilities.max_length
        problems.append(
            Problem("too_long", phrase("正文太长，超出{n}个计数单位", n=over))
        )
    if capabilities.segments is not None and re.search("[【】]", text):
        problems.append(Problem("brackets", "短信正文里不能有【】，签名会自动加上"))
    if visible(text) != text:
        problems.append(Problem("invisible", "正文里有看不见的控制字符，请删去"))
    return problems
