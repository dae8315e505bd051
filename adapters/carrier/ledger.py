"""What a simulated centre took and what was taken from it: JSON lines, each batch with
one write before its answers leave. An independent source for drills and tests."""

import os
from collections.abc import Sequence
from json.encoder import encode_basestring
from pathlib import Path

quoted = encode_basestring
"""A string as JSON, quotes included."""


class Ledger:
    """Appends to a file; without a path it only keeps quiet."""

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o600) if path else -1

    @property
    def is_on(self) -> bool:
        return self._file >= 0

    def write(self, lines: Sequence[str]) -> None:
        if lines and self._file >= 0:
            data = ("\n".join(lines) + "\n").encode()
            while data:
                data = data[os.write(self._file, data) :]

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
