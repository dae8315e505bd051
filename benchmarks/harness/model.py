"""What a benchmark measures and has to reach, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run: `figure` and `limit` are in `unit`, e.g. messages/s.

    `limit` is what a bare loop reached on this machine in the same run. A number in
    `notes` names its unit in its key (`memory MiB`); words are shown as they are.
    """

    figure: float
    unit: str
    limit: float | None = None
    limit_is: str = ""
    notes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None else self.figure / self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be reached; whatever is None is not asked.

    `figure` bounds are for the median of the runs, `ratio` for the median of the
    ratios, `notes_at_most` for the worst run.
    """

    figure_at_least: float | None = None
    figure_at_most: float | None = None
    ratio_at_least: float | None = None
    notes_at_most: Mapping[str, float] = field(default_factory=dict)

    def words(self) -> str:
        named = (
            ("≥ ", self.figure_at_least, ""),
            ("≤ ", self.figure_at_most, ""),
            ("ratio ≥ ", self.ratio_at_least, ""),
            *(("", value, f"{key} ≤ ") for key, value in self.notes_at_most.items()),
        )
        return ", ".join(
            f"{more}{sign}{value:,g}"
            for sign, value, more in named
            if value is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All runs of one benchmark."""

    name: str
    about: str
    target: Target
    scale: float
    runs: Sequence[Measurement]

    @property
    def figure(self) -> float:
        return median(run.figure for run in self.runs)

    @property
    def limit(self) -> float | None:
        limits = [run.limit for run in self.runs if run.limit is not None]
        return median(limits) if limits else None

    @property
    def ratio(self) -> float | None:
        ratios = [run.ratio for run in self.runs if run.ratio is not None]
        return median(ratios) if ratios else None

    @property
    def worst_notes(self) -> Mapping[str, float | str]:
        """Of each number the largest, of each word the last."""
        worst: dict[str, float | str] = {}
        for run in self.runs:
            for key, value in run.notes.items():
                known = worst.get(key)
                if isinstance(value, str) or known is None or isinstance(known, str):
                    worst[key] = value
                else:
                    worst[key] = max(value, known)
        return worst

    @property
    def met(self) -> bool:
        return not self.missed

    @property
    def missed(self) -> Sequence[str]:
        """What of the target was not reached, in words."""
        target, notes = self.target, self.worst_notes
        faults = [
            _below("", self.figure, target.figure_at_least),
            _above("", self.figure, target.figure_at_most),
            _below("ratio ", self.ratio, target.ratio_at_least),
            *(
                _above(f"{key} ", notes.get(key), bound)
                for key, bound in target.notes_at_most.items()
            ),
        ]
        return [fault for fault in faults if fault]


def _below(what: str, value: float | None, bound: float | None) -> str:
    """Empty where the bound is kept, or there is none."""
    if bound is None or (value is not None and value >= bound):
        return ""
    return f"{what}{_fault(value, 'below', bound)}"


def _above(what: str, value: float | str | None, bound: float | None) -> str:
    if bound is None or (isinstance(value, float | int) and value <= bound):
        return ""
    return f"{what}{_fault(value, 'above', bound)}"


def _fault(value: float | str | None, side: str, bound: float) -> str:
    measured = isinstance(value, float | int)
    return f"{side} {bound:,g}" if measured else "not measured"
