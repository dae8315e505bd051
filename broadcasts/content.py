"""The texts of a broadcast: what may stand in them, their frozen form. Pure."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from gateway import wording
from gateway.phrases import phrase
from gateway.texts import FIELDS
from gateway.wording import WordingError

VARIANTS = ("sms", "default", "email", "qq", "wechat", "subject")
LONGEST_TITLE = 120  # characters, as the column
# What every recipient has a value for; the rest of FIELDS belongs to inquiries.
_KNOWN = {"name", "organisation", "centre", "title", "place", "time", "code"}
NOTICE_FIELDS = {name: field for name, field in FIELDS.items() if field in _KNOWN}
PLACEHOLDERS = {
    "姓名": "收件人的姓名",
    "党组织": "收件人所在的组织",
    "中心": "发通知的单位",
    "标题": "通知的主题",
    "时间": "活动时间",
    "地点": "活动地点",
    "代码": "报名代码",
}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WEEKDAYS = "一二三四五六日"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What staff write. `audience` is a description as in `audience.parse`."""

    title: str
    texts: Mapping[str, str]
    audience: Mapping[str, Any]
    rsvp: bool = False
    event_at: datetime | None = None
    place: str = ""
    send_at: datetime | None = None  # None: started by hand after the approval
    expires_at: datetime | None = None
    exclude_bad: bool = False  # leave out whom the text can't be said to


def faults(draft: Draft) -> dict[str, str]:
    """What is wrong with title and texts, by field, in Chinese with the position."""
    found: dict[str, str] = {}
    title = draft.title.strip()
    if not title:
        found["title"] = "请写上主题"
    elif len(title) > LONGEST_TITLE:
        found["title"] = phrase(
            "主题最多{most}字，现在{n}字", most=LONGEST_TITLE, n=len(title)
        )
    elif not storable(title) or re.search(r"[\r\n]", title):
        found["title"] = "主题里有换行或无法保存的字符，请删除"
    if len(draft.place) > LONGEST_TITLE or not storable(draft.place):
        found["place"] = phrase("地点最多{n}字，不能有特殊字符", n=LONGEST_TITLE)
    for name, text in draft.texts.items():
        if name not in VARIANTS:
            found[name[:20]] = phrase(
                "没有这种正文，可以写：{known}", known=", ".join(VARIANTS)
            )
        elif fault := _text_fault(draft, text):
            found[name] = fault
    written = [str(draft.texts.get(name, "")).strip() for name in VARIANTS[:-1]]
    if not any(written):
        found.setdefault("sms", "请写上正文")
    return found


def storable(text: str) -> bool:
    """No store takes NUL or half a character."""
    return _UNSTORABLE.search(text) is None


def _text_fault(draft: Draft, text: str) -> str:
    if not isinstance(text, str) or not storable(text):
        return "正文里有无法保存的字符，请删除"
    try:
        used = wording.required_fields(wording.parse(text, NOTICE_FIELDS))
    except WordingError as error:
        return str(error)
    if "time" in used and draft.event_at is None:
        return "正文用到了“时间”，请填写活动时间"
    if "place" in used and not draft.place.strip():
        return "正文用到了“地点”，请填写地点"
    if "code" in used and not draft.rsvp:
        return "正文用到了“代码”，请勾选请党员回复"
    return ""


def frozen(texts: Mapping[str, str]) -> dict[str, str]:
    """The wordings with every gap closed, as recipients' rows refer to them."""
    written = {name: text for name, text in texts.items() if text.strip()}
    default = next((written[n] for n in (*VARIANTS[1:-1], "sms") if n in written), "")
    return {
        **written,
        "default": written.get("default", default),
        "sms": written.get("sms", written.get("default", default)),
        "subject": written.get("subject", "{{title}}"),
    }


def needed(wordings: Iterable[str]) -> frozenset[str]:
    """Canonical names of all values these wordings use."""
    parts = [part for text in wordings for part in wording.parse(text, FIELDS)]
    return wording.fields_used(parts)


def event_time(at: datetime | None, timezone: ZoneInfo) -> str:
    """11月25日（周三）8:30, as people write it."""
    if at is None:
        return ""
    local = at.astimezone(timezone)
    day = f"{local.month}月{local.day}日（周{_WEEKDAYS[local.weekday()]}）"
    return f"{day}{local.hour}:{local.minute:02d}"


def digest(fields: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON: what an approval is bound to."""
    line = json.dumps(
        fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_iso
    )
    return hashlib.sha256(line.encode()).hexdigest()


def _iso(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)
