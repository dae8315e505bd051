"""The provider's side of the sandbox: handsets, chats and a mailbox in this process.

It takes messages, pushes what people write and sends receipts, and does all of that
wrong when told to. It knows nothing of inquiries.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TypedDict

import structlog

from adapters.sandbox import faults as switches
from adapters.sandbox.faults import Faults
from adapters.sandbox.history import History
from adapters.sandbox.records import (
    Arrived,
    Medium,
    Message,
    Pushed,
    Receipted,
    Record,
    Refused,
    Said,
)
from gateway.addresses import AddressError, parse
from gateway.clock import Clock
from gateway.contract import (
    Accept,
    Address,
    AddressKind,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OutboundMessage,
    ReceiptState,
)
from gateway.errors import (
    PermanentFailure,
    RequestError,
    SettingsError,
    StorageUnavailable,
)
from gateway.phrases import phrase
from gateway.supervisor import beside
from gateway.text import clean

log = structlog.get_logger()

MAX_TEXT_BYTES = 64 * 2**10
MAX_SUBJECT_LENGTH = 200
MAX_NAME_LENGTH = 64
REPEATS = 3
RECEIPTS_AT_ONCE = 100
PUSH_AGAIN = timedelta(seconds=1)
GATHERED = timedelta(milliseconds=100)  # changes in a burst are told once

KINDS = {
    Medium.SMS: AddressKind.PHONE,
    Medium.QQ: AddressKind.QQ,
    Medium.EMAIL: AddressKind.EMAIL,
}


class Line:
    """One medium: its channel, its switches, and what it still has to push."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.channel = ""
        self.receipts: timedelta | None = (
            None  # how long they take; None: there are none
        )
        self.offered = 0  # messages since the switches were set
        self.unheard: deque[Said] = deque()
        self.owed: deque[tuple[float, Arrived]] = (
            deque()
        )  # with the loop time it is due
        self.said = asyncio.Event()
        self.owing = asyncio.Event()


