"""The simulated gateway: takes messages, answers, sends reports and replies."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from adapters.carrier import udh
from adapters.carrier.later import Later
from adapters.carrier.ledger import Ledger, quoted
from adapters.carrier.throttle import Throttle
from adapters.cmpp import content
from adapters.cmpp.identity import (
    CARRIER_ZONE,
    authenticator_ismg,
    authenticator_source,
    compose_msg_id,
)
from adapters.cmpp.pdus import (
    Connect,
    ConnectResp,
    Deliver,
    Report,
    Submit,
    SubmitResp,
    Version,
)
from adapters.cmpp.simulator.behaviour import Behaviour
from adapters.cmpp.simulator.session import Item, Session
from adapters.cmpp.wire import encode, encode_body, encode_report
from gateway.clock import Clock, SystemClock

GATEWAY_CODE = 1001  # Beijing's first (clause 3)
FLOW_CONTROL = 8
TICK_SECONDS = 0.01


@dataclass(slots=True)
class Counts:
    """What the gateway did so far."""

    accepted: int = 0
    refused: int = 0
    throttled: int = 0
    receipts: int = 0  # acknowledged
    replies: int = 0  # acknowledged
    put_off: int = 0  # deliveries that nobody answered in time: brought again
    given_up: int = 0  # deliveries refused, or brought three times for nothing
    binds: int = 0
    binds_refused: int = 0
    malformed: int = 0


@dataclass(slots=True)
class _Account:
    version: Version = Version.V20
    sessions: list[Session] = field(default_factory=list)
    queue: deque[Item] = field(default_factory=deque)


class Ismg:
    """One simulated gateway with all its accounts and connections."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        version: Version = Version.V30,
        ledger: Path | None = None,
        accounts: Mapping[str, str] | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        first_id: int = 1,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.version = version
        self.counts = Counts()
        self.ledger = Ledger(ledger)
        self.later = Later()
        self.clock = clock or SystemClock()
        self.sessions: set[Session] = set()
        self.taken: list[Submit] | None = None  # a test may put a list here
        self._dice = random.Random(seed)
        self._secrets = accounts or {}
        self._accounts: dict[str, _Account] = {}
        self._number = first_id - 1
        self._mo_number = 0
        self._served_until = 0.0
        self._throttle = Throttle(self.clock)

    def behave(self, behaviour: Behaviour) -> None:
        """From now on like this."""
        self.behaviour = behaviour

    def login(self, session: Session, given: Connect) -> ConnectResp:
        name, account = given.source_addr, _Account()
        account = self._accounts.setdefault(name, account)
        status = self.behaviour.login_status or self._login_status(given, account)
        session.version = min(_spoken(given.version), self.version)
        secret = self._secrets.get(name, "")
        proof = authenticator_ismg(status, given.authenticator, secret, session.version)
        if status:
            self.counts.binds_refused += 1
            return ConnectResp(status=status, version=self.version)
        self.counts.binds += 1
        session.account, account.version = name, session.version
        account.sessions.append(session)
        return ConnectResp(status=0, authenticator=proof, version=self.version)

    def _login_status(self, given: Connect, account: _Account) -> int:
        """Clause 8.4.1.2."""
        secret = self._secrets.get(given.source_addr)
        if given.version > self.version:
            return 4
        if self._secrets and secret is None:
            return 2
        said = f"{given.timestamp:010}"
        digest = authenticator_source(given.source_addr, secret or "", said)
        if self._secrets and digest != given.authenticator:
            return 3
        if not self._is_timely(said):
            return 3
        limit = self.behaviour.binds
        return 5 if limit and len(account.sessions) >= limit else 0

    def _is_timely(self, said: str) -> bool:
        tolerance = self.behaviour.clock_tolerance
        if not tolerance:
            return True
        now = self._local_now()
        try:
            # The zone is set in the same expression, as the stamp has none.
            naive = datetime.strptime(f"{now.year}{said}", "%Y%m%d%H%M%S")  # noqa: DTZ007
        except ValueError:
            return False
        off = naive.replace(tzinfo=CARRIER_ZONE) - now
        return abs(off) <= timedelta(seconds=tolerance)

    def lost(self, session: Session) -> None:
        """What was not acknowledged is brought again."""
        self.sessions.discard(session)
        account = self._accounts.get(session.account)
        if account and session in account.sessions:
            account.sessions.remove(session)
            account.queue.extendleft(reversed(session.recalled()))
            self._flush(account)

    def submitted(self, session: Session, batch: Sequence[tuple[int, Submit]]) -> None:
        """Decide on a batch: into the ledger first, then the answers, the reports."""
        lines: list[str] = []
        then: list[Callable[[], None]] = []
        at = self.clock.now().timestamp()
        told = f'","at":{at:.3f},"system_id":{quoted(session.account)}'
        taken, refused = f'{{"kind":"mt{told}', f'{{"kind":"refused{told}'
        for sequence, found in batch:
            result = self._refusal(found) if self.behaviour.picks else 0
            if result:
                if self.ledger.is_on and result != FLOW_CONTROL:
                    lines += [refused + line for line in _lines(found, 0)]
                answer = SubmitResp(msg_id=0, result=result)
                session.out.append(encode(answer, sequence, session.version))
                continue
            self.counts.accepted += 1
            id = self._next_id(len(found.dest_terminal_ids))
            if self.ledger.is_on:
                lines += [taken + line for line in _lines(found, id)]
            if self.taken is not None:
                self.taken.append(found)
            answer = SubmitResp(msg_id=id, result=0)
            frame = encode(answer, sequence, session.version)
            then.append(partial(self._answer, session, frame, found, id))
        self.ledger.write(lines)
        for work in then:
            work()
        session.push()

    def _refusal(self, found: Submit) -> int:
        behaviour, rate = self.behaviour, self.behaviour.throttle_rate
        if rate and not self._throttle.passes(rate):
            self.counts.throttled += 1
            return FLOW_CONTROL
        if not any(self._reasons(found)):
            return 0
        self.counts.refused += 1
        return behaviour.refuse_status

    def _reasons(self, found: Submit) -> Iterator[bool]:
        behaviour = self.behaviour
        share, part = behaviour.refuse_share, behaviour.refuse_part
        yield bool(share) and self._dice.random() < share
        yield any(n in behaviour.refuse_numbers for n in found.dest_terminal_ids)
        yield bool(part) and place_of(found).number == part
        yield any(word in text_of(found) for word in behaviour.refuse_words)

    def _answer(self, session: Session, frame: bytes, found: Submit, id: int) -> None:
        """Now, later or never; the reports follow, or come first."""
        behaviour = self.behaviour
        due = self._reports(found, id, session.version)
        if self._happens(behaviour.drop_share):
            self._report(session.account, due)
            return
        if self._happens(behaviour.babble_share):
            frame = frame[:3] + b"\x0e" + frame[4:14]  # 14 octets: half a Msg_Id
        wait = self._between(behaviour.answer_delay_min, behaviour.answer_delay_max)
        if behaviour.serve_rate:
            now = self.clock.monotonic()
            self._served_until = max(now, self._served_until) + 1 / behaviour.serve_rate
            wait = max(wait, self._served_until - now)
        if self._happens(behaviour.early_share):
            self.deliver(session.account, due)
            due = []
        if wait:
            self.later.call(wait, partial(self._answered, session, frame, due))
        else:
            session.out.append(frame)
            self._report(session.account, due)

    def _answered(self, session: Session, frame: bytes, due: list[Item]) -> None:
        session.out.append(frame)
        session.push()
        self._report(session.account, due)

    def _reports(self, found: Submit, id: int, version: Version) -> list[Item]:
        behaviour = self.behaviour
        if not (behaviour.receipts and found.registered_delivery):
            return []
        made: list[Item] = []
        for offset, number in enumerate(found.dest_terminal_ids):
            if self._happens(behaviour.withhold_share):
                continue
            stats = ["DELIVRD", behaviour.fail_stat]
            if self._happens(behaviour.fail_share):
                stats.reverse()
            said = stats[: 1 + self._happens(behaviour.contradict_share)]
            said += ["ACCEPTD"] * self._happens(behaviour.accepted_share)
            said += stats[:1] * self._happens(behaviour.repeat_share)
            make = partial(self._report_item, found, id + offset, number, version)
            made += [make(stat) for stat in said]
        return made

    def _report_item(
        self, found: Submit, id: int, number: str, version: Version, stat: str
    ) -> Item:
        minute = self._local_now().strftime("%y%m%d%H%M")
        report = Report(
            msg_id=id,
            stat=stat,
            submit_time=minute,
            done_time=minute,
            dest_terminal_id=number,
            smsc_sequence=id & 0xFFFF_FFFF,
        )
        pdu = Deliver(
            msg_id=id,
            dest_id=found.src_id,
            service_id=found.service_id,
            msg_fmt=content.ASCII,
            src_terminal_id=number,
            registered_delivery=1,
            content=encode_report(report, version),
        )
        return Item(encode_body(pdu, version)[1], is_report=True)

    def _report(self, account: str, due: list[Item]) -> None:
        behaviour = self.behaviour
        if behaviour.reorder:
            self._dice.shuffle(due)
        if not behaviour.receipt_delay_max:
            self.deliver(account, due)
            return
        for item in due:
            wait = self._between(
                behaviour.receipt_delay_min, behaviour.receipt_delay_max
            )
            self.later.call(wait, partial(self.deliver, account, [item]))

    def say(self, account: str, sender: str, to: str, text: str) -> None:
        """A member writes; long texts go out in parts."""
        self.deliver(account, self.said(account, sender, to, text))

    def said(self, account: str, sender: str, to: str, text: str) -> list[Item]:
        note = f'{{"kind":"mo","system_id":{quoted(account)},"from":{quoted(sender)},'
        note += f'"to":{quoted(to)},"text":{quoted(text)}'
        version = self._accounts.setdefault(account, _Account()).version
        msg_fmt, parts = content.encoded(text, "ucs2", (70, 67))
        self._mo_number += 1
        pdu = Deliver(
            msg_id=0, dest_id=to, msg_fmt=msg_fmt, src_terminal_id=sender, tp_udhi=0
        )
        total, made = len(parts), []
        for index, part in enumerate(parts, 1):
            head = b""
            if total > 1:
                place = udh.Concatenation(self._mo_number & 0xFF, total, index)
                head = udh.header(place, wide=False)
            whole = replace(
                pdu,
                msg_id=self._next_id(),
                tp_udhi=int(total > 1),
                content=head + part,
            )
            body = encode_body(whole, version)[1]
            made.append(Item(body, note if index == total else ""))
        return made

    def deliver(self, account: str, items: Sequence[Item]) -> None:
        """Bring these as soon as the windows of the account's connections allow."""
        found = self._accounts.setdefault(account, _Account())
        found.queue.extend(items)
        self._flush(found)

    def _flush(self, account: _Account) -> None:
        queue, now = account.queue, self.clock.monotonic()
        for session in account.sessions:
            room = self.behaviour.deliver_window - session.awaited
            for _ in range(min(room, len(queue))):
                session.bring(queue.popleft(), now)
            session.push()
            if not queue:
                return

    def taken_over(self, session: Session, done: Sequence[tuple[Item, int]]) -> None:
        """The provider answered these deliveries; a Result is the end of each."""
        lines: list[str] = []
        for item, result in done:
            if result:
                self.counts.given_up += 1
            elif item.note:
                self.counts.replies += 1
                at = self.clock.now().timestamp()
                lines.append(f'{item.note},"at":{at:.3f}}}')
            elif item.is_report:
                self.counts.receipts += 1
        self.ledger.write(lines)
        account = self._accounts[session.account]
        if account.queue:
            self._flush(account)

    async def live(self) -> None:
        """Members write, heartbeats leave, what nobody answered is brought again."""
        owed, before = 0.0, self.clock.monotonic()
        beat = before
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self.clock.monotonic()
            owed += (now - before) * self.behaviour.mo_rate
            before = now
            owed -= self._push_replies(int(owed))
            every = self.behaviour.heartbeat_every
            if every and now - beat >= every:
                beat = now
                for session in self.sessions:
                    session.beat()
            self._bring_again(now - self.behaviour.deliver_again_after)

    def _push_replies(self, count: int) -> int:
        """Each text once, to the first account that is there."""
        names = [name for name, one in self._accounts.items() if one.sessions]
        if not names:
            return 0
        for _ in range(count):
            number = self._mo_number + 1
            sender = f"86139{number % 10**8:08}"
            text = f"{self.behaviour.mo_text}{number}"
            self.say(names[0], sender, "10657", text)
        return count

    def _bring_again(self, before: float) -> None:
        for account in self._accounts.values():
            for session in account.sessions:
                for item in session.overdue(before):
                    if item.times < self.behaviour.deliver_times:
                        self.counts.put_off += 1
                        account.queue.append(item)
                    else:
                        self.counts.given_up += 1
            if account.queue:
                self._flush(account)

    def stats(self) -> dict[str, int]:
        waiting = sum(len(one.queue) for one in self._accounts.values())
        unanswered = sum(session.awaited for session in self.sessions)
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

    def _local_now(self) -> datetime:
        return self.clock.now().astimezone(CARRIER_ZONE)

    def _next_id(self, count: int = 1) -> int:
        """The first of `count` ids, one for each number (clause 9)."""
        first = self._number + 1
        self._number += count
        if self.behaviour.id_wrap:
            return first % self.behaviour.id_wrap
        return compose_msg_id(self._local_now(), GATEWAY_CODE, first)

    def _happens(self, share: float) -> bool:
        return bool(share) and self._dice.random() < share

    def _between(self, least: float, most: float) -> float:
        return self._dice.uniform(least, most) if most > least else least


