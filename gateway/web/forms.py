"""Reading forms: strictly, with limits, and never with a 5xx.

A part whose `filename` is given is a file, everything else is text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase
from gateway.web.keys import FORM

MAX_FIELDS = 2000
MAX_TEXT = 200_000  # characters in one field
_NAME = re.compile(r'[;\s]name="([^"\r\n]*)"|[;\s]name=([^";\s]+)', re.IGNORECASE)
_FILE = re.compile(
    r"[;\s]filename\*?=(?:\"([^\"\r\n]*)\"|(?:utf-8'')?([^\";\s]+))", re.IGNORECASE
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class File:
    name: str  # claimed by the browser, for showing only
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """Texts are stripped of outer blanks; a missing field reads as empty."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str, default: str = "", *, limit: int = MAX_TEXT) -> str:
        """The first value; RequestError where it has over `limit` characters."""
        text = self.fields.get(name, [default])[0].replace("\r\n", "\n").strip()
        if len(text) > limit:
            fault = phrase("最多 {n} 个字符", n=limit)
            raise RequestError(
                "too_long",
                phrase("{name}：{fault}", name=name, fault=fault),
                status=422,
                fields={name: fault},
            )
        return text

    def all(self, name: str) -> list[str]:
        return [value.strip() for value in self.fields.get(name, [])]

    def flag(self, name: str) -> bool:
        """A ticked box."""
        return self.get(name) not in ("", "0", "no", "false", "off")

    def number(self, name: str, maximum: int = 2**31 - 1) -> int | None:
        """None where there is no whole number from 0 to `maximum`."""
        return whole_number(self.get(name), maximum)


def whole_number(text: str, maximum: int = 2**31 - 1) -> int | None:
    """None for anything but digits, and beyond what a column holds."""
    if not re.fullmatch("[0-9]{1,19}", text):
        return None
    return number if (number := int(text)) <= maximum else None


def path_id(request: web.Request, name: str = "id", maximum: int = 2**63 - 1) -> int:
    """The id in the path; NotFound where it can't be one. Ids of staff and of
    organisations: `maximum=SMALL`."""
    number = whole_number(request.match_info[name], maximum)
    if number is None:
        raise NotFound
    return number


SMALL = 2**31 - 1


def refuse_unstorable(text: str) -> None:
    if _UNSTORABLE.search(text):
        raise RequestError("unreadable", "内容里有无法保存的字符，请删除后重试")


async def read(request: web.Request) -> Form:
    """The form in the body, parsed once; RequestError says what is wrong with it."""
    found = request.get(FORM)
    if found is None:
        # Larger bodies than the route's limit are refused by `read`: 413.
        found = request[FORM] = parse(
            request.headers.get("Content-Type", ""), await request.read()
        )
    return found


def parse(content_type: str, body: bytes) -> Form:
    header = Message()
    header["Content-Type"] = content_type
    match header.get_content_type():
        case "application/x-www-form-urlencoded":
            return _urlencoded(body)
        case "multipart/form-data":
            return _multipart(body, str(header.get_param("boundary", "")))
        case _ if not body:
            return Form()
        case _:
            raise RequestError(
                "media_type", "请用表单提交（form-data 或 urlencoded）", status=415
            )


def _urlencoded(body: bytes) -> Form:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except UnicodeDecodeError:
        raise _broken("不是 UTF-8 编码") from None
    except ValueError:
        raise _broken(phrase("字段超过 {n} 个", n=MAX_FIELDS)) from None
    form = Form()
    for name, value in pairs:
        _add(form, name, value)
    return form


def _add(form: Form, name: str, value: str) -> None:
    refuse_unstorable(name)
    refuse_unstorable(value)
    form.fields.setdefault(name, []).append(value)


def _multipart(body: bytes, boundary: str) -> Form:
    """RFC 7578, from memory: the size of `body` is limited before."""
    form = Form()
    for head, content in _parts(body, boundary):
        name, file_name = _disposition(head)
        if file_name is None:
            _add(form, name, _text(content))
        elif file_name or content:
            refuse_unstorable(file_name)
            form.files[name] = File(file_name[-200:], content)
    return form


def _parts(body: bytes, boundary: str) -> Iterator[tuple[bytes, bytes]]:
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise _broken("boundary 不正确")
    delimiter = b"\r\n--" + boundary.encode("ascii")
    body = b"\r\n" + body
    if body.count(delimiter) > MAX_FIELDS:
        raise _broken(phrase("字段超过 {n} 个", n=MAX_FIELDS))
    preamble, *parts = body.split(delimiter)
    if preamble or not parts or not parts[-1].startswith(b"--"):
        raise _broken("分段不完整，可能传输中断，请重试")
    for part in parts[:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not blank or len(head) > 4096:
            raise _broken("分段的头部不正确")
        yield head, content


def _disposition(head: bytes) -> tuple[str, str | None]:
    line = next(
        (
            line
            for line in _text(head).split("\r\n")
            if line.lower().startswith("content-disposition:")
        ),
        "",
    )
    name, file = _NAME.search(line), _FILE.search(line)
    if name is None:
        raise _broken("分段没有名称")
    # Browsers escape only these three (HTML, multipart form data).
    return _unescape(name), None if file is None else _unescape(file)


def _unescape(found: re.Match[str]) -> str:
    text = found[1] if found[1] is not None else found[2]
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise _broken("不是 UTF-8 编码") from None


def _broken(why: str) -> RequestError:
    return RequestError("broken_form", phrase("表单无法读取：{why}", why=phrase(why)))
