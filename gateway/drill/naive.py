"""Senders as they are often built, and known to be wrong.

Controls of the crash drill, run as `python -m gateway.drill.naive`: a checker that
finds nothing here is not to be trusted. No gateway runs them. Each has its own table:

- `pop`: take from the queue, then send. A crash loses what was taken.
- `resend`: mark a batch, send, and send what is still marked again after a restart.
- `claim`: mark a batch, and call what is still marked unknown after a restart: far
  more than was on the wire.
- `window`: mark each just before its bytes. This one is right; it shows that the
  checker blames the design and not the program.
"""

import argparse
import asyncio
import contextlib
import sqlite3
from pathlib import Path

DESIGNS = ("pop", "resend", "claim", "window")
BATCH = 96  # rows of one claim: more than fit on the wire
_AFTER_RESTART = {"resend": "queued", "claim": "unknown", "window": "unknown"}


def create(path: Path, channel: str, addresses: list[str]) -> None:
    """The table with everybody in the queue."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute(
            "CREATE TABLE outbox (id INTEGER PRIMARY KEY, channel TEXT, value TEXT, "
            "state TEXT NOT NULL DEFAULT 'queued')"
        )
        rows = [(channel, address) for address in addresses]
        base.executemany("INSERT INTO outbox (channel, value) VALUES (?, ?)", rows)
        base.commit()


class Naive:
    """One process with as many connections as its window."""

    def __init__(self, design: str, path: Path) -> None:
        self._design = design
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.execute("PRAGMA synchronous = NORMAL")  # nobody cuts the power
        self._taken: list[tuple[int, str]] = []

    def recover(self) -> None:
        after = _AFTER_RESTART.get(self._design)
        if after is not None:
            self._base.execute(
                "UPDATE outbox SET state = ? WHERE state = 'sending'", (after,)
            )

    def next(self) -> tuple[int, str] | None:
        if not self._taken:
            size = 1 if self._design == "window" else BATCH
            self._taken = self._base.execute(
                "UPDATE outbox SET state = 'sending' WHERE id IN (SELECT id FROM "
                "outbox WHERE state = 'queued' ORDER BY id LIMIT ?) "
                "RETURNING id, value",
                (size,),
            ).fetchall()
        return self._taken.pop() if self._taken else None

    def settle(self, id: int, state: str) -> None:
        self._base.execute("UPDATE outbox SET state = ? WHERE id = ?", (state, id))

    async def work(self, host: str, port: int) -> None:
        """One connection after the other until the queue is empty."""
        connection = await asyncio.open_connection(host, port)
        await _expect(connection[0], b"220")
        while (row := self.next()) is not None:
            id, to = row
            state = await self._send(connection, to)
            self.settle(id, state)
            if state == "unknown":
                connection = await asyncio.open_connection(host, port)
                await _expect(connection[0], b"220")
        connection[1].close()

    async def _send(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], to: str
    ) -> str:
        reader, writer = connection
        try:
            writer.write(b"MAIL FROM:<drill@example.org>\r\n")
            await _expect(reader, b"250")
            writer.write(b"RCPT TO:<%s>\r\n" % to.encode())
            if not await _told(reader, b"250"):
                return "failed"
            writer.write(b"DATA\r\n")
            await _expect(reader, b"354")
            writer.write(b"To: <%s>\r\n\r\ndrill\r\n.\r\n" % to.encode())
            await _expect(reader, b"250")
        except (OSError, EOFError):
            return "unknown"
        return "accepted"


async def _told(reader: asyncio.StreamReader, code: bytes) -> bool:
    line = await reader.readline()
    if not line:
        raise EOFError
    return line.startswith(code)


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    if not await _told(reader, code):
        raise EOFError


async def run(design: str, path: Path, host: str, port: int, window: int) -> None:
    sender = Naive(design, path)
    sender.recover()
    await asyncio.gather(*(sender.work(host, port) for _ in range(window)))


def main() -> None:
    """Send everything that waits, and end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--design", choices=DESIGNS, required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--window", type=int, default=32)
    given = parser.parse_args()
    asyncio.run(run(given.design, given.database, given.host, given.port, given.window))


if __name__ == "__main__":
    main()
