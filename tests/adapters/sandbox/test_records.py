from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.sandbox.records import Ledger, Medium, Pushed, Receipted, read

AT = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)


def pushed(provider_id: str) -> Pushed:
    return Pushed(at=AT, medium=Medium.QQ, provider_id=provider_id)


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    receipted = Receipted(at=AT, medium=Medium.SMS, provider_id="b")
    ledger.append(pushed("a"))
    ledger.append(receipted)
    ledger.close()
    ledger.close()
    assert list(read(tmp_path / "ledger.jsonl")) == [pushed("a"), receipted]


@pytest.mark.parametrize("torn", [b'{"at":"2026-1', b"\xe5\x85", b"{}"])
def test_a_torn_last_line_is_void_and_swallows_nothing(
    tmp_path: Path, torn: bytes
) -> None:
    path = tmp_path / "ledger.jsonl"
    first = Ledger(path)
    first.append(pushed("a"))
    first.close()
    path.write_bytes(path.read_bytes() + torn)
    second = Ledger(path)
    second.append(pushed("b"))
    second.close()
    assert list(read(path)) == [pushed("a"), pushed("b")]


def test_a_line_without_its_end_never_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(pushed("unfinished").model_dump_json())
    ledger = Ledger(path)
    ledger.append(pushed("b"))
    ledger.close()
    assert list(read(path)) == [pushed("b")]


def test_only_whole_lines_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for number in range(100):
        ledger.append(pushed(f"{number:03}"))
    ledger.close()
    line = path.stat().st_size // 100
    found = list(read(path, last_bytes=line * 3 + 5))
    assert found == [pushed("097"), pushed("098"), pushed("099")]


def test_a_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.close()
    with pytest.raises(OSError, match="closed"):
        ledger.append(pushed("a"))
