"""The simulated centre: takes messages, answers, sends receipts and replies.

Made for speed: one write per batch, and nothing per message that is not needed.
"""

import asyncio
import random
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from adapters.carrier import udh
from adapters.carrier.later import Later
from adapters.carrier.ledger import Ledger, quoted
from adapters.carrier.throttle import Throttle
from adapters.smpp import gsm7, pdu, receipts, status
from adapters.smpp.settings import MessageIds
from adapters.smpp.simulator.behaviour import Behaviour
from adapters.smpp.simulator.session import Item, Session, refusal
from gateway.clock import Clock, SystemClock

MO_TICK_SECONDS = 0.01
ZONE = ZoneInfo("Asia/Shanghai")  # of the dates in receipts
_HEAD = struct.Struct(">IIII").pack


class Submitted(NamedTuple):
    sequence: int
    source: bytes
    destination: bytes
    esm_class: int
    data_coding: int
    user_data: bytes


@dataclass(slots=True)
class Counts:
    """What the centre did so far."""

    accepted: int = 0
    refused: int = 0
    throttled: int = 0
    receipts: int = 0  # acknowledged
    replies: int = 0  # acknowledged
    put_off: int = 0  # deliveries that we were told to bring again
    binds: int = 0
    binds_refused: int = 0
    malformed: int = 0


@dataclass(slots=True)
class _Account:
    sessions: list[Session] = field(default_factory=list)
    queue: deque[Item] = field(default_factory=deque)


