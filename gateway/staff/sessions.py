"""Sessions of signed-in browsers. The cookie's value is stored only as its hash."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.actors import Actor, Role
from gateway.core import Core
from gateway.database import execute, from_micros, rows, to_micros
from gateway.tables import Session

IDLE = timedelta(minutes=60)
LONGEST = timedelta(hours=12)
_TOUCH_EVERY = timedelta(minutes=1)
_FIND = """
SELECT s.id, s.csrf, s.created_at, s.seen_at, t.id AS staff_id, t.username, t.name,
       t.role, t.language, t.must_change_password, o.id AS organisation_id,
       o.path, o.name AS centre
FROM sessions s
JOIN staff t ON t.id = s.staff_id AND t.active = ?
JOIN organisations o ON o.id = t.organisation_id
WHERE s.token_hash = ? AND s.created_at > ? AND s.seen_at > ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who this request comes from, as found by its session or its token."""

    actor: Actor
    username: str
    centre: str  # name of the person's own organisation
    csrf: str
    session_id: int = 0
    must_change_password: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A session as its owner sees it."""

    id: int
    remote: str
    seen_at: datetime
    current: bool


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


async def start(core: Core, staff_id: int, remote: str) -> str:
    """A new session; the value of its cookie. Sessions past their time are dropped."""
    now = core.clock.now()
    await execute(
        "DELETE FROM sessions WHERE created_at <= ? OR seen_at <= ?",
        to_micros(now - LONGEST),
        to_micros(now - IDLE),
    )
    value = secrets.token_urlsafe(32)
    await Session.create(
        token_hash=_hash(value),
        staff_id=staff_id,
        csrf=secrets.token_urlsafe(24),
        created_at=now,
        seen_at=now,
        remote=remote[:64],
    )
    return value


async def find(
    core: Core, value: str, remote: str, *, background: bool
) -> SignedIn | None:
    """Who holds this cookie; None where the session has ended or never was.

    `background` requests, which open pages make by themselves, keep nothing alive.
    """
    if not value:
        return None
    now = core.clock.now()
    limits = (to_micros(now - LONGEST), to_micros(now - IDLE))
    found = await rows(_FIND, True, _hash(value), *limits)
    if not found:
        return None
    row = found[0]
    if not background and now - from_micros(row["seen_at"]) >= _TOUCH_EVERY:
        await execute(
            "UPDATE sessions SET seen_at = ?, remote = ? WHERE id = ?",
            to_micros(now),
            remote[:64],
            row["id"],
        )
    return SignedIn(
        actor=Actor(
            name=row["name"],
            role=Role(row["role"]),
            organisation_id=row["organisation_id"],
            path=row["path"],
            staff_id=row["staff_id"],
            language=row["language"],
            remote=remote,
        ),
        username=row["username"],
        centre=row["centre"],
        csrf=row["csrf"],
        session_id=row["id"],
        must_change_password=bool(row["must_change_password"]),
    )


async def devices(core: Core, staff_id: int, current: int) -> Sequence[Device]:
    """The sessions of one person that still live, the latest first."""
    now = core.clock.now()
    found = await Session.filter(
        staff_id=staff_id, created_at__gt=now - LONGEST, seen_at__gt=now - IDLE
    ).order_by("-seen_at")
    return [
        Device(id=s.id, remote=s.remote, seen_at=s.seen_at, current=s.id == current)
        for s in found
    ]


async def end(session_id: int) -> None:
    await execute("DELETE FROM sessions WHERE id = ?", session_id)


async def end_one(staff_id: int, session_id: int) -> bool:
    """End a session of this very person; False where it is none of theirs."""
    changed = await Session.filter(id=session_id, staff_id=staff_id).delete()
    return changed > 0


async def end_all(staff_id: int, but: int = 0) -> None:
    """After a change of password, role or state; `but` is the one that goes on."""
    await execute("DELETE FROM sessions WHERE staff_id = ? AND id <> ?", staff_id, but)
