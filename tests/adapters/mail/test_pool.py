"""The parser's children: bombs, kills, a busy pool, a clean end."""

import asyncio
import os
import time

import pytest

from adapters.mail.addresses import Mailbox
from adapters.mail.parse import UNREADABLE, Envelope
from adapters.mail.pool import ParserPool
from gateway.contract import InboundMessage
from tests.labs.heartbeat import heartbeat

BOX = Mailbox(address="service@centre.example", key=b"k" * 32)
ENVELOPE = Envelope(sender="li@member.example", recipients=(BOX.address,))
PLAIN = b"From: li@member.example\r\nMessage-ID: <p@x.y>\r\n\r\nhi\r\n"


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
        for n in range(depth)
    )


MIXED = b"From: li@member.example\nContent-Type: multipart/mixed; boundary=b\n\n"
BOMBS = {
    "empty parts": MIXED + b"--b\n\n" * 200_000,
    "references": b"References: " + b"<a@b.example> " * 85_000 + b"\n\nx",
    "subject": b"Subject: " + b"=?utf-8?q?a?=\n " * 20_000 + b"\n\nx",
    "recipients": b"To: " + b"someone@some.example,\n " * 20_000 + b"\n\nx",
    "nested": nested(1500),
}
# These pass the byte-level limits and are stopped, if at all, by the child's own.
SLOW = {
    "headers of a part": MIXED + b"--b\n" + b"X-Y: z\n" * 1_500_000 + b"\nx\n--b--\n",
    "open html comments": b"Content-Type: text/html\n\n" + b"<!-" * 600_000,
    "open html tags": b"Content-Type: text/html\n\n" + b"<a b='" * 300_000,
    "one line": b"\n" + b"(" * 5_000_000,
    "short lines": b"\n" + b"\n" * 5_000_000,
    "quotes": "\n".join(["", *["在 2026 于2026年 " * 12] * 20_000]).encode(),
}


async def read(pool: ParserPool, raw: bytes) -> InboundMessage:
    [event] = await pool.parse(raw, ENVELOPE)
    assert isinstance(event, InboundMessage)
    assert event.raw == raw
    return event


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_kept_unread_and_the_loop_goes_on(name: str) -> None:
    pool = ParserPool(1, BOX)
    async with pool.running(), heartbeat() as worst:
        began = time.perf_counter()
        found = await read(pool, BOMBS[name])
        assert time.perf_counter() - began < 3
        assert found.text == UNREADABLE
        assert found.attachments[0].content == BOMBS[name]
        assert (await read(pool, PLAIN)).text == "hi"
    assert worst[0] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
async def test_what_the_limits_let_through_ends_in_time(name: str) -> None:
    pool = ParserPool(1, BOX)
    async with pool.running(), heartbeat() as worst:
        began = time.perf_counter()
        await read(pool, SLOW[name])
        assert time.perf_counter() - began < 8
        assert (await read(pool, PLAIN)).text == "hi"
    assert worst[0] < 0.1


async def test_a_child_that_takes_too_long_is_replaced() -> None:
    pool = ParserPool(1, BOX, seconds=0.05)
    async with pool.running():
        slow = await read(pool, b"Content-Type: text/html\n\n" + b"<p>x" * 500_000)
        assert slow.notes == ("unreadable",)
        [again] = await pool.parse(PLAIN, ENVELOPE)
    assert again.key


async def test_a_killed_child_loses_nothing() -> None:
    pool = ParserPool(1, BOX)
    async with pool.running():
        [child] = pool._children
        os.kill(child._process.pid, 9)
        assert (await read(pool, PLAIN)).text == UNREADABLE
        found = await read(pool, PLAIN)
        assert found.text == "hi"


async def test_the_key_is_the_same_read_or_unread() -> None:
    pool = ParserPool(1, BOX)
    async with pool.running():
        [child] = pool._children
        os.kill(child._process.pid, 9)
        unread = await read(pool, PLAIN)
        assert (await read(pool, PLAIN)).key == unread.key


async def test_more_mails_than_children() -> None:
    pool = ParserPool(2, BOX)
    async with pool.running():
        found = await asyncio.gather(*(read(pool, PLAIN) for _ in range(40)))
        assert len(pool._children) == 2
    assert {message.text for message in found} == {"hi"}


async def test_a_client_that_leaves_does_not_spoil_the_next_answer() -> None:
    pool = ParserPool(1, BOX)
    async with pool.running():
        left = asyncio.create_task(read(pool, SLOW["short lines"]))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert (await read(pool, PLAIN)).text == "hi"


async def test_it_ends_in_less_than_a_second() -> None:
    pool = ParserPool(2, BOX)
    async with pool.running():
        busy = asyncio.create_task(read(pool, SLOW["short lines"]))
        await asyncio.sleep(0)
        pids = [child._process.pid for child in pool._children]
        began = time.perf_counter()
    assert time.perf_counter() - began < 1
    await asyncio.gather(busy, return_exceptions=True)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_large_mail_does_not_hold_up_the_loop() -> None:
    raw = PLAIN + b"x" * 24_000_000
    pool = ParserPool(1, BOX)
    async with pool.running(), heartbeat() as worst:
        assert (await read(pool, raw)).notes == ("truncated",)
    assert worst[0] < 0.1
