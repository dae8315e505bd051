"""What became of a broadcast's recipients: counts, list, answers, attendance."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import xlsxwriter

from broadcasts import plot, sweep
from broadcasts.notices import announce, find
from broadcasts.plot import Change
from broadcasts.tables import Attendance, Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.addresses import mask
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.errors import RequestError
from gateway.inquiries import words
from gateway.outbox import moves
from gateway.outbox.receipts import WAITS
from gateway.phrases import phrase
from gateway.status import (
    BroadcastState,
    Bucket,
    OutboundState,
    Standing,
    count_as,
    standing,
)

BUCKET_LABELS: Mapping[Bucket, str] = {
    Bucket.DELIVERED: "已送达",
    Bucket.ACCEPTED: "渠道已接收",
    Bucket.WAITING: "待发送",
    Bucket.REFUSED: "被拒绝",
    Bucket.UNKNOWN: "结果不明",
    Bucket.SUPPRESSED: "不予发送",
    Bucket.EXPIRED: "过期未发",
    Bucket.CANCELLED: "已取消",
}
REASONS: Mapping[str, str] = {
    **words.REASONS,
    "bad_text": "正文发不出",
    "cancelled": "通知已取消",
    "stopped": "发送时程序停止，不知道对方收到没有",
    "adapter_error": "渠道程序出错，不知道对方收到没有",
    "no_receipt": "三天没有送达回执",
}
LEFT_OUT: Mapping[str, str] = {
    "no_address": "没有登记联系方式",
    "unverified": "联系方式没有核实",
    "no_channel": "没有可用的渠道",
    "unknown_address": "名单里认不出的号码或编号",
}
ANSWERS: Mapping[str, str] = {"yes": "参加", "no": "不参加", "": "未回复"}
_ARRIVED = frozenset({OutboundState.DELIVERED, OutboundState.READ})
_B = BroadcastState
_PLANNED, _SENDING = OutboundState.PLANNED, OutboundState.SENDING


@dataclass(frozen=True, slots=True)
class Answers:
    yes: int
    no: int
    silent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`states` together are `broadcast.planned`, once its people are written down;
    `counts` has every bucket. `changes` led to them: both are of one instant."""

    broadcast: Broadcast
    states: Mapping[OutboundState, int]
    answers: Answers | None
    changes: Sequence[Change] = ()

    @property
    def counts(self) -> Mapping[Bucket, int]:
        return in_buckets(self.states)

    @property
    def standing(self) -> BroadcastState | Standing:
        state = BroadcastState(self.broadcast.state)
        return standing(state, self.counts[Bucket.UNKNOWN])

    @property
    def is_balanced(self) -> bool:
        """Promise O: planned is the sum of the states. Both still grow in planning."""
        planning = self.broadcast.state == BroadcastState.PLANNING
        return planning or sum(self.states.values()) == self.broadcast.planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    id: int  # of the row in the outbox
    member_id: int | None
    name: str
    organisation: str
    channel: str
    kind: str
    to: str  # masked
    state: str
    reason: str  # code
    detail: str
    changed_at: datetime
    answer: str  # yes, no; empty: none yet
    attended: bool

    @property
    def reason_text(self) -> str:
        """Why it came so; of what arrived the code of the receipt tells nothing."""
        if self.state in _ARRIVED:
            return ""
        return REASONS.get(self.reason) or words.reason(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """So many were not reached, and why."""

    state: OutboundState
    reason: str  # code
    number: int

    @property
    def reason_text(self) -> str:
        return REASONS.get(self.reason) or words.reason(self.reason)


async def shortfalls(broadcast_id: int) -> list[Shortfall]:
    """Of everybody whose message is over or in doubt without having come through, the
    most frequent first. What waits may still come; what was cancelled is no riddle."""
    found = await db.rows(
        "SELECT state, reason, COUNT(*) AS n FROM outbox WHERE broadcast_id = ? "
        f"AND {sweep.NOTEWORTHY} AND state NOT IN ('queued', 'sending') "
        "GROUP BY state, reason ORDER BY n DESC, state, reason",
        broadcast_id,
    )
    return [
        Shortfall(
            state=OutboundState(row["state"]),
            reason=row["reason"],
            number=int(row["n"]),
        )
        for row in found
    ]


def reason_of(core: Core, one: Recipient) -> str:
    """Why it came so; also of what the channel took and never told more of (C-7): that
    is no failure, it may well have arrived."""
    channel = core.channels.get(one.channel)
    is_told = channel is not None and channel.capabilities.delivery_receipts
    silent = core.clock.now() - one.changed_at >= WAITS
    if one.state == OutboundState.ACCEPTED and is_told and silent:
        return REASONS["no_receipt"]
    return one.reason_text


async def counts(broadcast_id: int) -> Mapping[Bucket, int]:
    return in_buckets(await states(broadcast_id))


async def states(broadcast_id: int) -> Mapping[OutboundState, int]:
    """As the tallies tell it; a state that nobody is in is not there."""
    return await _with_those_under_way(broadcast_id, await moves.counts(broadcast_id))


async def _with_those_under_way(
    broadcast_id: int, counted: Mapping[str, int]
) -> Mapping[OutboundState, int]:
    found = {OutboundState(state): n for state, n in counted.items()}
    waiting = found.get(_PLANNED, 0)
    if gone := min(waiting, await _number_under_way(broadcast_id) if waiting else 0):
        found[_SENDING] = found.get(_SENDING, 0) + gone
        found[_PLANNED] = waiting - gone
    return {state: n for state, n in found.items() if n}


async def _under_way(broadcast_id: int) -> list[tuple[int, int]]:
    """Ids of whole windows that were journalled and have left: a recipient among them
    who is still planned waits for an answer."""
    found = await db.rows(
        "SELECT first_id, journalled_to FROM chunks WHERE broadcast_id = ? "
        "AND state <> 'done' AND journalled_to >= first_id",
        broadcast_id,
    )
    return [(row["first_id"], row["journalled_to"]) for row in found]


def _within(spans: Sequence[tuple[int, int]]) -> str:
    return " OR ".join(f"o.id BETWEEN {int(a)} AND {int(b)}" for a, b in spans)


async def _number_under_way(broadcast_id: int) -> int:
    if not (spans := await _under_way(broadcast_id)):
        return 0
    found = await db.rows(
        f"SELECT COUNT(*) AS n FROM outbox o WHERE ({_within(spans)}) "
        "AND +o.broadcast_id = ? AND o.state = 'planned'",
        broadcast_id,
    )
    return int(found[0]["n"])


def in_buckets(numbers: Mapping[OutboundState, int]) -> Mapping[Bucket, int]:
    found = dict.fromkeys(Bucket, 0)
    for state, number in numbers.items():
        found[count_as(state)] += number
    return found


async def answers(broadcast_id: int) -> Answers:
    found = await db.rows(
        "SELECT answer, COUNT(*) AS n FROM prompts WHERE broadcast_id = ? "
        "AND prompt = 'rsvp' GROUP BY answer",
        broadcast_id,
    )
    by_answer = {row["answer"]: int(row["n"]) for row in found}
    return Answers(
        by_answer.get("yes", 0), by_answer.get("no", 0), by_answer.get("", 0)
    )


async def overview(actor: Actor, id: int) -> Overview:
    """The broadcast with its numbers. Raises NotFound."""
    actor.require(Action.READ)
    broadcast = await find(actor, id)
    changes = await _changes(id)
    return Overview(
        broadcast=broadcast,
        states=await _with_those_under_way(id, plot.totals(changes)),
        answers=await answers(id) if broadcast.rsvp else None,
        changes=changes,
    )


async def _changes(id: int) -> list[Change]:
    found = await db.rows(
        "SELECT slot, state, SUM(n) AS n FROM tallies WHERE broadcast_id = ? "
        "GROUP BY slot, state ORDER BY slot",
        id,
    )
    return [plot.change(row["slot"], row["state"], int(row["n"])) for row in found]


def states_of(filter: str) -> tuple[str, ...]:
    """The states that a bucket or a state means; none for an empty filter."""
    if filter in set(Bucket):
        return tuple(s.value for s in OutboundState if count_as(s) == filter)
    if filter in set(OutboundState):
        return (filter,)
    if filter:
        fault = phrase("没有这种状态，可以写：{known}", known=", ".join(Bucket))
        raise RequestError("state", fault, status=422, fields={"state": fault})
    return ()


_NOTEWORTHY = frozenset(OutboundState).difference(sweep.WELL)
_MANY = 20_000  # recipients; with more of them names are looked up first


async def _matching(broadcast: Broadcast, state: str, q: str) -> tuple[str, list[Any]]:
    """Rows of the outbox as `o`, with member `m` and organisation `g`: found by the
    ids of the broadcast's chunks, or by the index of what is not over or not well."""
    where, values = await _in_states(broadcast, states_of(state))
    people = "outbox o LEFT JOIN members m ON m.id = o.member_id"
    if q:
        pattern = "%" + q.translate({ord(c): f"!{c}" for c in "!%_"}) + "%"
        named = "m.name LIKE ? ESCAPE '!'"
        if broadcast.planned > _MANY:
            people = (
                "members m CROSS JOIN addresses a CROSS JOIN outbox o "
                "ON o.member_id = m.id"
            )
            where = (
                f"{named} AND a.member_id = m.id AND o.broadcast_id = ? "
                f"AND o.value = a.value AND o.kind = a.kind AND {where}"
            )
            values = [pattern, broadcast.id, *values]
        else:
            where += f" AND ({named} OR g.name LIKE ? ESCAPE '!')"
            values += [pattern, pattern]
    sql = (
        f"FROM {people} LEFT JOIN organisations g ON g.id = m.organisation_id "
        f"WHERE {where}"
    )
    return sql, values


async def _in_states(
    broadcast: Broadcast, wanted: tuple[str, ...]
) -> tuple[str, list[Any]]:
    if wanted not in ((_PLANNED,), (_SENDING,)):
        where, values = await _rows_of(broadcast, wanted)
        if wanted:
            where += f" AND o.state IN ({db.marks(len(wanted))})"
        return where, [*values, *wanted]
    where, values = await _rows_of(broadcast, (_PLANNED, _SENDING))
    gone = _within(await _under_way(broadcast.id)) or "FALSE"
    if wanted == (_PLANNED,):
        return f"{where} AND o.state = 'planned' AND NOT ({gone})", values
    left = f"o.state = 'sending' OR o.state = 'planned' AND ({gone})"
    return f"{where} AND ({left})", values


async def _rows_of(
    broadcast: Broadcast, wanted: Sequence[str]
) -> tuple[str, list[Any]]:
    if wanted and _NOTEWORTHY.issuperset(wanted):
        return f"o.broadcast_id = ? AND {sweep.noteworthy('o.')}", [broadcast.id]
    ids = await db.rows(
        "SELECT MIN(first_id) AS first, MAX(last_id) AS last FROM chunks "
        "WHERE broadcast_id = ?",
        broadcast.id,
    )
    if ids[0]["first"] is None:  # of a time without chunks
        return "o.broadcast_id = ?", [broadcast.id]
    span = [ids[0]["first"], ids[0]["last"], broadcast.id]
    return "o.id BETWEEN ? AND ? AND +o.broadcast_id = ?", span


async def total(actor: Actor, id: int, *, state: str = "", q: str = "") -> int:
    broadcast = await find(actor, id)
    if not q:
        numbers, wanted = await states(id), states_of(state)
        return sum(n for one, n in numbers.items() if not wanted or one in wanted)
    sql, values = await _matching(broadcast, state, q)
    return int((await db.rows(f"SELECT COUNT(*) AS n {sql}", *values))[0]["n"])


async def recipients(
    actor: Actor,
    id: int,
    *,
    state: str = "",
    q: str = "",
    after: int = 0,
    offset: int = 0,
    limit: int = 50,
) -> list[Recipient]:
    """In the order of their ids: from `after` (a cursor) or from `offset` (a page).

    `state` is a bucket or a state, `q` part of a name or of an organisation's.
    """
    actor.require(Action.READ)
    broadcast = await find(actor, id)
    return await _recipients(broadcast, state, q, after, offset, limit)


async def _recipients(
    broadcast: Broadcast, state: str, q: str, after: int, offset: int, limit: int
) -> list[Recipient]:
    id = broadcast.id
    sql, values = await _matching(broadcast, state, q)
    found = await db.rows(
        "SELECT o.id, o.member_id, o.channel, o.kind, o.value, o.state, o.reason, "
        f"o.detail, o.changed_at, m.name, g.name AS organisation {sql} AND o.id > ? "
        f"ORDER BY o.id LIMIT {int(limit)} OFFSET {int(offset)}",
        *values,
        after,
    )
    spans = await _under_way(id)
    said = await _answers_of(id, [row["member_id"] for row in found])
    came = await _attended(id, [row["member_id"] for row in found])
    return [
        Recipient(
            id=row["id"],
            member_id=row["member_id"],
            name=row["name"] or "",
            organisation=row["organisation"] or "",
            channel=row["channel"],
            kind=row["kind"],
            to=mask(Address(AddressKind(row["kind"]), row["value"])),
            state=_state_now(row, spans),
            reason=row["reason"],
            detail=row["detail"],
            changed_at=from_micros(row["changed_at"]),
            answer=said.get(row["member_id"], ""),
            attended=row["member_id"] in came,
        )
        for row in found
    ]


def _state_now(row: db.Row, spans: Sequence[tuple[int, int]]) -> str:
    has_left = any(first <= row["id"] <= last for first, last in spans)
    return _SENDING if has_left and row["state"] == _PLANNED else str(row["state"])


async def _answers_of(id: int, members: Iterable[int | None]) -> Mapping[int, str]:
    """By member: a message that changed its channel keeps its answer."""
    wanted = [member for member in members if member is not None]
    found = await db.rows(
        "SELECT member_id, answer FROM prompts WHERE broadcast_id = ? AND prompt = "
        f"'rsvp' AND member_id IN ({db.marks(len(wanted)) or 'NULL'})",
        id,
        *wanted,
    )
    return {row["member_id"]: row["answer"] for row in found}


async def _attended(id: int, members: Iterable[int | None]) -> set[int]:
    wanted = [member for member in members if member is not None]
    found: Any = await Attendance.filter(
        broadcast_id=id, member_id__in=wanted
    ).values_list("member_id", flat=True)
    return set(found)


def attendance_open(broadcast: Broadcast, now: datetime) -> bool:
    """Who came can be noted from the beginning of the activity on; without its time,
    once everybody was told of it."""
    if broadcast.kind != "notice" or broadcast.started_at is None:
        return False
    if broadcast.event_at is None:
        return bool(broadcast.state in (_B.FINISHED, _B.CANCELLED))
    return bool(broadcast.event_at <= now)


async def record_attendance(
    core: Core, actor: Actor, id: int, shown: Sequence[int], attended: Sequence[int]
) -> int:
    """Of the recipients `shown` (row ids) exactly `attended` took part; how many."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    _refuse_early(core, broadcast)
    rows = [r for r in await _members_of(id, shown) if r["member_id"] is not None]
    came = {row["member_id"] for row in rows if row["id"] in set(attended)}
    stayed = {row["member_id"] for row in rows} - came
    async with db.transaction():
        await Attendance.filter(broadcast_id=id, member_id__in=list(stayed)).delete()
        await _note(core, actor, id, sorted(came))
    core.hub.publish("broadcast", id)
    return len(came)


async def record_all_who_said_yes(core: Core, actor: Actor, id: int) -> int:
    """Note everybody who said yes as present, beside those noted before."""
    actor.require(Action.BROADCAST)
    broadcast = await find(actor, id)
    _refuse_early(core, broadcast)
    found = await db.rows(
        "SELECT DISTINCT member_id FROM prompts WHERE broadcast_id = ? "
        "AND prompt = 'rsvp' AND answer = 'yes' AND member_id IS NOT NULL",
        id,
    )
    async with db.transaction():
        await _note(core, actor, id, [row["member_id"] for row in found])
    await announce(core, broadcast)
    return len(found)


def _refuse_early(core: Core, broadcast: Broadcast) -> None:
    if not attendance_open(broadcast, core.clock.now()):
        raise RequestError("too_early", "活动开始以后才能登记到场", status=409)


async def _members_of(id: int, ids: Sequence[int]) -> list[dict[str, Any]]:
    ids = list(ids)[:2000]
    return await db.rows(
        "SELECT id, member_id FROM outbox WHERE broadcast_id = ? "
        f"AND id IN ({db.marks(len(ids)) or 'NULL'})",
        id,
        *ids,
    )


async def _note(core: Core, actor: Actor, id: int, members: Sequence[int]) -> None:
    at = to_micros(core.clock.now())
    await db.execute_many(
        "INSERT INTO attendance (broadcast_id, member_id, at, staff_id) "
        "VALUES (?, ?, ?, ?) ON CONFLICT (broadcast_id, member_id) DO NOTHING",
        [(id, member, at, actor.staff_id) for member in members],
    )
    await audit.record(
        core.clock,
        actor,
        "broadcast.attendance",
        f"broadcast:{id}",
        members=len(members),
    )


_HEADINGS = ("姓名", "组织", "渠道", "地址", "状态", "原因", "回复", "到场", "更新时间")


_SHEET = "名单"
_SHEET_ROWS = 1_000_000  # a workbook takes 1,048,576 in one sheet


async def export(
    core: Core, actor: Actor, id: int, file: Path, *, state: str = "", q: str = ""
) -> None:
    """Write the recipients into `file`, a workbook (xlsx): all, or as in `recipients`.
    What was typed is never a formula. Its memory doesn't grow with their number."""
    actor.require(Action.READ)
    broadcast = await find(actor, id)
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
    }
    with xlsxwriter.Workbook(file, options) as book:
        after = line = 0
        sheet = None
        while chunk := await _recipients(broadcast, state, q, after, 0, 500):
            for one in chunk:
                if sheet is None or line == _SHEET_ROWS:
                    sheet, line = _sheet(book), 0
                line += 1
                sheet.write_row(line, 0, _cells(core, broadcast, one))
            after = chunk[-1].id
            await asyncio.sleep(0)
        if sheet is None:
            _sheet(book)


def _sheet(book: Any) -> Any:
    number = len(book.worksheets())
    sheet = book.add_worksheet(f"{_SHEET}{number + 1}" if number else _SHEET)
    sheet.set_column(0, len(_HEADINGS) - 1, 16)
    sheet.freeze_panes(1, 0)
    sheet.write_row(0, 0, _HEADINGS, book.add_format({"bold": True}))
    return sheet


def _cells(core: Core, broadcast: Broadcast, one: Recipient) -> list[str]:
    channel = core.channels.get(one.channel)
    return [
        one.name,
        one.organisation,
        channel.label if channel else one.channel,
        one.to,
        BUCKET_LABELS[count_as(OutboundState(one.state))],
        reason_of(core, one),
        ANSWERS.get(one.answer, one.answer) if broadcast.rsvp else "",
        "是" if one.attended else "",
        one.changed_at.astimezone(core.settings.centre.timezone).strftime(
            "%Y-%m-%d %H:%M"
        ),
    ]