class Centre:
    """One simulated centre with all its accounts and connections."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        ledger: Path | None = None,
        accounts: Mapping[str, str] | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        first_id: int = 1,
    ) -> None:
        self.counts = Counts()
        self.ledger = Ledger(ledger)
        self.later = Later()
        self.clock = clock or SystemClock()
        self.dice = random.Random(seed)
        self.sessions: set[Session] = set()
        self.taken: list[Submitted] | None = None  # a test may put a list here
        self._passwords = accounts or {}
        self._accounts: dict[str, _Account] = {}
        self._id = first_id - 1
        self._mo_number = 0
        self._served_until = 0.0
        self._throttle = Throttle(self.clock)
        self._stamp, self._stamped_at = b"", -1
        self.behave(behaviour or Behaviour())

    def behave(self, behaviour: Behaviour) -> None:
        """From now on like this."""
        self.behaviour = behaviour
        self._answer_id, self._receipt_id = _id_formats(behaviour.message_ids)
        self._plain_receipts = behaviour.receipts and not behaviour.odd_receipts

    def bind(self, session: Session, given: pdu.Bind) -> int:
        account = self._accounts.setdefault(given.system_id, _Account())
        code = self.behaviour.login_status or self._login_status(given, account)
        if code:
            self.counts.binds_refused += 1
            return code
        account.sessions.append(session)
        self.counts.binds += 1
        return status.OK

    def _login_status(self, given: pdu.Bind, account: _Account) -> int:
        password = self._passwords.get(given.system_id)
        if self._passwords and password != given.password:
            return 0x0E if password is not None else 0x0F
        limit = self.behaviour.binds
        return 0x05 if limit and len(account.sessions) >= limit else status.OK

    def lost(self, session: Session) -> None:
        """What was not acknowledged is brought again."""
        self.sessions.discard(session)
        account = self._accounts.get(session.system_id)
        if account and session in account.sessions:
            account.sessions.remove(session)
            account.queue.extendleft(reversed(session.outstanding.values()))
            session.outstanding.clear()
            self.flush(account)

    def submitted(self, session: Session, frames: Sequence[bytes]) -> None:
        """Decide on a batch: into the ledger first, then the answers, the receipts."""
        behaviour, counts = self.behaviour, self.counts
        lines: list[str] = []
        answers: list[bytes] = []
        due: list[Item] = []
        told = f'","at":{self.clock.now().timestamp():.3f},"system_id":'
        told += quoted(session.system_id)
        taken, refused = f'{{"kind":"mt{told}', f'{{"kind":"refused{told}'
        stamp = self._now_stamp()
        for frame in frames:
            found = _read(frame)
            if found is None:
                counts.malformed += 1
                answers.append(refusal(frame, status.INVALID_MESSAGE_LENGTH))
                continue
            code = self._refusal(found) if behaviour.picks else 0
            if code:
                if self.ledger.is_on and code != status.THROTTLED:
                    lines.append(refused + _line(found, b""))
                answers.append(refusal(frame, code))
                continue
            counts.accepted += 1
            number = self._next_id()
            id = self._answer_id % number
            if self.ledger.is_on:
                lines.append(taken + _line(found, id))
            if self.taken is not None:
                self.taken.append(found)
            answer = _HEAD(17 + len(id), pdu.SUBMIT_SM_RESP, 0, found.sequence)
            answer += id + (b"\xff" if behaviour.nonsense else b"\0")
            if self._plain_receipts:
                receipt = self._receipt(found, id, number, stamp)
                if behaviour.delays:
                    self._delayed(session, answer, [receipt])
                else:
                    answers.append(answer)
                    due.append(receipt)
            else:
                many = self._receipts(found, id, number, stamp)
                if behaviour.delays:
                    self._delayed(session, answer, many)
                else:
                    answers.append(answer)
                    self._receipts_later(session, many)
        self.ledger.write(lines)
        if behaviour.lose_share and self.dice.random() < behaviour.lose_share:
            self.deliver(session.system_id, due)
            session.break_off()
            return
        session.out += answers
        if due:
            self.deliver(session.system_id, due)
        session.push()

    def _refusal(self, found: Submitted) -> int:
        behaviour, rate = self.behaviour, self.behaviour.throttle_rate
        if rate and not self._throttle.passes(rate):
            self.counts.throttled += 1
            return status.THROTTLED
        if not any(self._reasons(found)):
            return 0
        self.counts.refused += 1
        return behaviour.refuse_status

    def _reasons(self, found: Submitted) -> Iterator[bool]:
        behaviour = self.behaviour
        yield bool(behaviour.refuse_share) and (
            self.dice.random() < behaviour.refuse_share
        )
        yield found.destination.decode("latin-1") in behaviour.refuse_numbers
        yield bool(behaviour.refuse_part) and (
            part_of(found).number == behaviour.refuse_part
        )
        yield any(word in text_of(found) for word in behaviour.refuse_words)

    def _delayed(self, session: Session, answer: bytes, due: Sequence[Item]) -> None:
        behaviour, dice = self.behaviour, self.dice.random
        if behaviour.drop_share and dice() < behaviour.drop_share:
            self._receipts_later(session, due)
            return
        wait = _between(dice, behaviour.answer_delay_min, behaviour.answer_delay_max)
        if behaviour.serve_rate:
            now = self.clock.monotonic()
            self._served_until = max(now, self._served_until) + 1 / behaviour.serve_rate
            wait = max(wait, self._served_until - now)
        if behaviour.early_share and dice() < behaviour.early_share:
            self.deliver(session.system_id, due)
            due = ()
        self.later.call(wait, partial(self._answered, session, answer, due))

    def _answered(self, session: Session, answer: bytes, due: Sequence[Item]) -> None:
        session.out.append(answer)
        session.push()
        self._receipts_later(session, due)

    def _receipt(
        self,
        found: Submitted,
        id: bytes,
        number: int,
        stamp: bytes,
        word: bytes = b"DELIVRD",
    ) -> Item:
        """A deliver_sm body with the text of Appendix B."""
        own = self._receipt_id
        text = b"id:%b sub:001 dlvrd:%b submit date:%b done date:%b stat:%b err:%b" % (
            own % number,
            b"001" if word == b"DELIVRD" else b"000",
            stamp,
            stamp,
            word,
            b"000" if word == b"DELIVRD" else b"001",
        )
        body = b"\0\1\1%b\0\0\1%b\0\4\0\0\0\0\0\0\0\0%c%b" % (
            found.destination,
            found.source,
            len(text),
            text,
        )
        if self.behaviour.receipt_tlvs:
            state = receipts.STATES.index(word.decode())
            body += pdu.tlv(pdu.TAG_RECEIPTED_MESSAGE_ID, id + b"\0")
            body += pdu.tlv(pdu.TAG_MESSAGE_STATE, bytes([state]))
        return Item(body)

    def _receipts(
        self, found: Submitted, id: bytes, number: int, stamp: bytes
    ) -> Sequence[Item]:
        behaviour, dice = self.behaviour, self.dice.random
        if not behaviour.receipts or dice() < behaviour.withhold_share:
            return ()
        failed = dice() < behaviour.fail_share
        make = partial(self._receipt, found, id, number, stamp)
        final, other = make(), make(b"UNDELIV")
        if failed:
            final, other = other, final
        made = [final]
        if dice() < behaviour.contradict_share:
            made.append(other)
        if dice() < behaviour.enroute_share:
            made.append(make(b"ENROUTE"))
        if dice() < behaviour.repeat_share:
            made.append(final)
        return made

    def _receipts_later(self, session: Session, due: Sequence[Item]) -> None:
        behaviour, name = self.behaviour, session.system_id
        if not due:
            return
        if behaviour.reorder:
            due = self.dice.sample(due, len(due))
        if behaviour.receipt_delay_max:
            for item in due:
                wait = _between(
                    self.dice.random,
                    behaviour.receipt_delay_min,
                    behaviour.receipt_delay_max,
                )
                self.later.call(wait, partial(self.deliver, name, [item]))
        else:
            self.deliver(name, due)

    def say(self, system_id: str, sender: str, to: str, text: str) -> None:
        """A member writes; long texts go out in parts."""
        self.deliver(system_id, self.said(system_id, sender, to, text))

    def said(self, system_id: str, sender: str, to: str, text: str) -> list[Item]:
        data = text.encode("utf-16-be")
        note = f'{{"kind":"mo","system_id":{quoted(system_id)},"from":{quoted(sender)},'
        note += f'"to":{quoted(to)},"text":{quoted(text)}'
        if len(data) <= udh.USER_DATA_BYTES:
            return [Item(_mo_body(sender, to, 0, data), note)]
        self._mo_number += 1
        parts = [data[at : at + 134] for at in range(0, len(data), 134)]
        return [
            Item(
                _mo_body(sender, to, pdu.UDHI, udh.header(place, wide=False) + part),
                note if number == len(parts) else "",
            )
            for number, part in enumerate(parts, 1)
            for place in [udh.Concatenation(self._mo_number, len(parts), number)]
        ]

    def deliver(self, system_id: str, items: Sequence[Item]) -> None:
        """Bring these as soon as the windows of the account's connections allow."""
        account = self._accounts.setdefault(system_id, _Account())
        account.queue.extend(items)
        self.flush(account)

    def flush(self, account: _Account) -> None:
        queue = account.queue
        for session in filter(attrgetter("receives"), account.sessions):
            room = self.behaviour.deliver_window - len(session.outstanding)
            for _ in range(min(room, len(queue))):
                session.bring(queue.popleft())
            session.push()
            if not queue:
                return

    def taken_over(self, session: Session, done: Sequence[tuple[Item, int]]) -> None:
        """The gateway answered these deliveries."""
        lines: list[str] = []
        again: list[Item] = []
        for item, code in done:
            if code:
                self.counts.put_off += 1
                again.append(item)
            elif item.note:
                self.counts.replies += 1
                lines.append(f'{item.note},"at":{self.clock.now().timestamp():.3f}}}')
            else:
                self.counts.receipts += 1
        self.ledger.write(lines)
        account = self._accounts[session.system_id]
        if again:
            wait = self.behaviour.deliver_again_after
            self.later.call(wait, partial(self.deliver, session.system_id, again))
        if account.queue:
            self.flush(account)

    async def push_replies(self) -> None:
        """Members write at `mo_rate`, each text once, to every account in turn."""
        owed = 0.0
        before = self.clock.monotonic()
        while True:
            await asyncio.sleep(MO_TICK_SECONDS)
            now = self.clock.monotonic()
            owed += (now - before) * self.behaviour.mo_rate
            before = now
            names = [name for name, a in self._accounts.items() if a.sessions]
            for name in names[:1]:
                self.deliver(name, self._next_replies(name, int(owed)))
                owed -= int(owed)

    def _next_replies(self, name: str, count: int) -> list[Item]:
        made: list[Item] = []
        for _ in range(count):
            self._mo_number += 1
            sender = f"86139{self._mo_number % 10**8:08}"
            text = f"{self.behaviour.mo_text}{self._mo_number}"
            made += self.said(name, sender, "10690000", text)
        return made

    def stats(self) -> dict[str, int]:
        waiting = sum(len(a.queue) for a in self._accounts.values())
        unanswered = sum(len(s.outstanding) for s in self.sessions)
        found = {"sessions": len(self.sessions), "to_bring": waiting + unanswered}
        return asdict(self.counts) | found

    def leave(self) -> None:
        """End each session in order: what it owes is still answered."""
        for session in tuple(self.sessions):
            session.leave()

    def hang_up(self) -> None:
        for session in tuple(self.sessions):
            session.hang_up()

    def close(self) -> None:
        self.later.close()
        self.hang_up()
        self.ledger.close()

    def _next_id(self) -> int:
        self._id += 1
        wrap = self.behaviour.id_wrap
        return self._id % wrap if wrap else self._id

    def _now_stamp(self) -> bytes:
        now: datetime = self.clock.now()
        second = int(now.timestamp())
        if second != self._stamped_at:
            self._stamped_at = second
            self._stamp = now.astimezone(ZONE).strftime("%y%m%d%H%M%S").encode()
        return self._stamp


