"""The contract's view of QQ: a gateway host and a OneBot peer that dials it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp

from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    Event,
    MessageKind,
    OutboundMessage,
)
from gateway.errors import RequestError
from tests.contract.labs import Case, Lab, LabEntry, Taken
from tests.labs.onebot_host import Host, running
from tests.labs.onebot_peer import BOT, TOKEN, OneBotPeer, Reply, text_of, until

FIRST_USER = 20000

REPLIES = {
    Case.REFUSED: Reply.FAILED,
    Case.REPLY_LOST: Reply.DROP,
    Case.NONSENSE: Reply.NO_ID,
}
CREDENTIALS = {
    Case.FORGED: {"X-Self-ID": BOT, "Authorization": "Bearer a-wrong-token-in-full"},
    Case.UNSIGNED: {"X-Self-ID": BOT},
}


class OneBotLab:
    secrets: Sequence[str] = (TOKEN,)
    retry_after: timedelta | None = None

    def __init__(self) -> None:
        self._host: Host | None = None
        self._peer = OneBotPeer()
        self._taken: list[Taken] = []

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        self._peer = OneBotPeer(reply=REPLIES.get(case, Reply.OK))
        if case is Case.MIXED_BATCH:
            self._peer.refuse = lambda call: call["params"]["user_id"] % 2 == 1
        async with AsyncExitStack() as stack:
            host = self._host = await stack.enter_async_context(running())
            if case is not Case.UNREACHABLE:
                await stack.enter_async_context(self._peer.dialled(host.url))
                await until(lambda: host.connected)
            yield host.channel
            await host.channel.close()
        self._taken += self._now_taken()
        self._peer = OneBotPeer()

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return OutboundMessage(
            id=f"m{index}",
            kind=MessageKind.ANSWER,
            to=Address(AddressKind.QQ, str(FIRST_USER + index)),
            text=text or f"第{index}条",
        )

    def taken(self) -> Sequence[Taken]:
        return [*self._taken, *self._now_taken()]

    def _now_taken(self) -> list[Taken]:
        calls = self._peer.taken
        return [
            Taken(f"m{call['params']['user_id'] - FIRST_USER}", text_of(call))
            for call in calls
        ]

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        assert self._host is not None
        if case in CREDENTIALS:
            await self._knock(self._host, CREDENTIALS[case])
        inbox = self._host.inbox
        before = len(inbox.events)
        await self._peer.send(self._peer.private("组织关系怎么转？"))
        await until(lambda: len(inbox.events) > before)
        return inbox.events[before:]

    async def _knock(self, host: Host, headers: dict[str, str]) -> None:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(host.url, headers=headers):
                    pass
            except aiohttp.WSServerHandshakeError as error:
                raise RequestError("handshake", status=error.status) from error


@asynccontextmanager
async def open_lab(folder: Path) -> AsyncIterator[Lab]:
    yield OneBotLab()


ENTRY = LabEntry(
    open=open_lab,
    without={
        Case.THROTTLED: "OneBot 11 has no answer that means try again later",
        Case.BROKEN: "a WebSocket frame is never answered; it is dropped and logged",
        Case.UNMAPPED_STATUS: "OneBot 11 has no delivery receipts at all",
    },
)
