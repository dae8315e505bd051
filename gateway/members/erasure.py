"""Erasing a member: who it was goes, and what was not handed over is cancelled.

All of it is one transaction, which passes the gate alone: what is journalled after it
finds the row in `erasures`. What stays is told in docs/why.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.addresses import ERASED
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.errors import RequestError
from gateway.inquiries import timeline
from gateway.members import consent, traces
from gateway.members.traces import Person
from gateway.outbox import gate, moves
from gateway.outbox.moves import Move
from gateway.phrases import phrase
from gateway.prompts import PromptKind
from gateway.tables import Erasure, InquiryEvent

REASON = gate.ERASED
LONGEST_REASON = 200
BLANK = "○○○"  # stands where a text named the person
_FORGOTTEN_AFTER = timedelta(hours=72)  # as long as a receipt is waited for
_AT_ONCE = 500  # rows of one statement; erasures looked at in one transaction
_OPEN = frozenset({"planned", "queued", "sending", "unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What an erasure reaches: messages that are cancelled, messages that have left
    and wait for their end, inquiries that lose their name."""

    waiting: int
    under_way: int
    inquiries: int


async def extent(actor: Actor, member_id: int) -> Extent:
    """What would be erased now. Raises NotFound outside the subtree."""
    actor.require(Action.ERASE)
    person = await traces.find(actor, member_id)
    found = await moves.locked(await traces.messages(person))
    left = await traces.left(list(found))
    return _extent(person, traces.waiting(found, left), traces.under_way(found, left))


def _extent(person: Person, waiting: Sequence[int], under_way: Sequence[int]) -> Extent:
    return Extent(
        waiting=len(waiting),
        under_way=len(under_way),
        inquiries=len(person.inquiries),
    )


async def erase(core: Core, actor: Actor, member_id: int, reason: str) -> Extent:
    """Erase a member for good; what that reached.

    From the commit on nothing is sent to it. Raises NotFound outside the subtree,
    RequestError for a reason that is missing or names the person.
    """
    actor.require(Action.ERASE)
    if actor.staff_id is None:
        raise RequestError("forbidden", "只有工作人员本人可以删除", status=403)
    async with db.transaction():
        await consent.hold_members(alone=True)
        await consent.hold_gate(alone=True)
        await _hold(member_id)
        person = await traces.find(actor, member_id)
        _check(reason, person)
        reached, broadcasts = await _erase(core, actor, person, reason.strip())
    path = person.member.organisation.path
    core.hub.publish("member", member_id, path)
    for id in broadcasts:
        core.hub.publish_calmly("broadcast", id)
    await timeline.announce(core, person.inquiries)
    return reached


async def _hold(member_id: int) -> None:
    """Nothing more refers to the member: an inquiry that is just being filed fails, and
    is filed anew, as a stranger's."""
    if db.is_postgres():
        await db.rows("SELECT id FROM members WHERE id = ? FOR UPDATE", member_id)


async def _erase(
    core: Core, actor: Actor, person: Person, reason: str
) -> tuple[Extent, set[int]]:
    id, now = person.member.id, core.clock.now()
    found = await moves.locked(await traces.messages(person))
    left = await traces.left(list(found))
    waiting, under_way = traces.waiting(found, left), traces.under_way(found, left)
    await moves.advance([Move(n, "cancelled", REASON) for n in waiting], now, found)
    await _make_theirs(id, list(found))
    await _unsay(under_way)
    await empty(sorted(found.keys() - set(under_way)))
    await Erasure.create(member_id=id, at=now, under_way=under_way)
    await _forget_questions(person, now)
    await _keep_refusals(person)
    await _forget_wishes(person)
    words = await traces.words_of_inquiries(person)
    await _forget_letters(person, words)
    await _strip_inquiries(actor, person, words, now)
    await _forget_member(id)
    reached = _extent(person, waiting, under_way)
    await audit.record(
        core.clock,
        actor,
        "member.erased",
        f"member:{id}",
        path=person.member.organisation.path,
        reason=reason,
        cancelled=reached.waiting,
        under_way=reached.under_way,
        inquiries=reached.inquiries,
    )
    return reached, {r["broadcast_id"] for r in found.values()} - {None}


def _check(reason: str, person: Person) -> None:
    fault = ""
    if not reason.strip() or len(reason.strip()) > LONGEST_REASON:
        fault = phrase("请写明理由，最多{n}个字", n=LONGEST_REASON)
    elif any(word in reason for word in traces.words(person)):
        fault = "理由会一直留在审计记录里，请不要写姓名和联系方式"
    if fault:
        raise RequestError("reason", fault, status=422, fields={"reason": fault})


