"""What follows from an outcome: waiting receipts, opt-outs, the inquiry's timeline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.channels import Channel
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import Row
from gateway.errors import DeliveryError, PermanentFailure
from gateway.inquiries import timeline
from gateway.members import consent
from gateway.outbox import receipts
from gateway.outbox.journal import Settlement
from gateway.tables import ChannelEvent, InquiryEvent

if TYPE_CHECKING:
    from gateway.outbox.sender import Answered


async def settled(
    core: Core,
    channel: Channel,
    answered: Sequence["Answered"],
    settlements: Sequence[Settlement],
) -> None:
    """Runs in the transaction that settled these rows."""
    for one, settlement in zip(answered, settlements, strict=True):
        if isinstance(one.outcome, DeliveryError):
            await _failed(core, channel, one.row, one.outcome, settlement)
    known = [s for s in settlements if s.provider_ids or s.state == "unknown"]
    if known:
        await receipts.apply_early(core, channel.name, known)


async def _failed(
    core: Core,
    channel: Channel,
    row: Row,
    error: DeliveryError,
    settlement: Settlement,
) -> None:
    now = core.clock.now()
    await ChannelEvent.create(
        channel=channel.name,
        key=f"send:{row['id']}:{settlement.number}",
        code=settlement.code,
        detail=settlement.detail,
        at=now,
    )
    if isinstance(error, PermanentFailure) and error.opted_out:
        address = Address(AddressKind(row["kind"]), row["value"])
        await consent.opt_out(core, address, how="provider", evidence=settlement.code)
    if row["inquiry_id"] is not None and settlement.state != "queued":
        await InquiryEvent.create(
            inquiry_id=row["inquiry_id"],
            at=now,
            kind="undelivered",
            outbound_id=row["id"],
            data={"state": settlement.state, "code": settlement.code},
        )


async def announce(core: Core, rows: Sequence[Row]) -> None:
    """Tell open pages; call it after the commit."""
    inquiries = {r["inquiry_id"] for r in rows if r["inquiry_id"] is not None}
    await timeline.announce(core, inquiries)
    for channel in {r["channel"] for r in rows if r["message_kind"] == "test"}:
        core.hub.publish("channel", channel)
    for broadcast in {r["broadcast_id"] for r in rows if r["broadcast_id"] is not None}:
        core.hub.publish("broadcast", broadcast)
