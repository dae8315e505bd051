"""One connection of an account: window, time-outs, heartbeat. One write per batch, and
no future or task per message."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import structlog

from adapters.carrier.codec import (
    Alive,
    Answer,
    Codec,
    Delivery,
    Farewell,
    Incoming,
    LoginAnswer,
    Malformed,
    NotBound,
    Reply,
)
from adapters.carrier.frames import Frames
from adapters.carrier.waiting import PartOutcome, Waiting
from gateway.clock import Clock
from gateway.contract import Answered, OutboundMessage
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

LATE_KEPT = 10_000  # parts without an answer whose late answer is still recognised
log = structlog.get_logger()


class State(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, and PDUs that may wait for their answer on one connection."""

    window: int = 100
    answer_within: float = 60.0
    heartbeat_after: float = 10.0  # of silence
    heartbeat_within: float = 10.0
    login_within: float = 10.0
    farewell_within: float = 5.0  # for answers still owed when the peer ends a session
    again_after: float = 0.5  # for a part refused for now; doubled, up to 16 times it
    # Of ours that a peer leaves unread: one that asks for ever and never reads would
    # take all the memory. The widest window takes a fifth of it.
    unread_bytes: int = 16 * 1024 * 1024
    first_sequence: int = 0  # 0: the protocol's own first; a test starts elsewhere

    @property
    def tick(self) -> float:
        shortest = (
            self.answer_within,
            self.heartbeat_after,
            self.heartbeat_within,
            self.login_within,
            self.farewell_within,
        )
        return min(1.0, min(shortest) / 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who is told what happens on a link; every call is made in the event loop."""

    answered: Answered
    delivered: Callable[["Link", Sequence[Delivery]], None]
    opened: Callable[["Link"], None]
    moved: Callable[[], None]  # room may have appeared
    closed: Callable[["Link"], None]


class Link(asyncio.Protocol):
    """One connection from its login to its end; a new one is made to come back."""

    def __init__(
        self, name: str, codec: Codec, limits: Limits, clock: Clock, ears: Ears
    ) -> None:
        self.name = name
        self.state = State.CONNECTING
        self.since = clock.now()
        self.error = ""  # why it ended
        self.refused: LoginAnswer | None = None
        self._codec = codec
        self._limits = limits
        self._clock = clock
        self._ears = ears
        self._frames = Frames(codec.header_bytes)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = limits.first_sequence or codec.first_sequence
        self._pending: dict[int, Waiting] = {}  # by sequence, oldest first
        self._held: deque[tuple[Waiting, bytes, int]] = deque()  # beyond the window
        self._late: dict[int, Waiting] = {}
        self._resting: dict[str, tuple[Waiting, asyncio.TimerHandle]] = {}  # by id
        self._blocked = False  # the peer doesn't read as fast as we write
        self._spent: TransientFailure | None = None  # by it nothing can be sent
        self._owed = 0  # deliveries that the peer has no answer to yet
        self._goodbye = b""  # what a peer that ends the session is to hear
        self._ends_at = 0.0  # and when it hears that at the latest
        self.heard_at = self._opened_at = clock.monotonic()
        self._asked_at: float | None = None  # when an unanswered heartbeat left

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def awaited(self) -> int:
        resting = sum(len(waiting.refused) for waiting, _ in self._resting.values())
        return len(self._pending) + len(self._held) + resting

    def room(self) -> int:
        if not self._may_write():
            return 0
        return max(0, self._limits.window - self.awaited)

    def submit(self, batch: Sequence[OutboundMessage]) -> int:
        """Write these now, as far as the window goes; parts beyond it follow. Returns
        how many parts that makes."""
        held, bodies_of, parts = self._held, self._codec.bodies, 0
        for message in batch:
            try:
                bodies = bodies_of(message)
            except DeliveryError as error:
                self._ears.answered(message.id, error)
                continue
            parts += len(bodies)
            waiting = Waiting(message.id, len(bodies))
            if len(bodies) > 1:
                waiting.bodies = bodies
            for part, body in enumerate(bodies):
                held.append((waiting, body, part))
        self._release()
        return parts

    def write(self, frames: Sequence[bytes]) -> None:
        if frames and self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(frames))
            if self._transport.get_write_buffer_size() > self._limits.unread_bytes:
                self.cut("peer_does_not_read")

    def acknowledge(self, answers: Sequence[bytes]) -> None:
        """Write the answers to as many deliveries; an empty one is silence."""
        self._owed -= len(answers)
        self.write(answers)
        self._renew()

    def pause_reading(self, pause: bool) -> None:
        """The peer waits in TCP while more came than we can store at once."""
        if self._transport is None or self._transport.is_closing():
            return
        if pause:
            self._transport.pause_reading()
        else:
            self.heard_at = self._clock.monotonic()
            self._transport.resume_reading()

    def leave(self) -> None:
        """Say good-bye; the peer's answer, or its silence, ends the connection."""
        if self.state is State.OPEN:
            self.write([self._codec.logout(self._next())])
        elif self._transport:
            self._transport.close()

    def cut(self, error: str) -> None:
        """End at once, for `error`."""
        self.error = self.error or error
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own transports don't descend from asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        self.heard_at = self._opened_at = self._clock.monotonic()
        self.write([self._codec.login(self._next())])
        self._wait()

    def data_received(self, data: bytes) -> None:
        deliveries: list[Delivery] = []
        replies: list[bytes] = []
        faults: list[str] = []
        frames = self._frames.feed(data)
        if frames:  # a peer that never ends what it begins to say is as good as dead
            self.heard_at = self._clock.monotonic()
            self._asked_at = None
        for frame in frames:
            item = self._read(frame, faults)
            if type(item) is Answer:
                self._answered(item.sequence, item.outcome)
            elif type(item) is Delivery:
                deliveries.append(item)
            elif type(item) is Reply:
                replies.append(item.data)
            elif item is not None:
                self._take(item)
        if faults:  # one line, however many: a flood of them must not fill the disk
            found = {"code": faults[-1], "count": len(faults)}
            log.warning("session.malformed", link=self.name, **found)
        self.write(replies)
        if deliveries and self.state is State.OPEN:
            self._owed += len(deliveries)
            self._ears.delivered(self, deliveries)
        if self._frames.fault:
            self.cut(self._frames.fault)
            return
        if self._held:
            self._release()
        self._renew()
        self._ears.moved()

    def pause_writing(self) -> None:
        self._blocked = True
        self._ears.moved()

    def resume_writing(self) -> None:
        self._blocked = False
        self._release()
        self._ears.moved()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self.error = self.error or (type(error).__name__ if error else "hung_up")
        self._turn(State.CLOSED)
        self._give_up()
        self._ears.closed(self)

    def _read(self, frame: bytes, faults: list[str]) -> Incoming | None:
        try:
            return self._codec.decode(frame)
        except Malformed as fault:
            faults.append(fault.code)
            return Reply(fault.reply) if fault.reply else None

    def _take(self, item: Incoming) -> None:
        match item:
            case LoginAnswer():
                self._login(item)
            case NotBound(sequence, refusal):
                self._answered(sequence, refusal)
                if self.state is State.OPEN:
                    self._spent = refusal
            case Farewell(data):
                self._part(data)
            case Alive():
                pass

    def _login(self, answer: LoginAnswer) -> None:
        if self.state is not State.CONNECTING:
            return
        if answer.refused:
            self.refused = answer
            self.error = answer.refused
            self._close()
            return
        self._turn(State.OPEN)
        self._ears.opened(self)

    def _part(self, goodbye: bytes) -> None:
        """The peer ends the session. One that waits for our word has time before it
        for its answers, and hears ours."""
        self.error = self.error or "peer_left"
        if not goodbye:
            self._close()
        elif not self._goodbye:
            self._goodbye = goodbye
            self._ends_at = self._clock.monotonic() + self._limits.farewell_within
            self._spent = self._spent or TransientFailure("peer_left", free=True)

    def _renew(self) -> None:
        """End a connection by which nothing can be sent, once all answers are here:
        what is cut off from its own would be in doubt."""
        if self._spent is None or self._pending or (self._goodbye and self._owed):
            return
        self.error = self.error or self._spent.code
        self._leave()

    def _leave(self) -> None:
        self.write([self._goodbye or self._codec.logout(self._next())])
        self._close()

    def _close(self) -> None:
        if self._transport:
            self._transport.close()

    def _turn(self, state: State) -> None:
        self.state = state
        self.since = self._clock.now()

    def _next(self) -> int:
        """Never a number that still waits for its answer, also after the wrap."""
        while True:
            sequence = self._sequence
            last = sequence >= self._codec.last_sequence
            self._sequence = self._codec.first_sequence if last else sequence + 1
            if sequence not in self._pending and sequence not in self._late:
                return sequence

    def _may_write(self) -> bool:
        if self.state is not State.OPEN or self._blocked or self._spent:
            return False
        return self._transport is not None and not self._transport.is_closing()

    def _release(self) -> None:
        """Write what the window allows, in one piece."""
        if not self._may_write():
            return
        now = self._clock.monotonic()
        pending, held, frames = self._pending, self._held, []
        for _ in range(min(len(held), self._limits.window - len(pending))):
            waiting, body, part = held.popleft()
            sequence = self._next()
            waiting.written_at = now
            if waiting.parts > 1:
                waiting.numbers[sequence] = part
            pending[sequence] = waiting
            frames.append(self._codec.submit(body, sequence))
        self.write(frames)

    def _answered(self, sequence: int, outcome: PartOutcome) -> None:
        waiting = self._pending.pop(sequence, None) or self._late.pop(sequence, None)
        if waiting is None:
            if isinstance(outcome, DeliveryError):  # of a login that isn't known there
                self._login(LoginAnswer(outcome.code))
            return
        settled = waiting.settle(sequence, outcome)
        if settled is None:
            return
        if type(settled) is PermanentFailure and waiting.take_back():
            self._rest(waiting)
        else:
            self._ears.answered(waiting.id, settled)

    def _rest(self, waiting: Waiting) -> None:
        seconds = self._limits.again_after * 2 ** min(waiting.tries - 2, 4)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._repeat, waiting)
        self._resting[waiting.id] = waiting, timer

    def _repeat(self, waiting: Waiting) -> None:
        """Parts that were refused for now leave again, before all that wait."""
        del self._resting[waiting.id]
        for part in sorted(waiting.refused, reverse=True):
            self._held.appendleft((waiting, waiting.bodies[part], part))
        self._release()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.tick, self._tick)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        if self.state is State.CONNECTING:
            if now - self._opened_at >= self._limits.login_within:
                return self.cut("login_unanswered")
        else:
            self._expire(now)
            if self._silent(now):
                return self.cut("heartbeat_unanswered")
            if self._goodbye and now >= self._ends_at:
                self._leave()
        self._wait()
        return None

    def _silent(self, now: float) -> bool:
        if self._asked_at is not None:
            return now - self._asked_at >= self._limits.heartbeat_within
        if now - self.heard_at >= self._limits.heartbeat_after and self._reading():
            self._asked_at = now
            self.write([self._codec.heartbeat(self._next())])
        return False

    def _reading(self) -> bool:
        return self._transport is not None and self._transport.is_reading()

    def _expire(self, now: float) -> None:
        """Parts without an answer in time: unknown, and their place is free again."""
        before = now - self._limits.answer_within
        expired: list[int] = []
        for sequence, waiting in self._pending.items():
            if (waiting.written_at or 0) > before:
                break
            expired.append(sequence)
        for sequence in expired:
            waiting = self._late[sequence] = self._pending.pop(sequence)
            self._unknown(waiting, sequence, "no_answer")
        while len(self._late) > LATE_KEPT:
            del self._late[next(iter(self._late))]
        if expired:
            self._release()
            self._renew()
            self._ears.moved()

    def _give_up(self) -> None:
        """The connection is gone: what left is unknown, what did not may be tried."""
        pending, held = self._pending, self._held
        self._pending, self._held, self._late = {}, deque(), {}
        resting, self._resting = self._resting, {}
        for waiting, timer in resting.values():
            timer.cancel()
            self._ears.answered(waiting.id, waiting.given_up())
        unsent = {id(w): w for w, _, _ in held if w.written_at is None}
        for sequence, waiting in pending.items():
            self._unknown(waiting, sequence, "connection_lost")
        for waiting in unsent.values():
            failure = self._spent or TransientFailure("connection_lost")
            self._ears.answered(waiting.id, failure)
        lost = self._spent or OutcomeUnknown("connection_lost")
        for waiting, _, part in held:
            if waiting.written_at is not None:
                waiting.numbers[-part] = part
                self._ends(waiting, -part, waiting.refused.get(part, lost))

    def _unknown(self, waiting: Waiting, sequence: int, code: str) -> None:
        self._ends(waiting, sequence, OutcomeUnknown(code))

    def _ends(self, waiting: Waiting, sequence: int, outcome: PartOutcome) -> None:
        settled = waiting.settle(sequence, outcome)
        if settled is not None:
            self._ears.answered(waiting.id, settled)
