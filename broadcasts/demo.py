"""The demonstration's notices and daily queue, made by the services themselves.

A clock that stands in the past makes a finished notice: drafted, approved and sent as
any other, only that nobody's telephone rings.
"""

import dataclasses
from datetime import datetime

from tortoise.expressions import F

from broadcasts import approval, daily, notices, running
from broadcasts.content import Draft
from broadcasts.tables import Attendance
from gateway import demo
from gateway.actors import Actor, Role
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.tables import (
    AddressRow,
    Chunk,
    Entry,
    Organisation,
    Outbound,
    PromptRow,
    Staff,
)


async def install(core: Core) -> None:
    """After `gateway.demo.install`: staff, members and entries are there."""
    now = core.clock.now()
    for one in demo.load().notices:
        await _notice(core, one, now)
    entries = await Entry.filter(active=True).order_by("id")
    await daily.fill_queue([entry.id for entry in entries])


async def _notice(core: Core, one: demo.Notice, moment: datetime) -> None:
    zone = core.settings.centre.timezone
    # Activities and approvals fall into the morning, whenever it is loaded.
    now = moment.astimezone(zone).replace(hour=8, minute=30, second=0, microsecond=0)
    then = ManualClock(now + one.created)
    past = dataclasses.replace(core, clock=then)
    author = await _actor(one.created_by)
    draft = Draft(
        title=one.title,
        texts=one.texts,
        audience=one.audience,
        rsvp=one.rsvp,
        event_at=now + one.event,
        place=one.place,
        send_at=None if one.send is None else now + one.send,
    )
    made = await notices.create(past, author, draft)
    if not one.submitted_by:
        return
    submitter = await _actor(one.submitted_by)
    await approval.submit(past, submitter, made.id, confirmed=True)
    if not one.approved_by or one.sent is None:
        return
    approver = await _actor(one.approved_by)
    submitted = await notices.find(approver, made.id)
    await approval.approve(past, approver, made.id, notices.digest(submitted))
    then.set(now + one.sent)
    await running.start(past, submitter, made.id)
    await _arrived(core, made.id, now + one.sent)
    await running.settle(past)
    for reply in one.replies:
        await _replied(made.id, reply, now + one.event)


async def _actor(username: str) -> Actor:
    staff = await Staff.get(username=username)
    organisation = await Organisation.get(id=staff.organisation_id)
    return Actor(
        name=staff.name,
        role=Role(staff.role),
        organisation_id=organisation.id,
        path=organisation.path,
        staff_id=staff.id,
    )


async def _arrived(core: Core, broadcast_id: int, at: datetime) -> None:
    """Past messages are at their end: delivered where the channel tells, else taken."""
    for channel in core.channels:
        state = "delivered" if channel.capabilities.delivery_receipts else "accepted"
        rows = await Outbound.filter(
            broadcast_id=broadcast_id, channel=channel.name, state="planned"
        ).values_list("id", flat=True)
        await moves.advance([Move(int(str(id)), state, attempt=1) for id in rows], at)
    await Chunk.filter(broadcast_id=broadcast_id).update(
        state="done", journalled_to=F("last_id")
    )


async def _replied(broadcast_id: int, reply: demo.Reply, at: datetime) -> None:
    address = await AddressRow.get(kind="phone", value=reply.member)
    if address.member_id is None:
        return
    if reply.rsvp:
        await PromptRow.filter(
            broadcast_id=broadcast_id, member_id=address.member_id
        ).update(answer=reply.rsvp, closed_at=at)
    if reply.attended:
        await Attendance.create(
            broadcast_id=broadcast_id, member_id=address.member_id, at=at
        )
