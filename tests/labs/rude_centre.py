"""An SMS centre without manners: lets everybody in, then says what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from adapters.smpp import pdu


class RudeCentre:
    """`greeting` follows the bind's answer; everything heard later is kept."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.silent = False
        self.heard: list[bytes] = []
        self.binds = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readexactly(4)
                frame = head + await reader.readexactly(int.from_bytes(head, "big") - 4)
                self._take(frame, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _take(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        _, command, _, sequence = pdu.HEADER.unpack_from(frame)
        if command == pdu.UNBIND:
            writer.close()
            return
        if command != pdu.BIND_TRANSCEIVER:
            self.heard.append(frame)
            return
        self.binds += 1
        if self.silent:
            return
        answer = pdu.frame(pdu.BIND_TRANSCEIVER_RESP, sequence, b"rude\0")
        writer.write(answer + self.greeting)

    def say(self, data: bytes) -> None:
        self.writers[-1].write(data)


@asynccontextmanager
async def rude_centre(greeting: bytes = b"") -> AsyncIterator[tuple[RudeCentre, int]]:
    centre = RudeCentre(greeting)
    server = await asyncio.start_server(centre.serve, "127.0.0.1", 0)
    try:
        yield centre, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in centre.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
