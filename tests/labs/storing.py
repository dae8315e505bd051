"""A process that stores messages for ever and tells which were acknowledged.

`python -m tests.labs.storing FOLDER LEDGER RESERVE_KIB`: one line of the ledger for
each, outside the folder whose disk is to fail.
"""

import asyncio
import sys
from pathlib import Path

from gateway import database as db
from gateway import keys, texts
from gateway.channels import ChannelSet
from gateway.clock import SystemClock
from gateway.contract import Address, AddressKind, InboundMessage
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.inbox import Inbox
from gateway.settings import Settings, Storage
from gateway.sla import Calendar
from gateway.space import Space

SENDER = Address(AddressKind.PHONE, "+8619900000001")
REFUSALS = 20  # in a row: nothing is taken any more


def core_in(folder: Path, reserve_kib: int = 0) -> Core:
    core = Core(
        settings=Settings(storage=Storage(data_dir=folder, reserve_mib=0)),
        clock=SystemClock(),
        keys=keys.load(folder),
        channels=ChannelSet(),
        texts=texts.load(),
        calendar=Calendar(),
    )
    core.space = Space(folder, reserve_kib * 1024, None)
    return core


def url_in(folder: Path) -> str:
    return f"sqlite://{folder / 'lianxin.sqlite3'}"


def message(key: str) -> InboundMessage:
    return InboundMessage(key=key, sender=SENDER, text="您好", raw=bytes(2000))


async def store(folder: Path, ledger: Path, reserve_kib: int) -> None:
    core = core_in(folder, reserve_kib)
    async with db.opened(url_in(folder)):
        inbox = Inbox(core)
        core.space.keep_reserve()
        running = asyncio.create_task(inbox.run())
        with ledger.open("a", encoding="ascii", buffering=1) as acknowledged:
            number = refused = 0
            while refused < REFUSALS:
                number += 1
                try:
                    await inbox.accept("sms", [message(f"k{number}")])
                except StorageUnavailable:
                    refused += 1
                else:
                    refused = 0
                    acknowledged.write(f"k{number}\n")
        running.cancel()


if __name__ == "__main__":
    asyncio.run(store(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
