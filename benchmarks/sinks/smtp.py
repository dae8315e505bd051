"""A mail server that takes everything: `python -m benchmarks.sinks.smtp --port 0`.

It counts, and with `--ledger FILE` appends a line of envelope and message id before
each 250. Knows PIPELINING (RFC 2920), 8BITMIME, SMTPUTF8, SIZE, and nothing of TLS.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import IO, Annotated, cast

import typer
import uvloop

HELLO = (
    b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-SIZE 35882577\r\n250 ENHANCEDSTATUSCODES\r\n"
)
PLAIN_HELLO = b"250-sink.test\r\n250 8BITMIME\r\n"
OK = b"250 2.0.0 OK\r\n"
END = b"\r\n.\r\n"


class Connection(asyncio.Protocol):
    """One client; commands are answered in the order they come, however cut."""

    def __init__(self, hello: bytes, ledger: IO[str] | None) -> None:
        self._hello = hello
        self._ledger = ledger
        self._left = b""
        self._in_mail = False
        self._done = False
        self._sender = b""
        self._recipients: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 sink.test\r\n")

    def data_received(self, data: bytes) -> None:
        self._left += data
        answers: list[bytes] = []
        while (took := self._mail() if self._in_mail else self._line()) is not None:
            answers.append(took)
        if answers:
            self._transport.write(b"".join(answers))
        if self._done:
            self._transport.close()

    def _mail(self) -> bytes | None:
        end = self._left.find(END)
        if end < 0:
            return None
        content, self._left = self._left[:end], self._left[end + len(END) :]
        self._in_mail = False
        if self._ledger is not None:
            self._write_down(content)
        self._recipients = []
        return OK

    def _line(self) -> bytes | None:
        line, found, rest = self._left.partition(b"\r\n")
        if not found:
            return None
        self._left = rest
        return self._command(line)

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"MAIL":
            self._sender = _address(line)
        elif verb == b"RCPT":
            self._recipients.append(_address(line))
        elif verb == b"DATA":
            self._in_mail = True
            return b"354 go on\r\n"
        elif verb == b"EHLO":
            return self._hello
        elif verb == b"QUIT":
            self._done = True
            return b"221 2.0.0 bye\r\n"
        return OK

    def _write_down(self, content: bytes) -> None:
        assert self._ledger is not None
        line = {
            "sender": self._sender.decode(),
            "recipients": [one.decode() for one in self._recipients],
            "message_id": _message_id(content),
            "bytes": len(content),
        }
        self._ledger.write(f"{json.dumps(line)}\n")
        self._ledger.flush()


def _address(line: bytes) -> bytes:
    return line.partition(b"<")[2].partition(b">")[0]


def _message_id(content: bytes) -> str:
    found = content.partition(b"\r\nMessage-ID: ")[2]
    return found.partition(b"\r\n")[0].decode("ascii", "replace")


async def serve(port: int, ledger: IO[str] | None, pipelining: bool) -> None:
    hello = HELLO if pipelining else PLAIN_HELLO
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(hello, ledger), "127.0.0.1", port
    )
    host, bound = server.sockets[0].getsockname()[:2]
    sys.stdout.write(f"listening on {host}:{bound}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(
    port: Annotated[int, typer.Option(help="0: any free one.")] = 0,
    ledger: Annotated[Path | None, typer.Option(help="A file of JSON lines.")] = None,
    pipelining: Annotated[bool, typer.Option(help="Whether to offer it.")] = True,
) -> None:
    """Take every mail until killed."""
    file = ledger.open("a", encoding="utf-8") if ledger else None
    uvloop.run(serve(port, file, pipelining))


if __name__ == "__main__":
    typer.run(main)
