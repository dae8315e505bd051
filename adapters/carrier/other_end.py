"""The other end of a connection: what the sessions of every simulated centre share.

Frames come in, what is to be said leaves in one write a batch, and the connection
goes silent or breaks at the byte it is told to.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from adapters.carrier.frames import Frames


class Mishaps(Protocol):
    """What can go wrong with a connection, of all that a centre's behaviour says."""

    @property
    def mute(self) -> bool: ...
    @property
    def hang_up_at(self) -> int: ...
    @property
    def hang_up_after(self) -> int: ...


class Behaving(Protocol):
    @property
    def behaviour(self) -> Mishaps: ...


class OtherEnd(asyncio.Protocol, ABC):
    """One connection of a gateway, as its centre sees it."""

    def __init__(self, centre: Behaving, header_bytes: int) -> None:
        self.out: list[bytes] = []  # leaves with the next push
        self._told = centre
        self._frames = Frames(header_bytes)
        self._received = 0
        self._written = 0
        self._transport: asyncio.Transport | None = None

    @abstractmethod
    def _work(self, frames: Sequence[bytes]) -> None:
        """Take these whole frames, in the order they came in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own transports don't descend from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        behaviour = self._told.behaviour
        if behaviour.mute:
            return
        over = -1
        if behaviour.hang_up_at:
            over = self._received + len(data) - behaviour.hang_up_at
            self._received += len(data)
        self._work(self._frames.feed(data[:-over] if over > 0 else data))
        if self._frames.fault or over >= 0:
            self.hang_up()

    def push(self) -> None:
        if not self.out:
            return
        out, self.out = self.out, []
        if self._transport and not self._transport.is_closing():
            self._write(b"".join(out), self._told.behaviour.hang_up_after)

    def _write(self, data: bytes, last: int) -> None:
        """No more than `last` bytes of the connection, if that is not 0."""
        assert self._transport
        left = max(0, last - self._written) if last else len(data)
        self._transport.write(data[:left])
        self._written += len(data)
        if last and self._written >= last:
            self._transport.close()  # what was written still arrives

    def close(self) -> None:
        """Say what is to be said, then end."""
        self.push()
        if self._transport:
            self._transport.close()

    def hang_up(self) -> None:
        self.push()
        if self._transport:
            self._transport.abort()
