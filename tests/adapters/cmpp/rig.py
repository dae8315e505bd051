"""The real adapter and the simulated gateway, with sockets between them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from adapters.carrier.account import Account, Endpoint
from adapters.cmpp import CmppCodec, Settings, capabilities, limits
from adapters.cmpp.pdus import Submit, Version
from adapters.cmpp.simulator import Behaviour, Ismg, serving
from gateway.clock import Clock, SystemClock
from gateway.contract import (
    Address,
    AddressKind,
    DeliveryReceipt,
    Event,
    InboundMessage,
    MessageKind,
    OutboundMessage,
    Outcome,
)
from gateway.errors import StorageUnavailable
from gateway.retry import RetryPolicy
from tests.adapters.cmpp import tables
from tests.labs.cmpp_lab import SECRET, SP_ID, until

AT_ONCE = RetryPolicy(base=timedelta(milliseconds=20), cap=timedelta(milliseconds=50))


def message(index: int, text: str = "") -> OutboundMessage:
    return OutboundMessage(
        id=f"m{index}",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, f"+86138{index:08}"),
        text=text or f"第{index}条",
    )


@dataclass(slots=True, kw_only=True)
class Rig:
    """What both sides saw."""

    gateway: Ismg
    account: Account
    port: int
    events: list[Event] = field(default_factory=list)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    refuse_to_store: int = 0  # so many commits fail first
    taken: list[Submit] = field(default_factory=list)

    async def accept(self, events: Sequence[Event]) -> None:
        if self.refuse_to_store:
            self.refuse_to_store -= 1
            raise StorageUnavailable("disk_full")
        self.events += events

    def answered(self, id: str, outcome: Outcome) -> None:
        self.outcomes.setdefault(id, []).append(outcome)

    async def stream(self, messages: Sequence[OutboundMessage]) -> None:
        """Hand these over as room appears, and wait for a word about each."""
        rest = list(messages)

        def feed() -> bool:
            room = self.account.room()
            if room and rest:
                batch = rest[:room]
                del rest[:room]
                self.account.submit(batch)
            return not rest

        await until(feed)
        await until(lambda: all(one.id in self.outcomes for one in messages))

    def last(self, index: int) -> Outcome:
        return self.outcomes[f"m{index}"][-1]

    @property
    def receipts(self) -> list[DeliveryReceipt]:
        return [e for e in self.events if isinstance(e, DeliveryReceipt)]

    @property
    def texts(self) -> list[InboundMessage]:
        return [e for e in self.events if isinstance(e, InboundMessage)]

    def is_open(self) -> bool:
        return all(one.state == "open" for one in self.account.connections())


@asynccontextmanager
async def rig(
    version: Version = Version.V30,
    behaviour: Behaviour | None = None,
    *,
    clock: Clock | None = None,
    ledger: Path | None = None,
    highest: Version = Version.V30,
    first_sequence: int = 0,
    again: RetryPolicy = AT_ONCE,
    refused: RetryPolicy = AT_ONCE,
    wait: Callable[[Rig], object] = Rig.is_open,
    **own: Any,
) -> AsyncIterator[Rig]:
    gateway = Ismg(
        behaviour,
        accounts={SP_ID: SECRET},
        clock=clock,
        ledger=ledger,
        version=highest,
    )
    async with serving(gateway) as port:
        given = {"port": port, "connection_window": 50} | own
        account = account_at(version, first_sequence, again, refused, **given)
        found = Rig(gateway=gateway, account=account, port=port)
        gateway.taken = found.taken
        account.attach(found.answered, lambda: None)
        async with account.listen(found.accept):
            await until(lambda: wait(found))
            yield found


def account_at(
    version: Version,
    first_sequence: int = 0,
    again: RetryPolicy = AT_ONCE,
    refused: RetryPolicy = AT_ONCE,
    **own: Any,
) -> Account:
    """An account as `build` makes it, less patient where a test can't wait."""
    account: dict[str, Any] = {
        "host": "127.0.0.1",
        "version": f"{version >> 4}.0",
        "sp_id": SP_ID,
        "secret": SecretStr(SECRET),
        "service_number": "1065700001",
        "service_id": "LXFW",
    }
    settings = Settings(**account | own)
    clock = SystemClock()
    return Account(
        "cmpp",
        capabilities(settings),
        CmppCodec(settings, "【连心】", clock),
        Endpoint(
            host=settings.host,
            port=settings.port,
            connections=settings.connections,
            again=again,
            refused=refused,
        ),
        replace(limits(settings), first_sequence=first_sequence),
        clock,
    )


@asynccontextmanager
async def talking(
    version: Version, words: bytes
) -> AsyncIterator[tuple[Rig, bytearray]]:
    """A gateway of which only the words are known: it lets everybody in, says `words`
    once to each, notes what it hears, and leaves when it hears TERMINATE."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(39)
            writer.write(tables.connect_resp(1, 0, bytes(16), version) + words)
            while octets := await reader.read(4096):
                heard.extend(octets)
                if octets[4:8] == b"\0\0\0\2":
                    break
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        account = account_at(version, port=server.sockets[0].getsockname()[1])
        found = Rig(gateway=Ismg(), account=account, port=0)
        account.attach(found.answered, lambda: None)
        async with account.listen(found.accept):
            yield found, heard


async def a_while() -> None:
    """Long enough for what must not happen to happen on a loopback connection."""
    loop = asyncio.get_running_loop()
    ended = loop.time() + 0.15
    await until(lambda: loop.time() >= ended)
