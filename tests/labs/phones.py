"""A small SMS provider in memory, honest about everything it is given.

An adapter of the contract for flow tests: it records, and can be told to answer
otherwise. Receipts and texts are handed to the inbox by the test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    Capabilities,
    DeliveryReceipt,
    InboundMessage,
    OutboundMessage,
    Outcome,
    ReceiptState,
    TextEncoding,
)
from gateway.errors import DeliveryError

SMS = Capabilities(
    address_kinds=frozenset({AddressKind.PHONE}),
    encoding=TextEncoding.UCS2,
    max_length=500,
    segments=(70, 67),
    delivery_receipts=True,
    window=8,
    rate_per_second=1000.0,
)
CHAT = Capabilities(
    address_kinds=frozenset({AddressKind.QQ, AddressKind.GROUP}),
    encoding=TextEncoding.UTF8,
    max_length=4500,
    window=1,
    rate_per_second=1000.0,
)
MAIL = Capabilities(
    address_kinds=frozenset({AddressKind.EMAIL}),
    encoding=TextEncoding.UTF8,
    max_length=65536,
    subject=True,
    rate_per_second=1000.0,
)


@dataclass(slots=True)
class Phones:
    """Every handset of the country. `answers` overrides what is said to a number."""

    capabilities: Capabilities = SMS
    sent: list[OutboundMessage] = field(default_factory=list)
    answers: dict[str, DeliveryError] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for message in batch:
            error = self.answers.get(message.to.value)
            if error is None:
                self.sent.append(message)
            outcomes[message.id] = error or Accepted((f"p{message.id}",))
        return outcomes

    async def close(self) -> None:
        """Nothing to let go."""

    def text(
        self, number: str, text: str, key: str = "", kind: str = "phone"
    ) -> InboundMessage:
        """What the provider pushes when somebody writes."""
        return InboundMessage(
            key=key or f"in{next(self._numbers)}",
            sender=Address(AddressKind(kind), number),
            text=text,
            raw=text.encode(),
            provider_id=f"theirs{next(self._numbers)}",
        )

    def receipt(
        self, message: OutboundMessage, state: ReceiptState = ReceiptState.DELIVERED
    ) -> DeliveryReceipt:
        return DeliveryReceipt(
            key=f"{message.id}:{state}",
            provider_id=f"p{message.id}",
            state=state,
            raw=b"receipt",
        )

    def last(self, number: str) -> str:
        """The newest text on a handset."""
        return next(m.text for m in reversed(self.sent) if m.to.value == number)
