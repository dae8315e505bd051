"""Plays an SMS centre: the simulator that ships with the product, in this process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp.test_utils import unused_port
from pydantic import SecretStr

from adapters import smpp
from adapters.smpp.simulator import Behaviour, Centre, serving
from adapters.smpp.simulator.centre import Submitted, part_of, text_of
from adapters.smpp.simulator.session import Item
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    Event,
    MessageKind,
    OutboundMessage,
)
from tests.contract.labs import Case, Lab, LabEntry, Taken
from tests.labs.carrier import Events, context, listening, until

PASSWORD = "lab-pass"
SYSTEM_ID = "lianxin"
BEHAVIOURS = {
    Case.REFUSED: Behaviour(refuse_share=1.0),
    Case.THROTTLED: Behaviour(refuse_share=1.0, refuse_status=0x58),
    Case.REPLY_LOST: Behaviour(lose_share=1.0),
    Case.NONSENSE: Behaviour(nonsense=True),
    Case.MIXED_BATCH: Behaviour(
        refuse_numbers=("8613800138001", "8613800138003", "8613800138005")
    ),
}


def settings(port: int, **changes: object) -> smpp.Settings:
    return smpp.Settings.model_validate(
        {
            "host": "127.0.0.1",
            "port": port,
            "system_id": SYSTEM_ID,
            "password": SecretStr(PASSWORD),
            "source": "10690000",
            "connection_window": 100,
            **changes,
        }
    )


def message(index: int, text: str = "", number: str = "") -> OutboundMessage:
    return OutboundMessage(
        id=f"message-{index}",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, number or f"+86{13800138000 + index}"),
        text=text or f"第{index}条",
    )


def joined(parts: Sequence[Submitted]) -> dict[str, str]:
    """The texts that handsets show, by number; parts in order."""
    texts: dict[str, list[tuple[int, str]]] = {}
    for part in parts:
        number = part.destination.decode()
        found = (part_of(part).number, text_of(part))
        texts.setdefault(number, []).append(found)
    return {n: "".join(t for _, t in sorted(found)) for n, found in texts.items()}


class SmppLab:
    secrets = (PASSWORD,)
    retry_after = None

    def __init__(self, centre: Centre, port: int, data_dir: Path) -> None:
        self.centre = centre
        self.events = Events()
        self.port = port
        self.data_dir = data_dir

    @asynccontextmanager
    async def adapter(self, case: Case) -> AsyncIterator[Adapter]:
        quiet = BEHAVIOURS.get(case, Behaviour())
        self.centre.behave(replace(quiet, receipts=False))
        reachable = case is not Case.UNREACHABLE
        port = self.port if reachable else unused_port()
        account = smpp.build(settings(port), context("smpp", self.data_dir))
        async with listening(account, self.events, connect=reachable):
            yield account

    def message(self, index: int, text: str = "") -> OutboundMessage:
        return message(index, text)

    def taken(self) -> Sequence[Taken]:
        assert self.centre.taken is not None
        return [
            Taken(f"message-{int(number) - 8613800138000}", text)
            for number, text in joined(self.centre.taken).items()
        ]

    async def inbound(self, case: Case, adapter: Adapter) -> Sequence[Event]:
        """A repetition is what a centre brings again because it had no answer."""
        before = len(self.events)
        await until(lambda: any(s.system_id for s in self.centre.sessions))
        if case is Case.UNMAPPED_STATUS:
            items = [receipt("0000000007", "PERHAPS")]
        else:
            items = [receipt("0000000007", "DELIVRD"), *self._reply()]
        self.centre.deliver(SYSTEM_ID, items)
        await until(lambda: len(self.events) - before == len(items))
        self.centre.hang_up()
        await until(lambda: not self.centre.sessions)
        return self.events[before:]

    def _reply(self) -> list[Item]:
        return self.centre.said(SYSTEM_ID, "8613800138000", "10690000", "参加")


def receipt(id: str, word: str, *, number: str = "8613800138000") -> Item:
    text = (
        f"id:{id} sub:001 dlvrd:001 submit date:2611210930 done date:2611210931 "
        f"stat:{word} err:000 text:"
    ).encode()
    addresses = f"\0\1\1{number}\0\0\1{10690000}\0".encode()
    return Item(addresses + b"\4\0\0\0\0\0\0\0\0%c%b" % (len(text), text))


@asynccontextmanager
async def opened(
    data_dir: Path, behaviour: Behaviour | None = None, ledger: Path | None = None
) -> AsyncIterator[SmppLab]:
    centre = Centre(behaviour, accounts={SYSTEM_ID: PASSWORD}, ledger=ledger)
    centre.taken = []
    async with serving(centre) as port:
        yield SmppLab(centre, port, data_dir)


@asynccontextmanager
async def lab(data_dir: Path) -> AsyncIterator[Lab]:
    async with opened(data_dir) as found:
        yield found


_SESSION = "we dial the centre and log in: a delivery itself carries no signature"
ENTRY = LabEntry(
    open=lab,
    without={
        Case.FORGED: _SESSION,
        Case.UNSIGNED: _SESSION,
        Case.BROKEN: "a torn PDU is answered with a command_status and handed to "
        "nobody; tests/adapters/smpp shows it by the hundred thousand",
    },
)
