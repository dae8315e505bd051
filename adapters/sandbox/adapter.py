"""A channel whose provider is a page of our own: for trying out, never for members.

It keeps the contract like every adapter. The provider is in world.py.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from adapters.sandbox.records import Medium
from adapters.sandbox.world import World
from gateway.contract import (
    Accept,
    Accepted,
    Adapter,
    AddressKind,
    Capabilities,
    ChannelContext,
    OutboundMessage,
    Outcome,
    TextEncoding,
)
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)


class Settings(BaseModel):
    """`[channels.NAME]` with `adapter = "sandbox"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    medium: Medium
    free_text: bool = True  # false: approved templates only, as domestic SMS
    reply_window_minutes: int = Field(
        default=0, ge=0, le=60 * 24 * 30
    )  # 0: may write first
    receipt_delay_seconds: float = Field(default=1, ge=0, le=3600, allow_inf_nan=False)
    answer_within_seconds: float = Field(default=3, gt=0, le=60, allow_inf_nan=False)


def capabilities(settings: Settings) -> Capabilities:
    """Those of the real channel that the medium stands for, without its slowness."""
    window = timedelta(minutes=settings.reply_window_minutes)
    sms, email = settings.medium is Medium.SMS, settings.medium is Medium.EMAIL
    return Capabilities(
        address_kinds=ADDRESS_KINDS[settings.medium],
        encoding=TextEncoding.UCS2 if sms else TextEncoding.UTF8,
        max_length=MAX_LENGTH[settings.medium],
        segments=(70, 67) if sms else None,
        subject=email,
        delivery_receipts=sms,
        proactive=not window,
        reply_window=window or None,
        free_text=settings.free_text,
        batch_size=1,
        window=32,
        rate_per_second=200.0,
    )


ADDRESS_KINDS = {
    Medium.SMS: frozenset({AddressKind.PHONE}),
    Medium.QQ: frozenset({AddressKind.QQ, AddressKind.GROUP}),
    Medium.EMAIL: frozenset({AddressKind.EMAIL}),
}
MAX_LENGTH = {Medium.SMS: 500, Medium.QQ: 4500, Medium.EMAIL: 64 * 1024}


class Sandbox:
    """One medium of the world."""

    def __init__(self, settings: Settings, context: ChannelContext) -> None:
        self.capabilities = capabilities(settings)
        self._settings = settings
        self._world = world_of(context)
        delay = timedelta(seconds=settings.receipt_delay_seconds)
        receipts = delay if self.capabilities.delivery_receipts else None
        self._world.enrol(settings.medium, context.name, receipts=receipts)
        self._closed = False

    def listen(self, accept: Accept) -> AbstractAsyncContextManager[None]:
        return self._world.pushing(self._settings.medium, accept)

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        return {message.id: await self._send(message) for message in batch}

    async def _send(self, message: OutboundMessage) -> Outcome:
        try:
            self._check(message)
            async with asyncio.timeout(self._settings.answer_within_seconds):
                return Accepted(
                    (await self._world.take(self._settings.medium, message),)
                )
        except TimeoutError:
            return OutcomeUnknown("no_answer")
        except DeliveryError as error:
            return error
        except OSError as error:
            return TransientFailure("sandbox_ledger", type(error).__name__)

    def _check(self, message: OutboundMessage) -> None:
        if self._closed:
            raise TransientFailure("closed")
        if message.to.kind not in self.capabilities.address_kinds:
            raise PermanentFailure("bad_address")
        if message.template is None and not self.capabilities.free_text:
            raise PermanentFailure("template_required")

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._world.leave(self._settings.medium)


def world_of(context: ChannelContext) -> World:
    """The one world of this process, opened by the first sandbox channel."""
    world = context.shared.get("sandbox")
    if not isinstance(world, World):
        world = World(context.data_dir / "sandbox", context.clock)
        context.shared["sandbox"] = world
    return world


def build(settings: Settings, context: ChannelContext) -> Adapter:
    """Raises SettingsError if another channel stands for the same medium."""
    return Sandbox(settings, context)