class World:
    """Everything that the sandbox's people see, shared by its three channels."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self.folder = folder
        self._faults_path = folder / "faults.json"
        self.history = History(folder / "ledger.jsonl")
        self._lines = {
            medium: Line(faults)
            for medium, faults in switches.load(self._faults_path).items()
        }
        for medium, line in self._lines.items():
            line.unheard.extend(self.history.unheard(medium))
        self._deliveries: set[asyncio.Task[Arrived]] = set()
        self._announcing: set[Medium] = set()
        self._tell: Callable[[Medium], None] | None = None

    def on_change(self, tell: Callable[[Medium], None]) -> None:
        """`tell` is called, soon after, when something of a medium has changed."""
        self._tell = tell

    def channel(self, medium: Medium) -> str:
        """The name of the channel that a medium stands for; empty: none."""
        return self._lines[medium].channel

    def has_receipts(self, medium: Medium) -> bool:
        return self._lines[medium].receipts is not None

    def faults(self, medium: Medium) -> Faults:
        return self._lines[medium].faults

    def set_faults(self, medium: Medium, faults: Faults) -> None:
        """From now on, also after a restart. Raises OSError if they can't be kept."""
        line = self._lines[medium]
        kept = {other: one.faults for other, one in self._lines.items()}
        switches.save(self._faults_path, kept | {medium: faults})
        line.faults, line.offered = faults, 0
        line.owing.set()
        self._announce(medium)

    def write(
        self,
        medium: Medium,
        sender: str,
        text: str,
        *,
        group: str = "",
        calling: bool = True,
        subject: str = "",
        in_reply_to: str = "",
        display_name: str = "",
    ) -> Said:
        """A person writes; the gateway hears of it soon after.

        In a `group` it hears only what calls the bot. `in_reply_to` is the provider id
        of the message that is answered. Raises RequestError that names the field, and
        StorageUnavailable where the ledger can't be written.
        """
        line = self._lines[medium]
        if not line.channel:
            raise RequestError(
                "no_channel",
                phrase("没有为 {medium} 配置沙盒渠道", medium=medium),
                status=409,
            )
        answered = self.history.find(in_reply_to)
        previous = answered if isinstance(answered, Arrived) else None
        mail = medium is Medium.EMAIL
        said = Said(
            at=self._clock.now(),
            medium=medium,
            provider_id=_new_id(medium),
            sender=_address(KINDS[medium], sender, "sender"),
            conversation=_address(AddressKind.GROUP, group, "group") if group else None,
            text=_text(text),
            display_name=clean(display_name)[:MAX_NAME_LENGTH],
            subject=_subject(clean(subject), previous) if mail else "",
            quoted=_quotation(previous) if mail and previous else "",
            answers_to=previous.provider_id if previous else "",
            reply_token=previous.reply_token if mail and previous else "",
            heard=calling or not group,
        )
        try:
            self._append(said)
        except OSError as error:
            raise StorageUnavailable("sandbox_ledger", type(error).__name__) from error
        if said.heard:
            line.unheard.append(said)
            line.said.set()
        return said

    def enrol(
        self, medium: Medium, channel: str, *, receipts: timedelta | None
    ) -> None:
        """A channel stands for this medium; `receipts` is how long they take, None: it
        has none. Raises SettingsError if another channel does already."""
        line = self._lines[medium]
        if line.channel:
            raise SettingsError(
                [
                    f"channels.{channel}.medium: [channels.{line.channel}] is "
                    f'"{medium}" already; one sandbox channel for each medium'
                ]
            )
        line.channel, line.receipts = channel, receipts

    async def take(self, medium: Medium, message: OutboundMessage) -> str:
        """The provider's id of a message that arrived. Where the answer is lost this
        never returns. What has begun goes on when the caller stops waiting.

        Raises PermanentFailure, or OSError where the ledger can't be written.
        """
        delivery = asyncio.create_task(self._deliver(medium, message))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._delivered)
        arrived = await asyncio.shield(delivery)
        if arrived.answer_lost:
            await asyncio.Event().wait()
        return arrived.provider_id

    @asynccontextmanager
    async def pushing(self, medium: Medium, accept: Accept) -> AsyncIterator[None]:
        """Push what people write, and receipts, to `accept` while this is open."""
        line = self._lines[medium]
        if line.receipts is not None and not line.owed:
            line.owed.extend((0, one) for one in self.history.unreceipted(medium))
        said, receipts = self._push_said, self._push_receipts
        async with beside(said(line, accept), receipts(line, accept)):
            yield

    async def leave(self, medium: Medium) -> None:
        """A channel ends; with the last one everything does."""
        self._lines[medium].channel = ""
        if any(line.channel for line in self._lines.values()):
            return
        for delivery in tuple(self._deliveries):
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        self._tell = None
        self.history.close()

    async def _deliver(self, medium: Medium, message: OutboundMessage) -> Arrived:
        line = self._lines[medium]
        faults = line.faults
        line.offered += 1
        refused = faults.refuse_every and line.offered % faults.refuse_every == 0
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)
        if refused:
            self._append(_refused(self._clock, medium, line, message))
            raise PermanentFailure("sandbox_refused")
        arrived = _arrived(self._clock, medium, line, message)
        self._append(arrived)
        if line.receipts is not None:
            due = asyncio.get_running_loop().time() + line.receipts.total_seconds()
            line.owed.append((due, arrived))
            line.owing.set()
        return arrived

    def _delivered(self, delivery: "asyncio.Task[Arrived]") -> None:
        self._deliveries.discard(delivery)
        if not delivery.cancelled():
            delivery.exception()  # looked at, also where nobody waits any more

    async def _push_said(self, line: Line, accept: Accept) -> None:
        while True:
            while line.unheard:
                said = line.unheard[0]
                await self._push(line, accept, [event_of(said)])
                line.unheard.popleft()
                self._settle(Pushed(**_mark(said, self._clock)))
            line.said.clear()
            await line.said.wait()

    async def _push_receipts(self, line: Line, accept: Accept) -> None:
        while True:
            line.owing.clear()
            due = _due(line)
            if not due:
                await _until_more_is_due(line)
                continue
            await self._push(line, accept, [receipt_of(one) for one in due])
            for arrived in due:
                line.owed.popleft()
                self._settle(Receipted(**_mark(arrived, self._clock)))

    async def _push(self, line: Line, accept: Accept, events: Sequence[Event]) -> None:
        for _ in range(REPEATS if line.faults.repeat else 1):
            await _until_stored(line, accept, events)

    def _settle(self, mark: Pushed | Receipted) -> None:
        """Without its mark it is pushed again after a restart, which is harmless."""
        try:
            self._append(mark)
        except OSError as error:
            log.warning("sandbox.mark_lost", error=type(error).__name__)

    def _append(self, record: Record) -> None:
        self.history.append(record)
        self._announce(record.medium)

    def _announce(self, medium: Medium) -> None:
        if self._tell is None or medium in self._announcing:
            return
        self._announcing.add(medium)
        loop = asyncio.get_running_loop()
        loop.call_later(GATHERED.total_seconds(), self._announce_now, medium)

    def _announce_now(self, medium: Medium) -> None:
        self._announcing.discard(medium)
        if self._tell is not None:
            self._tell(medium)


