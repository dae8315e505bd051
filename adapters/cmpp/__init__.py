"""CMPP 2.0, 2.1 and 3.0 (China Mobile Peer to Peer): short messages over sessions with
a carrier's gateway (ISMG).

The session engine is adapters/carrier; what is CMPP's own is here. `simulator` plays
the gateway. docs/channels/cmpp.md tells how to connect an account.
"""

from datetime import timedelta

from adapters.carrier.account import Account, Endpoint
from adapters.carrier.link import Limits
from adapters.carrier.shelf import Shelf
from adapters.cmpp.codec import CmppCodec
from adapters.cmpp.settings import Settings
from gateway.contract import AddressKind, Capabilities, ChannelContext, TextEncoding

__all__ = ["Settings", "build"]


def capabilities(settings: Settings) -> Capabilities:
    window = settings.connections * settings.connection_window
    return Capabilities(
        address_kinds=frozenset({AddressKind.PHONE}),
        encoding=TextEncoding.UCS2,
        max_length=settings.max_length,
        segments=settings.segments,
        delivery_receipts=True,
        batch_size=window,
        window=window,
        rate_per_second=100.0,
    )


def limits(settings: Settings) -> Limits:
    return Limits(
        window=settings.connection_window,
        answer_within=settings.answer_within_seconds,
        heartbeat_after=settings.heartbeat_seconds,
        heartbeat_within=settings.heartbeat_within_seconds,
    )


def build(settings: Settings, context: ChannelContext) -> Account:
    codec = CmppCodec(settings, context.signature, context.clock)
    shelf = Shelf(
        context.data_dir / f"{context.name}.parts.sqlite3",
        codec,
        context.clock,
        timedelta(minutes=settings.parts_wait_minutes),
    )
    return Account(
        context.name,
        capabilities(settings),
        codec,
        Endpoint(
            host=settings.host, port=settings.port, connections=settings.connections
        ),
        limits(settings),
        context.clock,
        shelf=shelf,
    )