async def _make_theirs(member_id: int, ids: Sequence[int]) -> None:
    """What was written before the address was known comes back to the gate when it is
    tried again: it must know it there."""
    await _change("UPDATE outbox SET member_id = ? WHERE id IN ({})", ids, member_id)


async def _change(sql: str, ids: Sequence[int], *values: Any) -> None:
    """Run a statement for all `ids`, which stand in its `{}`."""
    for first in range(0, len(ids), _AT_ONCE):
        part = ids[first : first + _AT_ONCE]
        await db.execute(sql.format(db.marks(len(part))), *values, *part)


async def _unsay(ids: Sequence[int]) -> None:
    await _change(
        "UPDATE outbox SET text = CASE WHEN text IS NULL THEN NULL ELSE '' END, "
        "variables = '{{}}', extras = '{{}}', detail = '' WHERE id IN ({})",
        ids,
    )


async def empty(ids: Sequence[int]) -> None:
    """Take from messages what they said and to whom; they count as before.

    No two recipients of a notice have one address: each gets a mark of its own.
    """
    await _unsay(ids)
    await _change(f"UPDATE outbox SET value = '{ERASED}' || id WHERE id IN ({{}})", ids)
    await _change(
        "UPDATE attempts SET value = '', detail = '' WHERE outbound_id IN ({})", ids
    )
    await _change(
        "UPDATE receipts SET payload = ?, kind = '', value = '' "
        "WHERE outbound_id IN ({})",
        ids,
        b"",
    )


async def shut_out(rows: Sequence[Row], now: datetime) -> None:
    """Empty messages of the erased that were written after the erasure; `rows` tell
    id, broadcast_id, kind and value. Inside the transaction that cancels them."""
    await empty([row["id"] for row in rows])
    for row in rows:
        await db.execute(
            f"UPDATE prompts SET value = '{ERASED}' || id, closed_at = ? "
            "WHERE kind = ? AND value = ? AND broadcast_id = ?",
            to_micros(now),
            row["kind"],
            row["value"],
            row["broadcast_id"],
        )


