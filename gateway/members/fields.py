"""How people write dates, tags, and yes or no. Pure."""

import re
from datetime import date

YES = frozenset({"是", "有", "要", "y", "yes", "1", "true", "√", "✓", "对", "流动"})
NO = frozenset({"", "否", "无", "不", "不要", "n", "no", "0", "false", "×", "x", "-"})
_DATE = re.compile(
    r"(\d{4})(?:\s*[年./-]\s*(\d{1,2})(?:\s*[月./-]\s*(\d{1,2})\s*日?)?\s*月?)?\s*年?"
)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})?")
_SPLIT = re.compile(r"[,，、;；\n]+")


def joined_on(text: str) -> str | None:
    """`2009`, `2009-07` or `2009-07-01` from the ways people write it; empty stays
    empty, None where it is no date."""
    text = text.strip().removesuffix(" 00:00:00")
    if not text:
        return ""
    found = _COMPACT.fullmatch(text) or _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        date(year or 0, month or 1, day or 1)
    except ValueError:
        return None
    if not 1921 <= (year or 0) <= 2100:
        return None
    parts = [f"{year:04d}", *(f"{n:02d}" for n in (month, day) if n is not None)]
    return "-".join(parts)


def tags_of(text: str) -> list[str]:
    """The tags in order, each once; ValueError says what is wrong."""
    tags = list(dict.fromkeys(t.strip() for t in _SPLIT.split(text) if t.strip()))
    if any(len(tag) > 32 for tag in tags):
        raise ValueError("标签最多32个字，多个标签请用逗号分开")
    if len(tags) > 20:
        raise ValueError("标签最多20个")
    return tags


def yes_or_no(text: str) -> bool | None:
    """None where it is neither."""
    word = text.strip().lower()
    if word in YES:
        return True
    return False if word in NO else None
