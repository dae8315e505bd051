"""HTML mail to readable plain text: paragraphs, lists, links, quotes. Pure."""

import re
from html.parser import HTMLParser

MAX_HTML_CHARACTERS = 2_000_000

_SKIPPED = frozenset({"script", "style", "head", "title", "template", "object"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_AIRY = _HEADINGS | {"p", "ul", "ol", "table"}
_BLOCKS = _AIRY | {
    *("address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset"),
    *("footer", "form", "header", "main", "nav", "pre", "section", "tr"),
}
_SPACE = re.compile(r"[ \t\r\n\f]+")
_LINK = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>]{1,500}", re.I)


def html_to_text(html: str) -> str:
    """What a reader of `html` would see, without scripts, styles and pictures."""
    reader = _Reader()
    reader.feed(html[:MAX_HTML_CHARACTERS])
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line: list[str] = []
        self._quotes = 0
        self._skipping = ""
        self._lists: list[int] = []  # next number; 0 in a bulleted list
        self._link = ""
        self._link_text: list[str] = []

    def text(self) -> str:
        self._break()
        text = "\n".join(self._lines)
        return re.sub(r"\n(?:(?:> ?)*\n){2,}", "\n\n", text).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping and tag != "body":
            return
        self._skipping = tag if tag in _SKIPPED else ""
        if tag == "br":
            self._break(keep_empty=True)
        elif tag == "hr":
            self._break()
            self._line.append("---")
            self._break()
        elif tag == "blockquote":
            self._break()
            self._quotes = min(self._quotes + 1, 10)
        elif tag == "li":
            self._break()
            self._line.append(self._bullet())
        elif tag in ("td", "th"):
            self._line.append(" ")
        elif tag in _BLOCKS:
            self._break()
            if tag in ("ul", "ol"):
                self._lists.append(1 if tag == "ol" else 0)
        elif tag == "a":
            self._link = dict(attrs).get("href") or ""
            self._link_text = []
        elif tag == "img" and (alt := dict(attrs).get("alt")):
            self.handle_data(f"[{alt}]")

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            self._skipping = "" if tag == self._skipping else self._skipping
            return
        if tag == "blockquote":
            self._break()
            self._quotes = max(self._quotes - 1, 0)
        elif tag == "a":
            self._end_link()
        elif tag in _BLOCKS or tag == "li":
            self._break()
            if tag in ("ul", "ol") and self._lists:
                self._lists.pop()
            if tag in _AIRY:
                self._lines.append("> " * self._quotes)

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        text = _SPACE.sub(" ", data)
        self._line.append(text)
        if self._link:
            self._link_text.append(text)

    def _end_link(self) -> None:
        shown = "".join(self._link_text).strip()
        target = self._link.strip()
        self._link = ""
        bare = target.removeprefix("mailto:").removeprefix("tel:")
        if _LINK.fullmatch(target) and bare.rstrip("/") != shown.rstrip("/"):
            self._line.append(f" ({bare})")

    def _bullet(self) -> str:
        if not self._lists or not self._lists[-1]:
            return "- "
        self._lists[-1] += 1
        return f"{self._lists[-1] - 1}. "

    def _break(self, keep_empty: bool = False) -> None:
        line = _SPACE.sub(" ", "".join(self._line)).strip()
        self._line.clear()
        if line or keep_empty:
            self._lines.append("> " * self._quotes + line)
