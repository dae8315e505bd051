"""Deadlines follow the calendar: which ones move with it, and moving them.

Extended deadlines stay: a person has promised them. Nothing moves by itself, so that
no deadline becomes later without somebody's act.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from gateway import sla
from gateway.actors import Actor
from gateway.core import Core
from gateway.database import (
    Row,
    execute_many,
    from_micros,
    is_postgres,
    rows,
    to_micros,
)
from gateway.inquiries import timeline
from gateway.sla import Calendar
from gateway.tables import InquiryEvent

_AT_ONCE = 500  # rows of one statement
# A deadline counts from the receipt, or from the last reopening.
_RUNNING = """
SELECT i.id, i.deadline_at, i.deadline_provisional,
  COALESCE(e.reopened_at, i.received_at) AS base
FROM inquiries i
LEFT JOIN (SELECT inquiry_id,
    MAX(CASE WHEN kind = 'reopened' THEN at END) AS reopened_at,
    MAX(CASE WHEN kind = 'extended' THEN at END) AS extended_at
  FROM inquiry_events WHERE kind IN ('reopened', 'extended') GROUP BY inquiry_id
) e ON e.inquiry_id = i.id
WHERE i.state <> 'closed' AND COALESCE(e.extended_at, 0) <
  COALESCE(e.reopened_at, i.received_at)
ORDER BY i.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One deadline that the calendar moves, or makes firm or provisional."""

    inquiry_id: int
    before: datetime
    after: sla.Deadline

    @property
    def moved(self) -> bool:
        return self.before != self.after.at


async def moves(core: Core, calendar: Calendar, day: date | None = None) -> list[Move]:
    """What `calendar` changes: of provisional deadlines, and where `day` is given of
    those that span it. Inside a transaction the inquiries are locked."""
    locked = " FOR UPDATE OF i" if is_postgres() and day is not None else ""
    found = await rows(_RUNNING + locked)
    return list(_moves(core, calendar, day, found))


def _moves(
    core: Core, calendar: Calendar, day: date | None, found: Sequence[Row]
) -> Iterator[Move]:
    centre = core.settings.centre
    for row in found:
        base, before = from_micros(row["base"]), from_micros(row["deadline_at"])
        provisional = bool(row["deadline_provisional"])
        if not provisional and not _spans(base, before, day, centre.timezone):
            continue
        days = centre.deadline_working_days
        after = sla.deadline(base, days, calendar, centre.timezone)
        if (after.at, after.provisional) != (before, provisional):
            yield Move(inquiry_id=row["id"], before=before, after=after)


def _spans(base: datetime, end: datetime, day: date | None, zone: ZoneInfo) -> bool:
    return day is not None and base.astimezone(zone).date() < day <= last_day(end, zone)


def last_day(deadline_at: datetime, zone: ZoneInfo) -> date:
    """24:00 belongs to the day that ends."""
    return (deadline_at - deadline_at.resolution).astimezone(zone).date()


async def carry_out(core: Core, actor: Actor, found: Sequence[Move]) -> None:
    """Write the new deadlines and a line into each timeline, in the caller's
    transaction. Tell pages afterwards: `announce`."""
    await execute_many(
        "UPDATE inquiries SET deadline_at = ?, deadline_provisional = ? WHERE id = ?",
        [
            (to_micros(one.after.at), one.after.provisional, one.inquiry_id)
            for one in found
        ],
    )
    lines = [_line(core, actor, move) for move in found if move.moved]
    await InquiryEvent.bulk_create(lines, batch_size=_AT_ONCE)


def _line(core: Core, actor: Actor, move: Move) -> InquiryEvent:
    before = last_day(move.before, core.settings.centre.timezone)
    # Without `staff_id`: nobody has looked at the matter, what is unread stays so.
    return InquiryEvent(
        inquiry_id=move.inquiry_id,
        at=core.clock.now(),
        kind="recomputed",
        actor=actor.name,
        text=f"{before} → {move.after.day}",
        data={
            "before": move.before.isoformat(),
            "after": move.after.at.isoformat(),
            "provisional": move.after.provisional,
        },
    )


async def announce(core: Core, found: Sequence[Move]) -> None:
    """After the commit."""
    ids = [move.inquiry_id for move in found]
    for start in range(0, len(ids), _AT_ONCE):
        await timeline.announce(core, ids[start : start + _AT_ONCE])
