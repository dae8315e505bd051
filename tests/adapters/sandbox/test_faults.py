from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.sandbox.faults import Faults, load, save
from adapters.sandbox.records import Medium


def test_switches_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    faults = load(path) | {Medium.QQ: Faults(refuse_every=3, delay_seconds=1.5)}
    save(path, faults)
    assert load(path) == faults


@pytest.mark.parametrize("damage", [b"", b"{", b'{"sms":{"refuse_every":-1}}', b"[]"])
def test_a_damaged_file_is_a_provider_without_faults(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "faults.json"
    path.write_bytes(damage)
    assert load(path) == dict.fromkeys(Medium, Faults())


@pytest.mark.parametrize(
    "wrong",
    [
        {"refuse_every": -1},
        {"delay_seconds": 61},
        {"delay_seconds": "nan"},
        {"explode": True},
    ],
)
def test_switches_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Faults.model_validate(wrong)


def test_any_says_whether_something_is_wrong() -> None:
    assert not Faults().any
    assert Faults(repeat=True).any
