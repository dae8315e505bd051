"""What a lab has to offer so that the contract suite can run over its adapter.

A lab is a small real server that plays one provider. A new channel adds one line to
`LABS` in registry.py; test_adapter_contract.py does the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gateway.contract import Adapter, Event, OutboundMessage


class Case(StrEnum):
    """One situation of the contract. The first group is about `send`, the second
    about what comes in."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # a definite no that would be repeated
    THROTTLED = "throttled"  # a no for now: HTTP 429, a 4yz reply
    UNREACHABLE = "unreachable"  # nobody listens
    REPLY_LOST = "reply_lost"  # everything was read, then the connection dies
    NONSENSE = "nonsense"  # a success that nobody can parse
    MIXED_BATCH = "mixed_batch"  # messages of odd index are refused, even ones taken
    LIMIT_TEXT = "limit_text"  # a text of exactly `capabilities.max_length`

    REPEATED = "repeated"  # the provider delivers the same thing again
    FORGED = "forged"  # a wrong signature, token or source address
    UNSIGNED = "unsigned"  # none at all
    BROKEN = "broken"  # bytes that are not of this provider's dialect
    UNMAPPED_STATUS = "unmapped_status"  # a receipt with a status word nobody knows


OUTBOUND = (
    Case.ACCEPTED,
    Case.REFUSED,
    Case.THROTTLED,
    Case.UNREACHABLE,
    Case.REPLY_LOST,
    Case.NONSENSE,
    Case.MIXED_BATCH,
    Case.LIMIT_TEXT,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message the provider took: our id and the text a person would read."""

    id: str
    text: str


class Lab(Protocol):
    """One running provider, and adapters wired to it."""

    secrets: Sequence[str]
    """What must never show in a log, a repr or an error: keys, tokens, passwords."""

    retry_after: timedelta | None
    """The delay told in `Case.THROTTLED`; None where the protocol has no such word."""

    def adapter(self, case: Case) -> AbstractAsyncContextManager[Adapter]:
        """An adapter that meets `case` for as long as the context is open.

        It is connected and ready to send when the context is entered, and closed when
        it is left (the suite also closes it itself: a second close is harmless).
        """
        ...

    def message(self, index: int, text: str = "") -> OutboundMessage:
        """A sendable message; index 0, 1, 2 ... give different ids.

        A given text is carried as it is; on a channel without free text it is the value
        of the only variable of a template.
        """
        ...

    def taken(self) -> Sequence[Taken]:
        """Messages the provider took since the lab was opened, oldest first."""
        ...

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        """Let the provider deliver what `case` stands for, over the wire where there is
        one, and return the events that the adapter handed on.

        Called twice for one case it delivers the very same bytes. Raises RequestError
        where the adapter turned the delivery away.
        """
        ...


OpenLab = Callable[[Path], AbstractAsyncContextManager[Lab]]
"""Starts a lab; the path is an empty folder of its own."""


@dataclass(frozen=True, slots=True)
class LabEntry:
    """One line of `LABS`. A case that can't happen on this channel is declared in
    `without` with the reason; a case is never left out silently."""

    open: OpenLab
    without: Mapping[Case, str] = field(default_factory=dict)

    def plays(self, case: Case) -> bool:
        return case not in self.without
