"""Whether a process of the drill lives."""

import os
import sys
import time

from gateway.drill.processes import is_alive


def test_who_has_ended_and_whom_nobody_waited_for_is_not_alive() -> None:
    pid = os.spawnl(os.P_NOWAIT, sys.executable, sys.executable, "-c", "pass")
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(pid)
    os.waitpid(pid, 0)
    assert not is_alive(pid)
    assert is_alive(os.getpid())
