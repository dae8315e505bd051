"""An audience as it is at one instant, chosen and put in order, and what it tells.

It lies beside the database: a file on SQLite, where neither building nor reading it
makes the one writer wait, a table of its own on PostgreSQL. Everybody meant is in it,
first those whom nothing reaches, then channel by channel in the order of addresses:
written so, the unique index of the outbox grows at its end only.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broadcasts.audience import Listed, Subscribers
from broadcasts.plan import COLUMNS, Plan, Sql, chosen, json_ids, listed
from gateway import database as db
from gateway.addresses import mask
from gateway.contract import Address, AddressKind
from gateway.database import Row, is_postgres
from gateway.sqlite import Base, Inside, Line, Sqlite

SHOWN = 200  # people named for each reason why they are left out
_PEOPLE = (
    "n {number} PRIMARY KEY, person BIGINT, member_id BIGINT, name TEXT, "
    "organisation TEXT, kind TEXT, value TEXT, channel TEXT"
)
_BAD = "n {number} PRIMARY KEY, code TEXT, detail TEXT"
_PRAGMAS = {"cache_size": -48 * 1024}  # KiB


@dataclass(frozen=True, slots=True)
class LeftOut:
    """People of the audience whom nothing reaches: how many, and the first of them."""

    reason: str  # no_address, unverified, no_channel, unknown_address
    count: int
    members: tuple[int, ...] = ()
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Recipients of one kind of address on one channel."""

    kind: AddressKind
    channel: str
    people: int
    opted_out: int


