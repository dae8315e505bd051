"""What the two SMS labs share: a server that plays one part after reading everything.

What a call looks like, how it is signed and what is answered is up to each lab.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self
from zoneinfo import ZoneInfo

from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from yarl import URL

from gateway.clock import ManualClock
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    ChannelContext,
    Event,
    MessageKind,
    OutboundMessage,
    Receives,
    TemplateUse,
)
from tests.contract.labs import Case, Taken
from tests.labs.hook import hooked, push

NOW = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)


class Play(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"  # with `SmsLab.code`
    REFUSE_ODD = "refuse_odd"
    THROTTLE = "throttle"  # HTTP 429 with Retry-After
    HANG_UP = "hang_up"  # takes the message, then drops the connection
    SILENT = "silent"  # takes the message and says nothing
    NONSENSE = "nonsense"  # 200 and a body of no meaning
    BROKEN_DOWN = "broken_down"  # 503


PLAYS = {
    Case.REFUSED: Play.REFUSE,
    Case.THROTTLED: Play.THROTTLE,
    Case.REPLY_LOST: Play.HANG_UP,
    Case.NONSENSE: Play.NONSENSE,
    Case.MIXED_BATCH: Play.REFUSE_ODD,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One understood and correctly signed call."""

    id: str
    number: str
    sign_name: str
    template: str
    text: str  # values of the variables, one after another
    authorization: str
    headers: Mapping[str, str]
    query: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """What the provider keeps of a message that it took."""

    call: Call
    end: str = ""  # its word for what became of it; empty: nothing is known yet
    at: datetime = NOW


class Dialect(Protocol):
    """What differs between the providers."""

    code: str  # of a refusal
    retry_after: timedelta | None

    def read(self, request: web.Request, body: bytes) -> Call | None:
        """The call, or None where the signature does not fit."""
        ...

    def told(
        self,
        request: web.Request,
        body: bytes,
        records: Sequence[Record],
        odd: Mapping[str, object],
    ) -> web.Response | None:
        """The answer to a question about a number, with what is odd in it; None: it
        is no question."""
        ...

    def accepted(self, call: Call) -> web.Response: ...
    def refused(self, code: str) -> web.Response: ...
    def forged(self) -> web.Response: ...
    def adapter(self, endpoint: str, pushes_from: Sequence[str]) -> Adapter: ...
    def pushed(self, case: Case) -> Sequence[tuple[str, bytes]]:
        """Path and body of each push that makes up a case."""
        ...


class SmsLab:
    """One running provider."""

    def __init__(self, dialect: Dialect, secrets: Sequence[str]) -> None:
        self.dialect = dialect
        self.secrets = secrets
        self.retry_after = dialect.retry_after
        self.play = Play.ACCEPT
        self.calls: list[Call] = []
        self.records: list[Record] = []
        self.questions = 0
        self.odd: Mapping[str, object] = {}  # in its answers to questions
        self.forgeries = 0
        self._taken: list[Taken] = []
        self._over = asyncio.Event()
        app = web.Application()
        app.router.add_post("/", self._serve)
        self._server = TestServer(app, host="127.0.0.1")

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._server.close()

    @property
    def endpoint(self) -> str:
        return str(self._server.make_url("/").origin())

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        told = self.dialect.told(request, body, self.records, self.odd)
        if told is not None:
            return await self._answer(request, told)
        call = self.dialect.read(request, body)
        if call is None:
            self.forgeries += 1
            return self.dialect.forged()
        self.calls.append(call)
        odd = call.id[-1:] in "13579"
        match self.play:
            case Play.REFUSE:
                return self.dialect.refused(self.dialect.code)
            case Play.REFUSE_ODD if odd:
                return self.dialect.refused(self.dialect.code)
            case Play.THROTTLE:
                return web.Response(status=429, headers={"Retry-After": "7"})
            case Play.BROKEN_DOWN:
                return web.Response(status=503, text="<h1>no</h1>")
        self._taken.append(Taken(call.id, call.text))
        self.records.append(Record(call))
        match self.play:
            case Play.HANG_UP:
                assert request.transport is not None
                request.transport.abort()
            case Play.SILENT:
                await self._over.wait()
            case Play.NONSENSE:
                return web.Response(body=b'{"Code":["OK"],"Response":{}}')
        return self.dialect.accepted(call)

    async def _answer(
        self, request: web.Request, told: web.Response
    ) -> web.StreamResponse:
        self.questions += 1
        match self.play:
            case Play.REFUSE:
                return self.dialect.refused(self.dialect.code)
            case Play.THROTTLE:
                return web.Response(status=429, headers={"Retry-After": "7"})
            case Play.BROKEN_DOWN:
                return web.Response(status=503, text="<h1>no</h1>")
            case Play.HANG_UP:
                assert request.transport is not None
                request.transport.abort()
            case Play.SILENT:
                await self._over.wait()
            case Play.NONSENSE:
                return web.Response(body=b'{"Code":"OK","Response":{}}')
        return told

    def knows(self, id: str, end: str) -> None:
        """From now on it tells what became of a message that it took."""
        self.records = [
            replace(one, end=end) if one.call.id == id else one for one in self.records
        ]

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        self.play = PLAYS.get(case, Play.ACCEPT)
        endpoint = self.endpoint
        if case is Case.UNREACHABLE:
            endpoint = f"http://127.0.0.1:{unused_port()}"
        pushes_from = ["203.0.113.0/24"] if case is Case.FORGED else ["127.0.0.0/8"]
        adapter = self.dialect.adapter(endpoint, pushes_from)
        try:
            yield adapter
        finally:
            await adapter.close()

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return OutboundMessage(
            id=f"message-{index}",
            kind=MessageKind.NOTICE,
            to=Address(AddressKind.PHONE, f"+86138001380{index:02}"),
            text=text or f"第{index}条",
            template=TemplateUse("100200", {"text": text or f"第{index}条"}),
        )

    def taken(self) -> Sequence[Taken]:
        return list(self._taken)

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        assert isinstance(adapter, Receives)
        async with hooked(adapter) as hook:
            for path, body in self.dialect.pushed(case):
                await push(hook.url / path, body)
        if hook.refusal:
            raise hook.refusal
        return hook.events


def context(name: str = "sms", data_dir: Path = Path()) -> ChannelContext:
    return ChannelContext(
        name=name,
        clock=ManualClock(NOW),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=data_dir,
        public_url="https://gateway.example",
        secret=lambda purpose: purpose.encode().ljust(32, b"\0"),
    )


def raw_query(request: web.Request) -> str:
    return URL(request.raw_path, encoded=True).raw_query_string
