"""How values are shown on pages. Pure."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from gateway import addresses
from gateway.contract import Address, AddressKind
from gateway.text import visible

Translate = Callable[[str], str]


def local_time(at: datetime | None, timezone: ZoneInfo, now: datetime) -> str:
    """`11-20 10:05`; with the year where it is another one; empty for None."""
    if at is None:
        return ""
    local = at.astimezone(timezone)
    same_year = local.year == now.astimezone(timezone).year
    return local.strftime("%m-%d %H:%M" if same_year else "%Y-%m-%d %H:%M")


def clock_time(at: datetime | None, timezone: ZoneInfo) -> str:
    """`10:05:30`, where minutes are too coarse and the day is known."""
    return "" if at is None else at.astimezone(timezone).strftime("%H:%M:%S")


def full_time(at: datetime | None, timezone: ZoneInfo) -> str:
    """`2026-11-20 10:05`, for paper that is read in another year."""
    return "" if at is None else at.astimezone(timezone).strftime("%Y-%m-%d %H:%M")


def local_date(at: datetime | None, timezone: ZoneInfo) -> str:
    return "" if at is None else at.astimezone(timezone).strftime("%Y-%m-%d")


def ago(
    at: datetime | None, timezone: ZoneInfo, now: datetime, translate: Translate
) -> str:
    """`刚刚`, `5 分钟前`, `3 小时前`; the local time where it is a day or more."""
    if at is None:
        return ""
    age = now - at
    if age < timedelta(minutes=1):
        return translate("刚刚")
    if age < timedelta(hours=1):
        return translate("{n} 分钟前").format(n=age // timedelta(minutes=1))
    if age < timedelta(days=1):
        return translate("{n} 小时前").format(n=age // timedelta(hours=1))
    return local_time(at, timezone, now)


def number(value: float) -> str:
    return f"{value:,}"


def mask(value: object, kind: str = "") -> str:
    """An address as `Address`, or as text with its kind; a name with kind "name"."""
    if isinstance(value, Address):
        return addresses.mask(value)
    if kind == "name":
        return addresses.mask_name(str(value))
    return addresses.mask(Address(AddressKind(kind), str(value)))


def as_json(value: object) -> Markup:
    """JSON that is safe inside an attribute and inside a script element."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text.replace('"', "&#34;"))


def filters(
    timezone: ZoneInfo, now: Callable[[], datetime], translate: Translate
) -> Mapping[str, Callable[..., Any]]:
    """Every filter that the pages use, by name."""
    return {
        "localtime": lambda at: local_time(at, timezone, now()),
        "clocktime": lambda at: clock_time(at, timezone),
        "fulltime": lambda at: full_time(at, timezone),
        "localdate": lambda at: local_date(at, timezone),
        "ago": lambda at: ago(at, timezone, now(), translate),
        "visible": lambda text: visible(str(text)),
        "mask": mask,
        "json": as_json,
        "number": number,
    }
