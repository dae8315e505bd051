"""Several accounts of one kind: which of them sends how much, and what moves when one
is slow or can't be reached (A-10).

Only what is certainly not sent moves: what waits alone, and recipients of chunks that
no sender has taken, behind the chunk's mark. What is unknown stays where it is.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

import structlog

from gateway import database as db
from gateway.channels import Channel, Reach, refusal
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.outbox.report import Report, reports
from gateway.tables import InquiryEvent

log = structlog.get_logger()
# Where any account reaches any address. A QQ or WeChat account has friends of its own.
KINDS = (AddressKind.PHONE, AddressKind.EMAIL)
WHOLE = 100  # points
FEW = 50  # answers in the last minutes, below which nobody is called slow
LONG = 0.5  # share of the last minutes with refusals for the rate
CHUNKS = 5  # moved in one transaction; 2,500 recipients
ROWS = 500  # moved in one transaction
TURNS = 10  # transactions in one second of work


class Condition(StrEnum):
    WELL = "well"
    SLOW = "slow"
    DOWN = "down"  # its breaker is open
    TRIAL = "trial"  # open, and the next message is a probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One of the accounts of a kind. `share` and `lost` are points."""

    name: str
    share: int
    lost: int = 0
    condition: Condition = Condition.WELL

    @property
    def is_down(self) -> bool:
        return self.condition in (Condition.DOWN, Condition.TRIAL)


def based(wanted: Mapping[str, int | None]) -> Mapping[str, int]:
    """Shares by the settings; where nothing is set the first account has it all and
    the others stand by."""
    if any(share is not None for share in wanted.values()):
        return {name: share or 0 for name, share in wanted.items()}
    return {name: 0 if n else WHOLE for n, name in enumerate(wanted)}


def condition(report: Report, now: int, slow_share: float) -> Condition:
    """`now` in microseconds."""
    if report.get("open_since"):
        can_probe = not report["probing"] and not report["away"]
        is_due = can_probe and report["probe_at"] <= now
        return Condition.TRIAL if is_due else Condition.DOWN
    many = report.get("answered", 0) >= FEW
    if many and report["slow"] >= slow_share:
        return Condition.SLOW
    if report.get("throttled_share", 0) >= LONG:
        return Condition.SLOW
    return Condition.WELL


def stepped(accounts: Sequence[Account], step: int) -> Mapping[str, int]:
    """The points that each has lost after one more step. Nothing moves when none is
    well: the others would do no better."""
    if not any(one.condition is Condition.WELL for one in accounts):
        return {one.name: one.lost for one in accounts}
    return {one.name: _stepped(one, step) for one in accounts}


def _stepped(one: Account, step: int) -> int:
    if one.condition is Condition.WELL:
        return max(0, one.lost - step)
    return min(one.share, one.lost + step)


def takers(accounts: Sequence[Account]) -> Sequence[Account]:
    """Who may be given more: the well ones. A slow one is better than one that can't
    be reached, but not better than another slow one."""
    well = [one for one in accounts if one.condition is Condition.WELL]
    if well or not any(one.is_down for one in accounts):
        return well
    return [one for one in accounts if one.condition is Condition.SLOW]


def shares(accounts: Sequence[Account]) -> Mapping[str, float]:
    """Which part of what is to come each account sends; together 1, or nothing where
    there are none. What one has lost the others have, by their own shares; what one
    that is down had they have at once."""
    able = takers(accounts)
    if not able:
        kept = {one.name: float(max(0, one.share - one.lost)) for one in accounts}
        return _even(kept)
    left = {
        one.name: 0.0 if one.is_down else float(max(0, one.share - one.lost))
        for one in accounts
    }
    loose = sum(one.share for one in accounts) - sum(left.values())
    # Whoever loses points himself takes none of the others'.
    whole = [one for one in able if one.lost == 0] or able
    for name, part in _even({one.name: float(one.share) for one in whole}).items():
        left[name] += loose * part
    return _even(left)


def _even(points: Mapping[str, float]) -> Mapping[str, float]:
    """As parts of one. Where none has any the first stands in."""
    total = sum(points.values())
    if total <= 0:
        return {name: 0.0 if n else 1.0 for n, name in enumerate(points)}
    return {name: point / total for name, point in points.items()}


@dataclass(frozen=True, slots=True)
class Supply:
    """Chunks of one broadcast on one account: those nobody has taken, and all."""

    ready: int
    total: int


