"""What is counted of a ledger while its peer still writes it."""

from pathlib import Path

from gateway.drill.ledgers import Tail


def test_a_tail_counts_whole_lines_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    tail = Tail(ledger, b"arrived")
    assert tail.count() == 0, "it is not there yet"
    for written, counted in (
        (b"arrived a\nsaid b\n", 1),
        (b"", 1),
        (b"arrived c\narr", 2),
        (b"ived d", 2),
        (b"\nsaid e\n", 3),
    ):
        with ledger.open("ab") as file:
            file.write(written)
        assert tail.count() == counted
