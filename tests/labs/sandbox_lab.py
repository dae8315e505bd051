"""The sandbox plays its own provider: the lab sets its switches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from adapters import sandbox
from adapters.sandbox.adapter import world_of
from adapters.sandbox.faults import Faults
from adapters.sandbox.records import Arrived, Medium, read
from adapters.sandbox.world import World
from gateway.clock import ManualClock
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    ChannelContext,
    Event,
    Listens,
    MessageKind,
    OutboundMessage,
)
from tests.contract.labs import Case, Lab, LabEntry, Taken

NOW = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
PHONE = "+8613800138000"
SECONDS = 5.0  # that anything here may take at most

FAULTS = {
    Case.REFUSED: Faults(refuse_every=1),
    Case.MIXED_BATCH: Faults(refuse_every=2),
    Case.REPLY_LOST: Faults(lose_answers=True),
    Case.REPEATED: Faults(repeat=True),
}


def context(
    data_dir: Path, name: str = "sms", shared: dict[str, object] | None = None
) -> ChannelContext:
    return ChannelContext(
        name=name,
        clock=ManualClock(NOW),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=data_dir,
        public_url="https://gateway.example",
        secret=lambda purpose: purpose.encode().ljust(32, b"\0"),
        shared={} if shared is None else shared,
    )


def settings(medium: str = "sms", **more: object) -> sandbox.Settings:
    quick = {"receipt_delay_seconds": 0, "answer_within_seconds": 0.1}
    return sandbox.Settings.model_validate({"medium": medium} | quick | more)


def message(index: int, text: str = "", to: str = PHONE) -> OutboundMessage:
    return OutboundMessage(
        id=f"message-{index}",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, to),
        text=text or f"第{index}条",
    )


def arrived(data_dir: Path) -> list[Arrived]:
    """What the ledger says, as anybody outside of the process can count it."""
    path = data_dir / "sandbox" / "ledger.jsonl"
    return [one for one in read(path) if isinstance(one, Arrived)]


class Gateway:
    """Stores what is pushed, and lets a test wait for it."""

    def __init__(self) -> None:
        self.pushes: list[list[Event]] = []
        self.refusals: list[Exception] = []  # raised first, one a push
        self._news = asyncio.Condition()

    async def accept(self, events: Sequence[Event]) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        async with self._news:
            self.pushes.append(list(events))
            self._news.notify_all()

    async def pushed(self, count: int) -> list[list[Event]]:
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.pushes) >= count)
        return self.pushes


class SandboxLab:
    # Personal data: in no log, error or repr.
    secrets: Sequence[str] = (PHONE, PHONE[3:], "第0条")
    retry_after: timedelta | None = None

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._shared: dict[str, object] = {}
        self._pushed: list[list[Event]] = []

    @property
    def world(self) -> World:
        return world_of(context(self._data_dir, shared=self._shared))

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        self._shared.clear()
        given = context(self._data_dir, shared=self._shared)
        adapter = sandbox.build(settings(), given)
        self.world.set_faults(Medium.SMS, FAULTS.get(case, Faults()))
        try:
            yield adapter
        finally:
            await adapter.close()

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return message(index, text)

    def taken(self) -> Sequence[Taken]:
        return [Taken(one.id, one.text) for one in arrived(self._data_dir)]

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        """The first push of what a person wrote; called again, the repeated one."""
        if not self._pushed:
            assert isinstance(adapter, Listens)
            sender = "12345" if case is Case.BROKEN else PHONE
            gateway = Gateway()
            async with adapter.listen(gateway.accept):
                self.world.write(Medium.SMS, sender, "参加")
                self._pushed = list(await gateway.pushed(3))
        return self._pushed.pop(0)


@asynccontextmanager
async def lab(data_dir: Path) -> AsyncIterator[Lab]:
    yield SandboxLab(data_dir)


ENTRY = LabEntry(
    open=lab,
    without={
        Case.THROTTLED: "the provider in our own process has no rate of its own",
        Case.UNREACHABLE: "the provider runs in our own process, without a network",
        Case.NONSENSE: "answers are Python values, there is nothing to misread",
        Case.FORGED: "nothing comes over a wire; the page has its own tests",
        Case.UNSIGNED: "nothing comes over a wire; the page has its own tests",
        Case.UNMAPPED_STATUS: "the provider knows one status word, which is mapped",
    },
)
