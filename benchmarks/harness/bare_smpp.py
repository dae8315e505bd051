"""What SMPP costs by itself: submits built beforehand, a window, receipts answered.

No journal, no database, no object per message: the physical limit of one process and
one connection against the same centre.
"""

import asyncio
import time
from typing import cast

from adapters.smpp import pdu

WINDOW = 100
_SUBMIT_RESP, _DELIVER = pdu.SUBMIT_SM_RESP, pdu.DELIVER_SM
_PACK, _UNPACK = pdu.HEADER.pack, pdu.HEADER.unpack_from


class Bare(asyncio.Protocol):
    """Sends `count` messages; `done` is the seconds until the last receipt came."""

    def __init__(self, login: bytes, bodies: list[bytes], count: int) -> None:
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._login = login
        self._bodies = bodies
        self._count = count
        self._sent = self._awaited = self._receipts = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._login)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("hung up"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        start, answers = 0, []
        while start + 16 <= len(data):
            size, command, _, sequence = _UNPACK(data, start)
            if start + size > len(data):
                break
            start += size
            if command == _SUBMIT_RESP:
                self._awaited -= 1
            elif command == _DELIVER:
                self._receipts += 1
                answers.append(_PACK(17, pdu.DELIVER_SM_RESP, 0, sequence) + b"\0")
            elif command == pdu.BIND_TRANSCEIVER_RESP:
                self._began = time.perf_counter()
            elif command == pdu.ENQUIRE_LINK:
                answers.append(_PACK(16, pdu.ENQUIRE_LINK_RESP, 0, sequence))
        self._rest = data[start:]
        self._transport.write(b"".join([*answers, *self._next()]))
        if self._receipts == self._count and not self.done.done():
            self.done.set_result(time.perf_counter() - self._began)

    def _next(self) -> list[bytes]:
        many = min(WINDOW - self._awaited, self._count - self._sent)
        bodies, first = self._bodies, self._sent
        self._sent += many
        self._awaited += many
        frames = []
        for number in range(first, first + many):
            body = bodies[number % len(bodies)]
            frames.append(_PACK(16 + len(body), pdu.SUBMIT_SM, 0, number + 2) + body)
        return frames


async def rate(
    address: tuple[str, int], login: bytes, bodies: list[bytes], count: int
) -> float:
    """Messages a second, each with its receipt."""
    loop = asyncio.get_running_loop()
    transport, bare = await loop.create_connection(
        lambda: Bare(login, bodies, count), *address
    )
    try:
        return count / await bare.done
    finally:
        transport.close()
