"""Prompts in the database: asked of one address, open until answered or expired."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from gateway import tokens
from gateway.contract import Address
from gateway.core import Core
from gateway.prompts import RATING, RSVP, OpenPrompt, Prompt, PromptKind
from gateway.tables import PromptRow

# An RSVP may be changed until the activity; what is asked once is closed by its answer.
KEPT_OPEN = frozenset({PromptKind.RSVP})
ASKED: dict[str, Prompt] = {"rsvp": RSVP, "rating": RATING}


async def ask(
    core: Core,
    address: Address,
    kind: PromptKind,
    expires_at: datetime,
    **subject: Any,
) -> PromptRow:
    """Open a prompt. Its code tells it from others open at the same address.

    `subject`: inquiry_id, broadcast_id, member_id, data. An earlier prompt of the
    same kind on the same inquiry is closed: the newest question counts.
    """
    now = core.clock.now()
    if subject.get("inquiry_id") is not None:
        await PromptRow.filter(
            prompt=kind, inquiry_id=subject["inquiry_id"], closed_at__isnull=True
        ).update(closed_at=now)
    taken = {row.code for row in await _open_rows(core, address)}
    code = next(c for n in range(1000) if (c := tokens.short_code(n)) not in taken)
    return await PromptRow.create(
        kind=address.kind,
        value=address.value,
        prompt=kind,
        code=code,
        opened_at=now,
        expires_at=expires_at,
        **subject,
    )


async def open_at(core: Core, addresses: Sequence[Address]) -> list[OpenPrompt]:
    """What these addresses may still answer."""
    found = []
    for address in addresses:
        for row in await _open_rows(core, address):
            if row.prompt in ASKED:
                found.append(
                    OpenPrompt(id=row.id, code=row.code, prompt=ASKED[row.prompt])
                )
    return found


async def _open_rows(core: Core, address: Address) -> list[PromptRow]:
    return await PromptRow.filter(
        kind=address.kind,
        value=address.value,
        closed_at__isnull=True,
        expires_at__gt=core.clock.now(),
    ).order_by("id")


async def answered(core: Core, row: PromptRow, value: str, inbound_id: int) -> None:
    row.answer = value
    row.inbound_id = inbound_id
    if row.prompt not in KEPT_OPEN:
        row.closed_at = core.clock.now()
    await row.save()
