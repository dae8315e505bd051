"""A mail server that follows a script, byte for byte: what no honest one would say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HELLO = b"250-script.test\r\n250 PIPELINING\r\n"
HANG_UP = b"<hang up>"


@dataclass
class Script:
    """`groups` holds, by connection, what came in each time the client waited."""

    port: int = 0
    groups: list[list[bytes]] = field(default_factory=list)


@asynccontextmanager
async def smtp_script(
    answer: Callable[[int, bytes], Sequence[bytes]], hello: bytes = HELLO
) -> AsyncIterator[Script]:
    """`answer(connection, group)` gives the pieces to write, each a packet of its own,
    for everything that came since the last answer."""
    script = Script()
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[object] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.append(asyncio.current_task())
        number = len(script.groups)
        script.groups.append([])
        writer.write(b"220 script.test\r\n")
        while group := await _read(reader):
            greeting = group.startswith(b"EHLO")
            if not greeting:
                script.groups[number].append(group)
            for piece in [hello] if greeting else answer(number, group):
                if piece == HANG_UP:
                    writer.transport.abort()
                    return
                with contextlib.suppress(ConnectionError):
                    writer.write(piece)
                    await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        if tasks:
            await asyncio.wait([task for task in tasks if task])


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 20)
    except ConnectionError:
        return b""
