"""Results as JSON, as a table on the screen, and as the table of the document."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.model import Measurement, Result, Target
from benchmarks.harness.processes import PROJECT

FILE = PROJECT / "benchmarks" / "results.json"
DOCUMENT = PROJECT / "docs" / "performance.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
HEADS = ("benchmark", "figure", "limit in the same run", "ratio", "target", "met")

Saved = Mapping[str, Any]
"""A result as kept in JSON, with the machine, the date and the scale of its runs."""


def saved(result: Result) -> Saved:
    return {
        **asdict(result),
        "measured_on": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.facts(),
        "median": {
            "figure": result.figure,
            "limit": result.limit,
            "ratio": result.ratio,
        },
        "met": result.met,
        "missed": result.missed,
    }


def keep(results: Sequence[Result], file: Path = FILE) -> None:
    """Into the file; results of other benchmarks stay in it."""
    known = dict(kept(file))
    known.update({one.name: saved(one) for one in results})
    text = json.dumps(known, indent=1, ensure_ascii=False, sort_keys=True)
    file.write_text(f"{text}\n", "utf-8")


def kept(file: Path = FILE) -> Mapping[str, Saved]:
    if not file.exists():
        return {}
    found: Mapping[str, Saved] = json.loads(file.read_text("utf-8"))
    return found


def restored(one: Saved) -> Result:
    return Result(
        name=one["name"],
        about=one["about"],
        target=Target(**one["target"]),
        scale=one["scale"],
        runs=tuple(Measurement(**run) for run in one["runs"]),
    )


def cells(result: Result) -> Sequence[str]:
    """The row of one benchmark, in the order of `HEADS`."""
    first = result.runs[0]
    limit = "-" if result.limit is None else f"{result.limit:,.0f}: {first.limit_is}"
    notes = "".join(
        f"; {key} {value:,.0f}"
        if isinstance(value, float | int)
        else f"; {key} {value}"
        for key, value in result.worst_notes.items()
    )
    full = "" if result.scale == 1 else f", scale {result.scale:g}"
    runs = f" ({len(result.runs)} runs{full})"
    return (
        result.name,
        f"{result.figure:,.0f} {first.unit}{runs}{notes}",
        limit,
        "-" if result.ratio is None else f"{result.ratio:.2f}",
        result.target.words(),
        "yes" if result.met else f"no: {', '.join(result.missed)}",
    )


def screen(results: Sequence[Result]) -> str:
    table = [HEADS, *(cells(one) for one in results)]
    widths = [max(len(row[n]) for row in table) for n in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    )


def markdown(known: Mapping[str, Saved]) -> str:
    """The table and what it was measured on."""
    lines = [_row(HEADS), _row(["---"] * len(HEADS))]
    lines += [_row(cells(restored(known[name]))) for name in sorted(known)]
    machines = sorted({_machine(one) for one in known.values()})
    return "\n".join([*lines, "", *machines])


def write_document(file: Path = FILE, document: Path = DOCUMENT) -> None:
    """Put the kept results between the two marks of the document."""
    text = document.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = markdown(kept(file))
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


def _row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _machine(one: Saved) -> str:
    facts = ", ".join(f"{key} {value}" for key, value in one["machine"].items())
    return f"Measured on {one['measured_on']}: {facts}."