def transfers(
    supply: Mapping[str, Supply], parts: Mapping[str, float]
) -> Sequence[tuple[str, str, int]]:
    """How many ready chunks go from which account to which, so that together they
    come nearest to `parts`. Less than one chunk too much moves nothing."""
    total = sum(one.total for one in supply.values())
    over = {
        name: min(one.ready, _whole(one.total - total * parts.get(name, 0.0)))
        for name, one in supply.items()
    }
    under = {
        name: total * part - (supply[name].total if name in supply else 0)
        for name, part in parts.items()
    }
    found = []
    for giver, spare in over.items():
        given = _dealt(spare, {name: n for name, n in under.items() if name != giver})
        for taker, n in given.items():
            under[taker] -= n
            found.append((giver, taker, n))
    return found


def _dealt(spare: int, under: Mapping[str, float]) -> Mapping[str, int]:
    """One chunk after the other, each to whoever is furthest behind."""
    wants = dict(under)
    given: Counter[str] = Counter()
    while spare and max(wants.values(), default=0.0) > 1e-6:
        taker = max(wants, key=wants.__getitem__)
        given[taker] += 1
        wants[taker] -= 1
        spare -= 1
    return given


def _whole(number: float) -> int:
    return max(0, int(number + 1e-6))


class Balance:
    """Shares out once a second, in the process that has the lease `scheduler`. Two at
    once do no harm: each statement checks what it moves."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._stepped_at = core.clock.monotonic()

    async def work(self) -> None:
        groups = [
            g for kind in KINDS if len(g := self._core.channels.serving(kind)) > 1
        ]
        if not groups:
            return
        told = await reports()
        step = await self._is_step()
        for group in groups:
            await self._share_out(group, told, step)

    async def _is_step(self) -> bool:
        now = self._core.clock.monotonic()
        is_due = now - self._stepped_at >= self._core.settings.policy.share_step_seconds
        if is_due:
            self._stepped_at = now
        return is_due

    async def _share_out(
        self, group: Sequence[Channel], told: Mapping[str, Report], step: bool
    ) -> None:
        accounts = self._accounts(group, told)
        if step:
            accounts = await self._step(accounts)
        parts = shares(accounts)
        for one in accounts:
            if one.is_down:
                await self._rescue(one, accounts)
        await self._spread(group, accounts, parts)

    def _accounts(
        self, group: Sequence[Channel], told: Mapping[str, Report]
    ) -> Sequence[Account]:
        now = to_micros(self._core.clock.now())
        slow = self._core.settings.policy.slow_share
        base = based({one.name: one.common.share for one in group})
        return [
            Account(
                name=one.name,
                share=base[one.name],
                lost=min(base[one.name], int(told.get(one.name, {}).get("lost", 0))),
                condition=condition(told.get(one.name, {}), now, slow),
            )
            for one in group
        ]

    async def _step(self, accounts: Sequence[Account]) -> Sequence[Account]:
        lost = stepped(accounts, self._core.settings.policy.share_step)
        for one in accounts:
            points = lost[one.name]
            if points != one.lost:
                log.info("share.moved", channel=one.name, lost=points)
                await self._core.commits.run(partial(_lose, one.name, points))
                self._core.hub.publish("channel", one.name)
        return [
            Account(
                name=one.name,
                share=one.share,
                lost=lost[one.name],
                condition=one.condition,
            )
            for one in accounts
        ]

    async def _rescue(self, one: Account, accounts: Sequence[Account]) -> None:
        """Rows that wait on an account that is down leave by another. On trial what
        waits stays: the next of it is the probe."""
        others, rows = self._takers(accounts)
        if one.condition is Condition.TRIAL or not others:
            return
        giver = self._channel(one.name)
        now = self._core.clock.now()
        ways = {
            kind.value: to.name
            for kind in MessageKind
            if (to := _first(giver, others, kind, now)) is not None
        }
        for _ in range(TURNS):
            move = partial(rescue, giver.name, ways, now, rows)
            moved = await self._core.commits.run(move)
            for name in moved:
                self._core.wakeups.wake(f"sender:{name}")
            if not moved or rows < ROWS:
                return

    def _takers(self, accounts: Sequence[Account]) -> tuple[list[Channel], int]:
        """Those with the largest share first, and how much they may be given at once.
        Where only one on trial is left, that is its probe."""
        able, rows = list(takers(accounts)), ROWS
        if not able:
            able = [a for a in accounts if a.condition is Condition.TRIAL]
            rows = 1
        parts = shares(accounts)
        able.sort(key=lambda account: -parts[account.name])
        return [self._channel(account.name) for account in able], rows

    def _channel(self, name: str) -> Channel:
        found = self._core.channels.get(name)
        assert found is not None
        return found

    async def _spread(
        self,
        group: Sequence[Channel],
        accounts: Sequence[Account],
        parts: Mapping[str, float],
    ) -> None:
        by_name = {one.name: one for one in accounts}
        turns = TURNS
        able = takers(accounts)
        for broadcast_id, kind, supply in await _supplies([c.name for c in group]):
            kept = _with_probes(supply, by_name)
            found = list(transfers(kept, parts)) if able else []
            found += _trials(supply, accounts)
            for giver, taker, n in found:
                while n > 0 and turns and self._may(by_name[giver], taker, kind):
                    await self._pass_on(broadcast_id, giver, taker, min(n, CHUNKS))
                    turns, n = turns - 1, n - CHUNKS

    def _may(self, giver: Account, taker: str, kind: MessageKind) -> bool:
        now = self._core.clock.now()
        return may_take(self._channel(giver.name), self._channel(taker), kind, now)

    async def _pass_on(self, broadcast_id: int, giver: str, taker: str, n: int) -> None:
        moved = await self._core.commits.run(
            lambda: reassign(broadcast_id, giver, taker, n)
        )
        if moved:
            log.info("chunks.moved", source=giver, target=taker, chunks=moved)
            self._core.wakeups.wake(f"sender:{taker}")


def _with_probes(
    supply: Mapping[str, Supply], accounts: Mapping[str, Account]
) -> Mapping[str, Supply]:
    """Without the one chunk that stays with an account on trial."""
    return {
        name: Supply(max(0, one.ready - 1), one.total)
        if accounts[name].condition is Condition.TRIAL
        else one
        for name, one in supply.items()
    }


def _trials(
    supply: Mapping[str, Supply], accounts: Sequence[Account]
) -> list[tuple[str, str, int]]:
    """One chunk for whoever may be back: its first message is the probe. Who only
    stands by is not tried while another is able."""
    able = takers(accounts)
    found = []
    for one in accounts:
        here = supply.get(one.name, Supply(0, 0))
        givers = [name for name, s in supply.items() if s.ready and name != one.name]
        is_asked = one.condition is Condition.TRIAL and (one.share or not able)
        if is_asked and givers and not here.ready:
            found.append((givers[0], one.name, 1))
    return found


async def _lose(channel: str, points: int) -> None:
    sql = "UPDATE channel_reports SET lost = ? WHERE channel = ?"
    await db.execute(sql, points, channel)


def may_take(giver: Channel, taker: Channel, kind: MessageKind, now: datetime) -> bool:
    """Whether `taker` can say what was approved for `giver`: by the gate, in the same
    words, and as long."""
    if kind is MessageKind.TEST:
        return False  # it is to show this very account
    reach = Reach(address=Address(AddressKind.PHONE, ""))
    if refusal(taker, kind, reach, now) is not None:
        return False
    one, other = giver.capabilities, taker.capabilities
    if not other.free_text and (one.free_text or not _same_values(giver, taker, kind)):
        return False
    room = one.max_length - len(giver.common.signature)
    return (
        one.encoding is other.encoding
        and other.max_length - len(taker.common.signature) >= room
    )


def _same_values(giver: Channel, taker: Channel, kind: MessageKind) -> bool:
    one, other = giver.binding(kind), taker.binding(kind)
    return (
        one is not None
        and other is not None
        and set(other.variables.values()) <= set(one.variables.values())
    )


def _first(
    giver: Channel, takers: Sequence[Channel], kind: MessageKind, now: datetime
) -> Channel | None:
    return next((one for one in takers if may_take(giver, one, kind, now)), None)


async def rescue(
    giver: str, ways: Mapping[str, str], now: datetime, limit: int = ROWS
) -> frozenset[str]:
    """Inside a transaction: what waits on `giver` goes to the account that `ways` has
    for its message kind; which of them got any.

    What follows a message of the same person that is on its way stays behind it.
    """
    if not ways:
        return frozenset()
    lock = db.for_update()
    found = await db.rows(
        "SELECT id, message_kind, inquiry_id FROM outbox q WHERE channel = ? "
        f"AND state = 'queued' AND message_kind IN ({db.marks(len(ways))}) "
        "AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.kind = q.kind "
        "AND e.value = q.value AND e.state = 'sending' AND e.channel = q.channel) "
        f"ORDER BY priority, due_at LIMIT {limit}{lock}",
        giver,
        *ways,
    )
    by_taker: defaultdict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_taker[ways[row["message_kind"]]].append(row)
    for taker, rows in by_taker.items():
        given, values = db.table({"id": "BIGINT"}, [(row["id"],) for row in rows])
        await db.execute(
            "UPDATE outbox SET channel = ?, reason = 'rerouted', detail = ? "
            f"FROM {given} AS g WHERE outbox.id = g.id AND outbox.state = 'queued'",
            taker,
            f"{giver}:unreachable",
            *values,
        )
        await _note(rows, giver, taker, now)
    return frozenset(by_taker)


async def _note(rows: Sequence[Row], giver: str, taker: str, now: datetime) -> None:
    """In the inquiries' timelines, as every change of channel."""
    data = {"from": giver, "to": taker, "why": f"{giver}:unreachable"}
    await InquiryEvent.bulk_create(
        InquiryEvent(
            inquiry_id=row["inquiry_id"],
            at=now,
            kind="rerouted",
            outbound_id=row["id"],
            data=data,
        )
        for row in rows
        if row["inquiry_id"] is not None
    )


