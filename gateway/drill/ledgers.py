"""What the peers of a drill wrote down, whatever their dialect, as one kind of fact.

Each ledger is a file of JSON lines; a line is there before its answer leaves. A line
that a crash cut off is passed over: its answer was never given.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that its person has got; `told` is whether the answer was sent."""

    channel: str
    address: str
    at: float  # seconds since 1970, by the peer's clock
    told: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the peer turned down for good; it reached nobody."""

    channel: str
    address: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a person wrote, by its key, of which the gateway said that it has it."""

    channel: str
    key: str


Fact = Arrived | Refused | Acknowledged


class Tail:
    """How many lines with `mark` in them a ledger has, counted while it grows."""

    def __init__(self, path: Path, mark: bytes) -> None:
        self._path = path
        self._mark = mark
        self._read = 0
        self._count = 0

    def count(self) -> int:
        if self._path.exists() and self._path.stat().st_size > self._read:
            with self._path.open("rb") as file:
                file.seek(self._read, os.SEEK_SET)
                whole = file.read().rpartition(b"\n")[0]
            self._read += len(whole)
            self._count += whole.count(self._mark)
        return self._count


def lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The whole lines of a ledger that is perhaps not there yet."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
