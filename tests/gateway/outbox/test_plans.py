"""Hundreds at once are looked up by the indexes, on SQLite too: there a whole table of
millions would be read under the one writer's lock."""

import sqlite3
from collections.abc import Sequence

import pytest
from tortoise import connections

from gateway import database as db
from gateway.contract import DeliveryReceipt, ReceiptState
from gateway.core import Core
from gateway.outbox import journal, receipts
from gateway.outbox.journal import Settlement
from tests.labs.storing import SENDER

CHANNEL = "短信"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


def settlement(number: int) -> Settlement:
    row = {
        "id": number,
        "attempts": 1,
        "broadcast_id": None,
        "inquiry_id": None,
        "channel": CHANNEL,
        "kind": "phone",
        "value": f"+86{number}",
    }
    ids = (str(number),)
    return Settlement(row, 1, 5, 0, "unknown", "unknown", "", "", ids)


def receipt(number: int) -> DeliveryReceipt:
    return DeliveryReceipt(
        key=str(number),
        provider_id=str(number),
        state=ReceiptState.DELIVERED,
        raw=b"",
        address=SENDER,
    )


@pytest.mark.parametrize("count", [3, 20, 130, 300, 420, 600, 2000])
async def test_no_table_is_read_as_a_whole(
    core: Core, sqlite_url: str, count: int
) -> None:
    told = [(str(number), receipt(number)) for number in range(count)]
    sent = [settlement(number) for number in range(count)]
    ran: list[str] = []
    await connections.get("default").create_connection(with_db=True)
    base = connections.get("default")._writer._base
    base.set_trace_callback(ran.append)
    async with db.transaction():
        await receipts.store(core, CHANNEL, told)
        await receipts.apply_early(core, CHANNEL, sent)
        await journal.settle(sent, CHANNEL, 1, core.clock.now())
    base.set_trace_callback(None)
    plans = _plans(sqlite_url, ran)
    assert len(plans) > 6
    assert not [
        (step, statement[-200:])
        for statement, steps in plans
        for step in steps
        if "AUTOMATIC" in step or _reads_all(step)
    ]


def _plans(url: str, ran: Sequence[str]) -> list[tuple[str, list[str]]]:
    base = sqlite3.connect(url.removeprefix("sqlite://"))
    asked = [one for one in ran if one.startswith(("SELECT", "UPDATE", "INSERT"))]
    found = [(one, base.execute(f"EXPLAIN QUERY PLAN {one}")) for one in asked]
    return [(one, [str(step[3]) for step in steps]) for one, steps in found]


def _reads_all(step: str) -> bool:
    words = step.split()
    return words[0] == "SCAN" and words[1] in {
        *("o", "r", "t", "p", "u", "outbox", "receipts", "attempts", "parts")
    }
