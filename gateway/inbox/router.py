"""Takes stored messages by the batch, decides what each means, and acts on it.

A batch is one transaction, decided in the order of the messages. Where one fails its
messages are taken one by one, each in its own transaction. What fails three times goes
to the review tray with its deadline running; nothing is left out, nothing stops the
queue.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from gateway import database as db
from gateway import questions, tokens
from gateway.channels import Reach
from gateway.consent import words_of
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.errors import StorageUnavailable
from gateway.inbox import act
from gateway.inbox.bulk import acts, letters, read, write
from gateway.inbox.bulk.desk import Desk
from gateway.inbox.bulk.world import Message
from gateway.inbox.route import (
    Answer,
    Append,
    Command,
    Decision,
    Refuse,
    Register,
    Resume,
    Review,
    Situation,
    decide,
    numbers_in,
)
from gateway.inbox.routed import Routed
from gateway.inquiries import timeline
from gateway.inquiries.busy import OpenInquiries
from gateway.inquiries.say import reach_of
from gateway.outbox import follow, receipts
from gateway.tables import AddressRow, Inbound, Inquiry

log = structlog.get_logger()
TRIES = 3
BATCH = 2000  # messages of one transaction ...
SMALL_BATCH = 500  # ... while others wait for the database
# While messages pour in, the next batch waits for as long as the last one took: what
# a statement costs is shared by all that gathered.
GATHER_SECONDS, GATHER_AT_MOST = 0.02, 0.1
# While providers crowd for their answers, a batch is followed by this many times the
# time it took, without one ...
GIVES_WAY = 19
LATEST = timedelta(seconds=30)  # ... unless messages have waited so long
_TURN = 0x4C58_524F  # the number of a lock in PostgreSQL
SWEEP_SECONDS = 60.0  # between two looks at receipts that found no message

Today = Callable[[], Awaitable[tuple[str, str, str] | None]]


class Router:
    """One per process. `today` gives the daily Q&A's question, answer and basis.

    `pressed` says whether deliveries crowd at the inbox: they come first.
    """

    def __init__(
        self, core: Core, today: Today, pressed: Callable[[], bool] = lambda: False
    ) -> None:
        self._core = core
        self._today = today
        self._pressed = pressed
        self._late = False  # the last batch was
        self._most = BATCH
        self._open_inquiries = OpenInquiries(core.clock)
        self._receipts_seen: dict[str, int] = {}
        self._sweep_at = core.clock.monotonic() + SWEEP_SECONDS

    async def run(self) -> None:
        while True:
            began = self._core.clock.monotonic()
            moved = await self.step()
            taken = self._core.clock.monotonic() - began
            self._most = BATCH
            if not moved:
                await self._core.wakeups.wait("router", 1.0)
            elif self._pressed():
                self._most = SMALL_BATCH
                await self.give_way(taken)
            elif moved < BATCH:
                await asyncio.sleep(min(max(taken, GATHER_SECONDS), GATHER_AT_MOST))

    async def give_way(self, taken: float) -> None:
        """To the deliveries that crowd, after a batch that took so many seconds."""
        until = self._core.clock.monotonic() + taken * GIVES_WAY
        while not self._late and self._core.clock.monotonic() < until:
            if not self._pressed():
                return
            await asyncio.sleep(GATHER_SECONDS)

    async def step(self) -> int:
        """Route what waits, then match receipts; how many rows were moved."""
        try:
            routed = await self._core.commits.run(self._batch)
        except StorageUnavailable as error:
            log.warning("router.no_storage", code=error.code)
            return 0
        except Exception:
            log.exception("router.batch_failed")
            return await self.one_by_one() + await self._receipts()
        self._late = (
            routed.oldest is not None
            and self._core.clock.now() - routed.oldest > LATEST
        )
        if routed.count:
            await self.tell(routed)
        return routed.count + await self._receipts()

    async def _batch(self) -> Routed:
        messages = await read.stored(self._most) if await _my_turn() else []
        return await self.route(messages) if messages else Routed()

    async def route(self, messages: Sequence[Message]) -> Routed:
        """Runs in a transaction, perhaps twice: tells nobody before its end.

        On SQLite alone for messages that are not stored yet: there nobody else routes.
        """
        core = self._core
        world = await read.world(core, messages)
        desk = Desk.at(core, world)
        taken = acts.take(desk, messages)
        await read.organisations(world)
        letters.settle(desk)
        expires = timedelta(hours=core.settings.policy.answer_expires_hours)
        new = [one for one in messages if one.cells and one.state == "stored"]
        await write.world(world, [*taken.done, *new], expires, self._open_inquiries)
        count = len(taken.done) + len(taken.alone)
        return Routed(
            count=count,
            oldest=messages[0].received_at,
            left=len(messages) - count,
            inquiries={one.id for one in world.matters.values() if one.touched},
            broadcasts={
                one.broadcast_id
                for one in world.answered
                if one.broadcast_id is not None
            },
            reviews=[one.id for one in taken.done if one.state == "review"],
            channels={one.channel for one in world.letters},
            alone=[await self._alone(one.id) for one in taken.alone],
        )

    async def _alone(self, inbound_id: int) -> Inbound:
        message = await Inbound.get(id=inbound_id)
        await self._handle(message)
        await message.save()
        return message

    async def tell(self, routed: Routed) -> None:
        """Once for a batch, after it: pages read again, senders look what waits."""
        core = self._core
        for channel in routed.channels:
            core.wakeups.wake(f"sender:{channel}")
        if routed.alone:  # whatever they caused
            core.wakeups.wake_all()
        if routed.left:
            core.wakeups.wake("router")
        await timeline.announce(core, routed.inquiries)
        for broadcast in routed.broadcasts:
            core.hub.publish("broadcast", broadcast)
        for inbound_id in routed.reviews[:1]:
            core.hub.publish("review", inbound_id)
        for message in routed.alone:
            await self._tell(message)

    async def one_by_one(self) -> int:
        """Each in a transaction of its own: after a batch failed."""
        waiting = await db.rows(
            f"SELECT id FROM inbound WHERE state = 'stored' ORDER BY id "
            f"LIMIT {SMALL_BATCH}"
        )
        for row in waiting:
            await self._route(row["id"])
        return len(waiting)

    async def _receipts(self) -> int:
        """Match receipts that found no message when they came: once soon, since their
        message may have been settled meanwhile, then by a sweep now and then."""
        sweep = self._core.clock.monotonic() >= self._sweep_at
        moved = 0
        for channel in self._core.channels:
            after = self._receipts_seen.get(channel.name, 0)
            newest = await receipts.waiting_after(channel.name, after)
            if newest is None and not sweep:
                continue
            since = 0 if sweep else after
            moved += await self._match(channel.name, since)
            self._receipts_seen[channel.name] = max(after, newest or 0)
        if sweep:
            self._sweep_at = self._core.clock.monotonic() + SWEEP_SECONDS
        return moved

    async def _match(self, channel: str, after: int) -> int:
        moved = await self._core.commits.run(
            lambda: receipts.apply_waiting(self._core, channel, after)
        )
        await follow.announce_moved(self._core, moved)
        return len(moved)

    async def _route(self, inbound_id: int) -> None:
        try:
            async with db.transaction():
                message = await self._claim(inbound_id)
                if message is None:
                    return
                await self._handle(message)
                await message.save()
        except Exception:
            log.exception("router.failed", inbound=inbound_id)
            await self._failed(inbound_id)
            return
        self._core.wakeups.wake_all()
        await self._tell(message)

    async def _claim(self, inbound_id: int) -> Inbound | None:
        """Lock the row; None where another process has it or is done with it."""
        locked = await _my_turn() and await db.rows(
            "SELECT id FROM inbound WHERE id = ? AND state = 'stored'"
            f"{db.for_update()}",
            inbound_id,
        )
        return await Inbound.get(id=inbound_id) if locked else None

    async def _failed(self, inbound_id: int) -> None:
        """Count the failure; the third one puts the message before staff."""
        await db.execute(
            "UPDATE inbound SET tries = tries + 1, "
            "state = CASE WHEN tries + 1 >= ? THEN 'review' ELSE state END, "
            "route = CASE WHEN tries + 1 >= ? THEN 'failed' ELSE route END "
            "WHERE id = ? AND state = 'stored'",
            TRIES,
            TRIES,
            inbound_id,
        )
        self._core.hub.publish("review", inbound_id)

    async def _tell(self, message: Inbound) -> None:
        if message.state == "review":
            self._core.hub.publish("review", message.id)
        await act.announce(self._core, message)

    async def _handle(self, message: Inbound) -> None:
        address = await know(self._core, message)
        message.member_id = address.member_id if address.verified_at else None
        situation = await understand(self._core, message)
        await self._act(message, decide(situation), reach_of(message))

    async def _act(self, message: Inbound, decision: Decision, reach: Reach) -> None:
        core = self._core
        match decision:
            case Refuse(rest):
                await act.refuse(core, message, reach, rest)
            case Resume():
                await act.resume(core, message, reach)
            case Answer(prompt_id, value):
                await act.answer_prompt(core, message, reach, prompt_id, value)
            case Command(name, argument):
                await act.command(core, message, reach, name, argument, self._today)
            case Append(inquiry_id, reason, thanks):
                await act.append(core, message, inquiry_id, reason, thanks=thanks)
            case Register():
                await act.register(core, message, reach)
            case Review(reason, candidates):
                act.review(message, reason, candidates)


async def _my_turn() -> bool:
    """Whether this process may route now, until the end of the transaction.

    Two that route at once could open two inquiries for two messages of one person.
    A process that was paused or cut off with its turn loses it after ten seconds.
    """
    if not db.is_postgres():
        return True
    await db.execute("SET LOCAL idle_in_transaction_session_timeout = '10s'")
    found = await db.rows("SELECT pg_try_advisory_xact_lock(?) AS mine", _TURN)
    return bool(found[0]["mine"])


async def know(core: Core, message: Inbound) -> AddressRow:
    """The address's row, made on first sight; remembers when it last wrote, where
    that decides on an answer."""
    row, _ = await AddressRow.get_or_create(
        kind=message.kind,
        value=message.value,
        defaults={"created_at": core.clock.now()},
    )
    asked = core.channels.ask_who_wrote(AddressKind(message.kind))
    if asked and not message.automatic:
        row.last_inbound_at = message.received_at
    if message.display_name:
        row.display_name = message.display_name[:128]
    await row.save()
    return row


async def understand(core: Core, message: Inbound) -> Situation:
    """Read from the database what `decide` has to know."""
    sender = Address(AddressKind(message.kind), message.value)
    words = words_of(core.settings.policy.opt_out_words)
    return Situation(
        text=message.text,
        automatic=message.automatic,
        prompts=await questions.open_at(core, [sender]),
        thread=await _thread(core, message),
        named=await _named(core, message),
        open_ones=await _open_ones(core, message),
        closed_ones=await _closed_ones(core, message),
        opt_out_words=words,
    )


async def _thread(core: Core, message: Inbound) -> int | None:
    """The inquiry that a signed token or a quoted message of ours names.

    A quoted id counts only where that message went to this very person: anybody can
    write somebody else's into a header.
    """
    key = core.keys.derive("inquiry")
    found = tokens.verify(key, "inquiry", message.reply_token)
    if found is not None and await _may_join(core, message, found):
        return found
    quoted = [str(one) for one in message.answers_to]
    if not quoted:
        return None
    rows = await db.rows(
        "SELECT o.inquiry_id FROM outbox o WHERE o.channel = ? AND o.kind = ? "
        "AND o.value = ? AND o.inquiry_id IS NOT NULL "
        f"AND o.provider_id IN ({db.marks(len(quoted))}) ORDER BY o.id DESC LIMIT 1",
        message.channel,
        message.conversation_kind or message.kind,
        message.conversation_value or message.value,
        *quoted,
    )
    if not rows or not await _may_join(core, message, rows[0]["inquiry_id"]):
        return None
    return int(rows[0]["inquiry_id"])


async def _may_join(core: Core, message: Inbound, inquiry_id: int) -> bool:
    """Same person, and not closed longer ago than a matter may be reopened."""
    inquiry = await Inquiry.get_or_none(id=inquiry_id)
    if inquiry is None:
        return False
    same = (inquiry.kind, inquiry.value) == (message.kind, message.value)
    if not same and (
        message.member_id is None or inquiry.member_id != message.member_id
    ):
        return False
    if inquiry.closed_at is None:
        return True
    limit = timedelta(days=core.settings.policy.reopen_days)
    return bool(core.clock.now() - inquiry.closed_at <= limit)


async def _named(core: Core, message: Inbound) -> list[int]:
    numbers = numbers_in(f"{message.subject}\n{message.text}")[:5]
    found = []
    for number in dict.fromkeys(numbers):
        inquiry = await Inquiry.get_or_none(number=number)
        if inquiry is not None and await _may_join(core, message, inquiry.id):
            found.append(inquiry.id)
    return found


async def _open_ones(core: Core, message: Inbound) -> list[int]:
    """Open inquiries of this address or its member, not silent for too long."""
    since = core.clock.now() - core.settings.policy.inquiry_window
    found = await db.rows(
        "SELECT id FROM inquiries WHERE state <> 'closed' AND changed_at >= ? "
        "AND ((kind = ? AND value = ?) OR member_id = ?) ORDER BY id",
        to_micros(since),
        message.kind,
        message.value,
        -1 if message.member_id is None else message.member_id,
    )
    return [row["id"] for row in found]


async def _closed_ones(core: Core, message: Inbound) -> list[int]:
    """What was closed so recently that a word of thanks may still be meant for it."""
    since = core.clock.now() - core.settings.policy.inquiry_window
    found = await db.rows(
        "SELECT id FROM inquiries WHERE state = 'closed' AND closed_at >= ? "
        "AND ((kind = ? AND value = ?) OR member_id = ?) ORDER BY closed_at, id",
        to_micros(since),
        message.kind,
        message.value,
        -1 if message.member_id is None else message.member_id,
    )
    return [row["id"] for row in found]
