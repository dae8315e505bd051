"""The crash drill in small, on both engines, with all peers: `kill -9` a hundred times.

A-1, A-2, A-3: nobody is lost, nobody gets it twice, what is in doubt is at most a
window a kill and listed. A-14: started by several at once, one run. A-16: who refuses
in the middle of the run gets nothing after it. B-3, B-4: what people write is kept
once. C-1: receipts before the answer find their message.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.drill.checker import Verdict
from gateway.drill.crash import Drill, crash
from tests.labs.process import PROJECT

pytestmark = pytest.mark.slow


async def drilled(folder: Path, url: str, kills: int, people: int) -> Verdict:
    told: list[str] = []
    drill = Drill(kills=kills, messages=people, seed=12371, url=url)
    found = await crash(folder, drill, told.append)
    assert len(found.states) > 2, told
    return found


def proven(found: Verdict, kills: int) -> None:
    assert found.holds, found.reasons
    assert found.kills == kills
    assert found.kills_under_load > kills / 3, "the kills missed the work"
    assert (found.lost, found.doubled, found.after_opt_out) == (0, 0, 0)
    assert found.inbound_acknowledged > 0
    assert (found.inbound_lost, found.inbound_doubled) == (0, 0)
    assert found.states["delivered"] > 0


async def test_kills_lose_nobody_and_repeat_nobody_on_sqlite(tmp_path: Path) -> None:
    proven(await drilled(tmp_path, "", 85, 6000), 85)  # A-1 A-2 A-3 A-14 A-16 C-1


async def test_kills_lose_nobody_and_repeat_nobody_on_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    proven(await drilled(tmp_path, postgres_url, 7, 900), 7)  # A-1 A-2 A-3 A-14 A-16


def commanded(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "run.py"), "drill", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--design", "pop"), 1, "lost"),
        (("--sink", "smtp"), 0, "every promise was kept"),
    ],
)
def test_the_command_tells_its_verdict(
    words: Sequence[str], status: int, said: str
) -> None:
    done = commanded("crash", "--kills", "3", "--messages", "600", *words)
    assert (done.returncode, said in done.stdout) == (status, True), done.stderr
    assert "Traceback" not in done.stderr
