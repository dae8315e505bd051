"""nonebot's OneBot V11 adapter with our own reading loop.

Its event models, message segments and Bot stay. What is ours: only WebSocket entries,
one connection per configured account, order per sender, calls that end with their
socket, and frames that can't stop the reader.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, cast

import structlog
from nonebot.adapters import Bot as BaseBot
from nonebot.adapters.onebot.v11 import Adapter, Bot, Event, MessageEvent
from nonebot.adapters.onebot.v11.utils import handle_api_result
from nonebot.drivers import URL, Driver, Request, WebSocket, WebSocketServerSetup

from gateway.bots.accounts import Account
from gateway.bots.driver import Socket
from gateway.bots.link import Link
from gateway.errors import TransientFailure

log = structlog.get_logger()

ENTRY = "/onebot/v11/ws"

# The frame an event came in; carried through nonebot on the event itself.
FRAME = "lianxin_frame"

# Events between socket and database. Above it the socket is not read: the peer's TCP
# window fills, which is the only "not now" that OneBot's WebSocket knows.
MAX_EVENTS_UNDER_WAY = 1000

# nonebot asks for a quoted message before anybody sees the event.
QUOTE_TIMEOUT = timedelta(seconds=3)
DRAIN_SECONDS = 0.4

# What the event model insists on and some implementations leave out.
LENIENT = {"sub_type": "", "raw_message": "", "font": 0, "sender": {}}

Payloads = AsyncGenerator[tuple[bytes, dict[str, Any]], None]


class Seats(Protocol):
    """What the bridge knows of the accounts."""

    accounts: dict[str, Account]

    async def seated(self, self_id: str) -> None:
        """Returns when somebody stores what this account hears."""
        ...

    async def trouble(self, self_id: str, code: str) -> None:
        """Tells staff that an account's line is in trouble."""
        ...

    def give_up(self) -> None:
        """Ends whatever still waits to be stored."""
        ...


