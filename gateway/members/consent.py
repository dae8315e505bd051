"""Opt-outs and subscriptions: the person's choice, kept with its proof.

Everything here runs inside the caller's transaction, so that a choice is in force
from the commit on: the gate reads it in the transaction that journals a send.
"""

from collections.abc import Mapping

from gateway import database as db
from gateway import tokens
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import to_micros
from gateway.tables import AddressRow, OptOutRow, Subscription

_SLICE = 5000  # addresses of one statement

_GATE_LOCK = 0x4741_5445
_MEMBERS_LOCK = 0x4D45_4D42


async def hold_gate(*, alone: bool = False) -> None:
    """Senders pass the gate together, who writes a refusal or erases somebody passes it
    alone: so no send is journalled after that by somebody who read before it. Until
    the end of the transaction; SQLite has one writer anyway.
    """
    await _hold(_GATE_LOCK, alone=alone)


async def hold_members(*, alone: bool = False) -> None:
    """Who changes or imports members does it beside others, who erases one alone: so
    nothing is written to a member who is gone. Take it before the gate.
    """
    await _hold(_MEMBERS_LOCK, alone=alone)


async def _hold(number: int, *, alone: bool) -> None:
    if db.is_postgres():
        lock = "pg_advisory_xact_lock" + ("" if alone else "_shared")
        await db.rows(f"SELECT CAST({lock}(?) AS TEXT) AS held", number)


def opt_out_path(core: Core, address_id: int) -> str:
    """The page by which the holder of one address (a row of `addresses`) opts out."""
    token = tokens.sign(core.keys.derive("opt-out"), "opt-out", address_id)
    return f"/o/{token}"


async def member_of(address: Address) -> int | None:
    """The member to whom this address was bound and verified."""
    row = await AddressRow.get_or_none(
        kind=address.kind, value=address.value, verified_at__isnull=False
    )
    return None if row is None else row.member_id


async def opt_out(
    core: Core,
    address: Address,
    *,
    how: str,
    evidence: str,
    inbound_id: int | None = None,
    staff_id: int | None = None,
) -> bool:
    """Stop everything unasked to this person; False where it was stopped before.

    `how` is word, page, staff or provider; `evidence` the very words, the page's
    address or the provider's code.
    """
    await hold_gate(alone=True)
    member_id = await member_of(address)
    held = OptOutRow.filter(
        kind=address.kind, value=address.value, ended_at__isnull=True
    )
    if await held.exists():
        return False
    await OptOutRow.create(
        kind=address.kind,
        value=address.value,
        member_id=member_id,
        how=how,
        evidence=evidence,
        inbound_id=inbound_id,
        staff_id=staff_id,
        at=core.clock.now(),
    )
    return True


async def opt_out_all(core: Core, given: Mapping[Address, str], *, how: str) -> None:
    """As `opt_out`, for many addresses with their evidence, in one statement."""
    if not given:
        return
    columns = {"kind": "TEXT", "value": "TEXT", "evidence": "TEXT"}
    rows = [(one.kind.value, one.value, given[one]) for one in given]
    for start in range(0, len(rows), _SLICE):
        text, cells = db.table(columns, rows[start : start + _SLICE])
        await db.execute(
            "INSERT INTO opt_outs "
            "(kind, value, member_id, how, evidence, at, ended_how) "
            "SELECT g.kind, g.value, a.member_id, CAST(? AS TEXT), g.evidence, "
            f"CAST(? AS BIGINT), '' FROM {text} AS g LEFT JOIN addresses a "
            "ON a.kind = g.kind AND a.value = g.value AND a.verified_at IS NOT NULL "
            "WHERE NOT EXISTS (SELECT 1 FROM opt_outs o WHERE o.kind = g.kind "
            "AND o.value = g.value AND o.ended_at IS NULL)",
            how,
            to_micros(core.clock.now()),
            *cells,
        )


async def resume(core: Core, address: Address, *, how: str) -> int:
    """End the refusals of this address and of its member; how many there were."""
    ended = {"ended_at": core.clock.now(), "ended_how": how}
    changed = await OptOutRow.filter(
        kind=address.kind, value=address.value, ended_at__isnull=True
    ).update(**ended)
    member_id = await member_of(address)
    if member_id is not None:
        changed += await OptOutRow.filter(
            member_id=member_id, ended_at__isnull=True
        ).update(**ended)
    return changed


async def adopt(address: Address, member_id: int) -> None:
    """An address was bound: refusals and subscriptions made there are the member's."""
    await OptOutRow.filter(kind=address.kind, value=address.value).update(
        member_id=member_id
    )
    await Subscription.filter(kind=address.kind, value=address.value).update(
        member_id=member_id
    )


async def subscribe(core: Core, address: Address, *, how: str) -> bool:
    """Wish for the daily Q&A at this address; False where it was wished before."""
    member_id = await member_of(address)
    known = await Subscription.get_or_none(
        topic="daily", kind=address.kind, value=address.value
    )
    if known is None:
        await Subscription.create(
            kind=address.kind,
            value=address.value,
            member_id=member_id,
            how=how,
            at=core.clock.now(),
        )
        return True
    if known.ended_at is None:
        return False
    known.ended_at = None
    known.how = how
    known.at = core.clock.now()
    known.member_id = member_id
    await known.save()
    return True


async def unsubscribe(core: Core, address: Address) -> bool:
    """End the wish for the daily Q&A; False where there was none."""
    changed = await Subscription.filter(
        topic="daily",
        kind=address.kind,
        value=address.value,
        ended_at__isnull=True,
    ).update(ended_at=core.clock.now())
    return changed > 0


def address_of(row: AddressRow) -> Address:
    return Address(AddressKind(row.kind), row.value)
