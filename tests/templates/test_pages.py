"""What holds for every page, whoever fills it: it parses, it names its variables, it
keeps the page policy (no inline script or style, no other host), its colours read."""

import re
from itertools import product
from pathlib import Path

import jinja2
import pytest

TEMPLATES = Path(__file__).parents[2] / "templates"
PAGES = sorted((TEMPLATES / "pages").rglob("*.html"))
# Pages for members, without a session: the token in their address is the proof.
PUBLIC = {"opt_out.html"}
STYLES = (TEMPLATES / "static" / "console.css").read_text(encoding="utf-8")
SCRIPT = (TEMPLATES / "static" / "console.js").read_text(encoding="utf-8")

AA_TEXT = 4.5  # WCAG 2.2, 1.4.3
AA_EDGE = 3.0  # WCAG 2.2, 1.4.11

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@page
def test_page_parses_and_says_what_it_needs(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    jinja2.Environment(extensions=["jinja2.ext.i18n"]).parse(source)

    assert source.startswith("{#-")


@page
def test_page_keeps_the_content_security_policy(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:|hx-on|js:", source)
    assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", source)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", source)


@page
def test_plain_forms_that_post_carry_the_token(path: Path) -> None:
    source = path.read_text(encoding="utf-8") if path.name not in PUBLIC else ""

    for form in re.findall(r"<form[^>]*method=\"post\".*?</form>", source, re.DOTALL):
        assert "csrf_field(csrf)" in form


def test_styles_and_script_load_nothing() -> None:
    assert not re.search(r"url\(|@import|https?:", STYLES)
    assert not re.search(r"https?:|\beval\(|new Function", SCRIPT)


def _tokens(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6});", block))


def _themes() -> dict[str, dict[str, str]]:
    light, dark = STYLES.split("@media (prefers-color-scheme: dark)", 1)
    plain = _tokens(light)
    return {"light": plain, "dark": plain | _tokens(dark.split("/* ---- ground")[0])}


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


GROUNDS = ("paper", "surface", "sunk", "hover", "selected", "out")
TONES = ("info", "warn", "good", "bad", "quiet")
TEXT_PAIRS = [
    *product(("ink", "ink-2", "ink-3"), GROUNDS),
    *product(TONES, ("surface", "paper", "selected", "hover")),
    *((tone, f"{tone}-soft") for tone in TONES),
    *product(("on-accent",), ("accent", "accent-hover")),
    *product(("accent-ink",), ("surface", "paper", "selected")),
]
EDGE_PAIRS = [*product(("line-strong", "focus"), ("surface", "paper"))]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_read(theme: str) -> None:
    colours = _themes()[theme]
    faint = [
        (ink, ground)
        for pairs, least in ((TEXT_PAIRS, AA_TEXT), (EDGE_PAIRS, AA_EDGE))
        for ink, ground in pairs
        if _contrast(colours[ink], colours[ground]) < least
    ]

    assert faint == []
