"""The gateway as a program of its own, on settings written for one benchmark."""

import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.processes import Broken, Program, python

START_SECONDS = 60.0
# Another program in its place, one that profiles for instance.
PROGRAM = os.environ.get("BENCH_RUN", "run.py")
SETTINGS = """\
sandbox = false
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
[storage]
data_dir = {data_dir}
database_url = {url}
demo = false
[policy]
allowed_from = "00:00"
allowed_until = "00:00"
[daily]
enabled = false
[log]
level = "warning"
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A data directory with its settings; one gateway or several run on it."""

    folder: Path
    url: str
    channels: str  # the sections `[channels.NAME]`

    @property
    def database(self) -> str:
        return self.url or f"sqlite://{self.folder / 'data' / 'lianxin.sqlite3'}"

    def settings(self, port: int) -> Path:
        """A settings file for the gateway on this port."""
        file = self.folder / f"settings-{port}.toml"
        head = SETTINGS.format(
            port=port,
            data_dir=json.dumps(str(self.folder / "data")),
            url=json.dumps(self.url),
        )
        file.write_text(f"{head}{self.channels}", "utf-8")
        return file

    def migrate(self) -> None:
        with python("run.py", "--settings", self.settings(0), "migrate") as it:
            it.collect(START_SECONDS)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Program]:
        """A gateway that answers, with more arguments such as `serve --roles …`."""
        port = _free_port()
        with python(PROGRAM, "--settings", self.settings(port), *arguments) as it:
            _wait_for(f"http://127.0.0.1:{port}/healthz", it)
            yield it


def section(name: str, **values: Any) -> str:
    """`[channels.NAME]`; JSON's strings, numbers and truths are TOML's too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[channels.{name}]", *lines, ""])


def _wait_for(url: str, program: Program) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and program.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, if only that something is not well yet
        except OSError:
            time.sleep(0.05)
    raise Broken(f"the gateway does not answer:\n{program.output[-4000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
