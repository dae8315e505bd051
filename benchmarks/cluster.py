"""Two sending processes on one PostgreSQL with fsync=on, a broadcast over two accounts.

Each process owns one SMPP account by lease and has its own centre; every message gets
its receipt. Doubled and lost are counted in the centres' ledgers. The limit is the
database's own: rows a second appended by two bare connections, each in transactions of
a window, as often as the product writes a row for a message (attempt, state, receipt,
state).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from benchmarks.harness import broadcast, carrier
from benchmarks.harness.gateway import Site
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.postgres import cluster
from benchmarks.harness.processes import Program, folder

TARGET = Target(
    figure_at_least=8_000,
    notes_at_most={"doubled": 0, "lost": 0, "not delivered": 0},
)
PEOPLE = 200_000
NAMES = ("sms_a", "sms_b")
CONNECTIONS = 4  # of each account, each with the window
SHARE = 100 // len(NAMES)  # of each; without it all would leave by the first
WRITES = 4  # rows written for one message
RUN_SECONDS = 1800.0
SHARE_SECONDS = 120.0
NOT_FINAL = broadcast.WAITING | {"accepted"}
ROLES = ("web,sender,scheduler", "web,sender")


def measure(scale: float) -> Measurement:
    people = max(1000, int(PEOPLE * scale))
    with folder() as place, cluster() as url, ExitStack() as stack:
        ledgers = [place / f"ledger-{name}" for name in NAMES]
        centres = [
            stack.enter_context(carrier.centre("--ledger", str(ledger)))
            for ledger in ledgers
        ]
        limit = asyncio.run(_bare(url, people))
        sections = "".join(
            carrier.account(name, place, centre.address, CONNECTIONS, SHARE)
            for name, centre in zip(NAMES, centres, strict=True)
        )
        site = Site(place, url, sections)
        return asyncio.run(_product(site, people, limit, ledgers))


async def _bare(url: str, people: int) -> float:
    """Messages a second if the database only appended their rows."""
    first = await asyncpg.connect(url)
    await first.execute(
        "CREATE TABLE bare (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "outbound_id BIGINT, value TEXT, at BIGINT)"
    )
    second = await asyncpg.connect(url)
    began = time.perf_counter()
    await asyncio.gather(*(_append(one, people // 2) for one in (first, second)))
    seconds = time.perf_counter() - began
    await first.execute("DROP TABLE bare")
    await asyncio.gather(first.close(), second.close())
    return people / seconds


async def _append(connection: "asyncpg.Connection[asyncpg.Record]", many: int) -> None:
    size = carrier.WINDOW
    ids = list(range(size))
    values = [f"+86{13800000000 + id}" for id in ids]
    for _ in range(0, many * WRITES, size):
        await connection.execute(
            "INSERT INTO bare (outbound_id, value, at) "
            "SELECT *, 0 FROM unnest($1::bigint[], $2::text[])",
            ids,
            values,
        )


async def _product(
    site: Site, people: int, limit: float, ledgers: list[Path]
) -> Measurement:
    site.migrate()
    id = await broadcast.freeze(site.url, "phone", NAMES, people, carrier.TEXTS)
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(site.running("serve", "--roles", roles))
            for roles in ROLES
        ]
        async with broadcast.reading(site.url) as reader:
            owners = await _shared_out(reader)
            await broadcast.warm_again(site.url, "phone", NAMES)
            await carrier.warm()
            used = _processor_seconds(gateways)
            outcome = await broadcast.run(reader, id, RUN_SECONDS, NOT_FINAL)
        used = _processor_seconds(gateways) - used
    sent = _sent(ledgers)
    return Measurement(
        figure=people / outcome.seconds,
        unit="messages/s",
        limit=limit,
        limit_is=f"{WRITES} rows a message appended by two bare connections",
        notes={
            "senders": owners,
            "doubled": sum(sent.values()) - len(sent),
            "lost": people - len(sent),
            "not delivered": people - outcome.states.get("delivered", 0),
            "processor µs a message": used / people * 1e6,
        },
    )


def _processor_seconds(gateways: Iterable[Program]) -> float:
    return sum(gateway.processor_seconds() for gateway in gateways)


async def _shared_out(reader: broadcast.Reader) -> int:
    """Wait until the accounts are shared out; the number of their owners."""
    owned = (
        "SELECT DISTINCT node_id FROM leases WHERE name LIKE 'channel:%' "
        "AND node_id IS NOT NULL"
    )
    until = time.monotonic() + SHARE_SECONDS
    while len(await reader.rows(owned)) < len(NAMES):
        if time.monotonic() > until:
            raise TimeoutError("one process owns everything")
        await asyncio.sleep(broadcast.LOOK_SECONDS)
    return len(await reader.rows(owned))


def _sent(ledgers: Iterable[Path]) -> Counter[str]:
    """How often each number got a message."""
    sent: Counter[str] = Counter()
    for ledger in ledgers:
        with ledger.open(encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                number = found["to"]
                if found["kind"] == "mt" and number not in broadcast.WARM["phone"]:
                    sent[number] += 1
    return sent
