"""What the gateway and an adapter say to each other. Pure data, no I/O.

An adapter translates one provider's dialect. It does not store, retry, wait, split,
trim, log bodies or decide policy. docs/adding-a-channel.md is the guide.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.errors import DeliveryError

if TYPE_CHECKING:
    from gateway.bots import BotBridge


class AddressKind(StrEnum):
    """How somebody is reached. One channel serves one kind, QQ also its groups."""

    PHONE = "phone"
    EMAIL = "email"
    QQ = "qq"
    GROUP = "group"
    WECHAT = "wechat"
    WEB = "web"


class MessageKind(StrEnum):
    """Why a message is written; decides its priority, its gate and its binding."""

    RECEIPT = "receipt"  # automatic receipt of an inquiry
    ANSWER = "answer"  # staff or knowledge answer an inquiry
    CALLBACK = "callback"  # outcome told, satisfaction asked
    NOTICE = "notice"  # activity notice
    DAILY = "daily"  # daily Q&A
    SYSTEM = "system"  # confirmation of a command: opt-out, binding, help
    TEST = "test"  # a test message from the channel page


class TextEncoding(StrEnum):
    """The unit in which `Capabilities.max_length` counts."""

    UCS2 = "ucs2"  # UTF-16 code units
    UTF8 = "utf8"  # bytes


@dataclass(frozen=True, slots=True)
class Address:
    """One way to reach somebody; `value` is in its normal form.

    phone: E.164 (`+8613800138000`); email: lower-case domain; qq, group: digits.
    """

    kind: AddressKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """A channel's limits and promises. Policy reads them before calling `send`."""

    address_kinds: frozenset[AddressKind]
    encoding: TextEncoding
    max_length: int  # longest text, all segments together, in `encoding` units
    # Characters in a lone segment and in one of several; None: not billed by segment.
    segments: tuple[int, int] | None = None
    subject: bool = False  # carries a subject line
    delivery_receipts: bool = False  # else `accepted` is the last state we will see
    proactive: bool = True  # may write first; else only reply
    reply_window: timedelta | None = None  # how long a reply may follow; None: ever
    replies_per_message: int | None = None  # replies allowed to one inbound message
    free_text: bool = True  # else approved template codes with variables only
    batch_size: int = 1  # messages in one call of `send`
    window: int = 8  # calls of `send` in flight at once
    rate_per_second: float = 10.0  # messages a second, all calls together


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """Something a person wrote to us.

    `key` is unique within the channel account for ever: a repeated push carries the
    same key. `raw` is the provider's payload, byte for byte.
    """

    key: str
    sender: Address
    text: str
    raw: bytes
    earlier_key: str = ""  # another that it may be stored under: it is the same then
    sent_at: datetime | None = None  # the provider's clock, aware; None if not told
    provider_id: str = ""  # what to quote when answering this very message
    conversation: Address | None = None  # the group it was said in; None: private
    to: str = ""  # the address it was sent to (mail recipient, extension code)
    subject: str = ""
    display_name: str = ""  # the name the sender shows; claimed, never trusted
    quoted: str = ""  # earlier mail below the answer, kept folded
    answers_to: tuple[str, ...] = ()  # provider ids of ours that it replies to
    reply_token: str = ""  # token from the plus-address; not verified yet
    attachments: tuple[Attachment, ...] = ()
    automatic: bool = False  # written by a machine (RFC 3834): never answered by one
    notes: tuple[str, ...] = ()  # for staff: "unreadable", "truncated", ...


class ReceiptState(StrEnum):
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"  # a status word that is not in the adapter's table


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReceipt:
    """DLR: what became of a message. Matched by our `reference`, else `provider_id`."""

    key: str
    provider_id: str
    state: ReceiptState
    raw: bytes
    reference: str = ""  # our message id, where the provider echoes it
    code: str = ""  # the provider's own word
    address: Address | None = None
    at: datetime | None = None
    opted_out: bool = False  # the code says: refused by the provider's blacklist


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """The provider tells that an address refuses our messages."""

    key: str
    address: Address
    raw: bytes
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTrouble:
    """The account itself is in trouble: kicked from a group, frozen, muted."""

    key: str
    code: str
    raw: bytes
    address: Address | None = None  # the group concerned, if one


Event = InboundMessage | DeliveryReceipt | OptOut | ChannelTrouble


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """One HTTP push of a provider, as it came. `path` is what follows the channel's
    secret address (`report`, `reply`), `remote` the peer's IP address."""

    path: str
    body: bytes
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """Normalised events, and the exact answer this provider wants to hear."""

    events: tuple[Event, ...]
    reply: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """An approved template of the provider, with its variables in order."""

    code: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """One message to one address, rendered and checked against `Capabilities`.

    `id` is ours, ASCII, at most 32 characters, the same in every attempt.
    """

    id: str
    kind: MessageKind
    to: Address
    text: str
    subject: str = ""
    template: TemplateUse | None = None  # set where `free_text` is false
    in_reply_to: str = ""  # provider id of the inbound message this answers
    references: tuple[str, ...] = ()  # provider ids of the thread, oldest first
    reply_token: str = ""  # signed; mail puts it into the plus-address
    mention: str = ""  # in a group: the person spoken to
    unsubscribe_url: str = ""  # broadcasts: one-click opt-out (RFC 8058)


