"""SMPP 3.4 (Short Message Peer to Peer): short messages over sessions with a centre.

The session engine is adapters/carrier; what is SMPP's own is here. `simulator` plays
the centre. docs/channels/smpp.md tells how to connect an account.
"""

from datetime import timedelta

from adapters.carrier.account import Account, Endpoint
from adapters.carrier.link import Limits
from adapters.carrier.shelf import Shelf
from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from adapters.smpp.settings import Bind, Settings
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


def codecs(
    settings: Settings, context: ChannelContext
) -> tuple[SmppCodec, SmppCodec | None]:
    """Of the connections that send, and of the receiver where that is another."""
    if settings.bind is Bind.TRANSCEIVER:
        return SmppCodec(settings, context), None
    return (
        SmppCodec(settings, context, pdu.BIND_TRANSMITTER),
        SmppCodec(settings, context, pdu.BIND_RECEIVER),
    )


def build(settings: Settings, context: ChannelContext) -> Account:
    endpoint = Endpoint(
        host=settings.host,
        port=settings.port,
        connections=settings.connections,
        tls=settings.tls_context(),
    )
    codec, receiver = codecs(settings, context)
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
        endpoint,
        limits(settings),
        context.clock,
        receiver=receiver,
        shelf=shelf,
    )
