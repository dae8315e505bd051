"""The review tray: messages whose meaning a person has to say, and that decision.

A message of a known member, or one that may belong to a known matter, is seen where
that person or matter belongs; all others by the top of the tree and administrators.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway import audit, questions
from gateway import database as db
from gateway.actors import Action, Actor, Role
from gateway.core import Core
from gateway.database import Row, marks, rows
from gateway.errors import NotFound, RequestError
from gateway.inbox import act
from gateway.inquiries import filing
from gateway.inquiries import register as registering
from gateway.inquiries.say import reach_of
from gateway.inquiries.work import find
from gateway.members import consent
from gateway.prompts import OpenPrompt
from gateway.tables import Inbound, PromptRow
from gateway.text import excerpt

MOST = 200  # messages shown at once, oldest first
_ABOUT = ("several_open", "several_numbers")  # wavered between inquiries


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message before staff, with what it may belong to."""

    message: Row
    inquiries: Sequence[Row]  # newest first
    prompts: Sequence[OpenPrompt]


async def waiting(core: Core, actor: Actor) -> list[Waiting]:
    found = await _visible(actor)
    return [
        Waiting(
            message=row,
            inquiries=await _inquiries(actor, row),
            prompts=await _prompts(core, row),
        )
        for row in found
    ]


async def count(actor: Actor) -> int:
    return len(await _visible(actor))


_MESSAGES = """
SELECT i.id, i.channel, i.kind, i.value, i.text, i.subject, i.display_name,
  i.received_at, i.route, i.route_detail, i.automatic, m.id AS member_id,
  m.name AS member, b.name AS organisation, b.path AS path
FROM inbound i
LEFT JOIN addresses a ON a.kind = i.kind AND a.value = i.value
  AND a.verified_at IS NOT NULL
LEFT JOIN members m ON m.id = COALESCE(i.member_id, a.member_id)
LEFT JOIN organisations b ON b.id = m.organisation_id
WHERE i.state = 'review'
"""


async def _visible(actor: Actor) -> list[Row]:
    """The oldest that the actor may see: what others have to decide, however much,
    never stands before it."""
    if not actor.may(Action.WORK):
        return []
    if await _sees_strangers(actor):
        strangers, values = "OR b.path IS NULL", []
    else:
        strangers = f"OR (b.path IS NULL AND i.route IN ({marks(len(_ABOUT))}))"
        values = list(_ABOUT)
    found = await rows(
        f"{_MESSAGES} AND (b.path LIKE ? {strangers}) ORDER BY i.id LIMIT 1000",
        f"{actor.path}%",
        *values,
    )
    if values:
        found = await _about_visible(actor, found)
    return found[:MOST]


async def _about_visible(actor: Actor, found: Sequence[Row]) -> list[Row]:
    """Without those of strangers on matters that the actor doesn't see."""
    ids = {id for row in found if row["path"] is None for id in _candidates(row)}
    seen = {row["id"] for row in await _seen(actor, ids)}
    return [
        row
        for row in found
        if row["path"] is not None or not seen.isdisjoint(_candidates(row))
    ]


async def _sees_strangers(actor: Actor) -> bool:
    if actor.role is Role.ADMINISTRATOR:
        return True
    top = await rows(
        "SELECT 1 AS x FROM organisations WHERE parent_id IS NULL AND id = ?",
        actor.organisation_id,
    )
    return bool(top)


_INQUIRIES = """
SELECT i.id, i.number, i.text, i.state, i.changed_at FROM inquiries i
JOIN organisations o ON o.id = i.organisation_id
JOIN organisations f ON f.id = i.first_organisation_id
WHERE (o.path LIKE ? OR f.path LIKE ?)
"""


def _candidates(row: Row) -> list[int]:
    """The inquiries that the router wavered between."""
    if row["route"] not in _ABOUT:
        return []
    return [int(one) for one in row["route_detail"].split(",") if one.isdecimal()]


async def _seen(actor: Actor, ids: Collection[int]) -> list[Row]:
    """Those of these inquiries that the actor sees, newest first."""
    if not ids:
        return []
    return await rows(
        f"{_INQUIRIES} AND i.id IN ({marks(len(ids))}) ORDER BY i.id DESC",
        f"{actor.path}%",
        f"{actor.path}%",
        *ids,
    )


