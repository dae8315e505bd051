"""What the owner of a channel's account tells of it, once a second, for the pages of
all processes and for the shares: a row of `channel_reports`. And when the breaker
opens or closes, or something waits too long: an event for staff."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from gateway import database as db
from gateway.contract import Connection, Role, Streams
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.outbox import self_test, waiting
from gateway.outbox.sender import Sender
from gateway.supervisor import beat

log = structlog.get_logger()
SECONDS = 1.0
UNREACHABLE, REACHED = "unreachable", "reached"  # codes of the breaker's events
STUCK, MOVING = "waiting", "moving"  # codes where something waits too long, and after
LOOK_SECONDS = 10.0  # between two looks at what waits
Report = Mapping[str, Any]
Told = Mapping[str, Any]  # of one connection


@dataclass(slots=True)
class _Known:
    """What was last written of one channel."""

    report: Report = field(default_factory=dict)
    is_open: bool = False
    is_stuck: bool = False
    waiting_since: int = 0  # microseconds since 1970; 0: nothing waits too long
    self_test: Mapping[str, Any] = field(default_factory=dict)
    looked: float = float("-inf")  # seconds of the monotonic clock


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
        return _Known(
            is_open=bool(found.get("open_since")),
            is_stuck=bool(found.get("waiting_since")),
        )

    async def _tell(self, name: str, sender: Sender) -> None:
        known = self._known[name]
        await self._look(sender, known)
        report = {
            **self._report(sender),
            "waiting_since": known.waiting_since,
            "self_test": known.self_test,
        }
        self._core.metrics.breaker.labels(name).set(bool(report["open_since"]))
        self._core.metrics.stuck.labels(name).set(bool(known.waiting_since))
        if report == known.report:
            return
        now = self._core.clock.now()
        events = _events(known, report)
        write = partial(_write, name, self._core.node_id, report, now, events)
        await self._core.commits.run(write)
        sender.today.written(report)
        known.report, known.is_open = report, bool(report["open_since"])
        known.is_stuck = bool(known.waiting_since)
        self._core.hub.publish("channel", name)

    async def _look(self, sender: Sender, known: _Known) -> None:
        """Now and then at what waits, and at what became of the self test."""
        clock = self._core.clock
        if clock.monotonic() - known.looked < LOOK_SECONDS:
            return
        known.looked = clock.monotonic()
        last = sender.today.told()["last_success"]
        since = await waiting.stuck_since(
            self._core,
            sender.channel.name,
            clock.now(),
            from_micros(last) if last else None,
        )
        known.waiting_since = 0 if since is None else to_micros(since)
        known.self_test = await self_test.seen(self._core, sender.channel)

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
        "role": str(one.role),
    }


def _events(known: _Known, report: Report) -> list[tuple[str, str]]:
    """What staff is told: code and detail."""
    found = list[tuple[str, str]]()
    if (is_open := bool(report["open_since"])) != known.is_open:
        found.append(
            (UNREACHABLE if is_open else REACHED, why(report) if is_open else "")
        )
    if (is_stuck := bool(report["waiting_since"])) != known.is_stuck:
        found.append((STUCK if is_stuck else MOVING, ""))
    return found


def why(report: Report) -> str:
    """Why nobody is reached, as a code; empty: nobody knows. What a closed connection
    ended with tells more than how its messages ended."""
    senders, _ = _by_role(report)
    return _last_error(senders) or str(report.get("trouble", ""))


def deaf(report: Report) -> str | None:
    """Where messages leave and no receiver is there to bring receipts and replies: why,
    as a code, perhaps an empty one. None where it is not so."""
    senders, receivers = _by_role(report)
    if not receivers or not _any_open(senders) or _any_open(receivers):
        return None
    return _last_error(receivers)


def _by_role(report: Report) -> tuple[list[Told], list[Told]]:
    """The connections that send, and those that only receive."""
    found: list[Told] = list(report.get("connections", ()))
    receivers = [one for one in found if one.get("role") == Role.RECEIVER]
    return [one for one in found if one not in receivers], receivers


def _any_open(connections: Iterable[Told]) -> bool:
    return any(one["state"] == "open" for one in connections)


def _last_error(connections: Iterable[Told]) -> str:
    """Of the first that is shut and says one."""
    shut = (one for one in connections if one["state"] != "open")
    return next((str(one["last_error"]) for one in shut if one["last_error"]), "")


async def _write(
    name: str,
    node_id: int,
    report: Report,
    now: datetime,
    events: Sequence[tuple[str, str]],
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
    for code, detail in events:
        log.warning("channel.alarm", channel=name, code=code)
        await db.execute(
            "INSERT INTO channel_events (channel, key, code, detail, at) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (channel, key) DO NOTHING",
            name,
            f"{'queue' if code in (STUCK, MOVING) else 'breaker'}:{code}:{at}",
            code,
            detail,
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