@dataclass(frozen=True, slots=True)
class Run:
    """The rows `first` to `last` of a stage: all recipients of one channel."""

    channel: str
    first: int
    last: int

    @property
    def people(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Stage:
    """`people` and `bad` name its tables, in statements of `db` too while `joined`.

    `bad` is filled by who checks: rows to whom the text can't be said, and why.
    """

    plan: Plan
    people: str
    bad: str
    file: Path | None
    line: Line | None
    runs: list[Run] = field(default_factory=list)  # in the order of their rows

    @property
    def reached(self) -> int:
        """How many people something reaches."""
        return sum(run.people for run in self.runs)

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        if self.line is None:
            return await db.rows(sql, *values)

        def read(base: Base) -> list[Row]:
            cursor = base.execute(sql, values)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        return await self.line.call(read)

    async def run(self, sql: str, *values: Any) -> None:
        if self.line is None:
            await db.execute(sql, *values)
        else:
            await self.line.call(lambda base: base.execute(sql, values).close())


@asynccontextmanager
async def staged(plan: Plan, name: str = "") -> AsyncIterator[Stage]:
    """Everybody whom `plan` means, as of now. With `name`, which nobody else uses at
    the time, other connections can read it too (`joined`). Gone at the end."""
    opened = _on_postgres(plan, name) if is_postgres() else _on_sqlite(plan, name)
    async with opened as stage:
        yield stage


@asynccontextmanager
async def _on_sqlite(plan: Plan, name: str) -> AsyncIterator[Stage]:
    alias = name or "stage"
    file = _file(name) if name else None
    await discard(name)
    line = Line(str(_database()), _PRAGMAS, 5)
    await line.open()
    stage = Stage(plan, f"{alias}.people", f"{alias}.bad", file, line)
    try:
        if file is not None:  # it holds addresses
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        await stage.run(f"ATTACH DATABASE ? AS {alias}", str(file or ""))
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            await stage.run(f"PRAGMA {alias}.{pragma}")
        await _fill(stage, "INTEGER", "")
        yield stage
    finally:
        line.interrupt()
        await line.close()
        await discard(name)


def _database() -> Path:
    current = db.connection()
    assert isinstance(current, Sqlite | Inside)
    return Path(current.filename)


def _file(name: str) -> Path:
    path = _database()
    return path.with_name(f"{path.name}.{name}")


@asynccontextmanager
async def _on_postgres(plan: Plan, name: str) -> AsyncIterator[Stage]:
    alias = name or "stage"
    stage = Stage(plan, f"{alias}_people", f"{alias}_bad", None, None)
    if not name:
        async with db.transaction():
            await _fill(stage, "BIGINT", "TEMP")
            yield stage
            await _drop(stage)
        return
    await discard(name)
    try:
        # A stage need not survive a crash: who finds one makes it anew.
        await _fill(stage, "BIGINT", "UNLOGGED")
        yield stage
    finally:
        await discard(name)


async def _drop(stage: Stage) -> None:
    for table in (stage.people, stage.bad):
        await db.execute(f"DROP TABLE IF EXISTS {table}")


async def discard(name: str) -> None:
    """What a process that died has left of the stage `name`."""
    if not name:
        return
    if is_postgres():
        for table in (f"{name}_people", f"{name}_bad"):
            await db.execute(f"DROP TABLE IF EXISTS {table}")
    else:
        with suppress(FileNotFoundError):
            _file(name).unlink()


async def _fill(stage: Stage, number: str, sort: str) -> None:
    people = _PEOPLE.format(number=number)
    await stage.run(f"CREATE {sort} TABLE {stage.people} ({people})")
    bad = _BAD.format(number=number)
    await stage.run(f"CREATE {sort} TABLE {stage.bad} ({bad})")
    columns = f"n, {COLUMNS}" if stage.line is None else COLUMNS
    sql = Sql(f"INSERT INTO {stage.people} ({columns}) ") + chosen(stage.plan)
    await stage.run(sql.text, *sql.values)
    if stage.line is None:
        await stage.run(f"ANALYZE {stage.people}")
    found = await stage.rows(
        f"SELECT channel, MIN(n) AS first, MAX(n) AS last FROM {stage.people} "
        "WHERE channel IS NOT NULL GROUP BY channel ORDER BY 2"
    )
    stage.runs.extend(Run(r["channel"], int(r["first"]), int(r["last"])) for r in found)


@asynccontextmanager
async def joined(stage: Stage) -> AsyncIterator[None]:
    """While open, statements of `db` can name the tables of a stage with a name."""
    if stage.file is None:
        yield
        return
    alias = stage.people.partition(".")[0]
    await db.execute(f"ATTACH DATABASE ? AS {alias}", str(stage.file))
    try:
        yield
    finally:
        await db.execute(f"DETACH DATABASE {alias}")


async def groups(stage: Stage) -> list[Group]:
    """How many recipients on each channel, and how many of them have opted out."""
    found = await stage.rows(
        "SELECT kind, channel, COUNT(*) AS n, SUM(CASE WHEN (kind, value) IN (SELECT "
        "x.kind, x.value FROM opt_outs x WHERE x.ended_at IS NULL) OR member_id IN ("
        "SELECT x.member_id FROM opt_outs x WHERE x.ended_at IS NULL "
        "AND x.member_id IS NOT NULL) THEN 1 ELSE 0 END) AS refused "
        f"FROM {stage.people} WHERE channel IS NOT NULL "
        "GROUP BY kind, channel ORDER BY n DESC, channel"
    )
    return [
        Group(AddressKind(r["kind"]), r["channel"], int(r["n"]), int(r["refused"]))
        for r in found
    ]


async def erased(stage: Stage) -> list[tuple[str, str]]:
    """Kinds and values of those who were chosen and have been erased since."""
    found = await stage.rows(
        f"SELECT kind, value FROM {stage.people} WHERE channel IS NOT NULL "
        "AND member_id IN (SELECT e.member_id FROM erasures e)"
    )
    return [(row["kind"], row["value"]) for row in found]


async def samples(stage: Stage, each: int = 3) -> list[Row]:
    """The first recipients of every kind and channel, as rows of the stage."""
    found: list[Row] = []
    for way in stage.plan.ways:
        found += await stage.rows(
            f"SELECT * FROM {stage.people} WHERE channel = ? AND kind = ? "
            f"ORDER BY n LIMIT {int(each)}",
            way.channel,
            way.kind.value,
        )
    return found


async def left_out(stage: Stage) -> list[LeftOut]:
    """Whom the audience means and nothing reaches."""
    known = "SELECT 1 FROM addresses a WHERE a.member_id = s.member_id"
    reason = (
        f"CASE WHEN NOT EXISTS ({known}) THEN 'no_address' "
        f"WHEN NOT EXISTS ({known} AND a.verified_at IS NOT NULL) "
        "THEN 'unverified' ELSE 'no_channel' END"
    )
    if isinstance(stage.plan.audience, Subscribers):
        reason = "'no_channel'"
    rows = await stage.rows(
        f"WITH missed AS (SELECT s.person, s.member_id, {reason} AS reason "
        f"FROM {stage.people} s WHERE s.channel IS NULL), numbered AS ("
        "SELECT member_id, reason, COUNT(*) OVER (PARTITION BY reason) AS n, "
        "ROW_NUMBER() OVER (PARTITION BY reason ORDER BY person) AS k FROM missed) "
        f"SELECT member_id, reason, n FROM numbered WHERE k <= {SHOWN} "
        "ORDER BY reason, k"
    )
    counts: dict[str, int] = {}
    members: dict[str, list[int]] = {}
    for row in rows:
        counts[row["reason"]] = int(row["n"])
        shown = members.setdefault(row["reason"], [])
        if row["member_id"] is not None:
            shown.append(row["member_id"])
    found = [LeftOut(r, counts[r], tuple(members[r])) for r in sorted(counts)]
    return found + await _unknown(stage.plan)


async def _unknown(plan: Plan) -> list[LeftOut]:
    """Listed entries that are nobody's inside the scope; a stranger's number and
    another branch's answer alike."""
    if not isinstance(plan.audience, Listed):
        return []
    strangers = []
    if plan.audience.addresses:
        sql = (
            Sql("WITH ")
            + listed(plan.audience.addresses)
            + (
                " SELECT l.kind, l.value FROM listed l WHERE NOT EXISTS (SELECT 1 "
                "FROM addresses a JOIN members m ON m.id = a.member_id "
                "JOIN organisations o ON o.id = m.organisation_id "
                "WHERE a.kind = l.kind AND a.value = l.value "
                "AND a.verified_at IS NOT NULL AND o.path LIKE ?)"
            )
        )
        rows = await db.rows(sql.text, *sql.values, f"{plan.scope}%")
        strangers = [mask(Address(AddressKind(r["kind"]), r["value"])) for r in rows]
    ids = await _strange_ids(plan, plan.audience.ids)
    shown = [*strangers, *(f"编号{id}" for id in ids)]
    if not shown:
        return []
    return [LeftOut("unknown_address", len(shown), (), tuple(shown[:SHOWN]))]


async def _strange_ids(plan: Plan, ids: Sequence[int]) -> list[int]:
    if not ids:
        return []
    sql = Sql(
        "SELECT m.id FROM members m JOIN organisations o ON o.id = m.organisation_id "
        "WHERE o.path LIKE ? AND m.id IN (",
        (f"{plan.scope}%",),
    )
    sql = sql + json_ids(ids) + ")"
    known = {row["id"] for row in await db.rows(sql.text, *sql.values)}
    return [id for id in ids if id not in known]
