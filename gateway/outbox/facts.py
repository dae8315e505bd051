"""What the gate has to know of a row that may leave: read with the row itself, in the
transaction that journals it."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway import database as db
from gateway.core import Core
from gateway.database import Row, to_micros

REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Cap:
    """How many broadcasts a person gets in a day, and which ones ran in that time."""

    most: int
    since: int  # microseconds
    recent: tuple[int, ...]

    @property
    def is_free(self) -> bool:
        """Nobody can have got too many."""
        return not self.most or len(self.recent) < self.most


class Caps:
    """Which broadcasts may have come to somebody in the last day: those under way, as
    they are now, so that two that start together cap each other from the first window
    on; and those that are over, which is looked up seldom."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._recent: set[int] = set()
        self._read_at = float("-inf")

    async def now(self) -> Cap:
        most = self._core.settings.policy.broadcasts_per_day
        since = to_micros(self._core.clock.now() - timedelta(days=1))
        if not most:
            return Cap(most, since, ())
        at = self._core.clock.monotonic()
        if at - self._read_at >= REMEMBERED_SECONDS:
            self._recent = set(await _over(since))
            self._read_at = at
        self._recent.update(await _under_way())
        return Cap(most, since, tuple(sorted(self._recent)))


async def _under_way() -> list[int]:
    found = await db.rows(
        "SELECT id FROM broadcasts WHERE state IN ('running', 'paused')"
    )
    return [row["id"] for row in found]


async def _over(since: int) -> list[int]:
    found = await db.rows(
        "SELECT id FROM broadcasts WHERE state IN ('finished', 'cancelled') "
        "AND changed_at >= ?",
        since,
    )
    return [row["id"] for row in found]


def gated(cap: Cap) -> tuple[str, list[Any]]:
    """Columns of a row and what the gate has to know of it, with their values."""
    capped, values = _capped(cap)
    columns = (
        "o.id, o.message_kind, o.priority, o.broadcast_id, o.inquiry_id, o.member_id, "
        "o.channel, o.kind, o.value, o.text, o.content_id, o.variables, o.extras, "
        "o.state, o.expires_at, o.attempts, o.throttled, a.id AS address_id, "
        "a.last_inbound_at, "
        "(EXISTS (SELECT 1 FROM opt_outs x WHERE x.kind = o.kind "
        "AND x.value = o.value AND x.ended_at IS NULL) OR EXISTS (SELECT 1 "
        "FROM opt_outs x WHERE x.member_id = o.member_id AND x.ended_at IS NULL)) "
        "AS refused, (o.message_kind <> 'daily' OR EXISTS (SELECT 1 "
        "FROM subscriptions s WHERE s.topic = 'daily' AND s.kind = o.kind "
        f"AND s.value = o.value AND s.ended_at IS NULL)) AS subscribed, {capped} "
        "AS capped, EXISTS (SELECT 1 FROM erasures e WHERE e.member_id = o.member_id) "
        "AS erased"
    )
    return columns, values


def _capped(cap: Cap) -> tuple[str, list[Any]]:
    """Whether a person got as many other broadcasts in a day as the centre allows.

    Nobody did where there were no more than that: mostly nothing is looked up. Else
    by the index that keeps a person from being in one broadcast twice. A recipient in
    a chunk that is journalled has got it, whatever the answer.
    """
    if cap.is_free:
        return "(1 = 0)", []
    journalled = (
        "(p.state = 'planned' AND EXISTS (SELECT 1 FROM chunks c "
        "WHERE c.channel = p.channel AND c.state = 'leased' "
        "AND +c.broadcast_id = p.broadcast_id "
        "AND p.id BETWEEN c.first_id AND c.journalled_to))"
    )
    counted = (
        "(o.message_kind IN ('notice', 'daily') AND (SELECT COUNT(*) FROM outbox p "
        f"WHERE p.broadcast_id IN ({db.marks(len(cap.recent))}) "
        "AND p.value = o.value AND p.kind = o.kind "
        "AND p.broadcast_id <> o.broadcast_id AND (p.state IN "
        "('sending', 'accepted', 'delivered', 'read', 'unknown') "
        f"AND p.changed_at >= ? OR {journalled})) >= ?)"
    )
    return counted, [*cap.recent, cap.since, cap.most]


COLUMNS = (  # as `gated` has them
    "id",
    "message_kind",
    "priority",
    "broadcast_id",
    "inquiry_id",
    "member_id",
    "channel",
    "kind",
    "value",
    "text",
    "content_id",
    "variables",
    "extras",
    "state",
    "expires_at",
    "attempts",
    "throttled",
    "address_id",
    "last_inbound_at",
    "refused",
    "subscribed",
    "capped",
    "erased",
)

ADDRESS = "LEFT JOIN addresses a ON a.kind = o.kind AND a.value = o.value "


def opened(found: list[Row]) -> list[Row]:
    """The same rows, with what is JSON in them read."""
    # As one text: a call for each row would cost more than what it reads.
    all_variables = json.loads(f"[{','.join([row['variables'] for row in found])}]")
    for row, variables in zip(found, all_variables, strict=True):
        row["variables"] = variables
        row["extras"] = {} if row["extras"] == "{}" else json.loads(row["extras"])
    return found
