"""The e-mail channel: entry, parser and relay put together."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from adapters.mail.addresses import Mailbox, normalise
from adapters.mail.compose import compose, own_message_id
from adapters.mail.entry import Entry
from adapters.mail.parse import Envelope
from adapters.mail.pool import ParserPool
from adapters.mail.relay import Mail, Relay
from adapters.mail.settings import Settings
from gateway.contract import (
    Accept,
    Accepted,
    AddressKind,
    Capabilities,
    ChannelContext,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.errors import DeliveryError, PermanentFailure

CAPABILITIES = Capabilities(
    address_kinds=frozenset({AddressKind.EMAIL}),
    encoding=TextEncoding.UTF8,
    max_length=64 * 1024,
    rich_text=True,
    subject=True,
    # Most reports tell a failure only; one may still follow `accepted`.
    delivery_receipts=False,
    batch_size=1,
    window=5,
    rate_per_second=20,
)


class EmailAdapter:
    """One address of ours, its mail server and its relay."""

    capabilities = CAPABILITIES

    def __init__(self, settings: Settings, context: ChannelContext) -> None:
        self._settings = settings
        self._clock = context.clock
        self._mailbox = Mailbox(
            address=settings.address,
            key=context.secret("mail-bounce"),
            bounce_addresses=settings.bounce_addresses,
        )
        self._relay = Relay(settings, context.clock)

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
        return Accepted((own_message_id(message, self._mailbox),))

    def _mail(self, message: OutboundMessage) -> Mail:
        if normalise(message.to.value) != message.to.value:
            raise PermanentFailure("address_invalid")
        name, now = self._settings.from_name, self._clock.now()
        content = compose(message, self._mailbox, name, now)
        signed = self._settings.bounce_addresses
        sender = self._mailbox.bounce(message.id) if signed else self._mailbox.address
        return Mail(sender=sender, recipient=message.to.value, content=content)

    async def close(self) -> None:
        """Let connections go; a second call is harmless."""
        await self._relay.close()
