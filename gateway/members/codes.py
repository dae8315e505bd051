"""Binding codes: six digits that say who somebody is, for half an hour."""

from datetime import timedelta
from random import SystemRandom

from gateway import tokens
from gateway.contract import Address
from gateway.core import Core
from gateway.prompts import PromptKind
from gateway.tables import PromptRow

LASTS = timedelta(minutes=30)


async def issue(core: Core, member_id: int, asker: Address | None = None) -> str:
    """A new code for this member; the one before it ends. Inside a transaction.

    It binds `asker` alone; without one, whoever shows it. No two open codes are
    alike, since the code alone says who somebody is.
    """
    now = core.clock.now()
    open_codes = PromptRow.filter(
        prompt=PromptKind.BINDING, closed_at__isnull=True, expires_at__gt=now
    )
    taken = {prompt.code for prompt in await open_codes}
    code = tokens.one_time_code(SystemRandom())
    while code in taken:
        code = tokens.one_time_code(SystemRandom())
    kind, value = ("", "") if asker is None else (asker.kind, asker.value)
    # A stranger who asks must not end what staff gave the member.
    await open_codes.filter(member_id=member_id, kind=kind, value=value).update(
        closed_at=now
    )
    await PromptRow.create(
        kind=kind,
        value=value,
        prompt=PromptKind.BINDING,
        code=code,
        member_id=member_id,
        opened_at=now,
        expires_at=now + LASTS,
    )
    return code


async def issued_since(
    core: Core, member_id: int, asker: Address, span: timedelta
) -> int:
    """How many codes were made in the last `span` for this member, or for `asker` if
    those were more."""
    recent = PromptRow.filter(
        prompt=PromptKind.BINDING, opened_at__gte=core.clock.now() - span
    )
    for_member = await recent.filter(member_id=member_id).count()
    for_asker = await recent.filter(kind=asker.kind, value=asker.value).count()
    return max(for_member, for_asker)