async def _supplies(
    names: Sequence[str],
) -> list[tuple[int, MessageKind, Mapping[str, Supply]]]:
    """Of each broadcast with chunks that nobody has taken, most urgent first."""
    marks = db.marks(len(names))
    found = await db.rows(
        "SELECT c.broadcast_id, c.channel, COUNT(*) AS total, "
        "COUNT(CASE WHEN c.state = 'ready' THEN 1 END) AS ready, "
        "MIN(c.priority) AS priority, MIN(c.first_id) AS first_id FROM chunks c "
        f"WHERE c.channel IN ({marks}) AND c.state <> 'held' AND c.broadcast_id IN "
        f"(SELECT r.broadcast_id FROM chunks r WHERE r.channel IN ({marks}) "
        "AND r.state = 'ready' AND NOT EXISTS (SELECT 1 FROM holds h "
        "WHERE h.broadcast_id = r.broadcast_id)) "
        "GROUP BY c.broadcast_id, c.channel ORDER BY 5, 1",
        *names,
        *names,
    )
    supplies: dict[int, dict[str, Supply]] = {}
    for row in found:
        here = supplies.setdefault(row["broadcast_id"], {})
        here[row["channel"]] = Supply(int(row["ready"]), int(row["total"]))
    firsts = {row["broadcast_id"]: row["first_id"] for row in found}
    kinds = await _kinds(list(firsts.values()))
    return [
        (id, kinds[firsts[id]], here)
        for id, here in supplies.items()
        if firsts[id] in kinds
    ]