async def _until_stored(line: Line, accept: Accept, events: Sequence[Event]) -> None:
    """Push like a patient provider: again while the gateway can't store."""
    while True:
        try:
            await accept(events)
        except StorageUnavailable:
            log.warning("sandbox.push_waits", channel=line.channel)
            await asyncio.sleep(PUSH_AGAIN.total_seconds())
        except Exception:
            log.exception("sandbox.push_failed", channel=line.channel)
            return
        else:
            return


def _due(line: Line) -> Sequence[Arrived]:
    if line.faults.withhold_receipts:
        return []
    now = asyncio.get_running_loop().time()
    first = islice(line.owed, RECEIPTS_AT_ONCE)
    return [arrived for due, arrived in first if due <= now]


async def _until_more_is_due(line: Line) -> None:
    seconds = None
    if line.owed and not line.faults.withhold_receipts:
        seconds = max(line.owed[0][0] - asyncio.get_running_loop().time(), 0)
    try:
        async with asyncio.timeout(seconds):
            await line.owing.wait()
    except TimeoutError:
        return


def event_of(said: Said) -> InboundMessage:
    """The same for every push of the same words."""
    return InboundMessage(
        key=f"said:{said.provider_id}",
        sender=said.sender,
        text=said.text,
        raw=said.model_dump_json().encode(),
        sent_at=said.at,
        provider_id=said.provider_id,
        conversation=said.conversation,
        subject=said.subject,
        display_name=said.display_name,
        quoted=said.quoted,
        answers_to=(said.answers_to,) if said.answers_to else (),
        reply_token=said.reply_token,
    )


def receipt_of(arrived: Arrived) -> DeliveryReceipt:
    """With the word of CMPP, SGIP and SMGP for a text that reached its phone."""
    return DeliveryReceipt(
        key=f"receipt:{arrived.provider_id}",
        provider_id=arrived.provider_id,
        reference=arrived.id,
        state=ReceiptState.DELIVERED,
        code="DELIVRD",
        address=arrived.to,
        at=arrived.at,
        raw=arrived.model_dump_json().encode(),
    )


def _arrived(
    clock: Clock, medium: Medium, line: Line, message: OutboundMessage
) -> Arrived:
    return Arrived(
        at=clock.now(),
        medium=medium,
        channel=line.channel,
        id=message.id,
        provider_id=_new_id(medium),
        kind=message.kind,
        to=message.to,
        text=clean(message.text),
        subject=clean(message.subject) if medium is Medium.EMAIL else "",
        template=message.template.code if message.template else "",
        mention=message.mention if message.to.kind is AddressKind.GROUP else "",
        in_reply_to=message.in_reply_to,
        reply_token=message.reply_token,
        unsubscribe_url=message.unsubscribe_url,
        answer_lost=line.faults.lose_answers,
    )


def _refused(
    clock: Clock, medium: Medium, line: Line, message: OutboundMessage
) -> Refused:
    return Refused(
        at=clock.now(),
        medium=medium,
        channel=line.channel,
        id=message.id,
        to=message.to,
    )


class _Mark(TypedDict):
    at: datetime
    medium: Medium
    provider_id: str


def _mark(message: Message, clock: Clock) -> _Mark:
    return {
        "at": clock.now(),
        "medium": message.medium,
        "provider_id": message.provider_id,
    }


def _new_id(medium: Medium) -> str:
    """Never used twice, also not after a restart."""
    name = secrets.token_hex(8)
    return f"<{name}@sandbox.invalid>" if medium is Medium.EMAIL else name


def _address(kind: AddressKind, value: str, field: str) -> Address:
    try:
        return parse(kind, value)
    except AddressError as error:
        raise RequestError(
            error.code, str(error), fields={field: str(error)}
        ) from error


def _text(text: str) -> str:
    found = clean(text).strip()
    if not found:
        words = "请写点什么再发送"
        raise RequestError("text_missing", words, fields={"text": words})
    if len(found.encode()) > MAX_TEXT_BYTES:
        words = phrase("太长，最多 {n} KB", n=MAX_TEXT_BYTES // 1024)
        raise RequestError("text_too_long", words, fields={"text": words})
    return found


def _subject(given: str, previous: Arrived | None) -> str:
    subject = " ".join(given.split())
    if not subject and previous is not None:
        earlier = previous.subject.removeprefix("回复：")
        subject = f"回复：{earlier}"
    return subject[:MAX_SUBJECT_LENGTH]


def _quotation(previous: Arrived) -> str:
    """Earlier mail as a mail program puts it below the answer."""
    lines = [f"> {line}".rstrip() for line in previous.text.split("\n")]
    return "\n".join([f"在 {previous.at:%Y-%m-%d %H:%M} UTC，服务中心写道：", *lines])
