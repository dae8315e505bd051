"""An inquiry's timeline, its number, and what open pages hear of it."""

from datetime import datetime
from typing import Any

from gateway.actors import Actor
from gateway.core import Core
from gateway.database import rows
from gateway.tables import Inquiry, InquiryEvent, Organisation


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
    return await InquiryEvent.create(
        inquiry=inquiry,
        at=inquiry.changed_at,
        kind=kind,
        actor=actor.name,
        staff_id=actor.staff_id,
        text=text,
        **more,
    )


async def publish(core: Core, inquiry: Inquiry) -> None:
    """Tell open pages of those who may see it; call it after the commit."""
    organisation = await Organisation.get(id=inquiry.organisation_id)
    core.hub.publish("inquiry", inquiry.id, organisation.path)
    if inquiry.attention:
        core.hub.publish("attention", inquiry.id, organisation.path)
