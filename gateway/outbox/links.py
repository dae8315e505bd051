"""How a sender hands messages to an adapter: one window, two kinds of adapters.

An adapter with a session of its own takes messages as they come (`Streams`); all others
are called batch by batch, each call a task.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.channels import Channel
from gateway.contract import Answered, OutboundMessage, Outcome, Role, Streams
from gateway.errors import DeliveryError, OutcomeUnknown

log = structlog.get_logger()


class Link(Protocol):
    """As `Streams`, and a way to stop."""

    def room(self) -> int: ...

    def has_session(self) -> bool | None:
        """Whether messages could be written now; None where no session is kept."""
        ...

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        """Returns how much of the account's rate these take."""
        ...

    async def finish(self, seconds: float) -> None:
        """Wait for answers as long; what is silent then is answered as unknown."""
        ...


def link(channel: Channel, answered: Answered, ready: Callable[[], None]) -> "Link":
    """The link to one channel's adapter; every answer goes to `answered`."""
    if isinstance(channel.adapter, Streams):
        return Session(channel, channel.adapter, answered, ready)
    return Calls(channel, answered)


class Session:
    """An adapter that keeps the window itself."""

    def __init__(
        self,
        channel: Channel,
        adapter: Streams,
        answered: Answered,
        ready: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._adapter = adapter
        self._answered = answered
        self._flying: set[str] = set()
        self._none_left = asyncio.Event()
        adapter.attach(self._take, ready)

    def room(self) -> int:
        """Settings may allow fewer than the adapter's connections could take."""
        most = self._channel.capabilities.window
        return min(self._adapter.room(), most - len(self._flying))

    def has_session(self) -> bool | None:
        if self._adapter.room() > 0:
            return True
        found = self._adapter.connections()
        found = [one for one in found if one.role is not Role.RECEIVER]
        return any(one.state == "open" for one in found) if found else None

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        self._flying.update(message.id for message in batch)
        return self._adapter.submit(batch)

    async def finish(self, seconds: float) -> None:
        self._none_left.clear()
        if self._flying:
            try:
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()
            except TimeoutError:
                pass
        for id in list(self._flying):
            self._take(id, OutcomeUnknown("stopped"))

    def _take(self, id: str, outcome: Outcome) -> None:
        self._flying.discard(id)
        if not self._flying:
            self._none_left.set()
        self._answered(id, outcome)


class Calls:
    """An adapter that is called with a batch and awaited."""

    def __init__(self, channel: Channel, answered: Answered) -> None:
        self._channel = channel
        self._answered = answered
        self._tasks: dict[asyncio.Task[None], int] = {}

    def room(self) -> int:
        limits = self._channel.capabilities
        return limits.window * limits.batch_size - sum(self._tasks.values())

    def has_session(self) -> bool | None:
        return None

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        """A provider counts what it is given, whatever a message costs."""
        size = self._channel.capabilities.batch_size
        for first in range(0, len(batch), size):
            part = batch[first : first + size]
            task = asyncio.create_task(self._call(part))
            self._tasks[task] = len(part)
            task.add_done_callback(self._tasks.pop)
        return len(batch)

    async def finish(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _call(self, batch: Sequence[OutboundMessage]) -> None:
        outcomes: Mapping[str, Outcome] = {}
        silence: Outcome = OutcomeUnknown("no_outcome")
        try:
            outcomes = await self._channel.adapter.send(batch)
        except DeliveryError as error:
            silence = error
        except asyncio.CancelledError:
            silence = OutcomeUnknown("stopped")
        except Exception as error:
            log.exception("send.broke", channel=self._channel.name)
            silence = OutcomeUnknown("adapter_error", type(error).__name__)
        for message in batch:
            self._answered(message.id, outcomes.get(message.id, silence))