@asynccontextmanager
async def serving(
    centre: Centre, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Serve `centre`; gives the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(centre), host, port)
    replies = asyncio.create_task(centre.push_replies())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        replies.cancel()
        server.close()
        centre.close()


def text_of(found: Submitted) -> str:
    """What a handset would show of this part."""
    data = found.user_data
    if found.esm_class & pdu.UDHI:
        _, data, _ = udh.taken_apart(data)
    match found.data_coding:
        case 8:
            return data.decode("utf-16-be", "replace")
        case 3:
            return data.decode("latin-1")
    return gsm7.decode(data)[0]


def part_of(found: Submitted) -> udh.Concatenation:
    place = None
    if found.esm_class & pdu.UDHI:
        place, _, _ = udh.taken_apart(found.user_data)
    return place or udh.Concatenation(0, 1, 1)


def _line(found: Submitted, id: bytes) -> str:
    part = ""
    if found.esm_class & pdu.UDHI:
        reference, total, number = part_of(found)
        part = f',"part":[{reference},{total},{number}]'
    return (
        f',"to":{quoted(found.destination.decode("latin-1"))}'
        f',"from":{quoted(found.source.decode("latin-1"))}'
        f',"id":"{id.decode()}"{part},"coding":{found.data_coding}'
        f',"text":{quoted(text_of(found))}}}'
    )


