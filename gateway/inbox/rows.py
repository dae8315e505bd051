"""A message as it is stored: what of it fits into its columns, and its key."""

import json
from collections.abc import Sequence
from typing import Any

from gateway.addresses import LONGEST_ADDRESS
from gateway.contract import Event, InboundMessage
from gateway.database import to_micros
from gateway.text import clean, fitted

LONGEST_TEXT = 64 * 1024  # characters; what is above is kept in the payload only
LONGEST_KEY = 255
MESSAGE = {
    "channel": "TEXT",
    "key": "TEXT",
    "kind": "TEXT",
    "value": "TEXT",
    "conversation_kind": "TEXT",
    "conversation_value": "TEXT",
    "text": "TEXT",
    "subject": "TEXT",
    "quoted": "TEXT",
    "provider_id": "TEXT",
    "answers_to": "TEXT",
    "reply_token": "TEXT",
    "display_name": "TEXT",
    "automatic": "BOOLEAN",
    "notes": "TEXT",
    "payload": "BYTEA",
    "sent_at": "BIGINT",
    "received_at": "BIGINT",
}


def cells_of(channel: str, event: InboundMessage, now: int) -> tuple[Any, ...]:
    """In the order of `MESSAGE`; `now` in microseconds."""
    conversation = event.conversation
    return (
        channel,
        key_of(event),
        event.sender.kind.value,
        fitted(event.sender.value, LONGEST_ADDRESS),
        conversation.kind.value if conversation else "",
        fitted(conversation.value, LONGEST_ADDRESS) if conversation else "",
        clean(event.text)[:LONGEST_TEXT],
        clean(event.subject)[:1000],
        clean(event.quoted)[:LONGEST_TEXT],
        clean(event.provider_id)[:998],
        _json([clean(one) for one in event.answers_to]),
        clean(event.reply_token)[:128],
        clean(event.display_name)[:254],
        event.automatic,
        _json(event.notes),
        event.raw,
        to_micros(event.sent_at) if event.sent_at else None,
        now,
    )


def _json(texts: Sequence[str]) -> str:
    return json.dumps(list(texts), ensure_ascii=False) if texts else "[]"


def key_of(event: Event) -> str:
    """The event's key as it is stored; one that doesn't fit keeps its identity."""
    return fitted(event.key, LONGEST_KEY)
