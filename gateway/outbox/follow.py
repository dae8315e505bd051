"""What follows from an outcome: waiting receipts, opt-outs, the inquiry's timeline."""

from collections.abc import Sequence

from gateway import database as db
from gateway.channels import Channel
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.errors import DeliveryError, PermanentFailure
from gateway.inquiries import timeline
from gateway.members import consent
from gateway.outbox import receipts
from gateway.outbox.journal import Answer, Settlement
from gateway.outbox.moves import Moved
from gateway.tables import InquiryEvent


async def settled(
    core: Core,
    channel: Channel,
    answered: Sequence[Answer],
    settlements: Sequence[Settlement],
) -> None:
    """Runs in the transaction that settled these rows."""
    failed = [
        (settlement, one.outcome)
        for one, settlement in zip(answered, settlements, strict=True)
        if isinstance(one.outcome, DeliveryError)
    ]
    await _report(core, channel, [settlement for settlement, _ in failed])
    for settlement, error in failed:
        await _failed(core, settlement, error)
    known = [s for s in settlements if s.provider_ids or s.state == "unknown"]
    if known:
        await receipts.apply_early(core, channel.name, known)


async def _report(core: Core, channel: Channel, failed: Sequence[Settlement]) -> None:
    """What the channel's page shows as its last errors."""
    if not failed:
        return
    columns = {"key": "TEXT", "code": "TEXT", "detail": "TEXT"}
    given, values = db.table(
        columns,
        [(f"send:{s.outbound_id}:{s.number}", s.code, s.detail) for s in failed],
    )
    await db.execute(
        "INSERT INTO channel_events (channel, key, code, detail, at) SELECT "
        f"CAST(? AS TEXT), g.key, g.code, g.detail, CAST(? AS BIGINT) FROM {given} "
        "AS g WHERE 1 = 1 ON CONFLICT (channel, key) DO NOTHING",
        channel.name,
        to_micros(core.clock.now()),
        *values,
    )


async def _failed(core: Core, settlement: Settlement, error: DeliveryError) -> None:
    row = settlement.row
    if isinstance(error, PermanentFailure) and error.opted_out:
        address = Address(AddressKind(row["kind"]), row["value"])
        await consent.opt_out(core, address, how="provider", evidence=settlement.code)
    if row["inquiry_id"] is not None and settlement.state != "queued":
        await undelivered(
            core, row["inquiry_id"], row["id"], settlement.state, settlement.code
        )


async def undelivered(
    core: Core, inquiry_id: int, outbound_id: int, state: str, code: str
) -> None:
    """A line in the inquiry's timeline."""
    await InquiryEvent.create(
        inquiry_id=inquiry_id,
        at=core.clock.now(),
        kind="undelivered",
        outbound_id=outbound_id,
        data={"state": state, "code": code},
    )


async def announce(core: Core, rows: Sequence[Row]) -> None:
    """Tell open pages; call it after the commit."""
    inquiries = {r["inquiry_id"] for r in rows if r["inquiry_id"] is not None}
    await timeline.announce(core, inquiries)
    for channel in {r["channel"] for r in rows if r["message_kind"] == "test"}:
        core.hub.publish("channel", channel)
    for broadcast in {r["broadcast_id"] for r in rows if r["broadcast_id"] is not None}:
        core.hub.publish_calmly("broadcast", broadcast)


async def announce_moved(core: Core, moved: Sequence[Moved]) -> None:
    """Tell open pages what receipts moved; call it after the commit."""
    for broadcast in {one.broadcast_id for one in moved} - {None}:
        core.hub.publish_calmly("broadcast", broadcast)
    alone = [one.id for one in moved if one.broadcast_id is None]
    if alone:
        found = await db.rows(
            "SELECT DISTINCT inquiry_id, broadcast_id, channel, message_kind "
            f"FROM outbox WHERE id IN ({db.marks(len(alone))})",
            *alone,
        )
        await announce(core, found)
