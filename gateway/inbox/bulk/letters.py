"""What is written back to the people of a batch: which way, and in which words."""

from collections.abc import Sequence
from dataclasses import replace

from gateway import tokens
from gateway.channels import NoRoute, Reach, choose
from gateway.contract import MessageKind
from gateway.inbox.bulk.desk import Desk
from gateway.inbox.bulk.world import Letter, Line, Matter, Message, Saying, World
from gateway.inquiries.say import reach_of, render


def way_back(desk: Desk, message: Message) -> Reach:
    found = reach_of(message)
    if not desk.counts_replies:
        return found
    return replace(found, replies_used=desk.world.replies.get(message.id, 0))


def reply(desk: Desk, message: Message, text_name: str, **values: str) -> None:
    """Answer a command where it came from; at most a few a day to strangers."""
    core, world = desk.core, desk.world
    if world.wrote[message.key] > desk.most_answered:
        message.route_detail = "not_answered: too many messages"
        return
    way = way_back(desk, message)
    route = choose(core.channels, MessageKind.SYSTEM, [way], world.now)
    if isinstance(route, NoRoute):
        codes = ", ".join(f"{one.channel}:{one.code}" for one in route.refusals)
        message.route_detail = f"not_answered: {codes}"
        return
    member = world.belongs(message)
    known = {"name": member.name if member else "", **values}
    text, subject = desk.words(text_name, route, known)
    world.letters.append(
        Letter(
            message_kind=MessageKind.SYSTEM,
            channel=route.channel.name,
            address=route.reach.address,
            text=text,
            variables=known,
            extras=_extras({"subject": subject}, route.reach),
            dedupe_key=f"reply:{message.id}:{text_name}",
            member_id=message.member_id,
            inbound_id=message.id,
        )
    )


def _extras(extras: dict[str, str], reach: Reach) -> dict[str, str]:
    if reach.mention:
        extras["mention"] = reach.mention
    if reach.in_reply_to:
        extras["in_reply_to"] = reach.in_reply_to
    return extras


def say(
    desk: Desk,
    matter: Matter,
    message_kind: MessageKind,
    text_name: str,
    ways: Sequence[Reach],
    kind: str,
) -> None:
    """One standard text of an inquiry, and its line in the timeline."""
    core, world = desk.core, desk.world
    route = choose(core.channels, message_kind, ways, world.now)
    refusals = [f"{one.channel}:{one.code}" for one in route.refusals]
    if isinstance(route, NoRoute):
        tried = {"refusals": refusals, "kind": kind}
        line = Line(inquiry_id=matter.id, kind="no_channel", data=tried)
        world.note(matter, line)
        return
    values = _values(desk, matter)
    letter = Letter(
        message_kind=message_kind,
        channel=route.channel.name,
        address=route.reach.address,
        variables=values,
        member_id=matter.member_id,
        inquiry_id=matter.id,
    )
    world.letters.append(letter)
    world.said.append(
        Saying(
            letter=letter,
            matter=matter,
            text_name=text_name,
            route=route,
            values=values,
        )
    )
    chosen = {"channel": route.channel.name, "refusals": refusals}
    line = Line(inquiry_id=matter.id, kind=kind, data=chosen, letter=letter)
    world.note(matter, line)


def _values(desk: Desk, matter: Matter) -> dict[str, str]:
    unknown = matter.member_id is None and matter.source == "message"
    return {
        "name": "" if unknown else matter.contact_name,
        "number": matter.number,
        "deadline": desk.day_text(matter.deadline_at),
        "centre": "",
        "hours": desk.hours,
    }


def settle(desk: Desk) -> None:
    """Give new matters to their centres, and what was said its words."""
    world = desk.world
    for matter in world.opened:
        if matter.new:
            matter.organisation_id = _home(world, matter)
    for saying in world.said:
        _word(desk, saying)


def _home(world: World, matter: Matter) -> int:
    if matter.member_id is not None:
        branch = world.members[matter.member_id].branch_id
        if branch in world.centres:
            return world.centres[branch]
    if world.top is None:
        raise LookupError("no organisation yet")
    return world.top


def _word(desk: Desk, saying: Saying) -> None:
    letter, matter, route = saying.letter, saying.matter, saying.route
    saying.values["centre"] = desk.world.organisations[matter.organisation_id]
    letter.text, subject = render(desk.core, saying.text_name, route, saying.values)
    token = tokens.sign(desk.key, "inquiry", matter.id)
    letter.extras = _extras({"reply_token": token, "subject": subject}, route.reach)
