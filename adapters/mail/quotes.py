"""Where a member's own words end and the quoted mail begins. Pure.

`split_reply` only cuts: own words and quoted part together are the whole text. When
in doubt it does not cut, so that nothing is hidden from staff.
"""

import re

_MAX_LINE = 400
_FIELDS = re.compile(
    r"[> ]{0,20}[*＊]?\s{0,4}(?:发件人|寄件者|寄件人|发送时间|发送日期|寄件日期|日期"
    r"|时间|收件人|收件者|抄送|副本|主题|主旨|标题|From|Sent|Date|To|Cc|Subject)"
    r"\s{0,4}[*＊]?\s{0,4}[:：]",
    re.I,
)
_FIRST_FIELD = re.compile(
    r"[> ]{0,20}[*＊]?\s{0,4}(?:发件人|寄件者|寄件人|From)\s{0,4}[*＊]?\s{0,4}[:：]",
    re.I,
)
# QQ, QQ apps, 163, Outlook, Foxmail: a ruled line with a title.
_RULED = re.compile(
    r"[> ]{0,20}-{2,40}\s{0,9}(?:(?:回复的)?(?:原始邮件|原邮件|邮件原件|原始信件)"
    r"|Original(?: Message| Mail)?|Reply(?: Message)?)\s{0,9}-{2,40}\s{0,9}",
    re.I,
)
_FORWARD = re.compile(
    r"[> ]{0,20}(?:-{2,40}\s{0,9}"
    r"(?:转发的?(?:原?邮件|信件)(?:信息)?|Forwarded message)\s{0,9}-{2,40}"
    r"|(?:开始转发的邮件|Begin forwarded message)\s{0,4}[:：])\s{0,9}",
    re.I,
)
# 163, Apple, iPhone, QQ apps: "在 …，… 写道："; Gmail: "… 于…写道："; and English.
_ATTRIBUTION = re.compile(
    r"[> ]{0,20}(?:(?:在|於|于)\s{0,4}[^\n]{0,20}\d[^\n]{0,300}?(?:写道|寫道|写到)"
    r"\s{0,4}[:：]"
    r"|[^\n]{0,200}(?:于|於)\s{0,4}\d{4}\s{0,4}[年/.-][^\n]{0,200}?(?:写道|寫道)"
    r"\s{0,4}[:：]"
    r"|(?:On|At)\s[^\n]{0,20}\d[^\n]{0,300}?\bwrote\s{0,4}:)\s{0,9}",
    re.I,
)
_RULE = re.compile(r"\s{0,4}(?:_{10,200}|-{10,200}|—{5,100})\s{0,9}")
_PHONE = re.compile(
    r"\s{0,9}(?:(?:发自|来自|發自)\s{0,4}我的[^\n]{1,40}"
    r"|(?:发自|来自)\s{0,4}(?:网易|QQ|Foxmail|新浪|钉钉|阿里|WPS|Outlook)[^\n]{0,40}"
    r"|从我的[^\n]{1,30}发送|從我的[^\n]{1,30}傳送"
    r"|Sent from (?:my|Mail|Outlook|Yahoo|QQ)[^\n]{0,60}"
    r"|(?:获取|下载|Get)\s{0,4}Outlook[^\n]{0,60})",
    re.I,
)
_RULED_SIGNATURE = re.compile(r"-- ?")


def split_reply(text: str) -> tuple[str, str]:
    """The member's own words, and the rest: quoted mail and phone signatures."""
    lines = text.split("\n")
    start = _quote_start(lines)
    end = _quote_end(lines, start)
    above = _without_signature(lines[:start])
    own = [*above, *lines[end:]]
    quoted = [*lines[len(above) : end]]
    if not "".join(own).strip():
        return text.strip(), ""
    return "\n".join(own).strip(), "\n".join(quoted).strip()


def _quote_start(lines: list[str]) -> int:
    """The first line of the quoted mail; len(lines) if there is none."""
    for index, line in enumerate(lines):
        if len(line) > _MAX_LINE:
            continue
        if _FORWARD.fullmatch(line):
            return len(lines)  # what is forwarded is what the member wants to say
        if _RULED.fullmatch(line) or _header_block(lines, index):
            return _with_rule(lines, index)
        if _attribution_lines(lines, index):
            return index
    return _trailing_quote(lines)


def _header_block(lines: list[str], index: int) -> bool:
    """Outlook, Foxmail: the sender's line and at least two more fields follow."""
    if not _FIRST_FIELD.match(lines[index]):
        return False
    following = [line for line in lines[index : index + 9] if line.strip(" >")]
    return sum(1 for line in following[:6] if _FIELDS.match(line)) >= 3


def _with_rule(lines: list[str], index: int) -> int:
    above = index - 1
    while above > 0 and not lines[above].strip():
        above -= 1
    return above if above >= 0 and _RULE.fullmatch(lines[above]) else index


def _attribution_lines(lines: list[str], index: int) -> int:
    """How many lines the attribution at `index` takes (clients wrap it); 0: none."""
    joined = ""
    for taken, line in enumerate(lines[index : index + 3], start=1):
        if not line.strip() or len(joined) + len(line) > _MAX_LINE:
            return 0
        joined = f"{joined} {line.strip()}".strip()
        if _ATTRIBUTION.fullmatch(joined):
            return taken
    return 0


def _trailing_quote(lines: list[str]) -> int:
    """Where `>` lines without an attribution begin that last until the end."""
    start = len(lines)
    while start and (lines[start - 1].startswith(">") or not lines[start - 1].strip()):
        start -= 1
    return start if any(line.startswith(">") for line in lines[start:]) else len(lines)


def _quote_end(lines: list[str], start: int) -> int:
    """After an attribution with `>` lines an answer may follow below them."""
    taken = _attribution_lines(lines, start) if start < len(lines) else 0
    if not taken:
        return len(lines)
    marked = [i for i in range(start + taken, len(lines)) if lines[i].startswith(">")]
    between = lines[start + taken : marked[-1]] if marked else []
    if any(line.strip() and not line.startswith(">") for line in between):
        return start if _answers_between(between) else len(lines)
    return marked[-1] + 1 if marked else len(lines)


def _answers_between(lines: list[str]) -> bool:
    """Answers written between the quoted lines: nothing is folded then."""
    first = next((line for line in lines if line.strip()), "")
    return first.startswith(">")


def _without_signature(lines: list[str]) -> list[str]:
    """`lines` up to a phone's signature or a short one below a `-- ` rule."""
    written = [index for index, line in enumerate(lines) if line.strip()]
    for pattern, reach in ((_RULED_SIGNATURE, 7), (_PHONE, 3)):
        for index in written[-reach:]:
            if len(lines[index]) <= _MAX_LINE and pattern.fullmatch(lines[index]):
                return lines[:index]
    return lines
