"""A OneBot V11 implementation (the QQ client's side) over real sockets.

It dials us (reverse) or serves (forward), records every call, and can answer in all
the ways that go wrong.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

BOT = "1000100"
TOKEN = "a-token-of-enough-length"
GROUP = 700001

Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class Reply(StrEnum):
    """How the peer answers calls that send."""

    OK = "ok"
    FAILED = "failed"  # with `OneBotPeer.failure`
    NOTHING = "nothing"
    DROP = "drop"  # the socket dies after the call was read
    GARBAGE = "garbage"  # bytes that are no answer
    NO_ID = "no_id"  # ok, but nobody knows which message
    TWICE = "twice"  # the same answer two times


@dataclass
class OneBotPeer:
    self_id: str = BOT
    token: str = TOKEN
    reply: Reply = Reply.OK
    failure: dict[str, Any] = field(default_factory=lambda: {"retcode": 1400})
    refuse: Callable[[dict[str, Any]], bool] = lambda call: False
    quoted_senders: dict[int, int] = field(default_factory=dict)
    mute: bool = False  # answers nothing at all, not even get_status
    calls: list[dict[str, Any]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    ws: Socket | None = None
    ids: Iterator[int] = field(default_factory=lambda: count(5001))
    _hang_up: Callable[[], Awaitable[None]] | None = None

    def headers(self) -> dict[str, str]:
        return {
            "X-Self-ID": self.self_id,
            "X-Client-Role": "Universal",
            "Authorization": f"Bearer {self.token}",
        }

    @asynccontextmanager
    async def dialled(self, url: str, **headers: str) -> AsyncIterator["OneBotPeer"]:
        """Reverse: connected to `url` while the context is open. Raises
        aiohttp.WSServerHandshakeError when turned away."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                url, headers=self.headers() | headers, max_msg_size=0
            ) as ws,
        ):
            self.ws = ws
            self._hang_up = session.close
            reading = asyncio.create_task(self._converse(ws))
            try:
                await ws.send_json(self.lifecycle())
                yield self
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    @asynccontextmanager
    async def served(self, port: int = 0) -> AsyncIterator[str]:
        """Forward: the address at which this peer serves."""
        app = web.Application()
        app.router.add_get("/", self._serve)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            if self.ws is not None:
                await self.ws.close()
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise web.HTTPForbidden
        ws = web.WebSocketResponse(timeout=0.1)
        await ws.prepare(request)

        async def abort() -> None:
            assert request.transport is not None
            request.transport.abort()

        self._hang_up = abort
        await ws.send_json(self.lifecycle())
        await self._converse(ws)
        return ws

    async def _converse(self, ws: Socket) -> None:
        self.ws = ws
        self.connections += 1
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await self._answer(ws, json.loads(message.data))

    async def _answer(self, ws: Socket, call: dict[str, Any]) -> None:
        self.calls.append(call)
        if self.mute:
            return
        with contextlib.suppress(ConnectionError):
            if call["action"].startswith("send_"):
                await self._answer_send(ws, call)
            else:
                await ws.send_json(self._ok(call, self._looked_up(call)))

    def _looked_up(self, call: dict[str, Any]) -> Any:
        if call["action"] != "get_msg":
            return {"online": True, "good": True}
        number = call["params"]["message_id"]
        return {
            "time": 1,
            "message_type": "group",
            "message_id": number,
            "real_id": number,
            "sender": {"user_id": self.quoted_senders.get(number, 1)},
            "message": [],
        }

    async def _answer_send(self, ws: Socket, call: dict[str, Any]) -> None:
        failed = {"status": "failed", "data": None, "echo": call["echo"]} | self.failure
        if self.reply is Reply.FAILED or self.refuse(call):
            await ws.send_json(failed)
            return
        self.taken.append(call)
        answer = self._ok(call, {"message_id": next(self.ids)})
        if self.reply is Reply.NO_ID:
            await ws.send_json(self._ok(call, {"message_id": None}))
        elif self.reply is Reply.GARBAGE:
            await ws.send_str('{"echo": "' + call["echo"] + '", ')
            await ws.send_json({"echo": call["echo"], "status": 7})
        elif self.reply is Reply.DROP:
            await self.cut()
        elif self.reply is not Reply.NOTHING:
            for _ in range(2 if self.reply is Reply.TWICE else 1):
                await ws.send_json(answer)

    def _ok(self, call: dict[str, Any], data: Any) -> dict[str, Any]:
        return {"status": "ok", "retcode": 0, "data": data, "echo": call["echo"]}

    async def cut(self) -> None:
        """The connection is gone without a word."""
        assert self._hang_up is not None
        await self._hang_up()

    async def send(self, *events: dict[str, Any]) -> None:
        assert self.ws is not None
        for event in events:
            await self.ws.send_json(event)

    async def send_raw(self, frame: str | bytes, opcode: WSMsgType) -> None:
        """A frame as it is, also a text frame that is not UTF-8."""
        assert self.ws is not None
        data = frame.encode() if isinstance(frame, str) else frame
        await self.ws.send_frame(data, opcode)

    def sent_texts(self) -> list[str]:
        return [text_of(call) for call in self.taken]

    def lifecycle(self) -> dict[str, Any]:
        return self._event(
            post_type="meta_event", meta_event_type="lifecycle", sub_type="connect"
        )

    def heartbeat(self, *, online: bool) -> dict[str, Any]:
        return self._event(
            post_type="meta_event",
            meta_event_type="heartbeat",
            status={"online": online, "good": online},
            interval=30000,
        )

    def private(
        self, text: str | list[dict[str, Any]], *, user: int = 20001, number: int = 1
    ) -> dict[str, Any]:
        return self._message(
            text, user, number, message_type="private", sub_type="friend"
        )

    def group(
        self,
        text: str | list[dict[str, Any]],
        *,
        user: int = 20001,
        number: int = 1,
        group: int = GROUP,
    ) -> dict[str, Any]:
        return self._message(
            text,
            user,
            number,
            message_type="group",
            sub_type="normal",
            group_id=group,
            anonymous=None,
        )

    def notice(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self._event(post_type="notice", notice_type=kind, **fields)

    def _message(
        self, text: str | list[dict[str, Any]], user: int, number: int, **fields: Any
    ) -> dict[str, Any]:
        segments = [segment("text", text=text)] if isinstance(text, str) else text
        return self._event(
            post_type="message",
            message_id=number,
            user_id=user,
            message=segments,
            raw_message="",
            font=0,
            sender={"user_id": user, "nickname": "老王"},
            **fields,
        )

    def _event(self, **fields: Any) -> dict[str, Any]:
        return {"time": 1_790_000_000, "self_id": int(self.self_id)} | fields


def segment(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data}


def text_of(call: dict[str, Any]) -> str:
    parts = (s["data"] for s in call["params"]["message"] if s["type"] == "text")
    return "".join(part["text"] for part in parts)


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Polls until `condition` holds; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