@asynccontextmanager
async def serving(
    gateway: Ismg, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Serve `gateway`; gives the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(gateway), host, port)
    life = asyncio.create_task(gateway.live())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        life.cancel()
        server.close()
        gateway.close()


def text_of(found: Submit) -> str:
    """What a handset would show of this part."""
    octets = found.content
    if found.tp_udhi & 1:
        _, octets, _ = udh.taken_apart(octets)
    return content.read(found.msg_fmt, octets)[0]


def place_of(found: Submit) -> udh.Concatenation:
    place = udh.taken_apart(found.content)[0] if found.tp_udhi & 1 else None
    return place or udh.Concatenation(0, 1, 1)


def _spoken(version: int) -> Version:
    """The layout that a client's version octet asks for."""
    return Version.V30 if version >= Version.V30 else Version.V20


def _lines(found: Submit, id: int) -> Iterator[str]:
    reference, total, number = place_of(found)
    part = f',"part":[{reference},{total},{number}]' if total > 1 else ""
    for offset, to in enumerate(found.dest_terminal_ids):
        yield (
            f',"to":{quoted(to)},"from":{quoted(found.src_id)}'
            f',"id":"{id + offset}"{part},"coding":{found.msg_fmt}'
            f',"text":{quoted(text_of(found))}}}'
        )
