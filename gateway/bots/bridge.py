"""Where nonebot and the gateway meet: adapters, plugins and run.py know this alone."""

import asyncio
import contextlib
import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import nonebot
import structlog
from aiohttp import web
from nonebot.adapters import Bot, Event
from nonebot.drivers import Driver as BaseDriver

from gateway.bots.accounts import Account, by_token
from gateway.bots.driver import Driver
from gateway.bots.logs import forward
from gateway.bots.onebot import FRAME, OneBot
from gateway.clock import Clock
from gateway.errors import SettingsError, StorageUnavailable, TransientFailure

log = structlog.get_logger()

STORE_AGAIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An event that a plugin took."""

    event: Event
    frame: bytes  # as it came over the socket
    text: str | None = None  # a command in its canonical form, where it is one


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTrouble:
    """The connection itself is in trouble. `key` is the same for ten minutes."""

    key: str
    code: str


Hear = Callable[[Heard | LineTrouble], Awaitable[None]]
"""Stores what was heard, durably. Raises StorageUnavailable."""


class BotDriver(Driver):
    """The driver, and the way back from a bot to its bridge."""

    bridge: "BotBridge"


def bridge_of(bot: Bot) -> "BotBridge":
    """For plugins: the bridge that a bot belongs to."""
    driver = bot.adapter.driver
    if not isinstance(driver, BotDriver):
        raise TypeError("this bot was not started by the gateway")
    return driver.bridge


class BotBridge:
    """Owns nonebot in this process.

    Adapters `enrol` their account while they are built, `attach` starts everything
    with the application, `listening` says who stores what an account hears.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        plugins: Sequence[str],
        redial: timedelta = timedelta(seconds=3),
    ) -> None:
        self.accounts: dict[str, Account] = {}
        self._clock = clock
        self._plugins = plugins
        self._redial = redial
        self._hear: dict[str, Hear] = {}
        self._seated: dict[str, asyncio.Event] = {}
        self._onebot: OneBot | None = None
        self._stopping = asyncio.Event()
        self._storing: set[asyncio.Future[None]] = set()

    def enrol(self, account: Account) -> None:
        """Raises SettingsError if another channel has this account already."""
        other = self.accounts.get(account.self_id)
        if other is not None:
            raise SettingsError(
                [
                    f"channels.{account.channel}.self_id: channels.{other.channel} has "
                    f"{account.self_id} already; an account serves one channel"
                ]
            )
        self.accounts[account.self_id] = account
        self._seated[account.self_id] = asyncio.Event()

    def attach(self, app: web.Application) -> None:
        """Serve the bots in `app`: after its own routes and after the contexts that
        must outlive them (the database). Raises what a plugin raises at import."""
        _forget_former_nonebot()
        forward()
        nonebot.init(
            # A tuple of nothing: with None nonebot would read .env files after all.
            _env_file=("/nonexistent",),
            driver="gateway.bots.bridge:BotDriver",
            # All of nonebot's own settings: it would take them from the environment,
            # where PORT and HOST mean something else.
            log_level="WARNING",
            api_timeout=30.0,
            session_expire_timeout=timedelta(minutes=2),
            host="127.0.0.1",
            port=8080,
            superusers=set(),
            nickname=set(),
            command_start={""},
            command_sep={"."},
        )
        driver = nonebot.get_driver()
        assert isinstance(driver, BotDriver)
        driver.bridge = self
        driver.register_adapter(OneBot, seats=self, redial=self._redial)
        onebot = nonebot.get_adapter(OneBot)
        for name in self._plugins:
            _load(name)
        driver.attach(app, self.admit)
        self._onebot = onebot

    def admit(self, headers: Mapping[str, str]) -> None:
        """Who may open a reverse connection.

        Raises 401 without the token of one of our accounts, 403 with it but for another
        account or one that we dial, 400 for half a connection, 503 while nobody stores
        what the account hears.
        """
        known = by_token(self.accounts.values(), headers.get("Authorization", ""))
        if not known:
            log.warning("bot.refused", reason="token")
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        self_id = headers.get("X-Self-ID", "")
        if self_id not in {a.self_id for a in known if not a.ws_url}:
            log.warning("bot.refused", reason="self_id", channel=known[0].channel)
            raise web.HTTPForbidden(text="X-Self-ID is no account that dials us")
        if headers.get("X-Client-Role", "Universal").lower() != "universal":
            raise web.HTTPBadRequest(text="X-Client-Role has to be Universal")
        if not self._seated[self_id].is_set():
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "3"})

    @contextlib.contextmanager
    def listening(self, self_id: str, hear: Hear) -> Iterator[None]:
        """`hear` stores what this account hears while the context is open."""
        self._hear[self_id] = hear
        self._seated[self_id].set()
        try:
            yield
        finally:
            self._seated[self_id].clear()
            del self._hear[self_id]

    async def seated(self, self_id: str) -> None:
        await self._seated[self_id].wait()

    def connected(self, self_id: str) -> bool:
        """Whether the account's bot is there right now."""
        return self._onebot is not None and self_id in self._onebot.bots

    async def call(self, self_id: str, action: str, **params: Any) -> Any:
        """The `data` of the answer to one API call.

        Raises nonebot's ActionFailed for a refusal, TransientFailure if the call
        certainly never left, OutcomeUnknown if it left and no answer came.
        """
        bot = None if self._onebot is None else self._onebot.bots.get(self_id)
        if bot is None:
            raise TransientFailure("not_connected")
        return await bot.call_api(action, **params)

    async def take(self, bot: Bot, event: Event, text: str | None = None) -> None:
        """For plugins: put an event into the inbox. Returns after the commit.

        `text` stands for what was written where the plugin knows a canonical form.
        """
        extra = event.model_extra or {}
        heard = Heard(event=event, frame=extra.get(FRAME, b""), text=text)
        await self._store(bot.self_id, heard)

    async def trouble(self, self_id: str, code: str) -> None:
        window = int(self._clock.now().timestamp()) // 600
        log.warning("bot.trouble", channel=self.accounts[self_id].channel, code=code)
        trouble = LineTrouble(key=f"line:{code}:{window}", code=code)
        hear = self._hear.get(self_id)
        if hear is not None:
            try:
                await hear(trouble)
            except StorageUnavailable:
                log.error("bot.trouble_not_stored", code=code)

    def give_up(self) -> None:
        """Stopping: what is not stored by now is lost, and said to be."""
        self._stopping.set()
        for storing in self._storing:
            storing.cancel()

    async def _store(self, self_id: str, heard: Heard) -> None:
        """OneBot's WebSocket has no acknowledgement that we could withhold: while the
        database is away the event waits here, and with it its sender's later ones."""
        channel = self.accounts[self_id].channel
        while not await self._stored(self_id, heard):
            if self._stopping.is_set():
                log.error("bot_event.lost", channel=channel, reason="stopping")
                return
            log.warning("bot_event.waits", channel=channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_AGAIN.total_seconds()):
                    await self._stopping.wait()

    async def _stored(self, self_id: str, heard: Heard) -> bool:
        hear = self._hear.get(self_id)
        if hear is None or self._stopping.is_set():
            return False
        # nonebot shields a handler from cancelling; a task of its own can be ended.
        storing = asyncio.ensure_future(hear(heard))
        self._storing.add(storing)
        try:
            await asyncio.wait({storing})
        finally:
            self._storing.discard(storing)
        if storing.cancelled() or isinstance(storing.exception(), StorageUnavailable):
            return False
        storing.result()
        return True


def _forget_former_nonebot() -> None:
    """nonebot keeps its driver, adapters and hooks in module and class variables; a
    new bridge starts from clean ones. Plugins stay loaded, as Python modules do."""
    nonebot._driver = None
    BaseDriver._adapters.clear()
    BaseDriver._bot_connection_hook.clear()
    BaseDriver._bot_disconnection_hook.clear()


def _load(name: str) -> None:
    if nonebot.get_plugin_by_module_name(name) is not None:
        return
    if nonebot.load_plugin(name) is None:
        # nonebot logs the reason and goes on; importing once more lets it surface.
        importlib.import_module(name)
        raise SettingsError([f"bot plugin {name} is not loadable as a plugin"])
