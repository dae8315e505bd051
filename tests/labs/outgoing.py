"""A row of the outbox, as whoever enqueued it left it."""

from datetime import datetime
from typing import Any

from gateway.tables import Outbound


async def queued(now: datetime, **different: Any) -> Outbound:
    """An answer by SMS that is due; `different` are the columns that say otherwise."""
    usual: dict[str, Any] = {
        "message_kind": "answer",
        "priority": 0,
        "channel": "sms",
        "kind": "phone",
        "value": "+8619900000001",
        "text": "您好",
        "state": "queued",
        "due_at": now,
        "created_at": now,
        "changed_at": now,
    }
    return await Outbound.create(**usual | different)
