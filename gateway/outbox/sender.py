"""One worker per channel: settle what was answered, gate and journal what is due,
send it. The promise: an intent is committed before its bytes leave, and nothing
whose outcome is unknown is ever sent again on our own account."""

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import Any

import structlog
from tortoise.exceptions import BaseORMException

from gateway import database as db
from gateway.channels import Channel
from gateway.contract import Accepted, MessageKind, Outcome
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from gateway.leases import Lease, LeaseLost, fence
from gateway.members import consent
from gateway.outbox import chunks, follow, journal, receipts, recovery
from gateway.outbox.admit import Admitted, Contents, admit
from gateway.outbox.arrivals import Arrivals, Delivery, Keyed
from gateway.outbox.breaker import Breaker
from gateway.outbox.chunks import Window
from gateway.outbox.facts import Cap, Caps
from gateway.outbox.gate import UNASKED
from gateway.outbox.journal import Answer, Flying, Settlement
from gateway.outbox.links import link
from gateway.outbox.measure import Measure, Today
from gateway.outbox.moves import Moved
from gateway.outbox.pace import Pace
from gateway.retry import RetryPolicy, backoff, is_exhausted
from gateway.text import clean

log = structlog.get_logger()
GATHER_SECONDS = 0.005  # how long a commit waits for half of what is on its way
SAVE_UP = 9  # times what a round took, for permits to gather ...
SAVE_UP_SECONDS = 0.2  # ... at most
TURNS = 6  # of the event loop, from a commit to what its end lets come in
MANY = 500  # recipients that are too late, looked at together
POLL_SECONDS = 1.0  # how late a lost wake-up may be noticed
_LATE = 10_000  # messages told unknown whose late answer would still be understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one commit did."""

    settled: Sequence[Settlement] = ()
    admitted: Sequence[Admitted] = ()
    looked_at: int = 0  # rows that were due, also those that the gate kept back
    rerouted: frozenset[str] = frozenset()  # channels that got rows of this one
    chunk: Row | None = None  # to go on with
    moved: Sequence[Moved] = ()  # by receipts
    lost: LeaseLost | None = None


