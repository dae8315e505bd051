"""A broadcast to 2,500,000 members: audience chosen, texts checked, recipients written.

From the start to the moment at which the first may leave: on SQLite with
synchronous=FULL, every text checked, three of them bad and excluded. The limit is one
bare INSERT … SELECT of the same rows from the same tables into a table with the same
columns and no index, with neither choice of address, check, order nor chunks. With
DATABASE_URL set, on that empty PostgreSQL database instead.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import folder
from broadcasts import notices, planning
from broadcasts.planning import Terms
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import keys, texts
from gateway.channels import Channel, ChannelSet, channel
from gateway.clock import SystemClock
from gateway.contract import Adapter, AddressKind, Capabilities, TextEncoding
from gateway.core import Core
from gateway.outbox import moves
from gateway.settings import ChannelCommon, Settings, Storage
from gateway.sla import Calendar

TARGET = Target(ratio_at_least=0.5, notes_at_most={"memory MiB": 400})
PEOPLE = 2_500_000
_ORGANISATIONS = 2_000
_TEXT = "{{姓名}}同志，本周五下午三点在二楼开会，请带好学习笔记。拒收请回复R"
_COLUMNS = (
    "message_kind, priority, broadcast_id, member_id, channel, kind, value, "
    "content_id, variables, extras, state, reason, detail, due_at, expires_at, "
    "attempts, throttled, provider_id, created_at, changed_at"
)


@dataclass(frozen=True, slots=True)
class _Mute:
    """Nothing is sent here."""

    capabilities: Capabilities


def measure(scale: float) -> Measurement:
    people = max(1_000, int(PEOPLE * scale))
    with folder() as place:
        url = os.environ.get("DATABASE_URL") or f"sqlite://{place / 'plan.sqlite3'}"
        return asyncio.run(_measured(url, place, people))


async def _measured(url: str, place: Path, people: int) -> Measurement:
    async with db.opened(url):
        await _county(people)
        core = _core(place)
        broadcast = await _approved(people)
        _forget_peak()  # making up the county is no part of the product
        waits = _Waits()
        watch = asyncio.create_task(waits.measure())
        started = time.monotonic()
        await _plan(core, broadcast, people)
        seconds = time.monotonic() - started
        watch.cancel()
        memory = _peak_mib()
        counts = await moves.counts(broadcast.id)
        assert counts == {"planned": people - 3, "suppressed": 3}, counts
        limit = people / await _bare("members", people)
        copied = people / await _bare("outbox", people)
    return Measurement(
        figure=people / seconds,
        unit="recipients/s",
        limit=limit,
        limit_is="bare INSERT … SELECT, no index",
        notes={
            "memory MiB": memory,
            "longest wait of another writer ms": waits.longest * 1000,
            "copy of the ready rows/s": copied,
            "seconds": seconds,
        },
    )


def _core(place: Path) -> Core:
    return Core(
        settings=Settings(storage=Storage(data_dir=place)),
        clock=SystemClock(),
        keys=keys.load(place),
        channels=ChannelSet([_channel("sms", AddressKind.PHONE, 500)]),
        texts=texts.load(),
        calendar=Calendar(),
    )


def _channel(name: str, kind: AddressKind, longest: int) -> Channel:
    limits = Capabilities(
        address_kinds=frozenset({kind}),
        encoding=TextEncoding.UCS2,
        max_length=longest,
        segments=(70, 67),
    )
    mute = cast(Adapter, _Mute(limits))
    common = ChannelCommon(adapter="mute", signature="【清禾党员服务】")
    return channel(name, mute, common)


async def _county(people: int) -> None:
    """Members in 2,000 branches, each with a mobile number in no order, every tenth
    with a mail address too. One has no name, one an odd character in it, one a name of
    70,000 characters."""
    await db.execute(
        "INSERT INTO organisations (id, code, name, kind, path, contact, phone) "
        "VALUES (1, '08', '清禾省', 'county', '/1/', '', '')"
    )
    branch = (
        "SELECT i, '08' || i, '第' || i || '党支部', 'branch', 1, "
        "'/1/' || i || '/', '', ''"
    )
    await _numbered(
        2,
        _ORGANISATIONS + 1,
        "INSERT INTO organisations (id, code, name, kind, parent_id, path, contact, "
        f"phone) {branch}",
    )
    zero = "FALSE" if db.is_postgres() else "0"
    await _numbered(
        1,
        people,
        "INSERT INTO members (id, name, joined_on, mobile_member, preferred_kind, "
        "note, created_at, organisation_id) SELECT i, '张王李赵' || (i % 97), '1990', "
        f"{zero}, '', '', 0, 2 + i % {_ORGANISATIONS}",
    )
    # A prime walks through all numbers before one comes again.
    await _numbered(
        1,
        people,
        "INSERT INTO addresses (kind, value, verified_at, verified_how, display_name, "
        "created_at, member_id) SELECT 'phone', '+861' || CAST(3000000000 + "
        "(CAST(i AS BIGINT) * 7368787) % 1000000007 AS TEXT), 1, 'import', '', 0, i",
    )
    await db.execute(
        "INSERT INTO addresses (kind, value, verified_at, verified_how, display_name, "
        "created_at, member_id) SELECT 'email', 'm' || id || '@example.org', 1, "
        "'import', '', 0, id FROM members WHERE id % 10 = 0"
    )
    odd = ("", "藏\u202e字", "长" * 70_000)
    if db.is_postgres():
        await db.execute("ALTER TABLE members ALTER name TYPE TEXT")
        await db.execute("ANALYZE")
    for number, name in enumerate(odd, start=people // 2):
        await db.execute("UPDATE members SET name = ? WHERE id = ?", name, number)


async def _numbered(first: int, last: int, statement: str) -> None:
    """`statement` with `i` from `first` to `last`."""
    if db.is_postgres():
        source = f"FROM generate_series({first}, {last}) AS n(i)"
        await db.execute(f"{statement} {source}")
        return
    await db.execute(
        statement.replace(
            "SELECT",
            f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n "
            f"WHERE i < {last}) SELECT",
            1,
        )
        + " FROM n"
    )


async def _approved(people: int) -> Broadcast:
    now = datetime.now(UTC)
    return await Broadcast.create(
        kind="notice",
        title="主题党日",
        organisation_id=1,
        state="planning",
        texts={"sms": _TEXT},
        audience={"type": "organisation", "code": "08"},
        created_by="",
        approved_people=people,
        exclude_bad=True,
        plan_node=0,
        plan_token=1,
        created_at=now,
        changed_at=now,
    )


async def _plan(core: Core, broadcast: Broadcast, people: int) -> None:
    terms = Terms(
        expires_at=datetime.now(UTC) + timedelta(days=1),
        exclude_bad=True,
        approved_people=people,
    )
    planned = await notices.plan_of(core, broadcast)
    await planning.plan(core, broadcast, planned, terms)


async def _bare(source: str, people: int) -> float:
    """Seconds of one statement: from the members and addresses, or from rows that are
    ready."""
    await db.execute("DROP TABLE IF EXISTS bare")
    key = "BIGSERIAL" if db.is_postgres() else "INTEGER"
    names = [name.strip() for name in _COLUMNS.split(",")]
    columns = ", ".join(f"{name} {_type(name)}" for name in names)
    await db.execute(f"CREATE TABLE bare (id {key} PRIMARY KEY, {columns})")
    build = "json_build_object" if db.is_postgres() else "json_object"
    # The order of joins that is the fastest: members as they lie, then the address.
    join = "JOIN" if db.is_postgres() else "CROSS JOIN"
    ready = f"SELECT {_COLUMNS} FROM outbox"
    chosen = (
        "SELECT 'notice', 10, 1, m.id, 'sms', a.kind, a.value, 1, "
        f"CAST({build}('name', m.name, 'title', '主题党日') AS TEXT), '{{}}', "
        "'planned', '', '', 1790000000000000, 1790000000000000, 0, 0, '', "
        f"1790000000000000, 1790000000000000 FROM members m {join} organisations o "
        f"ON o.id = m.organisation_id {join} addresses a ON a.member_id = m.id "
        "AND a.kind = 'phone' AND a.verified_at IS NOT NULL WHERE o.path LIKE '/1/%'"
    )
    started = time.monotonic()
    select = ready if source == "outbox" else chosen
    number = await db.execute(f"INSERT INTO bare ({_COLUMNS}) {select}")
    seconds = time.monotonic() - started
    assert number == people, number
    return seconds


def _type(name: str) -> str:
    numbers = ("priority", "attempts", "throttled")
    is_number = name.endswith(("_id", "_at")) and name != "provider_id"
    return "BIGINT" if is_number or name in numbers else "TEXT"


class _Waits:
    """How long somebody else's small transaction takes meanwhile."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def measure(self) -> None:
        number = 0
        while True:
            number += 1
            started = time.monotonic()
            await db.execute(
                "INSERT INTO counters (name, value) VALUES (?, ?)",
                f"bench{number}",
                number,
            )
            self.longest = max(self.longest, time.monotonic() - started)
            await asyncio.sleep(0.25)  # each costs an fsync that the limit has not


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
