"""Pushes byte by byte: cut, in rows, hostile, and while the gateway stops.

What is no plain push is compared with what aiohttp answers by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from gateway.channels import ChannelSet, channel
from gateway.contract import Event, InboundMessage
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.settings import ChannelCommon, Settings, Storage
from gateway.web import front
from gateway.web.app import build_app
from gateway.web.hooks import hook_path
from gateway.web.keys import INBOX, Told
from tests.gateway.web.test_plain import HEADS, REQUEST
from tests.labs.process import until
from tests.labs.pushing import Inbox, Pushing

LAST = b"GET /static/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def database() -> None:
    """None is needed."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=Storage(data_dir=tmp_path))


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet([channel("sms", Pushing(), ChannelCommon(adapter="pushing"))])


class Slow(Inbox):
    """Says that something is stored when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Told] | None = None

    def take(self, channel: str, events: Sequence[Event], told: Told) -> None:
        if self.held is None:
            super().take(channel, events, told)
        else:
            self.held.append(told)

    def texts(self) -> list[str]:
        events = [event for _, event in self.accepted]
        return [one.text for one in events if isinstance(one, InboundMessage)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """One application: entered by the front, and by aiohttp alone."""

    path: bytes
    inbox: Slow
    runner: web.AppRunner
    site: front.Site
    front_port: int
    aiohttp_port: int
    wires: list["Wire"]

    def push(self, text: str, more: bytes = b"") -> bytes:
        body = text.encode()
        return b"POST %s HTTP/1.1\r\nHost: x\r\nSignature: good\r\n%s%s" % (
            self.path,
            more,
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        )

    async def open(self, port: int = 0, limit: int = 2**16) -> "Wire":
        found = await asyncio.open_connection(
            "127.0.0.1", port or self.front_port, limit=limit
        )
        self.wires.append(Wire(*found))
        return self.wires[-1]


@dataclass(frozen=True, slots=True)
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes) -> int:
        self.writer.write(data)
        return await self.status()

    async def status(self) -> int:
        """Of the next answer, which is read to its end."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        await self.reader.readexactly(int(length or 0))
        return int(head.split(" ", 2)[1])

    async def statuses(self) -> list[int]:
        """Of all answers until the gateway hangs up."""
        found = []
        try:
            async with asyncio.timeout(60):
                while True:
                    found.append(await self.status())
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return found


@asynccontextmanager
async def entered(core: Core) -> AsyncIterator[Entries]:
    app = build_app(core)
    app[INBOX] = inbox = Slow()
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = front.Site(runner, "127.0.0.1", 0)
    await site.start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = [address[1] for address in runner.addresses]
    wires: list[Wire] = []
    yield Entries(
        path=hook_path(core, "sms", "reply").encode(),
        inbox=inbox,
        runner=runner,
        site=site,
        front_port=ports[0],
        aiohttp_port=ports[1],
        wires=wires,
    )
    for wire in wires:
        wire.writer.close()
        with suppress(OSError):  # hung up on
            await wire.writer.wait_closed()
    await runner.cleanup()


@pytest.fixture
async def entries(core: Core) -> AsyncIterator[Entries]:
    async with entered(core) as found:
        yield found


async def test_a_push_may_come_in_two_pieces_cut_anywhere(entries: Entries) -> None:
    cut, other = await entries.open(), await entries.open()
    whole = entries.push("党")
    for at in range(1, len(whole)):
        cut.writer.write(whole[:at])
        assert await other.ask(entries.push("other")) == 200  # the piece was read
        assert await cut.ask(whole[at:]) == 200
    assert entries.inbox.texts().count("党") == len(whole) - 1


async def test_a_push_may_come_byte_by_byte(entries: Entries) -> None:
    cut, other = await entries.open(), await entries.open()
    for byte in entries.push("一二三"):
        cut.writer.write(bytes([byte]))
        assert await other.ask(entries.push("other")) == 200
    assert await cut.status() == 200
    assert "一二三" in entries.inbox.texts()


async def test_pushes_and_pages_are_answered_in_their_order(entries: Entries) -> None:
    wire = await entries.open()
    unknown = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    forged = entries.push("forged").replace(b"good", b"evil")
    asked = [entries.push("1"), entries.push("2"), forged, entries.push("3"), unknown]
    wire.writer.write(b"".join([*asked, entries.push("4"), LAST]))
    assert await wire.statuses() == [200, 200, 401, 200, 404, 200, 404]
    assert entries.inbox.texts() == ["1", "2", "3", "4"]


async def test_a_fault_is_told_once(entries: Entries) -> None:
    wire = await entries.open()
    entries.inbox.broken = True
    assert await wire.ask(entries.push("lost")) == 503
    entries.inbox.broken = False
    assert await wire.ask(entries.push("kept")) == 200
    assert entries.inbox.texts() == ["kept"]


async def test_a_thousand_pushes_in_a_row_keep_their_order(entries: Entries) -> None:
    """Also where the provider reads no answer before it has pushed them all."""
    wire = await entries.open(limit=1024)
    texts = [str(number) * 2000 for number in range(1000, 2000)]
    for text in texts:
        wire.writer.write(entries.push(text))
    await wire.writer.drain()
    for _ in texts:
        assert await wire.status() == 200
    assert entries.inbox.texts() == texts


