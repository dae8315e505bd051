"""A provider that pushes: one message a request over connections that are kept open.

Speaks just enough HTTP/1.1, so that it costs little beside the server it measures.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import uvloop

TEXT = "您好，我想咨询一下组织关系转接需要带哪些材料，第{number}号。"


class Pusher(asyncio.Protocol):
    """One connection: the next request leaves when the last was answered."""

    def __init__(self, requests: Iterator[bytes], told: "Told") -> None:
        self._requests, self._told = requests, told
        self._read = b""
        self._sent_at = 0.0
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none
        self._next()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._read = b""
        self._told.answered(head[9:12] == b"200", time.perf_counter() - self._sent_at)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError("the server hung up"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


class Told:
    """What the server answered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.refused = 0

    def answered(self, good: bool, seconds: float) -> None:
        self.seconds.append(seconds)
        self.refused += not good


def requests(host: str, path: str, numbers: Iterable[int]) -> list[bytes]:
    """Prepared, so that building them is not measured."""
    made = []
    for number in numbers:
        body = json.dumps(
            {
                "mobile": f"199{number % 100_000_000:08d}",
                "nationcode": "86",
                "text": TEXT.format(number=number),
                "time": 1_700_000_000 + number,
                "extend": "",
            },
            ensure_ascii=False,
        ).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json"
            f"\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def push(
    host: str, port: int, path: str, numbers: Sequence[int], connections: int
) -> None:
    prepared = iter(requests(f"{host}:{port}", path, numbers))
    told = Told()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: Pusher(prepared, told), host, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(one.ended for _, one in opened))
    seconds = time.perf_counter() - began
    taken = sorted(told.seconds)
    result = {
        "rate": len(numbers) / seconds,
        "refused": told.refused,
        "p99 ms": taken[len(taken) * 99 // 100] * 1000,
    }
    sys.stdout.write(f"pushed {json.dumps(result)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.count)
    uvloop.run(push(given.host, given.port, given.path, numbers, given.connections))


if __name__ == "__main__":
    main()
