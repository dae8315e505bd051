"""The e-mail channel: entry, parser and relay put together."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from adapters.mail.addresses import Mailbox, normalise
from adapters.mail.compose import Composer
from adapters.mail.entry import Entry
from adapters.mail.parse import Envelope
from adapters.mail.pool import ParserPool
from adapters.mail.relay import IN_HAND_PER_CONNECTION, Relay
from adapters.mail.session import Job, Mail
from adapters.mail.settings import Settings
from gateway.contract import (
    Accept,
    Accepted,
    AddressKind,
    Answered,
    Capabilities,
    ChannelContext,
    Connection,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.errors import DeliveryError, PermanentFailure

CAPABILITIES = Capabilities(
    address_kinds=frozenset({AddressKind.EMAIL}),
    encoding=TextEncoding.UTF8,
    max_length=64 * 1024,
    subject=True,
    # Most reports tell a failure only; one may still follow `accepted`.
    delivery_receipts=False,
    batch_size=1,
    rate_per_second=20,
)


class EmailAdapter:
    """One address of ours, its mail server and its relay."""

    def __init__(self, settings: Settings, context: ChannelContext) -> None:
        window = IN_HAND_PER_CONNECTION * settings.connections
        self.capabilities = dataclasses.replace(CAPABILITIES, window=window)
        self._settings = settings
        self._clock = context.clock
        self._mailbox = Mailbox(
            address=settings.address,
            key=context.secret("mail-bounce"),
            bounce_addresses=settings.bounce_addresses,
        )
        self._composer = Composer(self._mailbox, settings.from_name)
        self._relay = Relay(settings, context.clock)
        self._answered: Answered = lambda id, outcome: None

    def listen(self, accept: Accept) -> AbstractAsyncContextManager[None]:
        """Serve SMTP and LMTP while the context is open; 250 after `accept`."""
        return self._listening(accept)

    @asynccontextmanager
    async def _listening(self, accept: Accept) -> AsyncIterator[None]:
        if not (self._settings.smtp_port or self._settings.lmtp_port):
            yield
            return
        pool = ParserPool(self._settings.parsers, self._mailbox)

        async def take(raw: bytes, sender: str, recipients: tuple[str, ...]) -> None:
            envelope = Envelope(sender=sender, recipients=recipients)
            await accept(await pool.parse(raw, envelope))

        entry = Entry(self._settings, self._mailbox, take)
        async with pool.running(), entry.serving():
            yield

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return {message.id: await self._send(message) for message in batch}

    async def _send(self, message: OutboundMessage) -> Outcome:
        try:
            await self._relay.deliver(self._mail(message))
        except DeliveryError as error:
            return error
        return self._accepted(message.id)

    def attach(self, answered: Answered, ready: Callable[[], None]) -> None:
        self._answered = answered
        self._relay.on_room = ready

    def room(self) -> int:
        return self._relay.room

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        jobs = [job for message in batch if (job := self._job(message))]
        self._relay.submit(jobs)
        return len(jobs)

    def connections(self) -> Sequence[Connection]:
        return self._relay.connections()

    def _job(self, message: OutboundMessage) -> Job | None:
        """None: it can't be a mail, which is answered in a moment."""
        id = message.id
        try:
            mail = self._mail(message)
        except PermanentFailure as failure:
            asyncio.get_running_loop().call_soon(self._answered, id, failure)
            return None
        return Job(mail, lambda failure: self._answer(id, failure))

    def _answer(self, id: str, failure: DeliveryError | None) -> None:
        self._answered(id, failure or self._accepted(id))

    def _accepted(self, id: str) -> Accepted:
        return Accepted((self._mailbox.message_id(id),))

    def _mail(self, message: OutboundMessage) -> Mail:
        if normalise(message.to.value) != message.to.value:
            raise PermanentFailure("address_invalid")
        content = self._composer.compose(message, self._clock.now())
        signed = self._settings.bounce_addresses
        sender = self._mailbox.bounce(message.id) if signed else self._mailbox.address
        return Mail(sender=sender, recipient=message.to.value, content=content)

    async def close(self) -> None:
        """Let connections go; a second call is harmless."""
        await self._relay.close()
