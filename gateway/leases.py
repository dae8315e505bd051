"""Leases: what only one process may do (an account, the schedule), and its fence.

The database's clock decides when a lease ends, so that machines need not agree on the
time. Its holder counts from before it asked, on its own monotonic clock and with a
margin: it lets go before anybody else is given the lease. Whoever was stopped in
between is refused by `fence`: every change of owner raises the epoch.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from gateway import database as db
from gateway.database import MICROSECOND, Row, to_micros
from gateway.errors import GatewayError

LASTS = timedelta(seconds=8)  # unrenewed, by the database's clock
MARGIN = timedelta(seconds=2)  # the holder lets go so much earlier
# A fenced transaction whose process stands still is ended by PostgreSQL after so
# many milliseconds: its row lock would keep a new owner out.
_IDLE_MILLISECONDS = 5000
DATABASE_NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
_MICROSECONDS = LASTS // MICROSECOND
_LASTS_STILL = (
    f"(until BETWEEN {DATABASE_NOW} AND {DATABASE_NOW} + {2 * _MICROSECONDS})"
)


@dataclass(frozen=True, slots=True)
class Lease:
    """What was taken, and under which epoch."""

    name: str  # channel:NAME, scheduler
    epoch: int


class LeaseLost(GatewayError):
    """Somebody else owns it now, or it was given back: nothing may be written."""

    def __init__(self, lease: Lease) -> None:
        super().__init__("lease_lost", f"{lease.name}, epoch {lease.epoch}")


class Ask(Protocol):
    """Runs one statement, as `gateway.database.rows` does."""

    def __call__(self, sql: str, /, *values: object) -> Awaitable[list[Row]]: ...


async def fence(lease: Lease) -> None:
    """Inside a transaction: no new owner comes in before it ends.

    Raises LeaseLost where there is a newer epoch. The lock leaves renewals alone.
    """
    shown, lock = "name", ""
    if db.is_postgres():
        limit = f"'idle_in_transaction_session_timeout', '{_IDLE_MILLISECONDS}'"
        shown, lock = f"set_config({limit}, true) AS idle", " FOR KEY SHARE"
    sql = f"SELECT {shown} FROM leases WHERE name = ? AND epoch = ?{lock}"
    if not await db.rows(sql, lease.name, lease.epoch):
        raise LeaseLost(lease)


async def register(ask: Ask, names: Sequence[str]) -> None:
    """Make the rows that leases are taken of; those that are there stay."""
    for name in names:
        await ask(
            "INSERT INTO leases (name, epoch) VALUES (?, 0) "
            "ON CONFLICT (name) DO NOTHING RETURNING name",
            name,
        )


async def take(ask: Ask, name: str, node_id: int, now: datetime) -> Lease | None:
    """The lease under a new epoch; None while another process has it.

    Whoever has it may take it anew. On SQLite nobody else is there. An end too far
    away is that of a clock that jumped.
    """
    sql = (
        "UPDATE leases SET node_id = ?, epoch = epoch + 1, taken_at = ?, until = NULL "
        "WHERE name = ? RETURNING epoch"
    )
    if db.is_postgres():
        sql = (
            "UPDATE leases SET node_id = ?, epoch = epoch + 1, taken_at = ?, "
            f"until = {DATABASE_NOW} + {_MICROSECONDS} "
            "WHERE name = (SELECT name FROM leases "
            "WHERE name = ? AND (node_id IS NULL OR until IS NULL "
            f"OR node_id = {int(node_id)} OR NOT {_LASTS_STILL}) "
            "FOR UPDATE SKIP LOCKED) RETURNING epoch"
        )
    found = await ask(sql, node_id, to_micros(now), name)
    return Lease(name, found[0]["epoch"]) if found else None


async def renew(ask: Ask, held: Sequence[Lease]) -> frozenset[Lease]:
    """Those of `held` that are still held; now they last as long as new ones."""
    if not held:
        return frozenset()
    values = [one for lease in held for one in (lease.name, lease.epoch)]
    either = " OR ".join(["(name = ? AND epoch = ?)"] * len(held))
    until = f"{DATABASE_NOW} + {_MICROSECONDS}" if db.is_postgres() else "NULL"
    found = await ask(
        f"UPDATE leases SET until = {until} WHERE {either} RETURNING name, epoch",
        *values,
    )
    return frozenset(Lease(row["name"], row["epoch"]) for row in found)


async def release(ask: Ask, lease: Lease) -> bool:
    """Give it back: the next may take it at once. False: it was lost already."""
    found = await ask(
        "UPDATE leases SET node_id = NULL, until = NULL, epoch = epoch + 1 "
        "WHERE name = ? AND epoch = ? RETURNING name",
        lease.name,
        lease.epoch,
    )
    return bool(found)


async def owners(ask: Ask) -> Mapping[str, int | None]:
    """Which process has which lease; None: nobody, or one that let it end."""
    lasts = _LASTS_STILL if db.is_postgres() else "1 = 1"
    found = await ask(
        f"SELECT name, CASE WHEN {lasts} THEN node_id END AS node_id "
        "FROM leases ORDER BY name"
    )
    return {row["name"]: row["node_id"] for row in found}
