"""What one protocol has to offer to the session engine, and what it reads frames as.

A codec holds no connection and does no I/O. SMPP and CMPP are two; SGIP and SMGP fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.contract import Event, InboundMessage, OutboundMessage
from gateway.errors import DeliveryError, TransientFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of a message that came in several.

    `body` holds the part's characters in the bytes of `coding`: bodies of one group
    put one after another can be read by `Codec.text`. A group is sender, recipient,
    reference and number of parts.
    """

    group: str
    number: int  # from 1
    total: int
    coding: int
    body: bytes
    message: InboundMessage  # this part as if it were alone


class Answer(NamedTuple):
    """What became of a part that we submitted: its provider id, or a refusal."""

    sequence: int
    outcome: str | DeliveryError


class NotBound(NamedTuple):
    """As `Answer`, and the peer refuses because to it this connection isn't logged in
    for sending: only a new one mends that."""

    sequence: int
    refusal: TransientFailure


class Delivery(NamedTuple):
    """Something the peer hands over; it wants to hear when we have it.

    `token` is what the acknowledgement quotes besides the sequence number. Without
    content there is nothing to keep.
    """

    sequence: int
    token: bytes
    content: Event | Segment | None
    # The protocol gave no id: `content.key` only says what it says, and the engine
    # tells a repetition from the same words said twice.
    nameless: bool = False


class LoginAnswer(NamedTuple):
    """`refused` is empty where we are in. A lasting refusal (password, rights) is
    asked again rarely, so that the account is not locked."""

    refused: str = ""
    lasting: bool = False


class Reply(NamedTuple):
    """Nothing for us, but the peer is to hear this: heartbeats, unknown commands."""

    data: bytes


class Farewell(NamedTuple):
    """The peer ends the session; it is to hear `data` before we hang up."""

    data: bytes


class Alive(NamedTuple):
    """Nothing to do; that it came is enough."""


Incoming = Answer | NotBound | Delivery | LoginAnswer | Reply | Farewell | Alive


class Malformed(Exception):
    """A frame of the right length whose inside can't be read; `reply` says so."""

    def __init__(self, code: str, reply: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.reply = reply


class Codec(Protocol):
    header_bytes: int  # no frame is shorter
    first_sequence: int
    last_sequence: int  # then from `first_sequence` again

    def login(self, sequence: int) -> bytes: ...
    def heartbeat(self, sequence: int) -> bytes: ...
    def logout(self, sequence: int) -> bytes: ...

    def bodies(self, message: OutboundMessage) -> Sequence[bytes]:
        """One body for each part, at least one. Raises DeliveryError for a message
        that can't be said in this protocol."""
        ...

    def submit(self, body: bytes, sequence: int) -> bytes:
        """The frame that hands over one part."""
        ...

    def decode(self, frame: bytes) -> Incoming:
        """Read one whole frame. Raises Malformed, and nothing else, ever."""
        ...

    def acknowledge(self, delivery: Delivery, *, stored: bool) -> bytes:
        """The answer to a delivery; not stored: please come again."""
        ...

    def text(self, coding: int, body: bytes) -> tuple[str, bool]:
        """What joined bodies say, and whether any of it was unreadable."""
        ...