async def _inquiries(actor: Actor, row: Row) -> list[Row]:
    """What the router named, else the sender's newest matters."""
    named = await _seen(actor, _candidates(row))
    if named:
        return named
    return await rows(
        f"{_INQUIRIES} AND ((i.kind = ? AND i.value = ?) OR i.member_id = ?) "
        "ORDER BY i.id DESC LIMIT 3",
        f"{actor.path}%",
        f"{actor.path}%",
        row["kind"],
        row["value"],
        -1 if row["member_id"] is None else row["member_id"],
    )


async def _prompts(core: Core, row: Row) -> list[OpenPrompt]:
    """The questions it may answer: those still open at this address."""
    if row["route"] != "which_prompt":
        return []
    address = act.sender_of(Inbound(kind=row["kind"], value=row["value"]))
    return await questions.open_at(core, [address])


async def decide(core: Core, actor: Actor, inbound_id: int, decision: str) -> str:
    """Carry out what a person decided; the number of the inquiry, or "".

    `decision`: `inquiry:NUMBER`, `new`, `opt_out`, `ignore`, `prompt:ID:VALUE`.
    Raises RequestError(decided) where somebody was quicker.
    """
    actor.require(Action.WORK)
    if not any(row["id"] == inbound_id for row in await _visible(actor)):
        raise await _gone(inbound_id)
    async with db.transaction():
        message = await Inbound.select_for_update().get(id=inbound_id)
        if message.state != "review":
            raise await _gone(inbound_id)
        if message.member_id is None:
            message.member_id = await consent.member_of(act.sender_of(message))
        await _carry_out(core, actor, message, decision)
        message.route_detail = f"{message.route}: {decision}"[:200]
        message.route = "staff"
        await message.save()
        await audit.record(
            core.clock,
            actor,
            "review.decided",
            f"inbound:{inbound_id}",
            to=decision[:80],
        )
    core.wakeups.wake_all()
    core.hub.publish("review", inbound_id)
    await act.announce(core, message)
    return "" if message.inquiry_id is None else await _number(message.inquiry_id)


async def _number(inquiry_id: int) -> str:
    found = await rows("SELECT number FROM inquiries WHERE id = ?", inquiry_id)
    return str(found[0]["number"])


async def _gone(inbound_id: int) -> RequestError:
    """Decided by somebody else, or never the actor's."""
    if await Inbound.filter(id=inbound_id, route="staff").exists():
        return RequestError("decided", "这条消息已经有人处理了", status=409)
    return NotFound("message")


async def _carry_out(core: Core, actor: Actor, message: Inbound, decision: str) -> None:
    what, _, argument = decision.partition(":")
    match what:
        case "inquiry":
            target = await find(actor, argument)
            await filing.put(core, actor, message, target)
        case "new":
            inquiry = await registering.from_message(core, message, reach_of(message))
            message.state, message.inquiry_id = "filed", inquiry.id
        case "opt_out":
            await _refuse(core, actor, message)
        case "ignore":
            message.state = "ignored"
        case "prompt":
            await _answer(core, message, argument)
        case _:
            raise RequestError("decision", "请选择一种处理方式", status=422)


async def _refuse(core: Core, actor: Actor, message: Inbound) -> None:
    new = await consent.opt_out(
        core,
        act.sender_of(message),
        how="staff",
        evidence=excerpt(message.text, 80),
        inbound_id=message.id,
        staff_id=actor.staff_id,
    )
    message.state = "handled"
    if new:
        await act.reply(core, message, reach_of(message), "opt_out_done")


async def _answer(core: Core, message: Inbound, argument: str) -> None:
    """`ID:VALUE`: the message answers this question so."""
    number, _, value = argument.partition(":")
    address = act.sender_of(message)
    for prompt in await questions.open_at(core, [address]):
        known = [option for option, _ in prompt.prompt.options]
        if str(prompt.id) == number and value in known:
            await act.answer_prompt(core, message, reach_of(message), prompt.id, value)
            return
    raise RequestError("closed", "这个问题已经不能再回答", status=409)


async def subject_of(prompt_id: int) -> PromptRow:
    """The question itself, for the words of a choice."""
    return await PromptRow.get(id=prompt_id)
