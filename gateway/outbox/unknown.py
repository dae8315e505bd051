"""Messages whose outcome nobody knows: a named person says what shall become of them.

They leave the state `unknown` only by evidence or by this decision (design.md 4).
"""

from collections.abc import Mapping

from gateway import audit
from gateway import database as db
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import Row, rows, to_micros
from gateway.errors import NotFound, RequestError
from gateway.inquiries import timeline
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.tables import Inquiry

MOST = 100  # messages listed at once, oldest first
# What a person may decide: the state it leads to, and the reason kept with it.
DECISIONS: Mapping[str, tuple[str, str]] = {
    "sent": ("accepted", "confirmed"),
    "again": ("queued", "sent_again"),
    "give_up": ("dead", "given_up"),
}
_ROWS = """
SELECT x.id, x.channel, x.kind, x.value, x.message_kind, x.reason, x.changed_at,
  x.inquiry_id, x.broadcast_id, i.number, m.name AS member
FROM outbox x
LEFT JOIN inquiries i ON i.id = x.inquiry_id
LEFT JOIN members m ON m.id = x.member_id
LEFT JOIN organisations o ON o.id = COALESCE(i.organisation_id, m.organisation_id)
WHERE x.state = 'unknown' AND (o.path LIKE ? OR (o.path IS NULL AND ? = 1))
"""


async def unknown(actor: Actor) -> list[Row]:
    """What the actor may decide on; without a member or matter: administrators."""
    return await rows(f"{_ROWS} ORDER BY x.id LIMIT {MOST}", *_scope(actor))


def _scope(actor: Actor) -> tuple[object, ...]:
    return f"{actor.path}%", int(actor.may(Action.ADMINISTER))


async def decide(
    core: Core, actor: Actor, outbound_id: int, decision: str, reason: str
) -> None:
    """Raises RequestError where evidence came first, NotFound for a foreign one."""
    actor.require(Action.WORK)
    reason = reason.strip()[:200]
    if decision not in DECISIONS or not reason:
        raise RequestError(
            "reason",
            "请选择怎样处理并写明依据",
            status=422,
            fields={"reason": "请写明依据"},
        )
    found = await rows(f"{_ROWS} AND x.id = ?", *_scope(actor), outbound_id)
    if not found:
        raise NotFound("message")
    state, why = DECISIONS[decision]
    async with db.transaction():
        now = core.clock.now()
        current = await moves.locked([outbound_id])
        if current[outbound_id]["state"] != "unknown":
            raise RequestError("settled", "刚刚有了结果，不用再处理", status=409)
        move = Move(outbound_id, state, why, reason, due_at=to_micros(now))
        await moves.advance([move], now, current)
        await audit.record(
            core.clock,
            actor,
            "message.decided",
            f"outbox:{outbound_id}",
            decision=decision,
            reason=reason,
        )
        inquiry = await Inquiry.get_or_none(id=found[0]["inquiry_id"])
        if inquiry is not None:
            await timeline.note(
                core, inquiry, "decided", actor, reason, outbound_id=outbound_id
            )
    await _tell(core, found[0])


async def _tell(core: Core, row: Row) -> None:
    core.wakeups.wake_all()
    core.hub.publish("channel", row["channel"])
    if row["inquiry_id"] is not None:
        await timeline.announce(core, [row["inquiry_id"]])
    if row["broadcast_id"] is not None:
        core.hub.publish("broadcast", row["broadcast_id"])