@dataclass(frozen=True, slots=True)
class Accepted:
    provider_ids: tuple[str, ...]  # one per segment or part; may be empty


Outcome = Accepted | DeliveryError


class Adapter(Protocol):
    """One account on one channel; the only code that speaks its dialect."""

    capabilities: Capabilities

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        """One outcome per message id.

        A raised `DeliveryError` stands for the whole batch; any other exception and a
        message missing from the answer are settled as unknown by the caller. Once any
        part of a message was taken, its outcome is not transient.
        """
        ...

    async def close(self) -> None:
        """Let connections go; a second call is harmless."""
        ...


Answered = Callable[[str, Outcome], None]
"""Called in the event loop with the id of a message and what became of it: once, and
once more where an answer comes after `OutcomeUnknown` was told for it."""


class Role(StrEnum):
    """What a connection of a session is for."""

    BOTH = "both"
    SENDER = "sender"  # messages leave by it
    RECEIVER = "receiver"  # receipts and messages of members come by it


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection of a session, as the channel page shows it."""

    name: str  # which of them: `1`, `2`
    state: str  # connecting, open, closed
    since: datetime
    window: int  # answers that may be awaited at once
    awaited: int  # answers that are awaited now
    last_error: str = ""
    role: Role = Role.BOTH


@runtime_checkable
class Streams(Protocol):
    """Added by channels that keep a window open instead of calling one by one.

    The gateway calls `submit` with at most `room` messages; `send` serves tests of a
    single message. A message counts once in the window, also one of many parts.
    """

    def attach(self, answered: Answered, ready: Callable[[], None]) -> None:
        """Where answers go. `ready` is called when room appears where none was."""
        ...

    def room(self) -> int:
        """How many messages may be submitted now; 0 while not connected."""
        ...

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        """Write these to the connection at once; never raises, never blocks. Returns
        how much of the account's rate they take: a carrier counts each part.

        A message that certainly did not leave is answered with TransientFailure, one
        whose answer is late, or whose connection broke, with OutcomeUnknown.
        """
        ...

    def connections(self) -> Sequence[Connection]:
        """The state of each connection now."""
        ...


@runtime_checkable
class Receives(Protocol):
    """Added by channels whose provider pushes over HTTP."""

    def receive(self, request: RawRequest) -> Received:
        """Check the signature (constant time), map bytes to events. No I/O.

        Raises RequestError for what is not a push of this provider: nothing is kept
        then. A status outside the table becomes UNKNOWN; it never raises.
        """
        ...


Accept = Callable[[Sequence[Event]], Awaitable[None]]
"""Stores events durably; returns after the commit. Raises StorageUnavailable: then
the provider must be told to try again."""


@runtime_checkable
class Listens(Protocol):
    """Added by channels with an entry of their own: a mail server, a bot's socket."""

    def listen(self, accept: Accept) -> AbstractAsyncContextManager[None]:
        """Serve while the context is open; acknowledge only after `accept` returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtfulMessage:
    """A message of which nobody knows whether its provider has it."""

    id: str  # ours, as it was sent
    to: Address
    journalled_at: datetime  # its bytes left after this, if they left


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a message, as a receipt would have told it."""

    state: ReceiptState
    code: str = ""  # the provider's own word
    opted_out: bool = False  # the code says: refused by the provider's blacklist


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The provider's records, which tell of every message that it took, have no such
    one. It proves nothing: records lag, and accounts change."""


Found = Ended | Accepted | NotTaken | None
"""What a provider says of a message when it is asked: its end, that it has it, that it
has no such message, or nothing."""


@runtime_checkable
class Queries(Protocol):
    """Added by channels whose provider can be asked what became of a message."""

    async def query(self, message: DoubtfulMessage) -> Found:
        """Ask once. Raises DeliveryError, which speaks of the asking only, where no
        answer came or the provider refused to give one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What an adapter is given besides its own settings section."""

    name: str  # the channel's name: `[channels.NAME]`
    clock: Clock
    timezone: ZoneInfo  # of local times without a zone in provider payloads
    data_dir: Path
    public_url: str  # where members and providers reach us, without a final slash
    secret: Callable[[str], bytes]  # 32 bytes derived for one purpose, stable
    bots: "BotBridge | None" = None
    # 【…】, counted already. Where the provider doesn't put it before an SMS, we do.
    signature: str = ""
    # What the adapters of one process share, by the name of their module.
    shared: dict[str, object] = field(default_factory=dict)
