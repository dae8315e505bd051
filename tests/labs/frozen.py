"""A broadcast whose recipients are frozen in chunks, in a database of either engine,
and what became of it: by its rows, by a recount, and by the sandbox's ledger."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from adapters.sandbox.records import Arrived, read
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import recount
from gateway.clock import SystemClock
from gateway.outbox import moves
from gateway.tables import Chunk, Content, Outbound

CHUNK = 500
TEXT = "{{name}}同志，明天上午九点开会。"
_PEOPLE = """
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted
  WHERE n < CAST(? AS INTEGER))
INSERT INTO outbox (message_kind, priority, broadcast_id, channel, kind, value,
  content_id, variables, extras, state, reason, detail, due_at, attempts, throttled,
  provider_id, created_at, changed_at)
SELECT 'notice', 10, CAST(? AS BIGINT), CAST(? AS TEXT), 'phone',
  '+86199' || CAST(10000000 + n AS TEXT), CAST(? AS BIGINT), '{"name": "某某"}', '{}',
  'planned', '', '', CAST(? AS BIGINT), 0, 0, '', CAST(? AS BIGINT), CAST(? AS BIGINT)
FROM counted
"""


async def freeze(url: str, people: int, channel: str = "sms") -> int:
    """Ready to leave; its id."""
    now = SystemClock().now()
    at = db.to_micros(now)
    async with db.opened(url), db.transaction():
        broadcast = await Broadcast.create(
            kind="notice",
            title="开会",
            organisation_id=0,
            state="running",
            created_by="",
            planned=people,
            created_at=now,
            changed_at=now,
            started_at=now,
        )
        content = await Content.create(texts={"default": TEXT}, hash="", created_at=now)
        await db.execute(_PEOPLE, people, broadcast.id, channel, content.id, *[at] * 3)
        found = Outbound.filter(broadcast_id=broadcast.id).order_by("id")
        ids = [int(one) for one in await found.values_list("id", flat=True)]
        for first in range(0, people, CHUNK):
            part = ids[first : first + CHUNK]
            await Chunk.create(
                broadcast_id=broadcast.id,
                channel=channel,
                priority=10,
                first_id=part[0],
                last_id=part[-1],
                people=len(part),
                state="ready",
                due_at=now,
                journalled_to=part[0] - 1,
            )
        await moves.tally({(broadcast.id, "planned"): people}, now)
        return int(broadcast.id)


async def states(url: str) -> dict[int, str]:
    """Of every recipient, by the id of the message."""
    async with db.opened(url):
        found = await db.rows(
            "SELECT id, state FROM outbox WHERE broadcast_id IS NOT NULL ORDER BY id"
        )
        return {row["id"]: row["state"] for row in found}


def arrivals(data_dir: Path) -> Counter[int]:
    """How often each message reached its handset, by the provider's own ledger."""
    ledger = data_dir / "sandbox" / "ledger.jsonl"
    lines = read(ledger, 2**30) if ledger.exists() else ()
    return Counter(int(line.id) for line in lines if isinstance(line, Arrived))


def lines(data_dir: Path) -> int:
    """Of the ledger: cheap to ask again and again."""
    ledger = data_dir / "sandbox" / "ledger.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


async def proven(url: str, unknown: int, data_dirs: Iterable[Path]) -> Counter[str]:
    """How many messages are in each state. Who is said to have got it got it once, who
    is still planned did not, few are unknown; and a recount finds every sum right."""
    found = await states(url)
    reached = Counter[int]()
    for folder in data_dirs:
        reached.update(arrivals(folder))
    assert max(reached.values()) == 1, "doubled"
    counted = Counter(found.values())
    assert set(counted) <= {"accepted", "unknown", "planned"}
    accepted = {id for id, state in found.items() if state == "accepted"}
    assert accepted <= set(reached), "lost"
    assert not [id for id in reached if found.get(id) == "planned"]
    assert counted["unknown"] <= unknown
    told = await recount.recount(url, SystemClock().now(), None)
    assert told.holds, recount.as_text(told)
    return counted
