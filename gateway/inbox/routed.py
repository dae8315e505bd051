"""What routing a batch of messages changed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.inbox.bulk.world import Message
from gateway.tables import Inbound


@dataclass(slots=True)
class Routed:
    """For the pages that are open, and the senders."""

    count: int = 0
    oldest: datetime | None = None  # when the first of it came
    left: int = 0  # of it that stay stored, for the next batch
    inquiries: set[int] = field(default_factory=set)
    broadcasts: set[int] = field(default_factory=set)
    reviews: list[int] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)  # by which something is to leave
    alone: list[Inbound] = field(default_factory=list)


Route = Callable[[Sequence[Message]], Awaitable[Routed]]
"""Routes messages in the transaction that stores them, or has locked them."""