class OneBot(Adapter):
    """All accounts, reverse and forward."""

    def __init__(self, driver: Driver, *, seats: Seats, redial: timedelta) -> None:
        self._seats = seats
        self._redial = redial
        self._links: dict[str, Link] = {}
        self._turns: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_EVENTS_UNDER_WAY)
        self._dialling: list[asyncio.Task[None]] = []
        super().__init__(driver)

    def _setup(self) -> None:
        setup = WebSocketServerSetup(URL(ENTRY), "OneBot V11", self._handle_ws)
        self.setup_websocket_server(setup)
        self.on_ready(self._start_dialling)
        self.driver.on_shutdown(self._stop)

    async def _handle_ws(self, websocket: WebSocket) -> None:
        """One reverse connection, admitted by token and self id already."""
        socket = cast(Socket, websocket)
        account = self._seats.accounts[socket.request.headers["X-Self-ID"]]
        if not await self._take_over(account):
            await socket.close(1008, "this account is connected already")
            return
        link = self._links[account.self_id] = Link(account, socket)
        try:
            await socket.accept()
            async with aclosing(link.payloads()) as payloads:
                await self._serve(link, payloads)
        finally:
            self._clear(link)

    async def _take_over(self, account: Account) -> bool:
        """Whether a new connection may stand: the old one has to be dead. Both ends of
        the story are told to staff, since two clients with one token are a fault or
        an intruder."""
        while (old := self._links.get(account.self_id)) is not None:
            if await old.alive():
                await self._seats.trouble(account.self_id, "second_connection")
                return False
            await self._seats.trouble(account.self_id, "connection_replaced")
            await old.close("replaced")
            # Its reader may hang on a dead peer: what it holds is given up here.
            self._clear(old)
        return True

    def _clear(self, link: Link) -> None:
        self_id = link.account.self_id
        if self._links.get(self_id) is link:
            del self._links[self_id]
            if (bot := self.bots.get(self_id)) is not None:
                self.bot_disconnect(bot)
                log.warning("bot.disconnected", channel=link.account.channel)
        link.drop()

    async def _serve(self, link: Link, payloads: Payloads) -> None:
        account = link.account
        bot = Bot(self, account.self_id)
        self.bot_connect(bot)
        log.info("bot.connected", channel=account.channel)
        async for frame, payload in payloads:
            if not await self._ours(account, payload):
                continue
            event = self._event(account, payload | {FRAME: frame})
            if event is not None:
                await self._room.acquire()
                self._begin(bot, event)

    async def _ours(self, account: Account, payload: dict[str, Any]) -> bool:
        """Of this account, not by it, and in private or in a group that it serves."""
        self_id = str(payload.get("self_id") or account.self_id)
        if self_id != account.self_id:
            await self._seats.trouble(account.self_id, "wrong_account")
            return False
        if payload["post_type"] == "message" and str(payload.get("user_id")) == self_id:
            return False
        group = payload.get("group_id")
        return not group or str(group) in account.groups

    def _event(self, account: Account, payload: dict[str, Any]) -> Event | None:
        payload["self_id"] = int(account.self_id)
        event = self.json_to_event(payload)
        if payload["post_type"] == "message" and not isinstance(event, MessageEvent):
            lenient = self.json_to_event(LENIENT | payload)
            event = lenient if isinstance(lenient, MessageEvent) else None
        if event is None:
            size = len(payload[FRAME])
            log.warning("bot_event.dropped", channel=account.channel, size_bytes=size)
            return None
        return event

    def _begin(self, bot: Bot, event: Event) -> None:
        """Handle one event in a task of its own, behind the same person's last one."""
        turn = (bot.self_id, getattr(event, "user_id", 0))
        task = asyncio.create_task(self._handle(bot, event, self._turns.get(turn)))
        self._turns[turn] = task
        self._under_way.add(task)
        task.add_done_callback(partial(self._end, turn))

    async def _handle(
        self, bot: Bot, event: Event, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        await bot.handle_event(event)

    def _end(self, turn: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._room.release()
        self._under_way.discard(task)
        if self._turns.get(turn) is task:
            del self._turns[turn]
        if task.cancelled():
            log.error("bot_event.lost", reason="shutdown")
        elif (error := task.exception()) is not None:
            log.error("bot_event.lost", reason=type(error).__name__)

    async def _start_dialling(self) -> None:
        for account in self._seats.accounts.values():
            if account.ws_url:
                self._dialling.append(asyncio.create_task(self._dial(account)))

    async def _dial(self, account: Account) -> None:
        await self._seats.seated(account.self_id)
        headers = {"Authorization": f"Bearer {account.token}"}
        while True:
            request = Request("GET", account.ws_url, headers=headers)
            try:
                async with self.websocket(request) as socket:
                    await self._serve_dialled(Link(account, cast(Socket, socket)))
            except Exception as error:
                # Whatever went wrong with one connection, the next is tried.
                reason = getattr(error, "status", type(error).__name__)
                log.warning("bot.dial_failed", channel=account.channel, reason=reason)
            await asyncio.sleep(self._redial.total_seconds())

    async def _serve_dialled(self, link: Link) -> None:
        """We dialled, so the first event has to say whose line this is; until then
        nothing may be sent over it."""
        async with aclosing(link.payloads()) as payloads:
            async for _, first in payloads:
                if not await self._ours(link.account, first):
                    return
                break
            else:
                return
            self._links[link.account.self_id] = link
            try:
                await self._serve(link, payloads)
            finally:
                self._clear(link)

    async def _call_api(self, bot: BaseBot, api: str, **data: Any) -> Any:
        """Raises ActionFailed, TransientFailure or OutcomeUnknown."""
        link = self._links.get(bot.self_id)
        if link is None:
            raise TransientFailure("not_connected")
        timeout = link.account.api_timeout
        if api == "get_msg":
            timeout = min(timeout, QUOTE_TIMEOUT)
        return handle_api_result(await link.call(api, data, timeout))

    async def _stop(self) -> None:
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        await self._drain()
        self._seats.give_up()
        await self._drain()
        for turn in self._under_way:
            turn.cancel()

    async def _drain(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_SECONDS)
