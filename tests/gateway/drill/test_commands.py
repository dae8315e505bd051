"""What is asked for is understood, or refused before anything runs; who ends a drill
finds nothing left of it."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.drill.commands import cli, refuse_used
from gateway.drill.processes import ROOT


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("crash", "--sink", "smpp,pigeon"), "smpp, cmpp, smtp, sandbox"),
        (("crash", "--engine", "mysql"), "sqlite, or postgres"),
        (("crash", "--design", "all"), "journal"),
        (("crash", "--engine", "postgres://nobody@127.0.0.1:1/scratch"), "refused"),
        (("crash", "--engine", "postgres://["), "Invalid IPv6 URL"),
        (("crash", "--keep", "/proc/drill"), "no folder to work in"),
        (("crash", "--keep", "/dev/null"), "no folder to work in"),
        (("crash", "--keep", "/dev"), "not empty"),
        (("points", "--call", "sync"), "fdatasync"),
        (("power", "--sink", "pigeon"), "smpp, cmpp, smtp, sandbox"),
    ],
)
def test_what_nobody_knows_is_refused(asked: tuple[str, ...], told: str) -> None:
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 2
    assert told in answer.output or "this machine can't" in answer.output


def test_a_database_that_is_in_use_is_left_alone(postgres_url: str) -> None:
    """Somebody's installation, perhaps: nothing is written there."""
    asked = ("crash", "--engine", postgres_url, "--kills", "0", "--messages", "1")
    answer = CliRunner().invoke(cli, asked)
    assert answer.exit_code == 2
    assert "tables are there" in answer.output


def test_an_empty_database_is_one_to_work_in(postgres_server: str) -> None:
    refuse_used(f"{postgres_server}/postgres")


def test_what_is_named_twice_is_meant_once(tmp_path: Path) -> None:
    words = ("--kills", "1", "--messages", "20", "--sink", "smtp,smtp")
    answer = CliRunner().invoke(cli, ("crash", *words, "--keep", str(tmp_path)))
    assert answer.exit_code == 0, answer.output
    assert "20 members, smtp\n" in answer.output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--kills", "900", "--messages", "9000"), id="journal"),
        pytest.param(("--design", "claim", "--messages", "9000"), id="claim"),
    ],
)
def test_whoever_ends_it_finds_nothing_left(
    tmp_path: Path, words: Sequence[str], number: signal.Signals
) -> None:
    """Ctrl-C, a time limit, a terminal that was closed."""
    # As in a terminal: whatever runs the tests in the background may ignore it.
    usual = (
        f"import runpy, signal, sys; sys.argv[0] = 'run.py'; signal.signal({number:d}"
    )
    usual += (
        ", signal.SIG_DFL if sys.argv.pop() == 'off' else signal.default_int_handler)"
    )
    usual += "; runpy.run_path('run.py', run_name='__main__')"
    handler = "on" if number is signal.SIGINT else "off"
    drill = subprocess.Popen(
        [sys.executable, "-c", usual, "drill", "crash", *words, handler],
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while len(about(tmp_path)) < 2:  # itself, and what it has started
        assert time.monotonic() < deadline
        assert drill.poll() is None
        time.sleep(0.02)
    drill.send_signal(number)
    _, said = drill.communicate(timeout=120)
    assert drill.returncode == 128 + number
    assert "Traceback" not in said
    assert about(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def about(folder: Path) -> list[str]:
    """The processes whose environment names this folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (one / "environ").read_bytes():
                found.append((one / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
