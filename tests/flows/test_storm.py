"""A storm of receipts after an outage, over a real connection."""

import asyncio
from pathlib import Path

import pytest

from adapters import smpp
from adapters.carrier.account import Account
from adapters.smpp.simulator import Behaviour, Centre, serving
from gateway import database as db
from gateway.channels import ChannelSet
from gateway.core import Core
from gateway.database import to_micros
from gateway.inbox import Inbox
from tests.labs.carrier import context
from tests.labs.smpp_lab import PASSWORD, SYSTEM_ID, receipt, settings

pytestmark = pytest.mark.slow
RECEIPTS = 100_000
SLICE = 1000  # and a member writes after each
NAME = "短信"
PATIENCE_SECONDS = 300.0
ON_THE_WAY = 8 * SLICE  # more than one commit takes
BEHIND = 12 * SLICE  # receipts that a message may wait for: those on their way


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One writer: where a storm could hold up most."""
    return sqlite_url


@pytest.fixture
def channels() -> ChannelSet:
    return ChannelSet()


async def sent(core: Core) -> None:
    """As many messages as there will be receipts."""
    await db.execute(
        "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted "
        "WHERE n < ?) INSERT INTO outbox (message_kind, priority, channel, kind, "
        "value, text, variables, extras, state, reason, detail, due_at, attempts, "
        "throttled, provider_id, created_at, changed_at) "
        "SELECT 'answer', 5, ?, 'phone', "
        "'+86' || (13800000000 + n), '您好', '{}', '{}', 'accepted', '', '', ?, 1, 0, "
        "printf('%010d', n), ?, ? FROM counted",
        RECEIPTS,
        NAME,
        *[to_micros(core.clock.now())] * 3,
    )


async def test_members_are_heard_in_a_storm_of_receipts(
    core: Core, tmp_path: Path
) -> None:
    """C-6: as fast as they can be brought; whoever writes meanwhile waits for what is
    on the way, and not for the storm."""
    await sent(core)
    wide = Behaviour(receipts=False, deliver_window=2 * ON_THE_WAY)
    centre = Centre(wide, accounts={SYSTEM_ID: PASSWORD})
    counts = centre.counts
    inbox = Inbox(core)
    storing = asyncio.create_task(inbox.run())

    async def accept(events: object) -> None:
        await inbox.accept(NAME, events)  # type: ignore[arg-type]

    async with serving(centre) as port, asyncio.timeout(PATIENCE_SECONDS):
        account = smpp.build(settings(port), context(NAME, tmp_path))
        assert isinstance(account, Account)
        async with account.listen(accept):
            waited: list[int] = []
            said = 0
            while counts.receipts < RECEIPTS or counts.replies < said:
                brought = said * SLICE
                if brought < RECEIPTS and brought - counts.receipts < ON_THE_WAY:
                    ids = range(brought + 1, brought + SLICE + 1)
                    items = [receipt(f"{id:010}", "DELIVRD") for id in ids]
                    centre.deliver(SYSTEM_ID, items)
                    centre.say(SYSTEM_ID, "8613800138000", "10690000", f"第{said}条")
                    said += 1
                # The oldest message that was not acknowledged yet came behind these.
                waited.append(counts.receipts - counts.replies * SLICE)
                await asyncio.sleep(0.002)
        await account.close()
    storing.cancel()
    await asyncio.wait([storing])
    assert max(waited) <= BEHIND
    states = await db.rows("SELECT state, COUNT(*) AS n FROM outbox GROUP BY state")
    assert states == [{"state": "delivered", "n": RECEIPTS}]
    kept = await db.rows(
        "SELECT (SELECT COUNT(*) FROM receipts) AS receipts, "
        "(SELECT COUNT(*) FROM inbound) AS messages"
    )
    assert kept == [{"receipts": RECEIPTS, "messages": said}]
