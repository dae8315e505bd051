"""`run.py verify`: the recount as people and as programs read it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from gateway.snapshot import snapshot
from gateway.verify import Balance, Report, verify

_LISTED = 20  # unknown sends shown to people; --json has them all


async def recount(url: str, now: datetime, broadcast_id: int | None) -> Report:
    """Beside a gateway that works, or on the database of one that doesn't."""
    async with snapshot(url) as read:
        return await verify(read, now, broadcast_id)


def as_json(report: Report) -> str:
    return json.dumps(as_data(report), ensure_ascii=False, indent=1, default=str)


def as_data(report: Report) -> dict[str, Any]:
    return {
        "holds": report.holds,
        "broadcasts": [
            {
                "id": one.broadcast_id,
                "state": one.standing,
                "planned": one.planned,
                "sum": one.total,
                "states": dict(one.states),
                "holds": one.holds,
            }
            for one in report.balances
        ],
        "inbound": dict(report.inbound),
        "unknown": [asdict(one) for one in report.unknown],
        "receipts_unmatched": report.unmatched,
        "audit_entries": report.links,
        "deviations": [asdict(one) for one in report.deviations],
    }


def as_text(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for balance in report.balances:
        yield _balance(balance)
    if report.inbound:
        states = ", ".join(
            f"{n} {state}" for state, n in sorted(report.inbound.items())
        )
        yield f"inbound: {sum(report.inbound.values())} acknowledged = {states}"
    if report.links:
        yield f"audit: {report.links} entries"
    if report.unmatched:
        yield f"receipts that found no message yet: {report.unmatched}"
    yield from _unknown(report)
    for one in report.deviations:
        yield f"DEVIATION {one.code}: {one.object}: {one.detail}"
    yield "everything holds" if report.holds else "the promises do not hold"


def _balance(balance: Balance) -> str:
    states = ", ".join(f"{n} {state}" for state, n in balance.states.items())
    sign = "=" if balance.total == balance.planned else "is not"
    planned = f"{balance.planned} planned {sign} {states or 'nobody'}"
    said = balance.standing.replace("_", " ")
    return f"broadcast {balance.broadcast_id} ({said}): {planned}"


def _unknown(report: Report) -> Iterator[str]:
    if not report.unknown:
        return
    yield f"unknown, to be settled by receipts or by a person: {len(report.unknown)}"
    for one in report.unknown[:_LISTED]:
        run = f"broadcast {one.broadcast_id}" if one.broadcast_id else "single message"
        since = f"{one.since:%Y-%m-%d %H:%M:%S} UTC"
        yield f"  {one.id}  {one.channel} {one.to}  {run}  {one.reason}  since {since}"
    if len(report.unknown) > _LISTED:
        yield f"  and {len(report.unknown) - _LISTED} more: see --json"