class Sender:
    """Keeps at most the channel's window of messages between journal and answer.

    `lease` is what allows it to write to the channel's account; None where no other
    process can be there.
    """

    def __init__(self, core: Core, channel: Channel) -> None:
        self.lease: Lease | None = None
        self.pace = Pace(core.clock, channel.capabilities.rate_per_second)
        self.breaker = Breaker(core.clock)
        self.measure = Measure(core.clock, core.settings.policy.slow_answer_seconds)
        self.today = Today(core.clock, core.settings.centre.timezone)
        self.channel = channel
        self._core = core
        self.arrivals = Arrivals(self._wake)
        self._link = link(channel, self._take, self._wake)
        self._contents = Contents()
        self._flying: dict[str, Flying] = {}
        self._late: OrderedDict[str, Flying] = OrderedDict()
        self._answered: list[Answer] = []  # waits for the commit that settles it
        self._chunk: Row | None = None  # leased, with recipients left
        self._permits_each = 1  # that a message took lately, rounded up
        self._caps = Caps(core)
        self._went_well = False  # the last answer, since the last commit
        self._stopping = False
        self._stepping = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    async def run(self) -> None:
        """Work until `stop`; a failing database raises, the supervisor restarts."""
        self._stopping = False
        await self.mend()
        self.arrivals.open()
        try:
            while not self._stopping:
                began = self._core.clock.monotonic()
                ready = await self.step()
                if not ready:
                    await self._idle()
                elif self._flying:
                    await self._gather()
                    await self._let_arrive()
                    await self._save_up(self._core.clock.monotonic() - began)
        finally:
            self.arrivals.close()

    async def step(self) -> int:
        """One commit: settle the answered, journal the next. Returns how many moved.

        Raises LeaseLost once the answered are settled: evidence is kept in any case.
        """
        async with self._stepping:
            return 0 if self._stopping else await self._step(self._room())

    async def _step(self, room: int) -> int:
        answered, arrived = list(self._answered), self.arrivals.take()
        self._went_well = False
        lets_go = self._chunk is not None and self.breaker.is_open
        if not answered and not arrived and room <= 0 and not lets_go:
            return 0
        done = await self._commit(answered, arrived, room)
        del self._answered[: len(answered)]
        chunk = done.chunk
        is_open = chunk is not None and chunk["journalled_to"] < chunk["last_id"]
        self._chunk = chunk if is_open else None
        self._start(done)
        self._measure(answered)
        for name in done.rerouted:
            self._core.wakeups.wake(f"sender:{name}")
        self._count(done.settled)
        await self._tell(done)
        if done.lost is not None:
            raise done.lost
        return done.looked_at + len(answered) + len(arrived)

    async def _commit(
        self, answered: Sequence[Answer], arrived: Sequence[Delivery], room: int
    ) -> Round:
        """With the receipts that arrived. Where that fails others store them: one that
        the database does not take must not keep messages from leaving."""
        told = [one for delivery in arrived for one in delivery.receipts]
        held = self._held()
        stored = False
        try:
            done = await self._core.commits.run(
                lambda: self._round(held, answered, told, room), early=True
            )
            stored = True
            return done
        except BaseORMException:
            if not told:
                raise
        finally:
            for delivery in arrived:
                delivery.end(stored)
        return await self._commit(answered, (), room)

    async def _round(
        self,
        held: Counter[int],
        answered: Sequence[Answer],
        told: Sequence[Keyed],
        room: int,
    ) -> Round:
        """Inside a transaction; nothing but the database changes here."""
        lost = await self._fence()
        settled, moved = await self._settle(held, answered, told)
        left = _less(held, settled)
        chunk = self._chunk
        is_idle = room <= 0 and self.breaker.is_open  # else the next of it is the probe
        if lost is None and chunk is not None and is_idle:
            await chunks.let_go(chunk)
            if not left[chunk["id"]]:
                await chunks.close_chunks([chunk["id"]])
            return Round(settled=settled, moved=moved)
        if lost is not None or room <= 0:
            return Round(settled=settled, moved=moved, lost=lost, chunk=chunk)
        cap = await self._caps.now()
        alone = await self._alone(room, cap)
        rest = room - alone.looked_at
        more = await self._of_chunk(rest, left, cap) if rest > 0 else Round()
        return Round(
            settled=settled,
            moved=moved,
            admitted=[*alone.admitted, *more.admitted],
            looked_at=alone.looked_at + more.looked_at,
            rerouted=alone.rerouted | more.rerouted,
            chunk=more.chunk,
        )

    async def _fence(self) -> LeaseLost | None:
        await consent.hold_gate()
        if self.lease is None:
            return None
        try:
            await fence(self.lease)
        except LeaseLost as error:
            return error
        return None

    async def _alone(self, room: int, cap: Cap) -> Round:
        """What waits by itself: answers first, then what was put off or retried."""
        rows = await journal.due(self._core, self.channel.name, room, cap)
        rows = rows if cap.is_free else _one_each(rows)
        passed = await admit(self._core, self.channel, rows, self._contents)
        now = self._core.clock.now()
        leaving = [one.row for one in passed.admitted]
        await journal.journal(leaving, self._core.node_id, now)
        return Round(
            admitted=passed.admitted, looked_at=len(rows), rerouted=passed.rerouted
        )

    async def _of_chunk(self, room: int, left: Counter[int], cap: Cap) -> Round:
        """The next window of recipients, by the mark of their chunk. `left` says of
        which chunks something is unsettled."""
        core, name, now = self._core, self.channel.name, self._core.clock.now()
        chunk = self._chunk
        if chunk is not None:
            id, chunk = chunk["id"], await chunks.held_fast(chunk)
            if chunk is None and not left[id]:
                await chunks.close_chunks([id])  # where the rest was cancelled
        if chunk is None:
            epoch = self.lease.epoch if self.lease else 0
            chunk = await chunks.lease_chunk(name, core.node_id, epoch, now)
        if chunk is None:
            return Round()
        seen = await self._window(chunk, room, cap)
        if seen.rows and (until := self._quiet_until(seen.rows[0])) is not None:
            await chunks.postpone_chunks(name, chunk["broadcast_id"], until)
            return Round()
        passed = await admit(core, self.channel, seen.rows, self._contents)
        chunk = await chunks.mark(chunk, seen, now)
        is_journalled = chunk["journalled_to"] >= chunk["last_id"]
        if is_journalled and not passed.admitted and not left[chunk["id"]]:
            await chunks.close_chunks([chunk["id"]])
        return Round(
            admitted=passed.admitted,
            looked_at=len(seen.rows),
            rerouted=passed.rerouted,
            chunk=chunk,
        )

    async def _window(self, chunk: Row, room: int, cap: Cap) -> Window:
        """The next recipients; of those that are too late more than there is room for:
        they don't leave."""
        now = to_micros(self._core.clock.now())
        seen = await chunks.window(chunk, room, cap)
        if room >= MANY or not seen.rows or not _is_over(seen.rows[0], now):
            return seen
        seen = await chunks.window(chunk, MANY, cap)
        late = list(takewhile(lambda row: _is_over(row, now), seen.rows))
        is_last = seen.is_last and len(late) == len(seen.rows)
        return Window(chunk_id=chunk["id"], rows=late, is_last=is_last)

    def _quiet_until(self, row: Row) -> datetime | None:
        """When quiet hours end, where they keep this back now."""
        if MessageKind(row["message_kind"]) not in UNASKED:
            return None
        quiet, zone = self._core.quiet_hours, self._core.settings.centre.timezone
        now = self._core.clock.now()
        return quiet.next_allowed(now, zone) if quiet.is_quiet(now, zone) else None

    async def answers(self) -> None:
        """Wait until everything in flight has its answer; `step` then settles it."""
        while self._flying:
            await self._core.wakeups.wait(self._worker, POLL_SECONDS)

    async def stop(self, seconds: float) -> None:
        """Send nothing more; wait for answers; what stays silent is unknown."""
        self._stopping = True
        self._wake()
        async with self._stepping:  # what it settles now must not be cut off
            await self._link.finish(seconds)
            answered, held = list(self._answered), self._held()
            settle = partial(self._settle, held, answered)
            settled, _ = await self._core.commits.run(settle)
            del self._answered[: len(answered)]
        self._count(settled)

    async def mend(self) -> None:
        """At the start, and after a failed commit: settle one by one; what can't be
        settled is unknown, also what was journalled by a commit of which nobody heard,
        and what an owner before us left."""
        self._chunk = None
        while self._answered:
            one, held = self._answered[0], self._held()
            try:
                await self._core.commits.run(partial(self._settle, held, [one]))
            except Exception:
                log.exception("settle.failed", outbound=one.flying.row["id"])
            del self._answered[0]
        held, flying = self._held(), [one.row["id"] for one in self._flying.values()]
        await self._core.commits.run(partial(self._disown, set(held) - {0}, flying))

    async def _disown(self, of_chunks: set[int], flying: Sequence[int]) -> None:
        if self.lease is not None:
            await fence(self.lease)
        owner = recovery.Owner(
            self._core.node_id,
            self.lease.epoch if self.lease else 0,
            is_alone=self.lease is not None,
        )
        found = await recovery.disown(
            self.channel.name,
            owner,
            flying,
            of_chunks,
            self._core.clock.now(),
        )
        if found:
            await receipts.apply_waiting(self._core, self.channel.name)

    def _take(self, id: str, outcome: Outcome) -> None:
        """An answer came: keep it for the next commit."""
        flying = self._flying.pop(id, None)
        if flying is None:
            late = self._late.pop(id, None)
            if late is None:
                return
            # Its attempt was appended when it was told unknown.
            flying = late._replace(chunk_id=0)
        elif isinstance(outcome, OutcomeUnknown):
            self._late[id] = flying
            if len(self._late) > _LATE:
                self._late.popitem(last=False)
        self._answered.append(Answer(flying, outcome))
        if type(outcome) is not Accepted or not self._went_well:
            self._observe(outcome)
        self._wake()

    def _observe(self, outcome: Outcome) -> None:
        """What an answer says of the account, besides its message."""
        # Of many that went well since the last commit the first one says it all.
        self._went_well = type(outcome) is Accepted
        match outcome:
            case Accepted():
                self.channel.trouble = ""
                self.pace.succeeded()
                self._reached()
            case PermanentFailure():
                self.pace.succeeded()
                self._reached()
            case TransientFailure():
                self.channel.trouble = outcome.code
                if outcome.throttled or outcome.retry_after is not None:
                    self.pace.throttled(outcome.retry_after)
                    self.measure.throttled()
                    self._reached()
                else:
                    self._not_reached(self.breaker.failed())
            case _:
                self.channel.trouble = outcome.code
                self._not_reached(self.breaker.failed())

    def _not_reached(self, opened: bool) -> None:
        if opened:
            log.warning("channel.unreachable", channel=self.channel.name)

    def _measure(self, answered: Sequence[Answer]) -> None:
        """Of messages that left in one window one instant is counted."""
        if answered:
            sent_at = Counter(one.flying.journalled_at for one in answered)
            self.measure.answered(sent_at, to_micros(self._core.clock.now()))

    def _reached(self) -> None:
        if self.breaker.answered():
            log.info("channel.reached", channel=self.channel.name)

    def _wake(self) -> None:
        self._core.wakeups.wake(self._worker)

    @property
    def _worker(self) -> str:
        return f"sender:{self.channel.name}"

    def _room(self) -> int:
        if self._core.space.tight:
            return 0  # what is left of the disk is for what comes in (D-2)
        has_session = self._link.has_session()
        if has_session is not None:
            self._not_reached(self.breaker.looked(has_session))
        permits = self.pace.available()
        paced = max(1, permits // self._permits_each) if permits else 0
        return self.breaker.allowed(max(0, min(self._link.room(), paced)))

    def _start(self, done: Round) -> None:
        """After the commit: the bytes leave."""
        if not done.admitted:
            return
        at = to_micros(self._core.clock.now())
        for one in done.admitted:
            row = one.row
            chunk_id = 0
            if done.chunk is not None and row["state"] == "planned":
                chunk_id = done.chunk["id"]
            self._flying[one.message.id] = Flying(
                row, row["attempts"] + 1, at, chunk_id
            )
        messages = [one.message for one in done.admitted]
        self.breaker.left(len(messages))
        permits = self._link.submit(messages)
        self._permits_each = max(1, -(-permits // len(messages)))
        self.pace.use(permits)
        self.measure.sent(permits)  # shown beside what the rate allows

    async def _settle(
        self,
        held: Counter[int],
        answered: Sequence[Answer],
        told: Sequence[Keyed] = (),
    ) -> tuple[list[Settlement], list[Moved]]:
        """Inside a transaction: the outcomes, what follows from them, and receipts;
        the messages that receipts moved."""
        core, name, now = self._core, self.channel.name, self._core.clock.now()
        settled = [self._settlement(one) for one in answered]
        met = receipts.met([one for one in settled if one.chunk_id], told)
        gone: set[int] = set()
        if settled:
            receipt = {id: told[place][1] for id, place in met.items()}
            moved = await journal.settle(settled, name, core.node_id, now, receipt)
            gone = {one.id for one in moved}
            left = _less(held, settled)
            touched = {one.chunk_id for one in settled if one.chunk_id}
            await chunks.close_chunks(id for id in touched if not left[id])
            await follow.settled(core, self.channel, answered, settled)
        if not told:
            return settled, []
        applied = {place: id for id, place in met.items() if id in gone}
        return settled, await receipts.store(core, name, told, applied)

    def _held(self) -> Counter[int]:
        """By chunk, what is on its way or answered. Counted before a commit: answers
        come in meanwhile, and SQLite's writer has a thread of its own."""
        held = Counter(one.chunk_id for one in self._flying.values())
        held.update(one.flying.chunk_id for one in self._answered)
        return held

    def _count(self, settled: Sequence[Settlement]) -> None:
        ended = Counter(one.state for one in settled if one.state != "queued")
        self.today.settled(ended)
        for state, number in ended.items():
            outbound = self._core.metrics.outbound
            outbound.labels(self.channel.name, state).inc(number)

    async def _tell(self, done: Round) -> None:
        rows = [one.row for one in done.settled] + [one.row for one in done.admitted]
        await follow.announce(self._core, rows)
        await follow.announce_moved(self._core, done.moved)

    def _settlement(self, answered: Answer) -> Settlement:
        flying, outcome = answered
        match outcome:
            case Accepted(provider_ids):
                ids = tuple([clean(one)[:254] for one in provider_ids])
                return Settlement(*flying, "accepted", "accepted", "", "", ids)
            case PermanentFailure():
                return _settled(flying, "permanent", "failed", outcome)
            case TransientFailure():
                return self._transient(flying, outcome)
            case _:
                return _settled(flying, "unknown", "unknown", outcome)

    def _transient(self, flying: Flying, failure: TransientFailure) -> Settlement:
        used = flying.number - flying.row["throttled"]
        policy = RetryPolicy(attempts=self._core.settings.policy.max_attempts)
        # What is the account's fault costs the message no attempt.
        is_free = failure.free or self.breaker.is_open
        if not is_free and is_exhausted(used, policy):
            return _settled(flying, "transient", "dead", failure)
        wait = backoff(
            used, random.random, policy=policy, retry_after=failure.retry_after
        )
        return _settled(
            flying,
            "transient",
            "queued",
            failure,
            due_at=self._core.clock.now() + wait,
            throttled=is_free,
        )

    async def _gather(self) -> None:
        """Let some answers come before the next commit: a commit for each few costs
        more than the moment in which the rest of the window is on its way."""
        enough = len(self._flying) // 2
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GATHER_SECONDS
        while len(self._answered) < enough and not self._stopping:
            left = deadline - loop.time()
            if left <= 0:
                return
            await self._core.wakeups.wait(self._worker, left)

    async def _save_up(self, seconds: float) -> None:
        """Where the rate is the limit, not the window, a few permits come at a time: a
        commit for each would take the one writer from others who want it. So there is
        a pause many times as long as the round took."""
        if self.pace.may_gather(min(self._link.room(), MANY)):
            await asyncio.sleep(min(seconds * SAVE_UP, SAVE_UP_SECONDS))

    async def _let_arrive(self) -> None:
        """No waiting: what has been read already is handed over, and shares the
        commit."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _idle(self) -> None:
        seconds = POLL_SECONDS
        due = await journal.next_due(self.channel.name)
        if due is not None and self._link.room() > 0:
            until = (db.from_micros(due) - self._core.clock.now()) / timedelta(
                seconds=1
            )
            soonest = max(self.pace.seconds_to_next(), self.breaker.seconds_to_probe())
            seconds = min(seconds, max(until, soonest, 0.001))
        await self._core.wakeups.wait(self._worker, seconds)


def _one_each(rows: Sequence[Row]) -> list[Row]:
    """Of broadcasts to one address the later one waits until the earlier is journalled,
    and counts."""
    first: dict[tuple[str, str], int] = {}
    return [
        row
        for row in rows
        if row["broadcast_id"] is None
        or first.setdefault((row["kind"], row["value"]), row["id"]) == row["id"]
    ]


def _is_over(row: Row, now: int) -> bool:
    return row["expires_at"] is not None and row["expires_at"] <= now


def _settled(
    flying: Flying,
    outcome: str,
    state: str,
    error: DeliveryError,
    **more: Any,
) -> Settlement:
    return Settlement(
        row=flying.row,
        number=flying.number,
        journalled_at=flying.journalled_at,
        chunk_id=flying.chunk_id,
        outcome=outcome,
        state=state,
        # Providers' words: the database must be able to take them.
        code=clean(error.code)[:64],
        detail=clean(error.detail)[:500],
        **more,
    )


def _less(held: Counter[int], settled: Iterable[Settlement]) -> Counter[int]:
    """What of each chunk is left once that is settled."""
    left = Counter(held)
    left.subtract(one.chunk_id for one in settled)
    return +left
