"""Programs beside the measuring process: start, wait for, collect, end, weigh."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LISTENING = "listening on "
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.01


class Broken(RuntimeError):
    """A program ended too early, or did not say what was waited for."""


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder on a real disk (TMPDIR says which), gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lianxin-bench-") as path:
        yield Path(path)


@dataclass(frozen=True, slots=True)
class Program:
    """A running program; its output is in a file, so that it never has to wait."""

    process: subprocess.Popen[bytes]
    file: Path

    @property
    def output(self) -> str:
        return self.file.read_text("utf-8", "replace")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of its line `listening on HOST:PORT`."""
        host, _, port = self.wait_for(LISTENING).rpartition(":")
        return host, int(port)

    def wait_for(self, words: str, seconds: float = START_SECONDS) -> str:
        """What follows `words` in the first line of the output that has them."""
        until = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            for line in self.output.splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.partition(words)[2].strip()
            if ended or time.monotonic() > until:
                raise Broken(f"no {words!r} from {self._name}:\n{self.output[-4000:]}")
            time.sleep(LOOK_SECONDS)

    def collect(self, seconds: float) -> str:
        """Its output after it ended by itself. Raises Broken if it failed."""
        if self.process.wait(seconds):
            raise Broken(f"{self._name} failed:\n{self.output[-4000:]}")
        return self.output

    def peak_memory_mib(self) -> float:
        """The most it ever held resident; ask while it runs."""
        return peak_memory_mib(self.process.pid)

    def processor_seconds(self) -> float:
        """What it used of the processors so far, its ended children not counted."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """SIGTERM; SIGKILL to it and its children where that does not end it."""
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def _name(self) -> str:
        return " ".join(str(one) for one in self.process.args[1:4])  # type: ignore[index]


def peak_memory_mib(pid: int | str = "self") -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    line = next(one for one in status.splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


@contextmanager
def python(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """`python ARGUMENTS` in the project's folder, ended with the context."""
    with tempfile.TemporaryDirectory(prefix="lianxin-bench-") as place:
        file = Path(place) / "output"
        with file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-u", *map(str, arguments)],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        program = Program(process, file)
        try:
            yield program
        finally:
            program.stop()