async def catch_up(
    broadcast_id: int, places: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Cancel recipients who were erased while a notice was written down, before any of
    it can leave; `places` are their kinds and values."""
    found: list[Row] = []
    for kind, value in places:
        found += await db.rows(
            "SELECT id, broadcast_id, kind, value FROM outbox WHERE broadcast_id = ? "
            "AND value = ? AND kind = ?",
            broadcast_id,
            value,
            kind,
        )
    await moves.advance([Move(row["id"], "cancelled", REASON) for row in found], now)
    await shut_out(found, now)


async def finish(core: Core) -> None:
    """Forget the addresses that were kept for what was under way, once it is settled
    or nothing is heard of it any more."""
    found = await db.rows(
        "SELECT member_id FROM erasures WHERE under_way <> '[]' ORDER BY member_id "
        f"LIMIT {_AT_ONCE}"
    )
    for row in found:
        async with db.transaction():
            await _finish(row["member_id"], core.clock.now())


async def _finish(member_id: int, now: datetime) -> None:
    erasure = await Erasure.get(member_id=member_id)
    found = await moves.locked(erasure.under_way)
    is_over = erasure.at <= now - _FORGOTTEN_AFTER
    open_ones = [id for id, row in found.items() if row["state"] in _OPEN]
    kept = [] if is_over else open_ones
    await empty(sorted(found.keys() - set(kept)))
    await Erasure.filter(member_id=member_id).update(under_way=kept)


async def _forget_questions(person: Person, now: datetime) -> None:
    """Of an invitation the answer stays, and is nobody's: it is counted."""
    given, values = person.given()
    theirs = (
        f"SELECT p.id FROM {given} AS g JOIN prompts p "
        f"ON p.kind = g.kind AND p.value = g.value WHERE {traces.MINE.format('p')}"
    )
    values.append(person.member.id)
    await db.execute(
        f"UPDATE prompts SET value = '{ERASED}' || id, "
        "closed_at = COALESCE(closed_at, ?) "
        f"WHERE prompt = '{PromptKind.RSVP}' AND id IN ({theirs})",
        to_micros(now),
        *values,
    )
    await db.execute(
        f"DELETE FROM prompts WHERE prompt <> '{PromptKind.RSVP}' AND id IN ({theirs})",
        *values,
    )
    await _change("DELETE FROM prompts WHERE inquiry_id IN ({})", person.inquiries)


async def _keep_refusals(person: Person) -> None:
    """A refusal in force stays at each address, on which it held until now; nothing
    says any more whose it was."""
    id = person.member.id
    given, values = person.given()
    theirs = (
        "SELECT id FROM opt_outs WHERE member_id = ? UNION SELECT o.id "
        f"FROM {given} AS g JOIN opt_outs o ON o.kind = g.kind AND o.value = g.value "
        "WHERE g.sure = 1"
    )
    found = await db.rows(
        f"SELECT id, how, at FROM opt_outs WHERE id IN ({theirs}) "
        "AND ended_at IS NULL ORDER BY at, id",
        id,
        *values,
    )
    if found:
        await db.execute(
            "INSERT INTO opt_outs (kind, value, how, evidence, at, ended_how) "
            "SELECT g.kind, g.value, CAST(? AS TEXT), '', CAST(? AS BIGINT), '' "
            f"FROM {given} AS g WHERE g.sure = 1 AND NOT EXISTS (SELECT 1 "
            "FROM opt_outs o WHERE o.kind = g.kind AND o.value = g.value "
            "AND o.ended_at IS NULL)",
            found[0]["how"],
            found[0]["at"],
            *values,
        )
    await db.execute(
        f"DELETE FROM opt_outs WHERE ended_at IS NOT NULL AND id IN ({theirs})",
        id,
        *values,
    )
    await _change(
        "UPDATE opt_outs SET member_id = NULL, evidence = '' WHERE id IN ({})",
        [row["id"] for row in found],
    )


async def _forget_wishes(person: Person) -> None:
    given, values = person.given()
    await db.execute(
        "DELETE FROM subscriptions WHERE member_id = ? OR id IN (SELECT s.id "
        f"FROM {given} AS g JOIN subscriptions s ON s.topic = 'daily' "
        "AND s.kind = g.kind AND s.value = g.value WHERE g.sure = 1 "
        "AND s.member_id IS NULL)",
        person.member.id,
        *values,
    )


async def _forget_letters(person: Person, words: Sequence[str]) -> None:
    """What came in and is dealt with. A matter's text belongs to its record; of
    commands and answers nothing does."""
    given, values = person.given()
    found = await db.rows(
        f"SELECT i.id, i.inquiry_id FROM {given} AS g JOIN inbound i "
        "ON i.kind = g.kind AND i.value = g.value "
        f"WHERE i.state NOT IN ('stored', 'review') AND {traces.MINE.format('i')} "
        "UNION SELECT id, inquiry_id FROM inbound WHERE inquiry_id IN "
        f"({db.marks(len(person.inquiries)) or 'NULL'})",
        *values,
        person.member.id,
        *person.inquiries,
    )
    ids = sorted(row["id"] for row in found)
    loose = sorted(row["id"] for row in found if row["inquiry_id"] is None)
    await _change(
        "UPDATE inbound SET member_id = NULL, value = '', display_name = '', "
        "reply_token = '', route_detail = '', payload = ? WHERE id IN ({})",
        ids,
        b"",
    )
    await _blank("inbound", "id", ("text", "subject", "quoted"), ids, words)
    await _change(
        "UPDATE inbound SET text = '', subject = '', quoted = '' WHERE id IN ({})",
        loose,
    )
    await _change("DELETE FROM attachments WHERE inbound_id IN ({})", loose)


async def _blank(
    table: str,
    key: str,
    columns: Sequence[str],
    ids: Sequence[int],
    words: Sequence[str],
) -> None:
    """Put a blank for each of `words` in these columns."""
    for word in words:
        changes = ", ".join(f"{name} = REPLACE({name}, ?, ?)" for name in columns)
        await _change(
            f"UPDATE {table} SET {changes} WHERE {key} IN ({{}})",
            ids,
            *[word, BLANK] * len(columns),
        )


async def _strip_inquiries(
    actor: Actor, person: Person, words: Sequence[str], now: datetime
) -> None:
    """The record of the matter stays, without its person."""
    ids = person.inquiries
    await _change(
        "UPDATE inquiries SET member_id = NULL, contact_name = '', kind = '', "
        "value = '', conversation_kind = '', conversation_value = '', changed_at = ? "
        "WHERE id IN ({})",
        ids,
        to_micros(now),
    )
    await _blank("inquiries", "id", ("text", "outcome"), ids, words)
    await _blank("inquiry_events", "inquiry_id", ("text", "data"), ids, words)
    await InquiryEvent.bulk_create(
        [
            InquiryEvent(
                inquiry_id=id,
                at=now,
                kind=REASON,
                actor=actor.name,
                staff_id=actor.staff_id,
            )
            for id in ids
        ]
    )


async def _forget_member(id: int) -> None:
    for table, column in (
        ("member_tags", "member_id"),
        ("addresses", "member_id"),
        ("members", "id"),
    ):
        await db.execute(f"DELETE FROM {table} WHERE {column} = ?", id)
