"""What the gateway was told survives the end of its process, however sudden."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from adapters import sandbox
from gateway.contract import Accepted
from tests.labs.sandbox_lab import arrived, context, message, settings

ROOT = Path(__file__).parents[3]


async def send_for_ever(data_dir: Path) -> None:
    """Run in a process of its own: writes down each id once it was accepted."""
    adapter = sandbox.build(settings(answer_within_seconds=30), context(data_dir))
    for first in range(0, 10**6, 32):
        batch = [message(index) for index in range(first, first + 32)]
        answers = await asyncio.gather(*(adapter.send([one]) for one in batch))
        for answer in answers:
            for id, outcome in answer.items():
                assert isinstance(outcome, Accepted)
                os.write(1, f"{id}\n".encode())


@pytest.mark.slow
def test_after_a_kill_the_ledger_knows_all_that_was_accepted(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from tests.adapters.sandbox.test_crash import send_for_ever\n"
        "asyncio.run(send_for_ever(pathlib.Path(sys.argv[1])))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(1500)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
    accepted = {line.decode().strip() for line in told if line.endswith(b"\n")}
    reached = Counter(one.id for one in arrived(tmp_path))
    assert len(accepted) >= 1500
    assert accepted <= set(reached), "accepted, so it arrived"
    assert max(reached.values()) == 1
    assert len(reached) - len(accepted) <= 32, "at most one window is in doubt"
