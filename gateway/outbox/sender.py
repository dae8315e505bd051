"""One worker per channel: settle what was answered, gate and journal what is due,
send it. The promise: an intent is committed before its bytes leave, and nothing
whose outcome is unknown is ever sent again on our own account."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from gateway import database as db
from gateway.channels import Channel
from gateway.contract import (
    Accepted,
    Outcome,
)
from gateway.core import Core
from gateway.database import Row
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from gateway.outbox import follow, journal
from gateway.outbox.admit import Admitted, admit
from gateway.outbox.journal import Settlement
from gateway.outbox.pace import Pace
from gateway.retry import RetryPolicy, backoff, is_exhausted
from gateway.text import clean

log = structlog.get_logger()
POLL_SECONDS = 1.0  # how late a lost wake-up may be noticed


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that was sent, and what its adapter said."""

    row: Row
    outcome: Outcome


class Sender:
    """Keeps at most the channel's window of messages between journal and answer."""

    def __init__(self, core: Core, channel: Channel) -> None:
        self._core = core
        self._channel = channel
        self._pace = Pace(core.clock, channel.capabilities.rate_per_second)
        self._in_flight: dict[asyncio.Task[list[Answered]], tuple[int, ...]] = {}
        self._answered: list[Answered] = []  # waits for the commit that settles it
        self._stopping = False
        self._stepping = asyncio.Lock()

    async def run(self) -> None:
        """Work until `stop`; a failing database raises, the supervisor restarts."""
        await self.mend()
        while not self._stopping:
            ready = await self.step()
            if not ready:
                await self._idle()

    async def step(self) -> int:
        """One commit: settle the answered, journal the next. Returns how many left."""
        async with self._stepping:
            return 0 if self._stopping else await self._step()

    async def _step(self) -> int:
        answered = self._collect()
        room = min(self._room(), self._pace.available())
        now = self._core.clock.now()
        async with db.transaction():
            settled = await self._settle(answered)
            admitted = await admit(self._core, self._channel, room)
            await journal.journal([a.row for a in admitted], self._core.node_id, now)
        self._answered = []
        self._pace.use(len(admitted))
        self._start(admitted)
        self._count(settled)
        rows = [a.row for a in answered] + [a.row for a in admitted]
        await follow.announce(self._core, rows)
        return len(admitted) + len(answered)

    async def answers(self) -> None:
        """Wait until everything in flight has its answer; `step` then settles it."""
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def stop(self, seconds: float) -> None:
        """Send nothing more; wait for answers; what stays silent is unknown."""
        self._stopping = True
        self._core.wakeups.wake(self._worker)
        async with self._stepping:  # what it settles now must not be cut off
            pass
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds)
        for task in self._in_flight:
            task.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        async with db.transaction():
            settled = await self._settle(self._collect())
        self._answered = []
        self._count(settled)

    async def _settle(self, answered: Sequence[Answered]) -> list[Settlement]:
        """Inside a transaction: the outcomes, and what follows from them."""
        settled = [self._settlement(one) for one in answered]
        if settled:
            await journal.settle(settled, self._core.clock.now())
            await follow.settled(self._core, self._channel, answered, settled)
        return settled

    async def mend(self) -> None:
        """After a failed commit: settle one by one; what can't be settled is unknown,
        also what was journalled by a commit of which nobody heard."""
        answered, self._answered = self._collect(), []
        for one in answered:
            try:
                async with db.transaction():
                    await self._settle([one])
            except Exception:
                log.exception("settle.failed", outbound=one.row["id"])
        flying = [id for ids in self._in_flight.values() for id in ids]
        await journal.disown(
            self._channel.name, self._core.node_id, flying, self._core.clock.now()
        )

    def _count(self, settled: Sequence[Settlement]) -> None:
        for one in settled:
            if one.state != "queued":
                outbound = self._core.metrics.outbound
                outbound.labels(self._channel.name, one.state).inc()

    @property
    def _worker(self) -> str:
        return f"sender:{self._channel.name}"

    def _room(self) -> int:
        limits = self._channel.capabilities
        flying = sum(len(ids) for ids in self._in_flight.values())
        return limits.window * limits.batch_size - flying

    def _collect(self) -> list[Answered]:
        """All that was answered and not settled yet."""
        done = [task for task in self._in_flight if task.done()]
        for task in done:
            del self._in_flight[task]
            self._answered.extend(task.result())
        return list(self._answered)

    def _start(self, admitted: Sequence[Admitted]) -> None:
        size = self._channel.capabilities.batch_size
        for first in range(0, len(admitted), size):
            batch = admitted[first : first + size]
            task = asyncio.create_task(self._send(batch))
            task.add_done_callback(lambda _: self._core.wakeups.wake(self._worker))
            self._in_flight[task] = tuple(one.row["id"] for one in batch)

    async def _send(self, batch: Sequence[Admitted]) -> list[Answered]:
        outcomes: Mapping[str, Outcome] = {}
        silence: Outcome = OutcomeUnknown("no_outcome")
        try:
            outcomes = await self._channel.adapter.send([a.message for a in batch])
        except DeliveryError as error:
            silence = error
        except asyncio.CancelledError:
            silence = OutcomeUnknown("stopped")
        except Exception as error:
            log.exception("send.broke", channel=self._channel.name)
            silence = OutcomeUnknown("adapter_error", type(error).__name__)
        return [Answered(a.row, outcomes.get(a.message.id, silence)) for a in batch]

    def _settlement(self, answered: Answered) -> Settlement:
        row, outcome = answered.row, answered.outcome
        match outcome:
            case Accepted(provider_ids):
                self._channel.trouble = ""
                return _settled(row, "accepted", "accepted", provider_ids=provider_ids)
            case PermanentFailure():
                return _settled(row, "permanent", "failed", outcome)
            case TransientFailure():
                return self._transient(row, outcome)
            case _:
                self._channel.trouble = outcome.code
                return _settled(row, "unknown", "unknown", outcome)

    def _transient(self, row: Row, failure: TransientFailure) -> Settlement:
        self._channel.trouble = failure.code
        used = row["attempts"] - row["throttled"]
        policy = RetryPolicy(attempts=self._core.settings.policy.max_attempts)
        if not failure.throttled and is_exhausted(used, policy):
            return _settled(row, "transient", "dead", failure)
        wait = backoff(
            used, random.random, policy=policy, retry_after=failure.retry_after
        )
        return _settled(
            row,
            "transient",
            "queued",
            failure,
            due_at=self._core.clock.now() + wait,
            throttled=failure.throttled,
        )

    async def _idle(self) -> None:
        seconds = POLL_SECONDS
        due = await journal.next_due(self._channel.name)
        if due is not None and self._room() > 0:
            until = db.from_micros(due) - self._core.clock.now()
            pace = self._pace.seconds_to_next()
            seconds = min(seconds, max(until / timedelta(seconds=1), pace, 0.001))
        await self._core.wakeups.wait(self._worker, seconds)


def _settled(
    row: Row,
    outcome: str,
    state: str,
    error: DeliveryError | None = None,
    provider_ids: Sequence[str] = (),
    **more: Any,
) -> Settlement:
    return Settlement(
        outbound_id=row["id"],
        number=row["attempts"],
        outcome=outcome,
        state=state,
        # Providers' words: the database must be able to take them.
        code=clean(error.code)[:64] if error else "",
        detail=clean(error.detail)[:500] if error else "",
        provider_ids=tuple(clean(one)[:254] for one in provider_ids),
        **more,
    )
