"""The first recipients go ahead; the others follow once those came through.

A provider that refuses a text by a word in it refuses all of it. So the share of
refusals among the first decides, on each channel for itself. A message of which nobody
knows counts as refused here: thousands of them would be as bad.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broadcasts.notices import announce, path_of
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import GATEWAY
from gateway.core import Core
from gateway.database import from_micros, to_micros
from gateway.status import BroadcastState

log = structlog.get_logger()

WAITING, PASSED, STOPPED = "waiting", "passed", "stopped"
NOTE = "先发的一小批被拒绝过多，已自动暂停。请查明原因后继续发送，或者取消通知。"
BEFORE = "先发的一小批被拒绝过多，曾自动暂停。"  # of a run that was then cancelled
_GONE_WRONG = ("failed", "dead", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What became of those on one channel who went ahead."""

    sent: int = 0
    refused: int = 0
    on_the_way: int = 0  # not sent yet, or not answered
    unconfirmed: int = 0  # accepted; a receipt may still come
    changed_at: datetime | None = None  # the newest of them


async def judge(core: Core, broadcast: Broadcast) -> None:
    """Let the others go or stop the run, if those ahead have their outcomes."""
    found = await ahead(broadcast.id)
    now = core.clock.now()
    if any(_is_open(core, now, name, one) for name, one in found.items()):
        return
    limit = core.settings.policy.canary_refusals
    bad = {
        name: [one.refused, one.sent]
        for name, one in found.items()
        if one.refused > limit * one.sent
    }
    if bad:
        await _stop(core, broadcast, bad)
    else:
        await _pass(core, broadcast)


def _is_open(core: Core, now: datetime, name: str, one: Ahead) -> bool:
    if one.on_the_way:
        return True
    channel = core.channels.get(name)
    if not one.unconfirmed or channel is None or one.changed_at is None:
        return False
    patience = timedelta(seconds=core.settings.policy.canary_seconds)
    return channel.capabilities.delivery_receipts and now < one.changed_at + patience


async def ahead(broadcast_id: int) -> Mapping[str, Ahead]:
    """By channel. What waits for another try after a failure is not on its way: its
    channel is in trouble, which is no reason to hold the others back for ever."""
    rows = await db.rows(
        "SELECT o.channel, SUM(CASE WHEN o.state IN ('accepted', 'delivered', 'read', "
        "'failed', 'dead', 'unknown') THEN 1 ELSE 0 END) AS sent, "
        f"SUM(CASE WHEN o.state IN {_GONE_WRONG} THEN 1 ELSE 0 END) AS refused, "
        "SUM(CASE WHEN o.state IN ('planned', 'sending') OR (o.state = 'queued' "
        "AND o.attempts = 0) THEN 1 ELSE 0 END) AS on_the_way, "
        "SUM(CASE WHEN o.state = 'accepted' THEN 1 ELSE 0 END) AS unconfirmed, "
        "MAX(o.changed_at) AS changed_at FROM chunks c CROSS JOIN outbox o "
        "WHERE c.broadcast_id = ? AND c.canary AND o.id BETWEEN c.first_id "
        "AND c.last_id AND +o.broadcast_id = c.broadcast_id GROUP BY o.channel",
        broadcast_id,
    )
    return {
        row["channel"]: Ahead(
            sent=int(row["sent"]),
            refused=int(row["refused"]),
            on_the_way=int(row["on_the_way"]),
            unconfirmed=int(row["unconfirmed"]),
            changed_at=from_micros(row["changed_at"]),
        )
        for row in rows
    }


async def _pass(core: Core, broadcast: Broadcast) -> None:
    async with db.transaction():
        if await Broadcast.filter(
            id=broadcast.id, state=BroadcastState.RUNNING, canary=WAITING
        ).update(canary=PASSED):
            await release(core, broadcast)
    log.info("canary.passed", broadcast=broadcast.id)
    core.wakeups.wake_all()


async def release(core: Core, broadcast: Broadcast) -> None:
    """Inside a transaction: those behind may go, as late as they are."""
    await db.execute(
        "UPDATE chunks SET state = 'ready' WHERE broadcast_id = ? AND state = 'held'",
        broadcast.id,
    )


async def _stop(core: Core, broadcast: Broadcast, bad: Mapping[str, list[int]]) -> None:
    now = core.clock.now()
    async with db.transaction():
        stopped = await Broadcast.filter(
            id=broadcast.id, state=BroadcastState.RUNNING, canary=WAITING
        ).update(state=BroadcastState.PAUSED, canary=STOPPED, note=NOTE, changed_at=now)
        if not stopped:
            return
        await db.execute(
            "INSERT INTO holds (broadcast_id, at) VALUES (?, ?) "
            "ON CONFLICT (broadcast_id) DO NOTHING",
            broadcast.id,
            to_micros(now),
        )
        await audit.record(
            core.clock,
            GATEWAY,
            "broadcast.canary_stopped",
            f"broadcast:{broadcast.id}",
            path=await path_of(broadcast),
            refused=json.dumps(bad),
        )
    log.warning("canary.stopped", broadcast=broadcast.id, refused=bad)
    await announce(core, broadcast)
