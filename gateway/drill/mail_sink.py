"""A mail server that takes mail and misbehaves: `python -m gateway.drill.mail_sink`.

It delays each answer, refuses some addresses for good, and hangs up instead of
answering for mails it has taken. Who is refused is decided by the address, so that
the same drill refuses the same people.
"""

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.drill.chance import falls

HELLO = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the server behaves; shares are of 1."""

    delay: float = 0.0  # seconds at most, before the answer to a mail
    refuse: float = 0.0
    drop: float = 0.0  # taken, and then the connection is cut without an answer
    seed: int = 1


class Ledger:
    """One line for each mail, in the file before the answer leaves."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(path, flags, 0o600)

    def write(self, what: str, to: str, **more: object) -> None:
        line = {"what": what, "to": to, "at": time.time(), **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Hangup(Exception):
    """The connection ends here."""


class Conversation:
    """One client, from the greeting to the end."""

    def __init__(
        self,
        manners: Manners,
        ledger: Ledger,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._manners = manners
        self._ledger = ledger
        self._reader = reader
        self._writer = writer
        self._to: list[str] = []

    async def run(self) -> None:
        try:
            await self._say(b"220 sink.test\r\n")
            while line := await self._reader.readline():
                await self._obey(line)
        except (Hangup, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writer.close()

    async def _obey(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"RCPT":
            await self._recipient(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb == b"DATA":
            await self._mail()
        elif verb == b"EHLO":
            await self._say(HELLO)
        elif verb == b"QUIT":
            await self._say(b"221 2.0.0 bye\r\n")
            raise Hangup
        else:
            self._to = [] if verb in (b"MAIL", b"RSET") else self._to
            await self._say(b"250 2.0.0 OK\r\n")

    async def _recipient(self, to: str) -> None:
        if falls(self._manners.refuse, self._manners.seed, "refuse", to):
            self._ledger.write("refused", to)
            await self._say(b"550 5.1.1 nobody here\r\n")
            return
        self._to.append(to)
        await self._say(b"250 2.1.5 OK\r\n")

    async def _mail(self) -> None:
        if not self._to:
            await self._say(b"503 5.5.1 no recipient\r\n")
            return
        await self._say(b"354 go on\r\n")
        await self._reader.readuntil(b"\r\n.\r\n")
        manners, to = self._manners, self._to[0]
        delay = random.uniform(0, manners.delay)
        await asyncio.sleep(delay / 2)
        told = not falls(manners.drop, manners.seed, "drop", to)
        for one in self._to:
            self._ledger.write("arrived", one, told=told)
        await asyncio.sleep(delay / 2)
        if not told:
            raise Hangup
        await self._say(b"250 2.0.0 taken\r\n")

    async def _say(self, line: bytes) -> None:
        self._writer.write(line)
        await self._writer.drain()


async def serve(port: int, ledger: Ledger, manners: Manners) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Conversation(manners, ledger, reader, writer).run()

    server = await asyncio.start_server(take, "127.0.0.1", port, limit=2**20)
    host, bound = server.sockets[0].getsockname()[:2]
    sys.stdout.write(f"listening on {host}:{bound}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(
    ledger: Annotated[Path, typer.Option(help="A file of JSON lines.")],
    port: Annotated[int, typer.Option(help="0: any free one.")] = 0,
    delay: Annotated[float, typer.Option(help="Seconds at most.")] = 0.0,
    refuse: Annotated[float, typer.Option(help="Share of addresses.")] = 0.0,
    drop: Annotated[float, typer.Option(help="Share of answers.")] = 0.0,
    seed: int = 1,
) -> None:
    """Take mail until killed."""
    manners = Manners(delay=delay, refuse=refuse, drop=drop, seed=seed)
    uvloop.run(serve(port, Ledger(ledger), manners))


if __name__ == "__main__":
    typer.run(main)
