"""How long the event loop stood still while something else was going on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """The longest pause in seconds so far, seen by a probe of one millisecond."""
    worst = [0.0]

    async def probe() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            worst[0] = max(worst[0], time.perf_counter() - began)

    task = asyncio.create_task(probe())
    try:
        yield worst
    finally:
        task.cancel()
