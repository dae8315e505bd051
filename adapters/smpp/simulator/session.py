"""One connection of a gateway to the simulated centre."""

import asyncio
import struct
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from adapters.carrier.other_end import OtherEnd
from adapters.smpp import pdu, status
from adapters.smpp.simulator.behaviour import Behaviour

_HEAD = struct.Struct(">IIII").pack
_UNPACK = struct.Struct(">III").unpack_from
_SENDING = frozenset({pdu.BIND_TRANSMITTER, pdu.BIND_TRANSCEIVER})
_RECEIVING = frozenset({pdu.BIND_RECEIVER, pdu.BIND_TRANSCEIVER})


class Item(NamedTuple):
    """A deliver_sm without its header; `note` is the ledger's line of a reply."""

    body: bytes
    note: str = ""


class Centre(Protocol):
    """What a connection asks of its centre."""

    sessions: "set[Session]"

    @property
    def behaviour(self) -> Behaviour: ...
    @property
    def counts(self) -> "Counted": ...
    def bind(self, session: "Session", given: pdu.Bind) -> int: ...
    def submitted(self, session: "Session", frames: Sequence[bytes]) -> None: ...
    def taken_over(
        self, session: "Session", done: Sequence[tuple[Item, int]]
    ) -> None: ...
    def deliver(self, system_id: str, items: Sequence[Item]) -> None: ...
    def lost(self, session: "Session") -> None: ...


class Counted(Protocol):
    malformed: int


class Session(OtherEnd):
    """One connection of a gateway."""

    def __init__(self, centre: Centre) -> None:
        super().__init__(centre, pdu.HEADER_BYTES)
        self.system_id = ""
        self.outstanding: dict[int, Item] = {}
        self._centre = centre
        self._bound = 0  # with which command
        self._sequence = 0

    @property
    def receives(self) -> bool:
        """Whether deliver_sm may go to it."""
        return self._bound in _RECEIVING

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._centre.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._centre.lost(self)

    def _work(self, frames: Sequence[bytes]) -> None:
        submits: list[bytes] = []
        done: list[tuple[Item, int]] = []
        sends = self._bound in _SENDING
        for frame in frames:
            command, code, sequence = _UNPACK(frame, 4)
            if command == pdu.SUBMIT_SM and sends:
                submits.append(frame)
            elif command == pdu.DELIVER_SM_RESP:
                if item := self.outstanding.pop(sequence, None):
                    done.append((item, code))
            else:
                self._seldom(frame, command, sequence)
                sends = self._bound in _SENDING
        if submits:
            self._centre.submitted(self, submits)
        if done:
            self._centre.taken_over(self, done)
        self.push()

    def _seldom(self, frame: bytes, command: int, sequence: int) -> None:
        if command in self._binds():
            self._bind(frame, command, sequence)
        elif command == pdu.ENQUIRE_LINK:
            self.out.append(pdu.frame(pdu.ENQUIRE_LINK_RESP, sequence))
        elif command == pdu.UNBIND:
            self.out.append(pdu.frame(pdu.UNBIND_RESP, sequence))
            self.close()
        elif command == pdu.SUBMIT_SM:
            self.out.append(refusal(frame, status.INVALID_BIND_STATUS))
        elif not command & pdu.RESPONSE:
            self._centre.counts.malformed += 1
            code = status.INVALID_COMMAND_ID
            self.out.append(pdu.frame(pdu.GENERIC_NACK, sequence, status=code))

    def _binds(self) -> frozenset[int]:
        knows_both = self._centre.behaviour.transceivers
        return _SENDING | _RECEIVING if knows_both else _SENDING ^ _RECEIVING

    def _bind(self, frame: bytes, command: int, sequence: int) -> None:
        try:
            given = pdu.bind(frame)
        except pdu.BadBody:
            code = status.INVALID_COMMAND_LENGTH
            self.out.append(pdu.frame(pdu.GENERIC_NACK, sequence, status=code))
            return
        self.system_id = given.system_id
        code = self._centre.bind(self, given)
        self._bound = command if code == status.OK else 0
        answer = pdu.frame(command | pdu.RESPONSE, sequence, b"simulator\0", code)
        self.out.append(answer)
        if not self._bound:
            self.close()
        else:
            # What was not acknowledged before comes after the bind's answer.
            self._centre.deliver(self.system_id, ())

    def bring(self, item: Item) -> None:
        self._sequence = self._sequence % pdu.LAST_SEQUENCE + 1
        self.outstanding[self._sequence] = item
        length = pdu.HEADER_BYTES + len(item.body)
        self.out.append(_HEAD(length, pdu.DELIVER_SM, 0, self._sequence) + item.body)

    def leave(self) -> None:
        self._sequence = self._sequence % pdu.LAST_SEQUENCE + 1
        self.out.append(pdu.frame(pdu.UNBIND, self._sequence))
        self.push()

    def break_off(self) -> None:
        """End without another word."""
        self.out.clear()
        self.hang_up()


def refusal(frame: bytes, code: int) -> bytes:
    """The answer to a submit_sm that is not taken."""
    (sequence,) = struct.unpack_from(">I", frame, 12)
    return pdu.frame(pdu.SUBMIT_SM_RESP, sequence, b"", code)
