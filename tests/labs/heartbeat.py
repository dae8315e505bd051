"""How long the event loop stood still while something else was going on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """The longest pause in seconds so far, seen by a probe of one millisecond.

    Counts only time in which this process ran: a busy machine that gave it no
    processor is not its fault.
    """
    worst = [0.0]

    async def probe() -> None:
        while True:
            began, ran = time.perf_counter(), time.process_time()
            await asyncio.sleep(0.001)
            pause = time.perf_counter() - began
            worst[0] = max(worst[0], min(pause, time.process_time() - ran))

    task = asyncio.create_task(probe())
    try:
        yield worst
    finally:
        task.cancel()
