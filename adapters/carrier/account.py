"""One account at a carrier: its connections, and the way back after each loss."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from adapters.carrier.codec import Codec, Delivery
from adapters.carrier.inlet import Inlet, Store
from adapters.carrier.link import Ears, Limits, Link, State
from adapters.carrier.repeats import Repeats
from adapters.carrier.shelf import Shelf
from gateway.clock import Clock
from gateway.contract import (
    Accept,
    Answered,
    Capabilities,
    ChannelTrouble,
    Connection,
    Event,
    OutboundMessage,
    Outcome,
    Role,
)
from gateway.errors import OutcomeUnknown, TransientFailure
from gateway.retry import RetryPolicy, backoff
from gateway.supervisor import beside

FAREWELL_SECONDS = 2.0
SWEEP_SECONDS = 15.0
STEADY_SECONDS = 10.0  # a connection that held so long starts counting afresh
AGAIN = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=15))
# After a refused password or right: seldom, so that no account gets locked.
AFTER_REFUSAL = RetryPolicy(base=timedelta(minutes=1), cap=timedelta(minutes=15))
# What passes is tried soon as long as a peer may take to miss a dead connection of
# ours, which it still counts: six minutes with the times of CMPP, 7.1.
SOON_TRIES = 40
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the account is reached, and how patiently."""

    host: str
    port: int
    connections: int = 1
    tls: ssl.SSLContext | None = None
    connect_within: float = 10.0
    again: RetryPolicy = AGAIN
    refused: RetryPolicy = AFTER_REFUSAL


