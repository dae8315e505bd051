"""The audit list: one chained line per act, in the transaction of the act."""

import hashlib
import json
from typing import Any

from gateway.actors import Actor
from gateway.clock import Clock
from gateway.database import Row, from_micros, is_postgres, rows, to_micros
from gateway.snapshot import Read
from gateway.tables import Audit

OURSELVES = "gateway"  # who acts where no person does
_SLICE = "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT 2000"


async def record(
    clock: Clock,
    actor: Actor,
    action: str,
    object: str,
    *,
    path: str = "",
    **detail: Any,
) -> None:
    """Append one entry. Call it inside the transaction that does the act.

    `action` is a fixed `noun.verb`, `object` names the row (`inquiry:12`); `detail`
    holds ids, codes and reasons, never contact data.
    """
    if is_postgres():
        # One link at a time: two processes must not hang on the same predecessor.
        await rows("SELECT pg_advisory_xact_lock(12371)")
    last = await Audit.all().order_by("-id").first()
    previous = last.hash if last else ""
    at = clock.now()
    entry = Audit(
        at=at,
        actor=actor.name or OURSELVES,
        staff_id=actor.staff_id,
        action=action,
        object=object,
        organisation_path=path or actor.path,
        detail=detail,
        previous=previous,
    )
    entry.hash = digest(entry)
    await entry.save()


def digest(entry: Audit) -> str:
    """SHA-256 over the entry and its predecessor's hash."""
    fields = [
        to_micros(entry.at),
        entry.actor,
        entry.staff_id,
        entry.action,
        entry.object,
        entry.organisation_path,
        entry.detail,
        entry.previous,
    ]
    line = json.dumps(fields, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(line.encode()).hexdigest()


async def check(read: Read) -> tuple[int, list[int]]:
    """How many entries there are, and the ids of the broken ones; read in slices."""
    checked, last, previous = 0, 0, ""
    broken: list[int] = []
    while found := await read(_SLICE, last):
        for row in found:
            entry = _entry(row)
            if entry.previous != previous or entry.hash != digest(entry):
                broken.append(row["id"])
            previous = entry.hash
        checked, last = checked + len(found), found[-1]["id"]
    return checked, broken


def _entry(row: Row) -> Audit:
    return Audit(
        **row | {"at": from_micros(row["at"]), "detail": json.loads(row["detail"])}
    )
