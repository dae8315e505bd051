"""An account beside a simulated centre, and what became of its messages."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters import smpp
from adapters.carrier.account import Account, Endpoint
from adapters.carrier.link import Limits
from adapters.smpp.codec import SmppCodec
from gateway.contract import OutboundMessage, Outcome
from tests.labs.carrier import Events, context, listening, until
from tests.labs.smpp_lab import SmppLab, opened, settings


class Talk:
    """Streams messages through an account and keeps every outcome told."""

    def __init__(self, account: Account, events: Events) -> None:
        self.account = account
        self.events = events
        self.told: dict[str, list[Outcome]] = {}
        self.readies = 0
        account.attach(self._answered, self._ready)

    def _answered(self, id: str, outcome: Outcome) -> None:
        self.told.setdefault(id, []).append(outcome)

    def _ready(self) -> None:
        self.readies += 1

    async def stream(self, messages: Sequence[OutboundMessage]) -> list[Outcome]:
        """Submit as room allows; the last outcome of each, in order."""
        left = list(messages)
        for one in messages:
            self.told.pop(one.id, None)
        while left:
            await until(self.account.room)
            room = self.account.room()
            self.account.submit(left[:room])
            del left[:room]
        await until(lambda: all(m.id in self.told for m in messages))
        return [self.told[m.id][-1] for m in messages]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[SmppLab]:
    async with opened(tmp_path) as found:
        yield found


@asynccontextmanager
async def talking(
    port: int,
    data_dir: Path,
    *,
    limits: Limits | None = None,
    codec: type[SmppCodec] = SmppCodec,
    connect: bool = True,
    **changes: object,
) -> AsyncIterator[Talk]:
    """An account as `build` makes it; with `limits` or `codec`, one of our own."""
    chosen = settings(port, **changes)
    about = context("smpp", data_dir)
    account = smpp.build(chosen, about)
    if limits or codec is not SmppCodec:
        account = Account(
            "smpp",
            smpp.capabilities(chosen),
            codec(chosen, about),
            Endpoint(host="127.0.0.1", port=port, connections=chosen.connections),
            limits or smpp.limits(chosen),
            about.clock,
        )
    talk = Talk(account, Events())
    async with listening(account, talk.events, connect=connect):
        yield talk
