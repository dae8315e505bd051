"""A channel that keeps what it was given, and answers what the test says."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from gateway.channels import Channel, channel
from gateway.contract import (
    Accept,
    Accepted,
    AddressKind,
    Capabilities,
    DoubtfulMessage,
    Found,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.settings import ChannelCommon


class Recorder:
    """An adapter of the contract whose provider is a list."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.sent: list[OutboundMessage] = []
        self.outcome: Outcome | None = None  # None: accepted

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        self.sent.extend(batch)
        return {
            one.id: self.outcome or Accepted((f"provider-{one.id}",)) for one in batch
        }

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[None]:
        yield

    async def close(self) -> None:
        pass

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.sent]


class Provider(Recorder):
    """One that can be asked: keeps that too, and says what the test says."""

    found: Found | Exception = None

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        self.asked: list[DoubtfulMessage] = []

    async def query(self, message: DoubtfulMessage) -> Found:
        self.asked.append(message)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def capabilities(kinds: set[AddressKind], **more: Any) -> Capabilities:
    limits: dict[str, Any] = {
        "address_kinds": frozenset(kinds),
        "encoding": TextEncoding.UCS2,
        "max_length": 1000,
        "window": 50,
        "rate_per_second": 1000.0,
    }
    return Capabilities(**limits | more)


def recording(
    name: str, kinds: set[AddressKind], *, common: Mapping[str, Any] = {}, **more: Any
) -> Channel:
    """A channel of this name; `more` are its capabilities."""
    adapter = Recorder(capabilities(kinds, **more))
    given = {"adapter": "recording", "label": name, **common}
    made = channel(name, adapter, ChannelCommon.model_validate(given))
    made.listening = True
    return made


def recorder(made: Channel | None) -> Recorder:
    assert made is not None
    assert isinstance(made.adapter, Recorder)
    return made.adapter


def queried(made: Channel) -> Provider:
    """From now on its provider can be asked."""
    provider = Provider(made.adapter.capabilities)
    made.adapter = provider
    return provider


def sms(name: str = "短信", **more: Any) -> Channel:
    return recording(
        name,
        {AddressKind.PHONE},
        common={"signature": "【清禾】", "price_fen": 4.5},
        segments=(70, 67),
        delivery_receipts=True,
        **more,
    )


def qq(name: str = "QQ", **more: Any) -> Channel:
    kinds = {AddressKind.QQ, AddressKind.GROUP}
    return recording(name, kinds, encoding=TextEncoding.UTF8, max_length=4500, **more)


def windowed(name: str = "QQ") -> Channel:
    """Replies only, for an hour after each message."""
    return qq(name, proactive=False, reply_window=timedelta(hours=1))
