"""The settings that README, the guides and settings.toml show are settings we take, the
proofs that docs/reliability.md names are there, and the versions agree."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import adapters
from gateway import VERSION
from gateway.errors import SettingsError
from gateway.settings import Settings, from_document

PROJECT = Path(__file__).parent.parent
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


PROVEN = re.compile(r"`([a-z_/]+\.py)::(\w+)`")
ROWS = {f"A-{n}" for n in range(1, 23)} | {f"C-{n}" for n in range(1, 9)}
ROWS |= {f"{part}-{n}" for part in "DF" for n in range(1, 6)}
ROWS |= {"H-6", "H-7", "H-8", "H-9", "I-1", "I-5", "I-6"}


def test_every_proof_that_is_named_is_there() -> None:
    text = (PROJECT / "docs" / "reliability.md").read_text("utf-8")
    proofs = text.partition("## Proofs")[2].partition("\n## ")[0]
    named: set[str] = set()
    for line in proofs.splitlines():
        ids = re.findall(r"[ACDFHI]-\d+", line.partition("`")[0])
        for file, test in PROVEN.findall(line):
            source = (PROJECT / "tests" / file).read_text("utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), test
            named |= {id for id in ids if re.search(rf"\b{id}\b", source)}
    assert named == ROWS


def test_an_installation_has_the_version_that_the_program_tells() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == VERSION
