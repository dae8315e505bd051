"""One connection of a provider to the simulated gateway."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from adapters.carrier.other_end import OtherEnd
from adapters.cmpp.pdus import (
    ActiveTest,
    ActiveTestResp,
    Cancel,
    CancelResp,
    Command,
    Connect,
    ConnectResp,
    Query,
    QueryResp,
    Submit,
    SubmitResp,
    Terminate,
    TerminateResp,
    Version,
)
from adapters.cmpp.simulator.behaviour import Behaviour
from adapters.cmpp.wire import HEADER, WireError, decode, encode, framed

_WRONG_STRUCTURE = 1
_LAST_SEQUENCE = 0xFFFF_FFFF


class Item(NamedTuple):
    """A DELIVER without its header; `note` is the ledger's line of a reply, at its last
    part."""

    body: bytes
    note: str = ""
    times: int = 0  # brought so often
    is_report: bool = False


class Gateway(Protocol):
    """What a connection asks of its gateway."""

    sessions: "set[Session]"

    @property
    def behaviour(self) -> Behaviour: ...
    @property
    def counts(self) -> "Counted": ...
    def login(self, session: "Session", given: Connect) -> ConnectResp: ...
    def submitted(
        self, session: "Session", batch: Sequence[tuple[int, Submit]]
    ) -> None: ...
    def taken_over(
        self, session: "Session", done: Sequence[tuple[Item, int]]
    ) -> None: ...
    def deliver(self, account: str, items: Sequence[Item]) -> None: ...
    def lost(self, session: "Session") -> None: ...


class Counted(Protocol):
    malformed: int


class Session(OtherEnd):
    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, HEADER.size)
        self.account = ""  # empty until it is logged in
        self.version = Version.V20
        self._gateway = gateway
        self._awaited: dict[int, tuple[Item, float]] = {}  # oldest first
        self._sequence = 0

    @property
    def awaited(self) -> int:
        return len(self._awaited)

    def bring(self, item: Item, now: float) -> None:
        sequence = self._next()
        self._awaited[sequence] = (item._replace(times=item.times + 1), now)
        self.out.append(framed(Command.DELIVER, sequence, item.body))

    def recalled(self) -> list[Item]:
        """What was brought and not answered; nothing is awaited any more."""
        items = [item for item, _ in self._awaited.values()]
        self._awaited.clear()
        return items

    def overdue(self, before: float) -> list[Item]:
        late = []
        for sequence, (_, at) in self._awaited.items():
            if at > before:
                break
            late.append(sequence)
        return [self._awaited.pop(sequence)[0] for sequence in late]

    def leave(self) -> None:
        self.out.append(encode(Terminate(), self._next(), self.version))
        self.push()

    def beat(self) -> None:
        if self.account:
            self.out.append(encode(ActiveTest(), self._next(), self.version))
            self.push()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gateway.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._gateway.lost(self)

    def _work(self, frames: Sequence[bytes]) -> None:
        submits: list[tuple[int, Submit]] = []
        done: list[tuple[Item, int]] = []
        for frame in frames:
            _, command, sequence = HEADER.unpack_from(frame)
            if command == Command.DELIVER_RESP:
                if sequence in self._awaited:
                    item, _ = self._awaited.pop(sequence)
                    done.append((item, int.from_bytes(frame[20:24], "big")))
                continue
            try:
                pdu = decode(command, frame[HEADER.size :], self.version)
            except WireError:
                self._malformed(command, sequence)
                continue
            if isinstance(pdu, Submit) and self.account:
                submits.append((sequence, pdu))
            else:
                self._seldom(pdu, sequence)
        if submits:
            self._gateway.submitted(self, submits)
        if done:
            self._gateway.taken_over(self, done)
        self.push()

    def _seldom(self, pdu: object, sequence: int) -> None:
        match pdu:
            case Connect():
                answer = self._gateway.login(self, pdu)
                self.out.append(encode(answer, sequence, self.version))
                if self.account:
                    self.push()
                    # What was not acknowledged before comes after this answer.
                    self._gateway.deliver(self.account, ())
            case Submit():  # not logged in
                refused = SubmitResp(msg_id=0, result=_WRONG_STRUCTURE)
                self.out.append(encode(refused, sequence, self.version))
            case ActiveTest():
                self.out.append(encode(ActiveTestResp(), sequence, self.version))
            case Query():
                totals = QueryResp(time=pdu.time, query_type=pdu.query_type)
                self.out.append(encode(totals, sequence, self.version))
            case Cancel():
                self.out.append(
                    encode(CancelResp(success_id=1), sequence, self.version)
                )
            case Terminate():
                self.out.append(encode(TerminateResp(), sequence, self.version))
                self.close()
            case _:
                pass

    def _malformed(self, command: int, sequence: int) -> None:
        self._gateway.counts.malformed += 1
        if command == Command.SUBMIT:
            refused = SubmitResp(msg_id=0, result=_WRONG_STRUCTURE)
            self.out.append(encode(refused, sequence, self.version))

    def _next(self) -> int:
        self._sequence = self._sequence % _LAST_SEQUENCE + 1
        return self._sequence
