"""Binding codes: six digits that say who somebody is, for half an hour."""

from datetime import timedelta
from random import SystemRandom

from gateway import tokens
from gateway.core import Core
from gateway.prompts import PromptKind
from gateway.tables import PromptRow

LASTS = timedelta(minutes=30)


async def issue(core: Core, member_id: int) -> str:
    """A new code for this member; the one before it ends. Inside a transaction.

    No two open codes are alike, since the code alone says who somebody is.
    """
    now = core.clock.now()
    open_codes = PromptRow.filter(
        prompt=PromptKind.BINDING, closed_at__isnull=True, expires_at__gt=now
    )
    taken = {prompt.code for prompt in await open_codes}
    code = tokens.one_time_code(SystemRandom())
    while code in taken:
        code = tokens.one_time_code(SystemRandom())
    await open_codes.filter(member_id=member_id).update(closed_at=now)
    await PromptRow.create(
        kind="",
        value="",
        prompt=PromptKind.BINDING,
        code=code,
        member_id=member_id,
        opened_at=now,
        expires_at=now + LASTS,
    )
    return code


async def issued_since(core: Core, member_id: int, span: timedelta) -> int:
    """How many codes this member was given in the last `span`."""
    return await PromptRow.filter(
        prompt=PromptKind.BINDING,
        member_id=member_id,
        opened_at__gte=core.clock.now() - span,
    ).count()
