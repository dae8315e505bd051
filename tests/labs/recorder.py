"""A channel in memory: takes every message and remembers it, or refuses by order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.channels import Channel, channel
from gateway.contract import (
    Accepted,
    AddressKind,
    Capabilities,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.core import Core
from gateway.outbox.sender import Sender
from gateway.settings import ChannelCommon


@dataclass
class Recorder:
    """An adapter. `answers` gives outcomes by address value; others are accepted."""

    capabilities: Capabilities
    sent: list[OutboundMessage] = field(default_factory=list)
    answers: dict[str, Outcome] = field(default_factory=dict)

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        self.sent.extend(batch)
        return {
            one.id: self.answers.get(one.to.value, Accepted((f"p{one.id}",)))
            for one in batch
        }

    async def close(self) -> None:
        self.sent.clear()

    @property
    def to(self) -> list[str]:
        return [message.to.value for message in self.sent]


def recorder(kind: AddressKind, **limits: object) -> Recorder:
    values: dict[str, object] = {
        "address_kinds": frozenset({kind}),
        "encoding": TextEncoding.UCS2,
        "max_length": 500,
        "batch_size": 50,
        "window": 4,
        "rate_per_second": 100_000.0,
    }
    return Recorder(Capabilities(**(values | limits)))  # type: ignore[arg-type]


def as_channel(name: str, adapter: Recorder, **common: object) -> Channel:
    settings = ChannelCommon(adapter="recorder", label=name, **common)  # type: ignore[arg-type]
    return channel(name, adapter, settings)


async def drain(core: Core, steps: int = 200) -> None:
    """Run every channel's sender until nothing more leaves or comes back."""
    senders = [Sender(core, one) for one in core.channels]
    for _ in range(steps):
        moved = [await sender.step() for sender in senders]
        if not any(moved):
            return
        for sender in senders:
            await sender.answers()
    raise AssertionError("the senders don't come to rest")
