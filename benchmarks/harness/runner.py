"""Runs a benchmark: each run in a fresh process, so that none warms up the next."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.harness.discovery import Benchmark
from benchmarks.harness.model import Measurement, Result
from benchmarks.harness.processes import python

RUN_SECONDS = 3600.0
MARK = "measured "


def once(benchmark: Benchmark, scale: float) -> None:
    """Measure in this process; the last line on standard output tells what."""
    measured = benchmark.measure(scale)
    sys.stdout.write(f"{MARK}{json.dumps(asdict(measured))}\n")


def run(
    benchmark: Benchmark, runs: int, scale: float, told: Callable[[str], None]
) -> Result:
    """`told` hears when each run begins and what it measured. Raises Broken if one
    fails."""
    measured = []
    for number in range(1, runs + 1):
        told(f"{benchmark.name} {number}/{runs}: measuring, this may take minutes")
        measured.append(_in_a_process(benchmark, scale))
        told(f"{benchmark.name} {number}/{runs}: {_line(measured[-1])}")
    return Result(
        name=benchmark.name,
        about=benchmark.about,
        target=benchmark.target,
        scale=scale,
        runs=tuple(measured),
    )


def _in_a_process(benchmark: Benchmark, scale: float) -> Measurement:
    with python("-m", "benchmarks", benchmark.name, "--once", f"--scale={scale}") as it:
        output = it.collect(RUN_SECONDS)
    found = [one for one in output.splitlines() if one.startswith(MARK)]
    return Measurement(**json.loads(found[-1].removeprefix(MARK)))


def _line(run: Measurement) -> str:
    of = "" if run.ratio is None else f" = {run.ratio:.2f} of {run.limit:,.0f}"
    notes = "".join(
        f", {key} {value:,.1f}" if isinstance(value, float) else f", {key} {value}"
        for key, value in run.notes.items()
    )
    return f"{run.figure:,.0f} {run.unit}{of}{notes}"
