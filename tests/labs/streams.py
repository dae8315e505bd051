"""A carrier's session in memory: keeps a window, answers when the test says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.channels import Channel
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    Answered,
    Capabilities,
    Connection,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.core import Core
from gateway.outbox.sender import Sender
from gateway.settings import ChannelCommon
from gateway.tables import Node

CARRIER = Capabilities(
    address_kinds=frozenset({AddressKind.PHONE}),
    encoding=TextEncoding.UCS2,
    max_length=500,
    segments=(70, 67),
    delivery_receipts=True,
    window=10,
    rate_per_second=1_000_000.0,
)


@dataclass(slots=True)
class Carrier:
    """What was submitted, in order, and what waits for its answer."""

    capabilities: Capabilities = CARRIER
    submitted: list[OutboundMessage] = field(default_factory=list)
    waiting: dict[str, OutboundMessage] = field(default_factory=dict)
    shown: Sequence[Connection] = ()
    is_away: bool = False  # no session: nothing can be written
    parts: int = 1  # of each message
    _answered: Answered | None = None

    def attach(self, answered: Answered, ready: Callable[[], None]) -> None:
        self._answered = answered

    def room(self) -> int:
        return 0 if self.is_away else self.capabilities.window - len(self.waiting)

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        assert len(batch) <= self.room()
        self.submitted.extend(batch)
        self.waiting |= {message.id: message for message in batch}
        return len(batch) * self.parts

    def answer(self, id: str, outcome: Outcome | None = None) -> None:
        """By default with the id that the carrier gave the message."""
        self.waiting.pop(id, None)
        assert self._answered is not None
        self._answered(id, outcome or Accepted((f"c{id}",)))

    def answer_all(self) -> None:
        for id in list(self.waiting):
            self.answer(id)

    def connections(self) -> Sequence[Connection]:
        return self.shown

    def numbers(self) -> list[Address]:
        return [message.to for message in self.submitted]

    async def close(self) -> None:
        """Nothing to let go."""


def channel(carrier: Carrier, name: str = "短信") -> Channel:
    return Channel(
        name=name,
        adapter=carrier,  # type: ignore[arg-type]
        common=ChannelCommon(adapter="carrier"),
        capabilities=carrier.capabilities,
    )


async def new_sender(core: Core) -> Sender:
    """Of the first channel, as after a start of the process."""
    now = core.clock.now()
    node = await Node.create(started_at=now, seen_at=now)
    core.node_id = node.id
    return Sender(core, next(iter(core.channels)))
