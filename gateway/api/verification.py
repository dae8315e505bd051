"""The promise "planned = the sum of the states", asked over the API at any moment."""

from datetime import datetime

from gateway.actors import Action
from gateway.api.operations import Call, Operation
from gateway.api.schemas import Output
from gateway.errors import NotFound
from gateway.snapshot import snapshot
from gateway.status import Bucket, OutboundState
from gateway.tables import Organisation
from gateway.verify import Balance, Report, balance, verify


class DeviationShown(Output):
    code: str
    object: str
    detail: str


class BalanceShown(Output):
    broadcast_id: int
    planned: int
    sum: int
    states: dict[OutboundState, int]
    buckets: dict[Bucket, int]
    holds: bool
    deviations: list[DeviationShown]


class UnknownShown(Output):
    delivery_id: int
    broadcast_id: int | None
    member_id: int | None
    channel: str
    to: str
    reason: str
    since: datetime


class ReportShown(Output):
    holds: bool
    broadcasts: list[BalanceShown]
    inbound: dict[str, int]
    unknown: list[UnknownShown]
    receipts_unmatched: int
    audit_entries: int
    deviations: list[DeviationShown]


async def read_balance(call: Call) -> BalanceShown:
    async with snapshot(call.core.settings.database_url) as read:
        owner = await read(
            "SELECT o.path FROM broadcasts b JOIN organisations o "
            "ON o.id = b.organisation_id WHERE b.id = ?",
            call.id(),
        )
        found = await balance(read, call.id())
    if found is None or not owner or not call.actor.sees(owner[0]["path"]):
        raise NotFound
    return _balance(found)


def _balance(found: Balance) -> BalanceShown:
    return BalanceShown(
        broadcast_id=found.broadcast_id,
        planned=found.planned,
        sum=found.total,
        states=dict(found.states),
        buckets=dict(found.buckets),
        holds=found.holds,
        deviations=[
            DeviationShown(code=one.code, object=one.object, detail=one.detail)
            for one in found.deviations()
        ],
    )


async def read_verification(call: Call) -> ReportShown:
    """Of the whole installation, so only for those who see all of it."""
    if await Organisation.filter(parent_id=None, path=call.actor.path).count() != 1:
        raise NotFound
    async with snapshot(call.core.settings.database_url) as read:
        return _report(await verify(read, call.core.clock.now()))


def _report(report: Report) -> ReportShown:
    return ReportShown(
        holds=report.holds,
        broadcasts=[_balance(one) for one in report.balances],
        inbound=dict(report.inbound),
        unknown=[
            UnknownShown(
                delivery_id=one.id,
                broadcast_id=one.broadcast_id,
                member_id=one.member_id,
                channel=one.channel,
                to=one.to,
                reason=one.reason,
                since=one.since,
            )
            for one in report.unknown
        ],
        receipts_unmatched=report.unmatched,
        audit_entries=report.links,
        deviations=[
            DeviationShown(code=one.code, object=one.object, detail=one.detail)
            for one in report.deviations
        ],
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/broadcasts/{id}/balance",
        action=Action.READ,
        summary="Recount a notice: planned must be the sum of the states.",
        handler=read_balance,
        answer=BalanceShown,
    ),
    Operation(
        method="GET",
        path="/verification",
        action=Action.AUDIT,
        summary="Recount everything that is promised; top organisation only.",
        handler=read_verification,
        answer=ReportShown,
    ),
)
