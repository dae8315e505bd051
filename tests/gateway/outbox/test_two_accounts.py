"""Random lives of two accounts: whatever fails, nobody is lost and nobody doubled."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway import database as db
from gateway.channels import ChannelSet
from gateway.contract import Accepted, Connection
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from gateway.outbox import recovery
from gateway.outbox.report import Reports
from gateway.outbox.sender import Sender
from gateway.outbox.shares import Balance
from gateway.settings import ChannelCommon
from gateway.tables import Node
from tests.gateway.outbox.test_chunks import _core, broadcast, states
from tests.labs.streams import Carrier, channel

PEOPLE = 90
NAMES = ("短信", "备用")
ACTS = (
    "second",
    "second",
    "accept",
    "accept_all",
    "refuse",
    "fail_all",
    "lose",
    "late",
    "away",
    "back",
    "wait",
    "crash",
)
STEP = st.tuples(st.sampled_from(ACTS), st.integers(0, 1), st.integers(0, 30))


class Life:
    def __init__(self, core: Core, share: int | None) -> None:
        self.core = core
        self.carriers = (Carrier(), Carrier())
        made = [channel(c, n) for c, n in zip(self.carriers, NAMES, strict=True)]
        for one in made:
            one.common = ChannelCommon(adapter="carrier", share=share)
        core.channels = ChannelSet(made)
        self.balance = Balance(core)
        self.repeatable: set[str] = set()  # certainly not sent
        self.lost: list[tuple[int, str]] = []
        self.sent: Counter[str] = Counter()
        self.seen = [0, 0]

    async def begin(self) -> None:
        now = self.core.clock.now()
        self.core.node_id = (await Node.create(started_at=now, seen_at=now)).id
        self.senders = [Sender(self.core, one) for one in self.core.channels]
        self.reports = Reports(self.core, lambda: self.senders)

    async def second(self) -> None:
        for sender in self.senders:
            while await sender.step():
                pass
        await self.reports.step()
        await self.balance.work()
        self.core.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
        self.count()

    def count(self) -> None:
        """What left now left for the first time, or had certainly not left before."""
        for n, carrier in enumerate(self.carriers):
            for message in carrier.submitted[self.seen[n] :]:
                self.sent[message.id] += 1
                assert self.sent[message.id] == 1 or message.id in self.repeatable
                self.repeatable.discard(message.id)
            self.seen[n] = len(carrier.submitted)

    async def act(self, act: str, n: int, which: int) -> None:
        carrier = self.carriers[n]
        waiting = list(carrier.waiting)
        one = waiting[which % len(waiting)] if waiting else ""
        match act:
            case "second":
                await self.second()
            case "wait":
                for _ in range(which):
                    await self.second()
            case "accept" if one:
                carrier.answer(one)
            case "accept_all":
                carrier.answer_all()
            case "refuse" if one:
                carrier.answer(one, PermanentFailure("refused"))
            case "fail_all":
                self.repeatable |= set(waiting)
                for id in waiting:
                    carrier.answer(id, TransientFailure("nobody"))
            case "lose" if one:
                self.lost.append((n, one))
                carrier.answer(one, OutcomeUnknown("timeout"))
            case "late" if self.lost:
                n, id = self.lost.pop()
                self.carriers[n].answer(id, Accepted((f"c{id}",)))
            case "away" | "back":
                self.turn(carrier, act == "away")
            case "crash":
                await self.crash()

    def turn(self, carrier: Carrier, is_away: bool) -> None:
        """A session that ends takes the answers with it."""
        carrier.is_away = is_away
        state, now = "closed" if is_away else "open", self.core.clock.now()
        carrier.shown = (
            Connection(name="1", state=state, since=now, window=10, awaited=0),
        )
        for id in list(carrier.waiting) if is_away else ():
            carrier.answer(id, OutcomeUnknown("connection_lost"))

    async def crash(self) -> None:
        for carrier in self.carriers:
            carrier.waiting.clear()
        self.lost.clear()
        await self.begin()
        now = self.core.clock.now()
        await self.core.commits.run(lambda: recovery.recover(now, alone=True))

    async def end(self) -> None:
        """Both are well again: everybody gets it, or is named."""
        for carrier in self.carriers:
            self.turn(carrier, is_away=False)
        for _ in range(900):
            await self.second()
            for carrier in self.carriers:
                carrier.answer_all()
            left = await states()
            if not left.get("planned") and not left.get("queued"):
                break
        for sender in self.senders:
            await sender.step()


LATE = ("second", "fail_all", "second", "accept_all", "second", "lose", "late")


@example(share=None, acts=[(act, 0, 0) for act in LATE])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(share=st.sampled_from([None, 50]), acts=st.lists(STEP, max_size=50))
def test_nobody_is_lost_or_doubled_between_two_accounts(
    database_url: str,
    tmp_path: Path,
    share: int | None,
    acts: Sequence[tuple[str, int, int]],
) -> None:
    """A-10"""

    async def one_life() -> None:
        async with db.opened(database_url):
            tables = ("outbox", "chunks", "tallies", "attempts", "channel_reports")
            for table in (*tables, "broadcasts"):
                await db.execute(f"DELETE FROM {table}")
            life = Life(_core(tmp_path), share)
            await life.begin()
            await broadcast(life.core, PEOPLE)
            for act, n, which in acts:
                await life.act(act, n, which)
                life.count()
                assert sum((await states()).values()) == PEOPLE
            await life.end()
            found = await states()
            assert sum(found.values()) == PEOPLE
            assert found.get("planned", 0) + found.get("queued", 0) == 0
            assert len(life.sent) >= PEOPLE - found.get("unknown", 0)

    asyncio.run(one_life())
