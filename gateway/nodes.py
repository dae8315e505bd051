"""The processes of the cluster, as their rows tell: who lives, with which roles, how
its parts are, and which leases are whose."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway import VERSION
from gateway import database as db
from gateway.clock import Clock
from gateway.database import from_micros, to_micros
from gateway.leases import DATABASE_NOW, LASTS, Ask
from gateway.roles import Role, named
from gateway.space import Storage, storage_of
from gateway.tenure import Peer

LATE = timedelta(seconds=11)  # two heartbeats of a process didn't come
ALIVE = timedelta(seconds=20)  # a process that was seen so recently
GONE = timedelta(hours=1)  # so long an ended process is still shown
LOOPS = timedelta(minutes=5)  # F-7: ends on its own account within so long
_HOST = 60  # characters of a host's name


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One process. `parts` maps a part's name to what its process last said of it."""

    id: int
    name: str
    roles: tuple[str, ...]
    version: str
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None
    alive: bool
    late: bool = False  # of one that is alive: it may not be for long
    ended: str = ""  # the part that kept dying and ended it
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """`node` is the name of its owner, empty while nobody has it."""

    name: str
    node: str
    epoch: int
    since: datetime | None


def own_name() -> str:
    """Host and process number."""
    return f"{socket.gethostname()[:_HOST]}:{os.getpid()}"


async def now(ask: Ask, clock: Clock) -> datetime:
    """The database's clock where several machines share it, else ours."""
    if not db.is_postgres():
        return clock.now()
    return from_micros((await ask(f"SELECT {DATABASE_NOW} AS now"))[0]["now"])


async def begin(ask: Ask, roles: frozenset[Role], at: datetime) -> int:
    """The id of the row that stands for this process."""
    found = await ask(
        "INSERT INTO nodes (name, roles, version, started_at, seen_at) "
        "VALUES (?, ?, ?, ?, ?) RETURNING id",
        own_name(),
        named(roles),
        VERSION,
        to_micros(at),
        to_micros(at),
    )
    return int(found[0]["id"])


async def seen(ask: Ask, node_id: int, at: datetime, report: Mapping[str, Any]) -> None:
    await ask(
        "UPDATE nodes SET seen_at = ?, report = ? WHERE id = ? RETURNING id",
        to_micros(at),
        json.dumps(report),
        node_id,
    )


async def end(ask: Ask, node_id: int, at: datetime, ended: str) -> None:
    """`ended` names the part for which the process gave up; empty: an ordinary stop."""
    await ask(
        "UPDATE nodes SET stopped_at = ?, report = ? WHERE id = ? RETURNING id",
        to_micros(at),
        json.dumps({"ended": ended}),
        node_id,
    )


async def crashes(ask: Ask, roles: frozenset[Role], at: datetime) -> int:
    """How often processes of this host and these roles gave up a moment ago."""
    host = own_name().rpartition(":")[0]
    found = await ask(
        "SELECT name, report FROM nodes WHERE roles = ? AND stopped_at >= ?",
        named(roles),
        to_micros(at - LOOPS),
    )
    ours = [row for row in found if row["name"].rpartition(":")[0] == host]
    return sum(bool(_report(row["report"]).get("ended")) for row in ours)


async def peers(ask: Ask, role: Role, at: datetime) -> list[Peer]:
    """The processes with this role that live for certain: one whose leases have run
    out since is none any more, or others would leave their work to the dead."""
    found = await ask(
        "SELECT id, roles, report FROM nodes WHERE stopped_at IS NULL AND seen_at >= ?",
        to_micros(at - LASTS),
    )
    return [
        Peer(row["id"], frozenset(_report(row["report"]).get("takes", ())))
        for row in found
        if role in row["roles"].split(",")
    ]


async def every(ask: Ask, at: datetime) -> list[NodeView]:
    """Those that live, and those that ended a short while ago; the newest first."""
    found = await ask(
        "SELECT * FROM nodes WHERE seen_at >= ? ORDER BY id DESC LIMIT 100",
        to_micros(at - GONE),
    )
    return [_node(row, at) for row in found]


def _node(row: Mapping[str, Any], at: datetime) -> NodeView:
    report = _report(row["report"])
    stopped = row["stopped_at"]
    seen_at = from_micros(row["seen_at"])
    return NodeView(
        id=row["id"],
        name=row["name"] or str(row["id"]),
        roles=tuple(one for one in row["roles"].split(",") if one),
        version=row["version"],
        started_at=from_micros(row["started_at"]),
        seen_at=seen_at,
        stopped_at=None if stopped is None else from_micros(stopped),
        alive=stopped is None and at - seen_at <= ALIVE,
        late=at - seen_at > LATE,
        ended=str(report.get("ended", "")),
        parts=report.get("parts", {}),
        storage=storage_of(report.get("storage", {})),
    )


def _report(text: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text) if text else {}
    return found


async def unowned(ask: Ask, at: datetime) -> frozenset[str]:
    """The leases that no living process has."""
    found = await ask(
        "SELECT l.name FROM leases l LEFT JOIN nodes n ON n.id = l.node_id "
        "AND n.stopped_at IS NULL AND n.seen_at >= ? WHERE n.id IS NULL",
        to_micros(at - ALIVE),
    )
    return frozenset(row["name"] for row in found)


async def leases(ask: Ask, nodes: Sequence[NodeView]) -> list[LeaseView]:
    names = {node.id: node.name for node in nodes if node.alive}
    found = await ask("SELECT name, node_id, epoch, taken_at FROM leases ORDER BY name")
    return [
        LeaseView(
            name=row["name"],
            node=names.get(row["node_id"], ""),
            epoch=row["epoch"],
            since=from_micros(row["taken_at"]) if row["node_id"] in names else None,
        )
        for row in found
    ]
