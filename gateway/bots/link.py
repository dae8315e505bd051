"""One living connection of one account: frames become payloads and answers.

API calls are answered here and not by the adapter's own table, where a pending call
would sit out its whole time-out after the socket is gone and an answer that comes
twice would end the reader.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from datetime import timedelta
from itertools import count
from typing import Any

import structlog
from nonebot.exception import WebSocketClosed
from nonebot.utils import DataclassEncoder

from gateway.bots.accounts import Account
from gateway.bots.driver import Socket
from gateway.bots.frames import BadFrame, read_frame
from gateway.errors import OutcomeUnknown, TransientFailure

log = structlog.get_logger()

# A half-open TCP connection looks alive until somebody asks.
PROBE = timedelta(seconds=2)


class Link:
    """Reads one socket and matches answers to calls."""

    def __init__(self, account: Account, socket: Socket) -> None:
        self.account = account
        self._socket = socket
        self._pending: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        # A peer may answer over its next connection what was asked over this one.
        self._name = secrets.token_hex(4)
        self._numbers = count(1)

    async def payloads(self) -> AsyncGenerator[tuple[bytes, dict[str, Any]], None]:
        """Every event as (frame, object) until the socket closes; bad frames are
        dropped and counted in the log, answers go to their calls."""
        while True:
            try:
                data = await self._socket.receive()
            except WebSocketClosed:
                return
            frame = data.encode() if isinstance(data, str) else data
            try:
                payload = read_frame(frame)
            except BadFrame as error:
                self._complain(str(error), len(frame))
                continue
            if "post_type" in payload:
                yield frame, payload
            else:
                self._settle(payload)

    def _complain(self, code: str, size: int) -> None:
        channel = self.account.channel
        log.warning("bot_frame.dropped", channel=channel, code=code, size_bytes=size)

    def _settle(self, answer: dict[str, Any]) -> None:
        pending = self._pending.get(str(answer.get("echo")))
        if pending is not None and not pending.done():
            pending.set_result(answer)

    async def call(
        self, action: str, params: dict[str, Any], within: timedelta
    ) -> dict[str, Any]:
        """The peer's whole answer.

        Raises TransientFailure if the call certainly never left, OutcomeUnknown if it
        left and no answer came: `timeout`, or at once `connection_lost`.
        """
        echo = f"{self._name}.{next(self._numbers)}"
        request = {"action": action, "params": params, "echo": echo}
        frame = json.dumps(request, cls=DataclassEncoder)
        if self._socket.closed:
            raise TransientFailure("not_connected")
        answer: asyncio.Future[dict[str, Any] | None]
        answer = self._pending[echo] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._socket.send_text(frame)
                answered = await answer
        except TimeoutError:
            raise OutcomeUnknown("timeout", action) from None
        except WebSocketClosed:
            raise OutcomeUnknown("connection_lost", action) from None
        finally:
            del self._pending[echo]
        if answered is None:
            raise OutcomeUnknown("connection_lost", action)
        return answered

    async def alive(self) -> bool:
        """Whether the peer still answers; any answer will do."""
        try:
            await self.call("get_status", {}, PROBE)
        except (OutcomeUnknown, TransientFailure):
            return False
        return True

    async def close(self, reason: str) -> None:
        await self._socket.close(1000, reason)

    def drop(self) -> None:
        """The socket is gone: no pending call will be answered any more."""
        for pending in self._pending.values():
            if not pending.done():
                pending.set_result(None)
