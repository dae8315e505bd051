"""What the labs of session protocols share: an adapter that listens to a simulated
centre, and what it handed on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from adapters.carrier.account import Account
from gateway.clock import Clock, SystemClock
from gateway.contract import ChannelContext, Event

PATIENCE_SECONDS = 10.0


async def until(true: Callable[[], object]) -> None:
    """Wait for something that happens soon; fail loudly if it doesn't."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while not true():
        assert loop.time() < deadline, "it did not happen"
        await asyncio.sleep(0.002)


async def a_while(seconds: float) -> None:
    """For what comes meanwhile, or must not come."""
    loop = asyncio.get_running_loop()
    ended = loop.time() + seconds
    await until(lambda: loop.time() >= ended)


def context(
    name: str, data_dir: Path, *, clock: Clock | None = None, signature: str = ""
) -> ChannelContext:
    return ChannelContext(
        name=name,
        clock=clock or SystemClock(),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=data_dir,
        public_url="https://gateway.example",
        secret=lambda purpose: purpose.encode().ljust(32, b"\0"),
        signature=signature,
    )


class Events(list[Event]):
    """An `accept` that remembers. `failure` is raised instead of storing; nothing is
    stored while `gate` is closed; `meanwhile` happens before a commit ends."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.meanwhile: Callable[[], object] = lambda: None

    async def accept(self, events: Sequence[Event]) -> None:
        if self.failure:
            raise self.failure
        self.batches.append(len(events))
        await self.gate.wait()
        self.meanwhile()
        self.extend(events)


@asynccontextmanager
async def listening(
    account: Account, events: Events, *, connect: bool = True
) -> AsyncIterator[Account]:
    """The account with its connections open."""
    try:
        async with account.listen(events.accept):
            if connect:
                await until(account.room)
            yield account
    finally:
        await account.close()
