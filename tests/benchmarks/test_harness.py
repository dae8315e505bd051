"""What the benchmarks share. How fast anything is, is no test's business."""

import json
import signal
from pathlib import Path

import pytest

from benchmarks.harness import discovery, report
from benchmarks.harness.model import Measurement, Result, Target
from benchmarks.harness.processes import Broken, peak_memory_mib, python


def result(target: Target, *runs: Measurement) -> Result:
    return Result(name="x", about="about", target=target, scale=1, runs=runs)


def run(figure: float, limit: float | None = None, **notes: float) -> Measurement:
    return Measurement(figure=figure, unit="x/s", limit=limit, notes=notes)


def test_the_median_counts_of_figures_and_of_ratios() -> None:
    found = result(Target(), run(10, 20), run(30, 40), run(20, 80))
    assert (found.figure, found.limit, found.ratio) == (20, 40, 0.5)


@pytest.mark.parametrize(
    ("target", "missed"),
    [
        (Target(), []),
        (Target(figure_at_least=20, ratio_at_least=0.5), []),
        (Target(figure_at_least=21), ["below 21"]),
        (Target(figure_at_most=19), ["above 19"]),
        (Target(ratio_at_least=0.6), ["ratio below 0.6"]),
        (Target(notes_at_most={"stall": 8}), ["stall above 8"]),
        (Target(notes_at_most={"stall": 9}), []),
        (Target(notes_at_most={"nowhere": 9}), ["nowhere not measured"]),
    ],
)
def test_a_target_is_met_or_what_is_missed_is_named(
    target: Target, missed: list[str]
) -> None:
    found = result(
        target, run(10, 20, stall=1), run(30, 60, stall=9), run(20, 40, stall=2)
    )
    assert list(found.missed) == missed
    assert found.met == (not missed)


def test_a_ratio_that_was_not_measured_is_not_met() -> None:
    found = result(Target(ratio_at_least=0.5), run(10))
    assert list(found.missed) == ["ratio not measured"]


def test_the_table_says_in_words_what_was_missed() -> None:
    found = result(Target(figure_at_least=15_000), run(14_861))
    assert report.cells(found)[-1] == "no: below 15,000"


def test_kept_results_become_the_table_again(tmp_path: Path) -> None:
    file, document = tmp_path / "results.json", tmp_path / "performance.md"
    document.write_text(f"a\n{report.BEGIN}\nold\n{report.END}\nb\n")
    found = result(Target(ratio_at_least=0.5), run(10_000, 20_000), run(11_000, 12_000))
    report.keep([found], file)
    assert report.restored(report.kept(file)["x"]) == found
    report.write_document(file, document)
    text = document.read_text("utf-8")
    assert "| x | 10,500 x/s (2 runs) | 16,000: " in text
    assert "old" not in text
    assert text.startswith("a\n")
    assert text.endswith(f"{report.END}\nb\n")


def test_a_program_tells_where_it_listens_and_is_ended() -> None:
    code = "print('listening on 127.0.0.1:7', flush=True); import time; time.sleep(60)"
    with python("-c", code) as program:
        assert program.address == ("127.0.0.1", 7)
        assert 1 < program.peak_memory_mib() < 1000
    assert program.process.returncode == -signal.SIGTERM
    assert peak_memory_mib() > 1


def test_a_program_that_fails_is_broken() -> None:
    with python("-c", "raise SystemExit('no')") as program:
        with pytest.raises(Broken, match="no"):
            program.wait_for("never")
        with pytest.raises(Broken):
            program.collect(10)


@pytest.mark.slow
@pytest.mark.parametrize("name", discovery.names())
def test_a_benchmark_runs(name: str) -> None:
    """A tiny share, once: it measures something and says what."""
    arguments = (name, "--json", "--runs=1", "--scale=0.001")
    with python("-m", "benchmarks", *arguments) as program:
        output = program.collect(300)
    found = json.loads(output[output.index("[\n") :])[0]
    assert found["name"] == name
    assert found["median"]["figure"] > 0
    assert found["machine"]["cores"]
