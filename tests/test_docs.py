"""What README, docs/ and settings.toml name is there: settings, files, commands, tests,
routes of the API; and the versions agree."""

import re
import sys
import tomllib
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import adapters
import run
from gateway import VERSION
from gateway.errors import SettingsError
from gateway.settings import Settings, from_document

PROJECT = Path(__file__).parent.parent
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
GUIDES = sorted((PROJECT / "docs" / "channels").glob("*.md"))
SECRET = re.compile(r'"env:([A-Z_]+)"')
COMMENTED_KEY = re.compile(r"^# (?=\w+ = )", re.MULTILINE)


def first_block(guide: Path) -> str:
    found = re.search(r"```toml\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    assert found, guide
    return found[1]


def checked(text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in SECRET.findall(text):
        monkeypatch.setenv(name, "a-secret-of-enough-length")
    return from_document(tomllib.loads(text), adapters.settings_models())


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_shows_settings_that_are_taken(
    guide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = first_block(guide)
    assert checked(shown, monkeypatch).channels
    everything = COMMENTED_KEY.sub("", shown)
    assert checked(everything, monkeypatch).channels


def switched_on(document: dict[str, Any]) -> dict[str, Any]:
    """settings.toml as for real work, with the account filled in."""
    account = {
        "access_key_id": "LTAI",
        "secret_id": "AKID",
        "sdk_app_id": "1400006666",
    }
    sections = {
        name: {key: value or account.get(key, value) for key, value in section.items()}
        | {"enabled": True}
        for name, section in document["channels"].items()
        if section["adapter"] != "sandbox"
    }
    return document | {"sandbox": False, "channels": sections}


def test_the_sections_that_wait_in_settings_toml_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (PROJECT / "settings.toml").read_text("utf-8")
    for name in SECRET.findall(text):
        monkeypatch.setenv(name, "a-secret-of-enough-length")
    real = switched_on(tomllib.loads(text))
    found = from_document(real, adapters.settings_models())
    used = {one.common.adapter for one in found.channels.values()}
    assert used == set(adapters.settings_models()) - {"sandbox"}


def test_every_sandbox_channel_is_named_without_a_sandbox() -> None:
    document = tomllib.loads((PROJECT / "settings.toml").read_text("utf-8"))
    with pytest.raises(SettingsError) as caught:
        from_document(document | {"sandbox": False}, adapters.settings_models())
    told = "\n".join(caught.value.faults)
    assert all(f"[channels.{name}]" in told for name in ("sms", "qq", "mail"))
    assert "remove this section" in told


def test_settings_toml_shows_every_setting() -> None:
    shown = tomllib.loads((PROJECT / "settings.toml").read_text("utf-8"))
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert set(shown[name]) == set(section.model_fields), name
    assert set(shown) == set(Settings.model_fields)


LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)]+))?\)")
OURS = re.compile(
    r"`((?:adapters|benchmarks|bot_plugins|broadcasts|docs|gateway|requirements|"
    r"templates|tests)/[^\s`:]*)`"
)
TO_COME = {"benchmarks/results.json", "tests/adapters/…", "tests/labs/NAME_lab.py"}
TO_COME |= {"adapters/NAME.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, heading in LINK.findall(text):
        if "://" not in target:
            found = page.parent / target
            assert found.exists(), target
            assert not heading or heading in anchors(found), heading
    for named in set(OURS.findall(text)) - TO_COME:
        assert list(PROJECT.glob(named.rstrip("/"))), named


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


COMMAND = re.compile(r"\brun\.py((?: [a-z]+)*)((?: +[^\s`#|]+)*)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_that_a_page_shows_are_there(page: Path) -> None:
    for words, rest in COMMAND.findall(page.read_text("utf-8")):
        command = typer.main.get_command(run.cli)
        for word in words.split():
            if not isinstance(command, typer.core.TyperGroup):
                break  # an argument, or the sentence goes on
            assert word in command.commands, f"run.py{words}"
            command = command.commands[word]
        known = {option for one in command.params for option in one.opts} | {"--help"}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, f"run.py{words}{rest}"


ROUTE = re.compile(r"(?:\$API|/api/v1|`)(/[a-z]+(?:/[\w${}]+)*)")
APART = {"/healthz", "/metrics", "/api/v1", "/api/v1/openapi"}


def shape(route: str) -> str:
    return re.sub(r"\$\w+|\{\w+\}|(?<=/)\d+", "*", route)


def test_the_api_page_names_every_route_and_no_other() -> None:
    text = (PROJECT / "docs" / "api.md").read_text("utf-8")
    named = {shape(one) for one in ROUTE.findall(text)} - APART
    assert named == {shape(one.path) for one in run.OPERATIONS}


TEST = re.compile(r"`([a-z_/]+\.py)((?:::\w+)+)`")
CHOSEN = re.compile(r"pytest (tests/[a-z_/]+\.py) -k (\w+)")
ROWS = {f"A-{n}" for n in range(1, 23)} | {f"C-{n}" for n in range(1, 9)}
ROWS |= {f"{part}-{n}" for part in "DF" for n in range(1, 6)}
ROWS |= {"H-6", "H-7", "H-8", "H-9", "I-1", "I-5", "I-6"}


def test_every_row_has_a_proof_that_bears_its_id() -> None:
    text = (PROJECT / "docs" / "reliability.md").read_text("utf-8")
    proofs = text.partition("## Proofs")[2].partition("\n## ")[0]
    named: set[str] = set()
    for line in proofs.splitlines():
        ids = re.findall(r"[ACDFHI]-\d+", line.partition("`")[0])
        for file, _ in TEST.findall(line):
            source = (PROJECT / "tests" / file).read_text("utf-8")
            named |= {id for id in ids if re.search(rf"\b{id}\b", source)}
    assert named == ROWS


async def test_every_test_that_a_page_names_is_collected() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = {f"tests/{file}{test}" for file, test in TEST.findall(text)}
    chosen = CHOSEN.findall(text)
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"),
        *sorted(named | {file for file, _ in chosen}),
        cwd=PROJECT,
        stdout=PIPE,
    )
    told = (await process.communicate())[0].decode()
    assert process.returncode == 0, told
    for file, word in chosen:
        assert re.search(rf"^{file}::.*{word}", told, re.MULTILINE), word


def test_an_installation_has_the_version_that_the_program_tells() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == VERSION
