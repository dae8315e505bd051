"""English is complete: every Chinese text of the console has its translation."""

import re
from functools import cache
from pathlib import Path

import jinja2
import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from jinja2 import nodes

ROOT = Path(__file__).parents[2]
LOCALE = ROOT / "templates" / "locale"
PAGES = ROOT / "templates" / "pages"
CHINESE = re.compile("[\u3400-\u9fff]+")
# The printed form is an official document, in Chinese whoever prints it.
DOCUMENTS = {"inquiry_print.html"}
# A language is called by its own name in every language.
OWN_NAMES = {"中文"}
# Words that staff have to write as they stand: fields, examples, what members send.
QUOTED = re.compile(
    "“[\u3400-\u9fff]+”|{{[\u3400-\u9fff]+[^}]*}}|【】"
    "|[\u3400-\u9fff]+ \\((?:yes|no)\\)"
    "|参加回1，不参加回2|拒收请回复R|^绑定 "
)
PLACEHOLDER = re.compile(r"%\((\w+)\)s|(?<!\{)\{(\w+)\}(?!\})")


@cache
def extracted() -> dict[str, str]:
    """Every message with the file it stands in."""
    with (LOCALE / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)
    found = extract_from_dir(ROOT, methods, options)
    return {
        text: name
        for name, _, text, _, _ in found
        if isinstance(text, str) and text.strip()
    }


@cache
def english() -> Catalog:
    with (LOCALE / "en.po").open("rb") as file:
        return read_po(file, locale="en", abort_invalid=True)


def translations() -> dict[str, str]:
    return {str(one.id): str(one.string) for one in english() if one.id}


def test_nothing_is_missing_and_nothing_is_left_over() -> None:
    known = translations()
    missing = {text: name for text, name in extracted().items() if text not in known}

    assert not missing
    assert not known.keys() - extracted().keys()
    assert not english().obsolete


def test_values_are_kept_apart_from_the_words() -> None:
    """What an f-string says can't be looked up: write `phrase("…{n}…", n=…)`."""
    assert not {
        f"{name}: {text}"
        for text, name in extracted().items()
        if re.match("f['\"]", text)
    }


def test_every_translation_is_done() -> None:
    assert [
        one.id for one in english() if one.id and (one.fuzzy or not one.string)
    ] == []


def test_placeholders_are_the_same_on_both_sides() -> None:
    for chinese, said in translations().items():
        assert sorted(PLACEHOLDER.findall(chinese)) == sorted(
            PLACEHOLDER.findall(said)
        ), chinese


def test_translations_are_plain_text() -> None:
    """Pages put them into markup and attributes as they are (newstyle gettext)."""
    for chinese, said in translations().items():
        assert not re.search('["<>]|&(?! |A)', said), chinese
        assert not CHINESE.search(QUOTED.sub("", said)), chinese


@pytest.mark.parametrize(
    "path", sorted(PAGES.rglob("*.html")), ids=lambda path: path.name
)
def test_pages_say_nothing_untranslated(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = jinja2.Environment(extensions=["jinja2.ext.i18n"]).parse(source)
    translated = {
        id(argument)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name) and call.node.name in ("_", "ngettext")
        for argument in call.args
    }

    said = [node.data for node in tree.find_all(nodes.TemplateData)]
    said += [
        node.value
        for node in tree.find_all(nodes.Const)
        if isinstance(node.value, str) and id(node) not in translated
    ]

    chinese = {word for text in said for word in CHINESE.findall(text)} - OWN_NAMES
    assert bool(chinese) is (path.name in DOCUMENTS), chinese


def test_the_script_says_nothing_of_its_own() -> None:
    for script in (ROOT / "templates" / "static").glob("*.js"):
        assert not CHINESE.search(script.read_text(encoding="utf-8")), script.name