def _read(frame: bytes) -> Submitted | None:
    """The fields of a submit_sm that matter here; None where they are not there."""
    try:
        end = frame.index
        source = end(0, 16) + 3
        source_end = end(0, source)
        destination = source_end + 3
        at = end(0, destination)
        esm_class = frame[at + 1]
        start = end(0, end(0, at + 4) + 1) + 1
        length = frame[start + 4]
        user_data = frame[start + 5 : start + 5 + length]
        if len(user_data) != length:
            return None
        (sequence,) = struct.unpack_from(">I", frame, 12)
    except (ValueError, IndexError):
        return None
    return Submitted(
        sequence,
        frame[source:source_end],
        frame[destination:at],
        esm_class,
        frame[start + 2],
        user_data,
    )


def _mo_body(sender: str, to: str, esm_class: int, user_data: bytes) -> bytes:
    addresses = b"\0\1\1%b\0\0\1%b\0" % (sender.encode(), to.encode())
    fixed = b"%c\0\0\0\0\0\0\x08\0%c" % (esm_class, len(user_data))
    return addresses + fixed + user_data


def _between(dice: Callable[[], float], least: float, most: float) -> float:
    return least + (most - least) * dice() if most > least else least


def _id_formats(written: str) -> tuple[bytes, bytes]:
    """How ids look in answers and in receipts: zeros and case differ on purpose."""
    match MessageIds(written):
        case MessageIds.AS_IS:
            return b"%010d", b"%010d"
        case MessageIds.DECIMAL:
            return b"%d", b"%010d"
        case MessageIds.HEX:
            return b"%x", b"%08X"
        case MessageIds.HEX_THEN_DECIMAL:
            return b"%x", b"%010d"
        case MessageIds.DECIMAL_THEN_HEX:
            return b"%d", b"%08X"
