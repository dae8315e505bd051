"""What the gate has to know of a row that may leave: read with the row itself, in the
transaction that journals it."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway import database as db
from gateway.core import Core
from gateway.database import Row, to_micros


@dataclass(frozen=True, slots=True)
class Cap:
    """How many broadcasts a person gets in a day, and which ones ran in that time."""

    most: int
    since: int  # microseconds
    recent: tuple[int, ...]


async def cap(core: Core) -> Cap:
    """Read once in a while: what has been written to nobody yet caps nobody."""
    since = to_micros(core.clock.now() - timedelta(days=1))
    found = await db.rows(
        "SELECT DISTINCT broadcast_id AS id FROM chunks WHERE journalled_at >= ?", since
    )
    most = core.settings.policy.broadcasts_per_day
    return Cap(most, since, tuple(row["id"] for row in found))


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
    by the index that keeps a person from being in one broadcast twice.
    """
    if not cap.most or len(cap.recent) < cap.most:
        return "(1 = 0)", []
    counted = (
        "(o.message_kind IN ('notice', 'daily') AND (SELECT COUNT(*) FROM outbox p "
        f"WHERE p.broadcast_id IN ({db.marks(len(cap.recent))}) "
        "AND p.value = o.value AND p.kind = o.kind "
        "AND p.broadcast_id <> o.broadcast_id AND p.state IN "
        "('sending', 'accepted', 'delivered', 'read', 'unknown') "
        "AND p.changed_at >= ?) >= ?)"
    )
    return counted, [*cap.recent, cap.since, cap.most]


COLUMNS = (
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
    # As one text: a call for each row would cost more than what it reads.
    all_variables = json.loads(f"[{','.join([row['variables'] for row in found])}]")
    for row, variables in zip(found, all_variables, strict=True):
        row["variables"] = variables
        row["extras"] = {} if row["extras"] == "{}" else json.loads(row["extras"])
    return found
