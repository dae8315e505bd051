"""An inquiry's timeline, its number, and what open pages hear of it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from gateway.actors import Actor
from gateway.core import Core
from gateway.database import marks, rows
from gateway.tables import Inquiry, InquiryEvent


async def next_number(core: Core, at: datetime) -> str:
    """`20261121-0007`: day of receipt in the centre's zone, counted from 1."""
    day = at.astimezone(core.settings.centre.timezone).strftime("%Y%m%d")
    found = await rows(
        "INSERT INTO counters (name, value) VALUES (?, 1) "
        "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
        f"inquiry:{day}",
    )
    return f"{day}-{found[0]['value']:04d}"


async def note(
    core: Core, inquiry: Inquiry, kind: str, actor: Actor, text: str = "", **more: Any
) -> InquiryEvent:
    """Append one line. `more`: inbound_id, outbound_id, data."""
    inquiry.changed_at = core.clock.now()
    if actor.staff_id is not None:
        inquiry.worked_at = inquiry.changed_at
    return await InquiryEvent.create(
        inquiry=inquiry,
        at=inquiry.changed_at,
        kind=kind,
        actor=actor.name,
        staff_id=actor.staff_id,
        text=text,
        **more,
    )


MOST_TOLD = 50  # inquiries; of more a page reads the whole list again


async def announce(core: Core, inquiry_ids: Collection[int]) -> None:
    """Tell open pages of those who may see these inquiries.

    Call it after the commit. Who received a matter first hears of it too.
    """
    if not inquiry_ids:
        return
    if len(inquiry_ids) > MOST_TOLD:
        core.hub.publish("refresh", "")
        return
    found = await rows(
        "SELECT i.id, i.attention, o.path, f.path AS first_path FROM inquiries i "
        "JOIN organisations o ON o.id = i.organisation_id "
        "JOIN organisations f ON f.id = i.first_organisation_id "
        f"WHERE i.id IN ({marks(len(inquiry_ids))})",
        *inquiry_ids,
    )
    for row in found:
        for path in {row["path"], row["first_path"]}:
            core.hub.publish("inquiry", row["id"], path)
            if row["attention"]:
                core.hub.publish("attention", row["id"], path)
