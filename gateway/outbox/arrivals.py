"""Receipts that came on an account's own sessions, on their way to its sender: it
stores them in the commit that settles the answers they follow."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.contract import DeliveryReceipt

PATIENCE_SECONDS = 1.0  # after it somebody else stores them; providers wait about five
MOST = 2000  # receipts of one commit, a delivery more at most
Keyed = tuple[str, DeliveryReceipt]
"""A receipt and the key by which it is stored once."""


@dataclass(slots=True, eq=False)
class Delivery:
    """Receipts that are acknowledged together."""

    receipts: Sequence[Keyed]
    stored: asyncio.Future[bool]

    def end(self, stored: bool) -> None:
        if not self.stored.done():
            self.stored.set_result(stored)


class Arrivals:
    """Open while a sender is at work; `wake` tells it that something waits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: list[Delivery] = []
        self._is_open = False

    async def put(self, receipts: Sequence[Keyed]) -> bool:
        """True once they are committed. False: whoever asks stores them himself; what
        is committed late all the same does no harm, since keys are unique."""
        if not self._is_open:
            return False
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append(Delivery(receipts, stored))
        self._wake()
        await asyncio.wait({stored}, timeout=PATIENCE_SECONDS)
        return stored.done() and stored.result()

    def open(self) -> None:
        self._is_open = True

    def close(self) -> None:
        self._is_open = False
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            delivery.end(False)

    def take(self) -> list[Delivery]:
        """The oldest, for one commit; each must be told its end."""
        count = many = 0
        for delivery in self._waiting:
            if many >= MOST:
                break
            count, many = count + 1, many + len(delivery.receipts)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken
