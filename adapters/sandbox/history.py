"""What the sandbox remembers: the ledger, and its latest messages in memory."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from adapters.sandbox.records import (
    Arrived,
    Ledger,
    Medium,
    Message,
    Pushed,
    Receipted,
    Record,
    Refused,
    Said,
    read,
)
from gateway.contract import Address

REMEMBERED_MESSAGES = 20_000  # of all places together; the ledger keeps them all
READ_AT_START_BYTES = 32 * 2**20


class History:
    """Appends to the ledger first, then remembers."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)
        self._messages: deque[Message] = deque()
        self._places: dict[tuple[Medium, Address], deque[Message]] = {}
        self._by_id: dict[str, Message] = {}
        self._settled: set[str] = set()
        self._refused: deque[Refused] = deque(maxlen=100)
        for record in read(path, READ_AT_START_BYTES):
            self._remember(record)

    def append(self, record: Record) -> None:
        """Raises OSError where the ledger can't be written: then nothing happened."""
        self._ledger.append(record)
        self._remember(record)

    def close(self) -> None:
        self._ledger.close()

    def find(self, provider_id: str) -> Message | None:
        return self._by_id.get(provider_id)

    def at(self, medium: Medium, place: Address) -> Sequence[Message]:
        """What was said at one handset, chat or mailbox, oldest first."""
        return tuple(self._places.get((medium, place), ()))

    def places(self, medium: Medium, limit: int) -> Sequence[Address]:
        """Where something was said, the latest first."""
        places = (place for of, place in reversed(self._places) if of is medium)
        return tuple(islice(places, limit))

    def refused(self, medium: Medium) -> Sequence[Refused]:
        """The latest messages that were turned down, oldest first."""
        return [one for one in self._refused if one.medium is medium]

    def is_settled(self, message: Message) -> bool:
        """Whether the gateway acknowledged its push, or its delivery receipt."""
        return message.provider_id in self._settled

    def unheard(self, medium: Medium) -> Sequence[Said]:
        """What people wrote and the gateway has not acknowledged."""
        return [
            message
            for message in self._messages
            if isinstance(message, Said)
            and message.medium is medium
            and message.heard
            and not self.is_settled(message)
        ]

    def unreceipted(self, medium: Medium) -> Sequence[Arrived]:
        """Messages whose delivery receipt the gateway has not acknowledged."""
        return [
            message
            for message in self._messages
            if isinstance(message, Arrived)
            and message.medium is medium
            and not self.is_settled(message)
        ]

    def _remember(self, record: Record) -> None:
        match record:
            case Arrived() | Said():
                self._remember_message(record)
            case Pushed() | Receipted():
                if record.provider_id in self._by_id:
                    self._settled.add(record.provider_id)
            case Refused():
                self._refused.append(record)

    def _remember_message(self, message: Message) -> None:
        self._messages.append(message)
        self._by_id[message.provider_id] = message
        place = (message.medium, message.place)
        said = self._places.pop(place, deque())
        said.append(message)
        self._places[place] = said  # moved to the end: the latest
        if len(self._messages) > REMEMBERED_MESSAGES:
            self._forget(self._messages.popleft())

    def _forget(self, message: Message) -> None:
        """The oldest of all is also the oldest at its place."""
        place = (message.medium, message.place)
        said = self._places[place]
        said.popleft()
        if not said:
            del self._places[place]
        self._settled.discard(message.provider_id)
        del self._by_id[message.provider_id]
