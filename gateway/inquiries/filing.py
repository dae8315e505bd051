"""Correcting the router: a message moves to another inquiry or becomes its own.

Nothing is deleted: both timelines say what was moved, and moving it back undoes it.
"""

from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.inquiries import closing, register, timeline
from gateway.inquiries.say import reach_of
from gateway.inquiries.work import find
from gateway.status import InquiryState
from gateway.tables import Inbound, Inquiry


async def move(
    core: Core, actor: Actor, number: str, inbound_id: int, to_number: str
) -> None:
    """File a message of one inquiry under another one. Both must be the actor's."""
    actor.require(Action.WORK)
    source = await find(actor, number)
    try:
        target = await find(actor, to_number.strip())
    except NotFound:
        raise RequestError(
            "no_inquiry", "没有这个单号", fields={"to": "没有这个单号"}, status=422
        ) from None
    if source.id == target.id:
        raise RequestError("same", "这条来信已经在这张单里", status=409)
    async with db.transaction():
        message = await _claimed(source, inbound_id)
        await put(core, actor, message, target, moved_from=source)
        await timeline.note(
            core, source, "moved_out", actor, data={"number": target.number}
        )
        await source.save(update_fields=["changed_at", "worked_at"])
        await _audited(core, actor, "message.moved", inbound_id, source, target)
    await timeline.announce(core, [source.id, target.id])


async def split(core: Core, actor: Actor, number: str, inbound_id: int) -> str:
    """Make a message an inquiry of its own; its number. The member gets a receipt."""
    actor.require(Action.WORK)
    source = await find(actor, number)
    async with db.transaction():
        message = await _claimed(source, inbound_id)
        target = await register.from_message(core, message, reach_of(message))
        message.inquiry_id = target.id
        await message.save(update_fields=["inquiry_id"])
        await timeline.note(
            core, source, "moved_out", actor, data={"number": target.number}
        )
        await source.save(update_fields=["changed_at", "worked_at"])
        await _audited(core, actor, "message.split", inbound_id, source, target)
    await timeline.announce(core, [source.id, target.id])
    core.wakeups.wake_all()
    return target.number


async def put(
    core: Core,
    actor: Actor,
    message: Inbound,
    target: Inquiry,
    moved_from: Inquiry | None = None,
) -> None:
    """File `message` under `target`, which is open again with it."""
    target = await Inquiry.select_for_update().get(id=target.id)
    message.inquiry_id = target.id
    message.state = "filed"
    await message.save()
    if moved_from is not None:
        data = {"number": moved_from.number}
        await timeline.note(core, target, "moved_in", actor, data=data)
    await timeline.note(
        core, target, "message_in", actor, message.text, inbound_id=message.id
    )
    target.last_inbound_at = message.received_at
    if target.state == InquiryState.CLOSED:
        await closing.reopened_by_message(core, target)
    elif target.state in (InquiryState.ANSWERED, InquiryState.WAITING):
        target.state = InquiryState.OPEN
    await target.save()


async def _claimed(source: Inquiry, inbound_id: int) -> Inbound:
    """The message, locked, while it belongs to `source`."""
    message = await Inbound.select_for_update().get_or_none(
        id=inbound_id, inquiry_id=source.id
    )
    if message is None:
        raise NotFound("message")
    return message


async def _audited(
    core: Core,
    actor: Actor,
    action: str,
    inbound_id: int,
    source: Inquiry,
    target: Inquiry,
) -> None:
    await audit.record(
        core.clock,
        actor,
        action,
        f"inbound:{inbound_id}",
        source=source.number,
        target=target.number,
    )
