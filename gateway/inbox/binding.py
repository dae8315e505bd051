"""Binding an address to a member by a code: asked for, told on another way, shown.

Nothing here says whether a number belongs to a member: else whoever tries numbers
learned who is one. The answer is the same.
"""

from datetime import timedelta

from tortoise.expressions import Q

from gateway import addresses
from gateway.channels import NoRoute, Reach
from gateway.contract import Address, AddressKind, MessageKind
from gateway.core import Core
from gateway.inbox import act
from gateway.members import codes, consent
from gateway.outbox.enqueue import Draft, enqueue, route_for
from gateway.prompts import PromptKind
from gateway.tables import AddressRow, Inbound, Member, PromptRow

TRIES_AN_HOUR = 5


async def bind(core: Core, message: Inbound, reach: Reach, argument: str) -> None:
    """`绑定` asks how; with a telephone it sends a code there; with a code it binds."""
    if len(argument) == 6 and argument.isdecimal():
        await _show(core, message, reach, argument)
        return
    if argument:
        await _send_code(core, act.sender_of(message), argument)
    await act.reply(core, message, reach, "bind_ask")


async def _send_code(core: Core, asker: Address, number: str) -> None:
    """A code to that telephone, for the address that asked: nobody collects open
    codes, nor has many telephones written to."""
    try:
        phone = addresses.phone(number)
    except addresses.AddressError:
        return
    row = await AddressRow.get_or_none(
        kind=phone.kind, value=phone.value, verified_at__isnull=False
    )
    if row is None or row.member_id is None:
        return
    route = await route_for(core, MessageKind.SYSTEM, [Reach(address=phone)])
    given = await codes.issued_since(core, row.member_id, asker, timedelta(hours=1))
    if given >= TRIES_AN_HOUR or isinstance(route, NoRoute):
        return
    code = await codes.issue(core, row.member_id, asker)
    values = {"code": code}
    language = core.settings.centre.language
    text = core.texts.render("bind_code", AddressKind.PHONE, values, language)
    draft = Draft(
        kind=MessageKind.SYSTEM, text=text, variables=values, member_id=row.member_id
    )
    await enqueue(core, draft, route)


async def _show(core: Core, message: Inbound, reach: Reach, code: str) -> None:
    """Bind where the code is open; five wrong ones an hour are all one may try."""
    now = core.clock.now()
    sender = act.sender_of(message)
    tried = await Inbound.filter(
        kind=message.kind,
        value=message.value,
        route="bind_failed",
        received_at__gte=now - timedelta(hours=1),
    ).count()
    prompt = await _open(core, sender, code) if tried < TRIES_AN_HOUR else None
    if (
        prompt is None
        or not await Member.exists(id=prompt.member_id)  # erased meanwhile
        # A code gives an address to somebody, it takes it from nobody: staff do that.
        or await consent.member_of(sender) not in (None, prompt.member_id)
    ):
        message.route = "bind_failed"
        await act.reply(core, message, reach, "bind_failed")
        return
    prompt.closed_at = now
    prompt.inbound_id = message.id
    await prompt.save()
    await bind_address(core, sender, prompt.member_id, "code")
    message.member_id = prompt.member_id
    await act.reply(core, message, reach, "bind_done")


async def _open(core: Core, sender: Address, code: str) -> PromptRow | None:
    """Asked for at this address, or given by staff by word of mouth.

    The second kind opens nothing by mail: who invents senders could try every code.
    """
    wanted = Q(kind=sender.kind, value=sender.value)
    if sender.kind is not AddressKind.EMAIL:
        wanted |= Q(kind="")
    return await PromptRow.filter(
        wanted,
        prompt=PromptKind.BINDING,
        code=code,
        closed_at__isnull=True,
        expires_at__gt=core.clock.now(),
    ).first()


async def bind_address(core: Core, address: Address, member_id: int, how: str) -> None:
    """The address is this member's from now on; `how` is code, staff or import."""
    member = await Member.get(id=member_id)
    row, _ = await AddressRow.get_or_create(
        kind=address.kind,
        value=address.value,
        defaults={"created_at": core.clock.now()},
    )
    row.member_id = member.id
    row.verified_at = core.clock.now()
    row.verified_how = how
    await row.save()
    await consent.adopt(address, member.id)
