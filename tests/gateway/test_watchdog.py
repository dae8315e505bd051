"""I-5: a stalled loop is told with its stack; one that stands for good ends."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway.watchdog import EXIT_STATUS, Limits, Watchdog

PROJECT = Path(__file__).parent.parent.parent
STALL = 0.6
FOR_GOOD = """
import asyncio, time
from gateway.watchdog import Limits, Watchdog

async def main():
    watchdog = Watchdog(lambda seconds: None, Limits(stall=0.1, give_up=0.5))
    watching = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    time.sleep(60)

asyncio.run(main())
"""


def a_slow_handler() -> None:
    time.sleep(STALL)


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with capture_logs() as found:
        yield found


@pytest.mark.parametrize("died", [False, True])
async def test_a_slow_handler_is_named(logged: list[EventDict], died: bool) -> None:
    """I-5; also after it was started again (I-6)."""
    stalls: list[float] = []
    watchdog = Watchdog(stalls.append, Limits(stall=0.2))
    if died:
        before = asyncio.create_task(watchdog.run())
        await asyncio.sleep(0)
        before.cancel()
        await asyncio.wait([before])
    watching = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    a_slow_handler()
    async with asyncio.timeout(10):
        while True:
            if stalls:
                break
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert 0.2 <= stalls[0] <= STALL + 1
    told = [one for one in logged if one["event"] == "loop.stalled"]
    assert "a_slow_handler" in told[0]["stands_at"]


def test_a_loop_that_stands_for_good_ends_the_process() -> None:
    """I-5."""
    done = subprocess.run(
        [sys.executable, "-c", FOR_GOOD],
        cwd=PROJECT,
        timeout=30,
        check=False,
        capture_output=True,
    )
    assert done.returncode == EXIT_STATUS
    assert b"loop.given_up" in done.stdout + done.stderr
