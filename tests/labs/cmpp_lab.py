"""The contract's view of CMPP: the simulated gateway on a free port."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from adapters.carrier.account import Account
from adapters.cmpp import Settings, build
from adapters.cmpp.pdus import Deliver, Report, Submit
from adapters.cmpp.simulator import Behaviour, Ismg, serving, text_of
from adapters.cmpp.simulator.ismg import place_of
from adapters.cmpp.simulator.session import Item
from adapters.cmpp.wire import encode_body, encode_report
from gateway.clock import SystemClock
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    ChannelContext,
    Event,
    MessageKind,
    OutboundMessage,
)
from tests.contract.labs import Case, Lab, LabEntry, Taken
from tests.labs.process import free_port

SP_ID, SECRET = "901234", "the-shared-secret-of-the-lab"
FIRST_NUMBER = 13800138000
WITHIN_SECONDS = 5.0

BEHAVIOURS = {
    Case.REFUSED: Behaviour(refuse_share=1.0),
    Case.THROTTLED: Behaviour(refuse_share=1.0, refuse_status=8),
    Case.REPLY_LOST: Behaviour(drop_share=1.0),
    Case.NONSENSE: Behaviour(babble_share=1.0),
    Case.MIXED_BATCH: Behaviour(
        refuse_numbers=tuple(str(FIRST_NUMBER + index) for index in range(1, 100, 2))
    ),
}


async def until(condition: Callable[[], object]) -> None:
    """Poll what happens in the same loop; TimeoutError after a while."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def context(data_dir: Path, signature: str = "") -> ChannelContext:
    return ChannelContext(
        name="cmpp",
        clock=SystemClock(),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=data_dir,
        public_url="https://gateway.example",
        secret=lambda purpose: purpose.encode().ljust(32, b"\0"),
        signature=signature,
    )


def joined(taken: Sequence[Submit]) -> list[tuple[str, str]]:
    """Number and text of each whole message, in the order of their first parts."""
    texts: dict[tuple[str, int], str] = {}
    for serial, submit in enumerate(taken):
        reference, total, number = place_of(submit)
        [to] = submit.dest_terminal_ids
        key = (to, reference if total > 1 else -serial - 1)
        assert (number == 1) == (key not in texts)
        texts[key] = texts.get(key, "") + text_of(submit)
    return [(to, text) for (to, _), text in texts.items()]


class CmppLab:
    secrets: Sequence[str] = (SECRET,)
    retry_after: timedelta | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._submits: list[Submit] = []
        self._events: list[Event] = []
        self._gateway = Ismg()

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        gateway = self._gateway = Ismg(
            BEHAVIOURS.get(case, Behaviour()), accounts={SP_ID: SECRET}
        )
        gateway.taken = self._submits
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(gateway))
            account = build(
                Settings(
                    host="127.0.0.1",
                    port=free_port() if case is Case.UNREACHABLE else port,
                    version="3.0",
                    sp_id=SP_ID,
                    secret=SecretStr(SECRET),
                    service_number="1065700001",
                    answer_within_seconds=0.2 if case is Case.NONSENSE else 5,
                ),
                context(self._folder),
            )
            await stack.enter_async_context(account.listen(self._accept))
            if case is not Case.UNREACHABLE:
                await until(account.room)
            watch = asyncio.create_task(self._watch(case))
            yield account
            watch.cancel()
            await account.close()

    async def _watch(self, case: Case) -> None:
        if case is Case.REPLY_LOST:
            await until(lambda: self._submits)
            self._gateway.hang_up()

    async def _accept(self, events: Sequence[Event]) -> None:
        self._events += events

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return OutboundMessage(
            id=f"message-{index}",
            kind=MessageKind.NOTICE,
            to=Address(AddressKind.PHONE, f"+86{FIRST_NUMBER + index}"),
            text=text or f"第{index}条",
        )

    def taken(self) -> Sequence[Taken]:
        return [
            Taken(f"message-{int(to) - FIRST_NUMBER}", text)
            for to, text in joined(self._submits)
        ]

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        assert isinstance(adapter, Account)
        before = len(self._events)
        self._gateway.deliver(SP_ID, [_pushed(case, self._gateway)])
        await until(lambda: len(self._events) > before)
        return self._events[before:]


def _pushed(case: Case, gateway: Ismg) -> Item:
    report = Report(
        msg_id=77,
        stat="XX:0001",
        submit_time="2611201000",
        done_time="2611201001",
        dest_terminal_id=str(FIRST_NUMBER),
    )
    pdu = Deliver(
        msg_id=13_485_112_366_406_893_569,
        dest_id="1065700001",
        src_terminal_id=str(FIRST_NUMBER),
        content="组织关系怎么转？".encode("utf-16-be"),
    )
    if case is Case.UNMAPPED_STATUS:
        pdu = Deliver(
            msg_id=77,
            src_terminal_id=str(FIRST_NUMBER),
            registered_delivery=1,
            content=encode_report(report, gateway.version),
        )
    return Item(encode_body(pdu, gateway.version)[1])


@asynccontextmanager
async def open_lab(folder: Path) -> AsyncIterator[Lab]:
    yield CmppLab(folder)


ENTRY = LabEntry(
    open=open_lab,
    without={
        Case.FORGED: "nobody can push to us: we dial the gateway ourselves",
        Case.UNSIGNED: "nobody can push to us: we dial the gateway ourselves",
        Case.BROKEN: "a broken PDU is answered on the session, or ends it",
    },
)
