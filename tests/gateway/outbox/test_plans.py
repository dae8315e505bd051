"""Hundreds at once are looked up by the indexes, on SQLite too: there a whole table of
millions would be read under the one writer's lock."""

import pytest

from gateway import database as db
from gateway.contract import DeliveryReceipt, ReceiptState
from gateway.core import Core
from gateway.outbox import chunks, journal, receipts
from gateway.outbox.facts import Cap, Caps
from gateway.outbox.journal import Settlement
from tests.labs.plans import watched
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
    async with db.transaction():
        await db.execute("UPDATE outbox SET state = state WHERE id = 0")
    with watched(sqlite_url) as seen:
        async with db.transaction():
            await receipts.store(core, CHANNEL, told)
            await receipts.apply_early(core, CHANNEL, sent)
            await journal.settle(sent, CHANNEL, 1, core.clock.now())
    assert len(seen.ran) > 6
    tables = ("o", "r", "t", "p", "outbox", "receipts", "attempts", "parts")
    assert not seen.of("AUTOMATIC", *(f"SCAN {table}" for table in tables))


async def test_the_daily_cap_asks_for_few(core: Core, sqlite_url: str) -> None:
    """Of each recipient, and of the channel's open chunks: those of one broadcast are
    thousands."""
    cap = Cap(1, 5, (1, 2, 3))
    async with db.transaction():
        await db.execute("UPDATE outbox SET state = state WHERE id = 0")
    chunk = {
        "id": 1,
        "journalled_to": 0,
        "last_id": 500,
        "broadcast_id": 9,
        "channel": CHANNEL,
    }
    with watched(sqlite_url) as seen:
        async with db.transaction():
            await chunks.window(chunk, 100, cap)
            await Caps(core).now()
    assert not seen.of("AUTOMATIC", "SCAN c", "SCAN p", "SCAN broadcasts")
    [chunk_step] = {step for step, _ in seen.of("SEARCH c ")}
    assert chunk_step.endswith("(channel=? AND state=?)")
    assert len(seen.of("SEARCH broadcasts")) == 2


async def test_tests_are_found_among_millions(core: Core) -> None:
    """Each channel's card names its newest."""
    steps = await db.rows(
        "EXPLAIN QUERY PLAN SELECT state FROM outbox WHERE channel = ? "
        "AND message_kind = 'test' ORDER BY id DESC LIMIT 5",
        CHANNEL,
    )
    assert [step["detail"].partition(" USING ")[2] for step in steps] == [
        "INDEX outbox_tests (channel=?)"
    ]
