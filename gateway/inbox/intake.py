"""Stores events durably before anybody says "accepted" to a provider.

Group commit: whatever gathered while the last commit ran goes into the next one.
There is no waiting for a batch to fill.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from tortoise.exceptions import BaseORMException

from gateway import database as db
from gateway.contract import (
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
)
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.members.consent import opt_out
from gateway.tables import AttachmentRow, ChannelEvent, Inbound, Receipt
from gateway.text import clean

log = structlog.get_logger()
LONGEST_TEXT = 64 * 1024  # characters; what is above is kept in the payload only


@dataclass(slots=True)
class _Delivery:
    channel: str
    events: Sequence[Event]
    stored: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Inbox:
    """One committer for all channels of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: list[_Delivery] = []

    async def accept(self, channel: str, events: Sequence[Event]) -> None:
        """Return once all events are committed; a known key changes nothing.

        Raises StorageUnavailable where the commit failed: nothing was stored.
        """
        if not events:
            return
        delivery = _Delivery(channel, events)
        self._waiting.append(delivery)
        self._core.wakeups.wake("inbox")
        await asyncio.shield(delivery.stored)

    async def run(self) -> None:
        """Commit for ever. Deliveries that wait when this ends were never stored."""
        try:
            while True:
                await self._core.wakeups.wait("inbox", 1.0)
                while self._waiting:
                    await self.commit()
        finally:
            self._fail(self._waiting, "stopping")
            self._waiting = []

    async def commit(self) -> None:
        """One transaction for all that waits; after a failure, one for each."""
        batch, self._waiting = self._waiting, []
        try:
            await self._store(batch)
        except (BaseORMException, OSError):
            log.exception("inbox.commit_failed", deliveries=len(batch))
            for delivery in batch:
                await self._store_alone(delivery)
        self._core.wakeups.wake("router")

    async def _store_alone(self, delivery: _Delivery) -> None:
        try:
            await self._store([delivery])
        except (BaseORMException, OSError) as error:
            self._fail([delivery], type(error).__name__)

    async def _store(self, batch: Sequence[_Delivery]) -> None:
        new: list[str] = []
        async with db.transaction():
            for delivery in batch:
                for event in delivery.events:
                    if await self._insert(delivery.channel, event):
                        new.append(delivery.channel)
        for channel in new:
            self._core.metrics.inbound.labels(channel).inc()
        for delivery in batch:
            if not delivery.stored.done():
                delivery.stored.set_result(None)

    def _fail(self, batch: Sequence[_Delivery], why: str) -> None:
        for delivery in batch:
            if not delivery.stored.done():
                delivery.stored.set_exception(StorageUnavailable("not_stored", why))

    async def _insert(self, channel: str, event: Event) -> bool:
        """Whether it is a message that was not here before."""
        match event:
            case InboundMessage():
                return await self._message(channel, event)
            case DeliveryReceipt():
                await self._receipt(channel, event)
            case OptOut() | ChannelTrouble():
                await self._report(channel, event)
        return False

    async def _message(self, channel: str, event: InboundMessage) -> bool:
        if await Inbound.filter(channel=channel, key=event.key).exists():
            return False
        conversation = event.conversation
        row = await Inbound.create(
            channel=channel,
            key=event.key,
            kind=event.sender.kind,
            value=event.sender.value,
            conversation_kind=conversation.kind if conversation else "",
            conversation_value=conversation.value if conversation else "",
            text=clean(event.text)[:LONGEST_TEXT],
            subject=clean(event.subject)[:1000],
            quoted=clean(event.quoted)[:LONGEST_TEXT],
            provider_id=clean(event.provider_id)[:998],
            answers_to=[clean(one) for one in event.answers_to],
            reply_token=clean(event.reply_token)[:128],
            display_name=clean(event.display_name)[:254],
            automatic=event.automatic,
            notes=list(event.notes),
            payload=event.raw,
            sent_at=event.sent_at,
            received_at=self._core.clock.now(),
        )
        for attachment in event.attachments:
            await AttachmentRow.create(
                inbound_id=row.id,
                name=clean(attachment.name)[:254],
                content_type=clean(attachment.content_type)[:127],
                size=len(attachment.content),
                content=attachment.content,
            )
        return True

    async def _receipt(self, channel: str, event: DeliveryReceipt) -> None:
        if await Receipt.filter(channel=channel, key=event.key).exists():
            return
        await Receipt.create(
            channel=channel,
            key=event.key,
            provider_id=clean(event.provider_id)[:254],
            reference=clean(event.reference)[:64],
            state=event.state,
            code=clean(event.code)[:64],
            opted_out=event.opted_out,
            at=event.at,
            received_at=self._core.clock.now(),
            payload=event.raw,
        )

    async def _report(self, channel: str, event: OptOut | ChannelTrouble) -> None:
        if await ChannelEvent.filter(channel=channel, key=event.key).exists():
            return
        await ChannelEvent.create(
            channel=channel,
            key=event.key,
            code=clean(event.code)[:64],
            payload=event.raw,
            at=self._core.clock.now(),
        )
        if isinstance(event, OptOut):
            await opt_out(
                self._core, event.address, how="provider", evidence=event.code
            )