@dataclass(slots=True)
class _Seat:
    """One of the account's connections, also while there is none."""

    name: str
    since: datetime
    codec: Codec
    limits: Limits
    role: Role
    link: Link | None = None
    inlet: Inlet | None = None
    error: str = ""
    failures: int = 0
    refusals: int = 0  # of logins, in a row
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Account:
    """The adapter of one account: streams, listens, and sends single messages.

    With a `receiver`, whose login is for what comes in, the others are for sending
    alone. There is one such connection, beside those of the endpoint: it takes as much
    as several would, what it misses while it is away waits at the peer, and peers count
    what they grant.
    """

    def __init__(
        self,
        name: str,
        capabilities: Capabilities,
        codec: Codec,
        endpoint: Endpoint,
        limits: Limits,
        clock: Clock,
        *,
        receiver: Codec | None = None,
        shelf: Shelf | None = None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.capabilities = capabilities
        self._name = name
        self._codec = codec
        self._receiver = receiver
        self._endpoint = endpoint
        self._limits = limits
        self._clock = clock
        self._dice = dice
        self._answered: Answered = lambda id, outcome: None
        self._ready: Callable[[], None] = lambda: None
        self._shelf = shelf
        self._store: Store | None = None
        self._seats: list[_Seat] = []
        self._single: dict[str, asyncio.Future[Outcome]] = {}
        self._had_room = False
        self._told = ""  # the refusal that staff know of

    def attach(self, answered: Answered, ready: Callable[[], None]) -> None:
        self._answered, self._ready = answered, ready

    def room(self) -> int:
        return sum(seat.link.room() for seat in self._seats if seat.link)

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        start = parts = 0
        for link in self._roomiest():
            share = link.room()
            parts += link.submit(batch[start : start + share])
            start += share
            if start >= len(batch):
                break
        for message in batch[start:]:
            self._tell(message.id, TransientFailure(self._why_not()))
        self._had_room = self.room() > 0
        return parts

    def connections(self) -> Sequence[Connection]:
        return [self._seen(seat) for seat in self._seats]

    async def send(self, batch: Sequence[OutboundMessage]) -> Mapping[str, Outcome]:
        loop = asyncio.get_running_loop()
        futures = {message.id: loop.create_future() for message in batch}
        self._single.update(futures)
        self.submit(batch)
        try:
            return {id: await future for id, future in futures.items()}
        finally:
            for id in futures:
                self._single.pop(id, None)

    async def close(self) -> None:
        """`listen` closes the connections; what still waits here is unknown."""
        for seat in self._seats:
            if seat.link:
                seat.link.cut("closed")
        for future in tuple(self._single.values()):
            if not future.done():
                future.set_result(OutcomeUnknown("closed"))

    @asynccontextmanager
    async def listen(self, accept: Accept) -> AsyncIterator[None]:
        """Keep the connections open; each comes back by itself when it is lost."""
        store = self._store = Store(
            accept=accept,
            codec=self._codec,
            repeats=Repeats(self._clock),  # another process may have listened before
            shelf=self._shelf,
        )
        self._seats = list(self._seated())
        try:
            async with beside(*map(self._keep, self._seats), self._sweep(store)):
                yield
        finally:
            await asyncio.gather(*(self._part(seat) for seat in self._seats))
            self._store = None
            if self._shelf:
                self._shelf.close()

    def _seated(self) -> Iterator[_Seat]:
        now, count = self._clock.now(), self._endpoint.connections
        role = Role.SENDER if self._receiver else Role.BOTH
        for number in range(count):
            yield _Seat(str(number + 1), now, self._codec, self._limits, role)
        if self._receiver:
            none_out = replace(self._limits, window=0)
            name, codec = str(count + 1), self._receiver
            yield _Seat(name, now, codec, none_out, Role.RECEIVER)

    async def _sweep(self, store: Store) -> None:
        """Look after messages whose parts don't all come."""
        while self._shelf:
            try:
                await store.sweep()
            except Exception:  # tried again at the next turn
                log.exception("session.sweep_failed", channel=self._name)
            wait = min(SWEEP_SECONDS, self._shelf.hold.total_seconds() / 4)
            await asyncio.sleep(wait)

    async def _keep(self, seat: _Seat) -> None:
        while True:
            began = self._clock.monotonic()
            link = await self._connect(seat)
            await seat.ended.wait()
            steady = self._clock.monotonic() - began >= STEADY_SECONDS
            seat.failures = 0 if steady and not link.refused else seat.failures + 1
            seat.refusals = seat.refusals + 1 if link.refused else 0
            await self._report(seat, link)
            await asyncio.sleep(self._pause(seat, link).total_seconds())

    async def _connect(self, seat: _Seat) -> Link:
        seat.ended.clear()
        link = Link(
            f"{self._name}:{seat.name}",
            seat.codec,
            seat.limits,
            self._clock,
            self._ears(seat),
        )
        seat.link = link
        if self._store:
            seat.inlet = Inlet(link, self._store)
        try:
            async with asyncio.timeout(self._endpoint.connect_within):
                await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    self._endpoint.host,
                    self._endpoint.port,
                    ssl=self._endpoint.tls,
                )
        except (OSError, TimeoutError, ValueError) as error:
            link.error = type(error).__name__
        finally:
            if not link.connected:
                link.state = State.CLOSED
                seat.ended.set()
        return link

    def _ears(self, seat: _Seat) -> Ears:
        def delivered(_: Link, deliveries: Sequence[Delivery]) -> None:
            if seat.inlet:
                seat.inlet.take(deliveries)

        def closed(_: Link) -> None:
            seat.ended.set()
            self._moved()

        return Ears(
            answered=self._tell,
            delivered=delivered,
            opened=self._opened,
            moved=self._moved,
            closed=closed,
        )

    def _opened(self, link: Link) -> None:
        self._told = ""
        log.info("session.opened", link=link.name)

    def _pause(self, seat: _Seat, link: Link) -> timedelta:
        tries, policy = seat.failures, self._endpoint.again
        if link.refused and link.refused.lasting:
            tries, policy = seat.refusals, self._endpoint.refused
        elif seat.refusals > SOON_TRIES:
            tries, policy = seat.refusals - SOON_TRIES, self._endpoint.refused
        if not tries:
            return policy.base * self._dice()
        # At least half of it: full jitter may be no pause at all.
        whole = backoff(tries, lambda: 1.0, policy=policy)
        return whole * (0.5 + 0.5 * self._dice())

    async def _report(self, seat: _Seat, link: Link) -> None:
        seat.error, seat.since = link.error, self._clock.now()
        log.warning("session.closed", link=link.name, code=link.error)
        if link.refused is None or link.error == self._told or not self._store:
            return
        try:
            await self._store.accept([self._trouble(link.error)])
            self._told = link.error
        except Exception:  # the way back must not end here
            log.exception("session.trouble_not_stored", link=link.name)

    def _trouble(self, code: str) -> Event:
        at = self._clock.now()
        key = f"login:{code}:{at.isoformat()}"
        return ChannelTrouble(key=key, code=f"login_refused:{code}", raw=code.encode())

    async def _part(self, seat: _Seat) -> None:
        """Let what came in be stored and answered, then say good-bye."""
        link = seat.link
        if link is None or link.state is State.CLOSED:
            return
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                if seat.inlet:
                    await seat.inlet.finish()
                link.leave()
                await seat.ended.wait()
        except TimeoutError:
            link.cut("closed")

    def _roomiest(self) -> list[Link]:
        links = [seat.link for seat in self._seats if seat.link and seat.link.room()]
        return sorted(links, key=lambda link: -link.room())

    def _why_not(self) -> str:
        senders = (s.link for s in self._seats if s.role is not Role.RECEIVER)
        is_open = any(link and link.state is State.OPEN for link in senders)
        return "window_full" if is_open else "not_connected"

    def _tell(self, id: str, outcome: Outcome) -> None:
        if self._single and (future := self._single.pop(id, None)):
            if not future.done():
                future.set_result(outcome)
            return
        self._answered(id, outcome)

    def _moved(self) -> None:
        has_room = self.room() > 0
        if has_room and not self._had_room:
            self._had_room = True
            self._ready()
        self._had_room = has_room

    def _seen(self, seat: _Seat) -> Connection:
        link = seat.link
        return Connection(
            name=seat.name,
            state=link.state if link else State.CLOSED,
            since=link.since if link else seat.since,
            window=seat.limits.window,
            awaited=link.awaited if link else 0,
            last_error=(link.error if link else "") or seat.error,
            role=seat.role,
        )