async def _kinds(ids: Sequence[int]) -> Mapping[int, MessageKind]:
    if not ids:
        return {}
    found = await db.rows(
        f"SELECT id, message_kind FROM outbox WHERE id IN ({db.marks(len(ids))})", *ids
    )
    return {row["id"]: MessageKind(row["message_kind"]) for row in found}


async def reassign(broadcast_id: int, giver: str, taker: str, limit: int) -> int:
    """Inside a transaction: give the next ready chunks, with the recipients that were
    not journalled, to another account; how many."""
    lock = db.for_update()
    chunks: list[Row] = await db.rows(
        "SELECT * FROM chunks WHERE channel = ? AND state = 'ready' "
        f"AND broadcast_id = ? ORDER BY priority, id LIMIT {limit}{lock}",
        giver,
        broadcast_id,
    )
    for chunk in chunks:
        await db.execute(
            "UPDATE outbox SET channel = ? WHERE id > ? AND id <= ? "
            "AND +broadcast_id = ? AND channel = ? AND state = 'planned'",
            taker,
            max(chunk["journalled_to"], chunk["first_id"] - 1),
            chunk["last_id"],
            broadcast_id,
            giver,
        )
    ids: list[Any] = [chunk["id"] for chunk in chunks]
    if ids:
        await db.execute(
            f"UPDATE chunks SET channel = ? WHERE id IN ({db.marks(len(ids))})",
            taker,
            *ids,
        )
    return len(ids)
