"""Several real gateways on one PostgreSQL, with what they did counted from outside: the
database itself and the ledger of each one's sandbox provider."""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from adapters.sandbox import faults
from adapters.sandbox.records import Arrived, Medium, read
from gateway.database import to_micros
from tests.labs.process import Installation, installation, until

SOON = 90.0  # machines that run tests are busy
_ROW = """
INSERT INTO outbox (message_kind, priority, dedupe_key, channel, kind, value, text,
  variables, extras, state, reason, detail, due_at, attempts, throttled, provider_id,
  created_at, changed_at)
SELECT 'answer', 5, 'cluster:' || $2::text || ':' || n, $2::text, 'phone',
  '+86199' || lpad(n::text, 8, '0'), '第' || n || '条', '{}', '{}', 'queued', '', '',
  $3, 0, 0, '', $3, $3 FROM generate_series($4::int, $1::int) AS n
"""


@dataclass
class Cluster:
    """Its processes are gateways `a`, `b`, ...; the key file is the same for all."""

    url: str
    folder: Path
    nursery: Path
    stack: AsyncExitStack
    database: asyncpg.Connection
    gateways: list[Installation] = field(default_factory=list)

    async def add(self, *words: str, url: str = "") -> Installation:
        """A further gateway, not started yet; `url` is another way to the database."""
        folder = self.folder / "abcdef"[len(self.gateways)]
        folder.mkdir()
        made = await self.stack.enter_async_context(
            installation(folder, url or self.url, nursery=self.nursery)
        )
        made.words = ("serve", *words)
        sandbox = made.data_dir / "sandbox"
        sandbox.mkdir(parents=True)
        (made.data_dir / "secret.key").write_bytes(b"k" * 32)
        slow = faults.Faults(delay_seconds=0.03, withhold_receipts=True)
        faults.save(sandbox / "faults.json", {Medium.SMS: slow})
        self.gateways.append(made)
        return made

    async def rows(self, sql: str, *values: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.database.fetch(sql, *values)
        return found

    async def number(self, sql: str, *values: object) -> int:
        return int(await self.database.fetchval(sql, *values) or 0)

    async def enqueue(
        self, people: int, channel: str = "sms", *, first: int = 1
    ) -> None:
        now = await self.number("SELECT EXTRACT(EPOCH FROM now())::bigint * 1000000")
        last = first + people - 1
        await self.database.execute(_ROW, last, channel, now, first)

    async def owner(self, lease: str = "channel:sms") -> str:
        """The folder of the gateway that has it: `a`; empty: nobody."""
        found = await self.rows(
            "SELECT n.name FROM leases l JOIN nodes n ON n.id = l.node_id "
            "WHERE l.name = $1",
            lease,
        )
        return self.by_pid().get(found[0]["name"].split(":")[-1], "") if found else ""

    def by_pid(self) -> dict[str, str]:
        return {
            str(one.process.pid): one.folder.name
            for one in self.gateways
            if one.process is not None
        }

    async def owned_by(
        self,
        gateway: Installation,
        seconds: float = SOON,
        lease: str = "channel:sms",
    ) -> None:
        async def is_owner() -> bool:
            return await self.owner(lease) == gateway.folder.name

        await until(is_owner, seconds)

    async def sent(self, at_least: int) -> None:
        async def enough() -> bool:
            return len(self.arrivals()) >= at_least

        try:
            await until(enough, SOON)
        except TimeoutError:
            raise AssertionError(await self.story()) from None

    @asynccontextmanager
    async def locked(self, sql: str) -> AsyncIterator[None]:
        """The lock that this statement takes is held meanwhile, by somebody else."""
        other = await asyncpg.connect(self.url)
        try:
            async with other.transaction():
                await other.execute(sql)
                yield
        finally:
            await other.close()

    async def somebody_waits(self, kind: str) -> None:
        """In the middle of a transaction, for a lock of this kind."""

        async def waits() -> bool:
            found = await self.number(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND wait_event = $1 AND datname = current_database()",
                kind,
            )
            return found > 0

        await until(waits, SOON)

    async def settled(self, seconds: float = SOON) -> None:
        async def nothing_waits() -> bool:
            return not await self.number(
                "SELECT COUNT(*) FROM outbox WHERE state IN ('queued', 'sending')"
            )

        try:
            await until(nothing_waits, seconds)
        except TimeoutError:
            raise AssertionError(await self.story()) from None

    async def story(self) -> str:
        """For a test that failed: what there is, and what was logged last."""
        found = Counter((await self.states()).values())
        logs = [f"{one.folder.name}: {one.log[-2000:]}" for one in self.gateways]
        owner = await self.owner()
        return "\n".join([f"{dict(found)}, owner {owner!r}", *logs])

    def arrivals(self) -> Counter[int]:
        """How often each message reached its handset, whichever gateway sent it."""
        found: Counter[int] = Counter()
        for gateway in self.gateways:
            found.update(int(one.id) for one in ledger(gateway))
        return found

    async def states(self) -> dict[int, str]:
        rows = await self.rows("SELECT id, state FROM outbox ORDER BY id")
        return {row["id"]: row["state"] for row in rows}

    async def check(self, people: int, unknown: int) -> None:
        """Nobody left out, nobody written to twice, few of whom nobody knows."""
        states, reached = await self.states(), self.arrivals()
        assert len(states) == people
        assert set(states.values()) <= {"accepted", "unknown"}
        assert max(reached.values()) == 1, "doubled"
        accepted = {id for id, state in states.items() if state == "accepted"}
        assert accepted <= set(reached), "lost"
        assert len(states) - len(accepted) <= unknown


def ledger(gateway: Installation) -> Sequence[Arrived]:
    path = gateway.data_dir / "sandbox" / "ledger.jsonl"
    lines = read(path, 2**30) if path.exists() else ()
    return [one for one in lines if isinstance(one, Arrived)]


def last_sent(gateway: Installation) -> int:
    """Microseconds since 1970; 0: nothing yet."""
    return max((to_micros(one.at) for one in ledger(gateway)), default=0)


async def health(gateway: Installation) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(gateway.url("/healthz")) as answer,
    ):
        found: dict[str, Any] = await answer.json()
        return found


def pause(gateway: Installation) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGSTOP)


def resume(gateway: Installation) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGCONT)


def logged(gateway: Installation, event: str) -> list[str]:
    return [line for line in gateway.log.splitlines() if event in line]


@asynccontextmanager
async def clustered(folder: Path, url: str, nursery: Path) -> AsyncIterator[Cluster]:
    database = await asyncpg.connect(url)
    try:
        async with AsyncExitStack() as stack:
            yield Cluster(url, folder, nursery, stack, database)
    finally:
        await database.close()
