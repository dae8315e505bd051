"""A channel that is pushed to, an inbox, and a server with a second entry."""

import asyncio
from collections.abc import Mapping, Sequence

from aiohttp.test_utils import TestServer
from aiohttp.typedefs import StrOrURL
from yarl import URL

from gateway.contract import (
    Address,
    AddressKind,
    Capabilities,
    Event,
    InboundMessage,
    OutboundMessage,
    Outcome,
    RawRequest,
    Received,
    TextEncoding,
)
from gateway.errors import RequestError, StorageUnavailable
from gateway.web.keys import Told


class Pushing:
    """A channel whose provider signs with the word "good"."""

    capabilities = Capabilities(
        address_kinds=frozenset({AddressKind.PHONE}),
        encoding=TextEncoding.UCS2,
        max_length=500,
    )

    def __init__(self) -> None:
        self.requests: list[RawRequest] = []

    def receive(self, request: RawRequest) -> Received:
        self.requests.append(request)
        if request.headers.get("Signature") != "good":
            raise RequestError("bad_signature", status=401)
        message = InboundMessage(
            key=request.path,
            sender=Address(AddressKind.PHONE, "+8613800138000"),
            text=request.body.decode(),
            raw=request.body,
        )
        return Received((message,), b'{"code":0}')

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return {}

    async def close(self) -> None:
        return None


class Inbox:
    """Keeps what was accepted; can be out of order."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, Event]] = []
        self.broken = False

    async def accept(self, channel: str, events: Sequence[Event]) -> None:
        if self.broken:
            raise StorageUnavailable("disk_full")
        self.accepted += [(channel, event) for event in events]

    def take(self, channel: str, events: Sequence[Event], told: Told) -> None:
        task = asyncio.ensure_future(self.accept(channel, events))
        task.add_done_callback(lambda done: told(_fault(done)))


def _fault(done: "asyncio.Task[None]") -> Exception | None:
    fault = done.exception()
    assert fault is None or isinstance(fault, Exception)
    return fault


class LastSite(TestServer):
    """Its clients come to the site that was started last."""

    def make_url(self, path: StrOrURL) -> URL:
        assert self.runner is not None
        host, port = self.runner.addresses[-1]
        return URL.build(scheme="http", host=host, port=port).join(URL(path))
