"""A province in the database: organisations, clerks, members, what was asked of them.

Written by statements, a table at a time; SQLite builds the indexes of `inquiries`
afterwards, because a million rows in no order cost several times as much otherwise.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import database as db
from gateway.clock import SystemClock
from gateway.database import to_micros

DAY = 86_400_000_000  # microseconds
COUNTIES, CENTRES, BRANCHES = 100, 1400, 14_000  # together, not each
FIRST_CENTRE, FIRST_BRANCH = 1002, 10_000
BEFORE = 10_000_000  # ids of members begin after it: a broadcast has its own
_SERIES = "WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < ?)"


def phone(member: int) -> str:
    return f"+86139{member:08d}"


async def fill(members: int) -> None:
    """Organisations `/1/`, counties, centres with three people each, branches, and so
    many members with a verified telephone."""
    await _organisations()
    await _staff()
    await db.execute(
        "INSERT INTO members (id, name, joined_on, mobile_member, preferred_kind, "
        f"note, created_at, organisation_id) {_SERIES} SELECT i + 1 + {BEFORE}, "
        f"'党员' || i, '', FALSE, '', '', 0, {FIRST_BRANCH} + (i + 1) % {BRANCHES} "
        "FROM s",
        members - 1,
    )
    await db.execute(
        "INSERT INTO addresses (kind, value, member_id, verified_at, verified_how, "
        "display_name, created_at) SELECT 'phone', "
        f"'+86139' || substr('0000000' || (id - {BEFORE}), -8), id, 1, 'import', '', 0 "
        f"FROM members WHERE id > {BEFORE}"
    )


async def _organisations() -> None:
    columns = "(id, code, name, kind, parent_id, path, contact, phone)"
    a, b = CENTRES // COUNTIES, BRANCHES // CENTRES
    insert = f"INSERT INTO organisations {columns}"
    await db.execute(
        f"{insert} VALUES (1, '0', '示范省', 'county', NULL, '/1/', '', '') "
        "ON CONFLICT DO NOTHING"
    )
    county = "2 + i"
    await db.execute(
        f"{insert} {_SERIES} SELECT {county}, 'q' || i, '第' || i || '县', 'county', "
        f"1, '/1/' || ({county}) || '/', '', '' FROM s",
        COUNTIES - 1,
    )
    centre = f"{FIRST_CENTRE} + i"
    await db.execute(
        f"{insert} {_SERIES} SELECT {centre}, 'z' || i, '第' || i || '镇党员服务中心', "
        f"'centre', 2 + i / {a}, '/1/' || (2 + i / {a}) || '/' || ({centre}) || '/', "
        "'', '' FROM s",
        CENTRES - 1,
    )
    branch, above = f"{FIRST_BRANCH} + i", f"{FIRST_CENTRE} + i / {b}"
    await db.execute(
        f"{insert} {_SERIES} SELECT {branch}, 'b' || i, '第' || i || '党支部', "
        f"'branch', {above}, '/1/' || (2 + i / {a * b}) || '/' || ({above}) || '/' || "
        f"({branch}) || '/', '', '' FROM s",
        BRANCHES - 1,
    )


async def _staff() -> None:
    await db.execute(
        "INSERT INTO staff (id, username, name, role, organisation_id, password_hash, "
        "must_change_password, active, language, email, failures, created_at) "
        f"{_SERIES} SELECT i + 1, 'u' || i, '王' || i, "
        "CASE i % 3 WHEN 2 THEN 'director' ELSE 'clerk' END, "
        f"{FIRST_CENTRE} + i / 3, '', FALSE, TRUE, 'zh', '', 0, 0 FROM s",
        CENTRES * 3 - 1,
    )


_TEXTS = """CASE i % 5
 WHEN 0 THEN '请问组织关系从外省转过来，介绍信在哪里开？需要带什么材料？'
 WHEN 1 THEN '党费今年怎么交？我现在在外地打工，能不能网上交？'
 WHEN 2 THEN '支部三会一课什么时候开？'
 WHEN 3 THEN '老党员住院，能不能申请慰问补助？'
 ELSE '建议在社区多组织一些学习活动，第' || i || '次反映' END"""
_MATTERS = """CASE i % 5 WHEN 0 THEN 'membership' WHEN 1 THEN 'dues'
 WHEN 2 THEN 'party_building' WHEN 3 THEN 'hardship' ELSE 'suggestions' END"""
_STATES = """CASE WHEN old THEN 'closed' WHEN x < 250 THEN 'new'
 WHEN x < 500 THEN 'open' WHEN x < 600 THEN 'waiting'
 WHEN x < 800 THEN 'answered' ELSE 'closed' END"""


async def inquiries(count: int, members: int) -> None:
    """So many inquiries of the last year, all members' and centres' in turn. Of the
    last twentieth four fifths are open in some state; the last fifth has its messages
    and timeline."""
    now = to_micros(SystemClock().now())
    centre = f"{FIRST_CENTRE} + (m % {BRANCHES}) / {BRANCHES // CENTRES}"
    async with _without_indexes("inquiries"):
        await db.execute(
            f"{_SERIES}, r AS (SELECT i, 1 + (i * 7919) % {members} AS m, "
            f"{now} - ({count} - i) * (365 * {DAY} / {count}) AS at, "
            f"(i * 104729) % 1000 AS x, i < {count} * 95 / 100 AS old FROM s) "
            "INSERT INTO inquiries (id, number, organisation_id, "
            "first_organisation_id, member_id, owner_id, source, channel, kind, value, "
            "conversation_kind, conversation_value, contact_name, text, matter, "
            "urgency, state, outcome, attention, reopened, received_at, deadline_at, "
            "deadline_provisional, closed_at, changed_at, last_inbound_at, worked_at) "
            "SELECT i + 1, (20250000 + i / 9000) || '-' || (10000 + i % 9000), "
            f"{centre}, {centre}, m + {BEFORE}, "
            f"1 + 3 * (({centre}) - {FIRST_CENTRE}) + i % 2, 'message', 'sms', "
            "'phone', '+86139' || substr('0000000' || m, -8), "
            f"'', '', '党员' || m, {_TEXTS}, {_MATTERS}, "
            f"CASE WHEN x < 30 THEN 'urgent' ELSE 'normal' END, {_STATES}, '', "
            "CASE WHEN x = 999 AND NOT old THEN 'director' ELSE '' END, 0, at, "
            f"(at / {DAY} + 10) * {DAY}, FALSE, "
            f"CASE WHEN old OR x >= 800 THEN at + 5 * {DAY} END, "
            f"at + (x % 5) * {DAY} / 5, at, "
            f"CASE WHEN x >= 250 THEN at + {DAY} / 6 END FROM r",
            count - 1,
        )
    await _timelines(count * 8 // 10)


@asynccontextmanager
async def _without_indexes(table: str) -> AsyncIterator[None]:
    found = await db.rows(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' "
        "AND tbl_name = ? AND sql IS NOT NULL",
        table,
    )
    for row in found:
        await db.execute(f'DROP INDEX "{row["name"]}"')
    yield
    for row in found:
        await db.execute(row["sql"])


async def _timelines(after: int) -> None:
    await db.execute(
        "INSERT INTO inbound (channel, key, kind, value, conversation_kind, "
        "conversation_value, text, subject, quoted, provider_id, answers_to, "
        "reply_token, display_name, automatic, notes, payload, received_at, state, "
        "route, route_detail, tries, inquiry_id, member_id) SELECT 'sms', 'old' || id, "
        "kind, value, '', '', text, '', '', '', '[]', '', '', FALSE, '[]', x'00', "
        "received_at, 'filed', 'new', '', 0, id, member_id FROM inquiries WHERE id > ?",
        after,
    )
    await db.execute(
        "INSERT INTO inquiry_events (at, kind, actor, inbound_id, text, data, "
        "inquiry_id) SELECT received_at, 'received', '', id, text, '{}', inquiry_id "
        "FROM inbound WHERE inquiry_id IS NOT NULL"
    )
    await db.execute(
        "INSERT INTO inquiry_events (at, kind, actor, staff_id, text, data, inquiry_id)"
        " SELECT worked_at, 'note', '王', owner_id, '已联系本人，正在核实', '{}', id "
        "FROM inquiries WHERE id > ? AND worked_at IS NOT NULL",
        after,
    )
