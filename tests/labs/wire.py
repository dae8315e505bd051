"""The network between a process and its database, to be cut: bytes stop on the way
and nobody is told, as where a switch dies or a firewall drops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Forwards a local port. What was on the way when it was cut arrives when it is
    mended, as TCP would send it again."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._is_away = False
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    def say(self, data: bytes) -> None:
        """To all clients, as if the server had said it."""
        for client in self._clients:
            client.write(data)

    def hang_up(self) -> None:
        for client in self._clients:
            client.close()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Whoever is connected is hung up on, and nobody gets in, as where the server
        was stopped."""
        self._is_away = True
        self.hang_up()
        try:
            yield
        finally:
            self._is_away = False

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_away:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        try:
            await self._whole.wait()
            there, back = await asyncio.open_connection(*self._to)
            ways = (self._carry(reader, back), self._carry(there, writer))
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._clients.discard(writer)
            self._tasks.discard(task)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def close(self) -> None:
        self.mend()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[tuple[str, Wire]]:
    """The database's address over a wire, and the wire."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    wire = Wire(parts.hostname, parts.port)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    netloc = f"{parts.username}@127.0.0.1:{port}"
    try:
        yield urlunsplit(parts._replace(netloc=netloc)), wire
    finally:
        server.close()
        await wire.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
