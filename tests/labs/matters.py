"""A row of the inquiries, as somebody registered it."""

from datetime import datetime
from typing import Any

from gateway.tables import Inquiry


async def registered(organisation_id: int, now: datetime, **different: Any) -> Inquiry:
    """An open matter of the counter, with the next number of a day; `different` are
    the columns that say otherwise."""
    usual: dict[str, Any] = {
        "number": f"20261120-{await Inquiry.all().count():04}",
        "organisation_id": organisation_id,
        "first_organisation_id": organisation_id,
        "source": "counter",
        "text": "一件事",
        "matter": "dues",
        "state": "open",
        "received_at": now,
        "deadline_at": now,
        "changed_at": now,
    }
    return await Inquiry.create(**usual | different)