ENDLESS = {"a long body", "a huge length"}  # whatever follows is their body
SIGNED = REQUEST + b"\r\nSignature: good\r\n"


def test_the_gateways_own_event_loop_does_the_same(core: Core) -> None:
    async def all_of_it() -> None:
        for test in (
            test_a_push_may_come_byte_by_byte,
            test_pushes_and_pages_are_answered_in_their_order,
            test_a_fault_is_told_once,
            test_a_thousand_pushes_in_a_row_keep_their_order,
            test_a_stop_answers_what_is_being_stored,
            test_a_stop_waits_for_no_inbox_that_hangs,
            test_a_provider_that_went_away_hinders_nobody,
        ):
            async with entered(core) as entries:
                await test(entries)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())


HOSTILE = {
    **{
        name: head + b"\r\nSignature: good\r\n\r\nhello"
        for name, head in HEADS.items()
        if name not in ENDLESS
    },
    "an oversized header": SIGNED + b"X: %s\r\n\r\n" % (b"a" * 9000),
    "an oversized path": SIGNED.replace(b"reply", b"a" * 9000) + b"\r\n",
    "many headers": SIGNED + b"".join(b"X%d: a\r\n" % n for n in range(200)) + b"\r\n",
    "line feeds alone": SIGNED.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "nothing but a head": SIGNED + b"\r\n",
    "an empty line before": b"\r\n" + SIGNED + b"Content-Length: 0\r\n\r\n",
    "noise": bytes(range(256)),
    "chunks and a length": (
        SIGNED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "whole chunks": (
        SIGNED + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    ),
    "a body longer than told": SIGNED + b"Content-Length: 2\r\n\r\nhello",
    "a request in a body": SIGNED + b"Content-Length: %d\r\n\r\n" % len(LAST) + LAST,
    "another token": SIGNED.replace(b"0123abcd", b"0123abce") + b"\r\n",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_strange_is_answered_as_aiohttp_answers_it(
    entries: Entries, hostile: bytes
) -> None:
    data = hostile.replace(b"/hooks/sms/0123abcd/reply", entries.path)
    found = []
    for port in (entries.front_port, entries.aiohttp_port):
        wire = await entries.open(port)
        wire.writer.write(data + LAST)
        found.append((await wire.statuses(), entries.inbox.texts()))
        entries.inbox.accepted.clear()
    assert found[0] == found[1]
    assert found[0][0]


async def test_a_stop_answers_what_is_being_stored(entries: Entries) -> None:
    idle, busy = await entries.open(), await entries.open()
    assert await idle.ask(entries.push("1")) == 200
    entries.inbox.held = []
    busy.writer.write(entries.push("2") + entries.push("3"))
    await until(lambda: _held(entries.inbox), 20)
    stop = asyncio.ensure_future(entries.site.stop())
    assert await idle.statuses() == []
    entries.inbox.held[0](None)
    assert await busy.statuses() == [200]  # the other was never taken
    await stop
    with pytest.raises(ConnectionRefusedError):
        await entries.open()


async def test_a_stop_waits_for_no_inbox_that_hangs(entries: Entries) -> None:
    wire = await entries.open()
    entries.inbox.held = []
    wire.writer.write(entries.push("1"))
    await until(lambda: _held(entries.inbox), 20)
    await entries.site.stop()
    assert await wire.statuses() == []
    entries.inbox.held[0](None)  # and what comes too late is for nobody


async def test_a_fault_while_stopping_hangs_up(entries: Entries) -> None:
    wire = await entries.open()
    entries.inbox.held = []
    wire.writer.write(entries.push("1"))
    await until(lambda: _held(entries.inbox), 20)
    stop = asyncio.ensure_future(entries.site.stop())
    await asyncio.sleep(0)
    entries.inbox.held[0](StorageUnavailable("stopping"))
    assert await wire.statuses() == []
    await stop


async def test_a_provider_that_went_away_hinders_nobody(entries: Entries) -> None:
    gone, other = await entries.open(), await entries.open()
    entries.inbox.held = held = []
    gone.writer.write(entries.push("1"))
    await until(lambda: _held(entries.inbox), 20)
    gone.writer.transport.abort()
    entries.inbox.held = None
    assert await other.ask(entries.push("2")) == 200
    held[0](None)
    assert await other.ask(entries.push("3")) == 200


async def test_who_never_ends_a_push_is_hung_up_on(entries: Entries) -> None:
    await front.Site(entries.runner, "127.0.0.1", 0, idle=0.2).start()
    port = entries.runner.addresses[-1][1]
    silent, slow = await entries.open(port), await entries.open(port)
    assert await slow.ask(entries.push("1")) == 200
    slow.writer.write(entries.push("2")[:-1])
    assert await silent.statuses() == await slow.statuses() == []


async def _held(inbox: Slow) -> bool:
    return bool(inbox.held)
