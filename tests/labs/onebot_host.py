"""One gateway process as far as bots see it: an aiohttp application on a real port,
the bridge, one onebot channel, and a list in place of the inbox."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import SecretStr

from adapters.onebot import OneBotChannel, Settings, build
from gateway.bots import BotBridge
from gateway.clock import ManualClock
from gateway.contract import ChannelContext, ChannelTrouble, Event, InboundMessage
from gateway.errors import StorageUnavailable
from tests.labs.onebot_peer import BOT, GROUP, TOKEN

PLUGINS = ("bot_plugins.commands", "bot_plugins.intake", "bot_plugins.notices")
NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)


@dataclass
class Inbox:
    events: list[Event] = field(default_factory=list)
    refusals: int = 0  # how many times the database is still away
    hangs: bool = False
    hanging: int = 0

    async def accept(self, events: Sequence[Event]) -> None:
        if self.hangs:
            self.hanging += 1
            await asyncio.Event().wait()
        if self.refusals:
            self.refusals -= 1
            raise StorageUnavailable("storage")
        self.events.extend(events)

    @property
    def messages(self) -> list[InboundMessage]:
        return [e for e in self.events if isinstance(e, InboundMessage)]

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    def has(self, text: str) -> bool:
        return text in self.texts

    @property
    def troubles(self) -> list[str]:
        return [e.code for e in self.events if isinstance(e, ChannelTrouble)]


@dataclass
class Host:
    bridge: BotBridge
    channel: OneBotChannel
    inbox: Inbox
    runner: web.AppRunner
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/onebot/v11/ws"

    def http(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def connected(self) -> bool:
        return self.bridge.connected(BOT)


def settings(**changes: Any) -> Settings:
    values = {"self_id": BOT, "access_token": SecretStr(TOKEN), "groups": [str(GROUP)]}
    return Settings.model_validate(values | changes)


def context(bridge: BotBridge | None, name: str = "qq") -> ChannelContext:
    return ChannelContext(
        name=name,
        clock=ManualClock(NOW),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=Path("unused"),
        public_url="http://127.0.0.1",
        secret=lambda purpose: bytes(32),
        bots=bridge,
    )


@asynccontextmanager
async def running(
    *, listen: bool = True, plugins: Sequence[str] = PLUGINS, **changes: Any
) -> AsyncIterator[Host]:
    """Serves while the context is open. `changes` go into the channel's settings."""
    bridge = BotBridge(
        clock=ManualClock(NOW), plugins=plugins, redial=timedelta(seconds=0.05)
    )
    channel = build(settings(**changes), context(bridge))
    assert isinstance(channel, OneBotChannel)
    inbox = Inbox()
    app = web.Application()
    bridge.attach(app)
    runner = web.AppRunner(app, shutdown_timeout=5)
    async with AsyncExitStack() as stack:
        if listen:
            await stack.enter_async_context(channel.listen(inbox.accept))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        yield Host(bridge, channel, inbox, runner, port)
