"""What the owner of a channel's account tells of it, once a second, for the pages of
all processes and for the shares: a row of `channel_reports`. And when the breaker
opens or closes: an event for staff."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from gateway import database as db
from gateway.contract import Connection, Streams
from gateway.core import Core
from gateway.database import to_micros
from gateway.outbox.sender import Sender
from gateway.supervisor import beat

log = structlog.get_logger()
SECONDS = 1.0
UNREACHABLE, REACHED = "unreachable", "reached"  # codes of the breaker's events
Report = Mapping[str, Any]


@dataclass(slots=True)
class _Known:
    """What was last written of one channel."""

    report: Report = field(default_factory=dict)
    is_open: bool = False


class Reports:
    """Writes only what changed. `owned` gives the senders at work in this process."""

    def __init__(self, core: Core, owned: Callable[[], Iterable[Sender]]) -> None:
        self._core = core
        self._owned = owned
        self._known: dict[str, _Known] = {}
        # The monotonic clock's zero as a wall clock's instant: it must not wander.
        since = timedelta(seconds=core.clock.monotonic())
        self._zero = core.clock.now() - since

    async def run(self) -> None:
        while True:
            await self.step()
            beat()
            await asyncio.sleep(SECONDS)

    async def step(self) -> None:
        senders = {one.channel.name: one for one in self._owned()}
        for gone in self._known.keys() - senders.keys():
            del self._known[gone]
        for name, sender in senders.items():
            if name not in self._known:
                self._known[name] = await self._before(sender)
            await self._tell(name, sender)

    async def _before(self, sender: Sender) -> _Known:
        """What is counted by the day goes on from the owner before."""
        found = (await reports()).get(sender.channel.name, {})
        sender.today.go_on(found)
        is_open = bool(found.get("open_since"))
        return _Known(report={}, is_open=is_open)

    async def _tell(self, name: str, sender: Sender) -> None:
        known = self._known[name]
        report = self._report(sender)
        is_open = bool(report["open_since"])
        self._core.metrics.breaker.labels(name).set(is_open)
        if report == known.report:
            return
        now = self._core.clock.now()
        turned = is_open != known.is_open
        write = partial(_write, name, self._core.node_id, report, now, turned)
        await self._core.commits.run(write)
        known.report, known.is_open = report, is_open
        self._core.hub.publish("channel", name)

    def _report(self, sender: Sender) -> Report:
        pace, breaker, seen = sender.pace, sender.breaker, sender.measure.seen()
        channel = sender.channel
        return {
            "connections": [_connection(one) for one in _connections(sender)],
            "listening": channel.listening,
            "trouble": channel.trouble,
            "in_flight": sender.in_flight,
            "window": channel.capabilities.window,
            "rate": round(seen.rate, 1),
            "allowed": _rounded(pace.rate),
            "ceiling": pace.most,
            "throttled": pace.is_throttled,
            "blocked_until": self._instant(pace.blocked_until),
            "last_throttle": self._instant(pace.throttled_at),
            "open_since": self._instant(breaker.opened_at),
            "probe_at": self._instant(breaker.probe_at),
            "probing": breaker.is_probing,
            "away": breaker.is_away,
            "answered": seen.answered,
            "answers": seen.answers,
            "median": round(seen.median, 3),
            "p95": round(seen.p95, 3),
            "slow": round(seen.slow, 3),
            "throttled_share": round(seen.throttled, 2),
            **sender.today.told(),
        }

    def _instant(self, seconds: float | None) -> int:
        """Microseconds since 1970; 0 where there is no such instant."""
        if seconds is None:
            return 0
        return to_micros(self._zero + timedelta(seconds=seconds))


def _rounded(rate: float) -> float:
    """So that a rate that creeps up isn't news every second."""
    return round(rate, 1) if rate < 100 else float(round(rate))


def _connections(sender: Sender) -> Sequence[Connection]:
    adapter = sender.channel.adapter
    return adapter.connections() if isinstance(adapter, Streams) else ()


def _connection(one: Connection) -> Mapping[str, Any]:
    return {
        "name": one.name,
        "state": str(one.state),
        "since": to_micros(one.since),
        "window": one.window,
        "awaited": one.awaited,
        "last_error": one.last_error[:200],
    }


async def _write(
    name: str, node_id: int, report: Report, now: datetime, turned: bool
) -> None:
    at = to_micros(now)
    await db.execute(
        "INSERT INTO channel_reports (channel, node_id, at, data, lost) "
        "VALUES (?, ?, ?, ?, 0) ON CONFLICT (channel) DO UPDATE SET "
        "node_id = excluded.node_id, at = excluded.at, data = excluded.data",
        name,
        node_id,
        at,
        json.dumps(report, ensure_ascii=False),
    )
    if turned:
        code = UNREACHABLE if report["open_since"] else REACHED
        log.warning("channel.breaker", channel=name, code=code)
        await db.execute(
            "INSERT INTO channel_events (channel, key, code, detail, at) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (channel, key) DO NOTHING",
            name,
            f"breaker:{code}:{at}",
            code,
            report["trouble"] if code == UNREACHABLE else "",
            at,
        )


async def reports() -> dict[str, dict[str, Any]]:
    """By channel what its owner last said, with `lost`, `node` (its name) and `at`
    (microseconds)."""
    found = await db.rows(
        "SELECT r.channel, r.data, r.lost, r.at, COALESCE(n.name, '') AS node "
        "FROM channel_reports r LEFT JOIN nodes n ON n.id = r.node_id"
    )
    return {
        row["channel"]: {
            **json.loads(row["data"]),
            "lost": row["lost"],
            "node": row["node"],
            "at": row["at"],
        }
        for row in found
    }
