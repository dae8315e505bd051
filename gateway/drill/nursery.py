"""A process that has everything imported and all pages compiled, and forks a gateway
whenever it is told to.

That takes two seconds, which a hundred restarts would spend a hundred times. What is
forked is the gateway as `run.py serve` runs it: nothing is opened before the fork.
"""

import gc
import os
import sys
import traceback
from collections.abc import Callable


def tend(serve: Callable[[], None]) -> None:
    """For each line on standard input one gateway; its end is told before the next.

    Says `started PID` and `ended PID STATUS`; a negative status is a signal.
    """
    gc.freeze()  # what is imported stays shared
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(serve)
        _say(f"started {pid}")
        _, status = os.waitpid(pid, 0)
        _say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _become(serve: Callable[[], None]) -> None:
    """Never returns: the child ends when the gateway does."""
    status = 1
    try:
        os.setsid()
        os.dup2(2, 1)  # what it says goes where its log goes
        serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
