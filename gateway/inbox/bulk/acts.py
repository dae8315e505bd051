"""Decides a batch in memory, message by message in their order, and does what was
decided: the same as `gateway.inbox.act` does to single rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

from gateway import tokens
from gateway.channels import Reach
from gateway.contract import AddressKind, MessageKind
from gateway.inbox.bulk.desk import Desk
from gateway.inbox.bulk.letters import reply, say, way_back
from gateway.inbox.bulk.world import (
    Line,
    Matter,
    Message,
    OptOut,
    Person,
    Question,
    World,
    address_of,
)
from gateway.inbox.route import (
    Answer,
    Append,
    Command,
    CommandName,
    Decision,
    Refuse,
    Register,
    Resume,
    Review,
    Situation,
    decide,
)
from gateway.inquiries import matters
from gateway.inquiries.closing import DISSATISFIED
from gateway.inquiries.register import received_at, text_of
from gateway.inquiries.say import reach_of
from gateway.outbox.enqueue import rank
from gateway.prompts import PromptKind
from gateway.questions import KEPT_OPEN
from gateway.status import InquiryState
from gateway.text import excerpt


class Alone(StrEnum):
    """How a message is taken that has to be acted on by itself."""

    AFTER = "after"  # it concerns nobody else: after the batch is stored
    LAST = "last"  # what follows may depend on it: it ends the batch


_AFTER = frozenset(
    {
        CommandName.SUBSCRIBE,
        CommandName.UNSUBSCRIBE,
        CommandName.TODAY,
        CommandName.PROGRESS,
    }
)


@dataclass(slots=True)
class Taken:
    """Messages that were decided here, and those that have to be taken by themselves;
    what came after `alone` stays stored."""

    done: list[Message] = field(default_factory=list)
    alone: list[Message] = field(default_factory=list)


def take(desk: Desk, messages: Sequence[Message]) -> Taken:
    taken = Taken()
    waiting = set()
    for message in messages:
        if message.key in waiting:
            break
        message.member_id = _member_of(desk.world, message)
        decision = decide(understand(desk, message))
        match _alone(desk, decision, message):
            case Alone.LAST:
                taken.alone.append(message)
                break
            case Alone.AFTER:
                taken.alone.append(message)
                waiting.add(message.key)
            case None:
                _know(desk, message)
                _act(desk, message, decision)
                taken.done.append(message)
    return taken


def _member_of(world: World, message: Message) -> int | None:
    person = world.people.get(message.key)
    return None if person is None else person.member_id


def _alone(desk: Desk, decision: Decision, message: Message) -> Alone | None:
    match decision:
        case Command(CommandName.BIND):
            return Alone.LAST
        case Command(name) if name in _AFTER:
            return Alone.AFTER
        case Answer(prompt_id, value):
            return _rating_alone(desk, _question(desk.world, message, prompt_id), value)
        case _:
            return None


def _rating_alone(desk: Desk, question: Question, value: str) -> Alone | None:
    """Bad news goes to the director; mails keep their subjects; some count replies."""
    if question.asked.prompt.kind is not PromptKind.RATING:
        return None
    if question.inquiry_id is None:
        return None
    matter = desk.world.matters.get(question.inquiry_id)
    plain = (
        matter is not None
        and matter.kind != AddressKind.EMAIL
        and int(value) != DISSATISFIED
        and not desk.counts_replies
    )
    return None if plain else Alone.LAST


def _question(world: World, message: Message, prompt_id: int) -> Question:
    for one in world.questions[message.key]:
        if one.asked.id == prompt_id:
            return one
    raise LookupError(prompt_id)


def understand(desk: Desk, message: Message) -> Situation:
    world = desk.world
    known = world.matters_of(message)
    questions = world.questions.get(message.key)
    quotes = message.reply_token or message.id in world.quoted
    return Situation(
        text=message.text,
        automatic=message.automatic,
        prompts=[one.asked for one in questions if one.closed_at is None]
        if questions
        else (),
        thread=_thread(desk, message) if quotes else None,
        named=_named(desk, message) if message.id in world.named else (),
        open_ones=world.open_ones(known) if known else (),
        closed_ones=world.closed_ones(known) if known else (),
        opt_out_words=desk.opt_out_words,
    )


def _thread(desk: Desk, message: Message) -> int | None:
    signed = None
    if message.reply_token:
        signed = tokens.verify(desk.key, "inquiry", message.reply_token)
    for id in (signed, desk.world.quoted.get(message.id)):
        if id is None:
            continue
        matter = desk.world.matters.get(id)
        if matter and desk.world.may_join(message, matter, desk.reopen):
            return id
    return None


def _named(desk: Desk, message: Message) -> list[int]:
    world = desk.world
    found = (world.by_number.get(one) for one in world.named[message.id])
    return [
        one.id for one in found if one and world.may_join(message, one, desk.reopen)
    ]


def _know(desk: Desk, message: Message) -> None:
    """The address, made on first sight; remembers when it last wrote, where that
    decides on an answer."""
    people = desk.world.people
    person = people.get(message.key)
    if person is None:
        person = people[message.key] = Person(
            id=0,
            key=message.key,
            member_id=None,
            display_name="",
            last_inbound_at=None,
            touched=True,
        )
    if message.kind in desk.ask_who_wrote and not message.automatic:
        person.last_inbound_at = message.received_at
        person.touched = True
    if message.display_name:
        person.display_name = message.display_name[:128]
        person.touched = True


def _act(desk: Desk, message: Message, decision: Decision) -> None:
    match decision:
        case Answer(prompt_id, value):
            _answer(desk, message, _question(desk.world, message, prompt_id), value)
        case Append(inquiry_id, reason, thanks):
            _append(desk, message, desk.world.matters[inquiry_id], reason, thanks)
        case Register():
            _register(desk, message)
        case Refuse(rest):
            _refuse(desk, message, rest)
        case Resume():
            _resume(desk, message)
        case Command():
            _handled(message, f"command_{CommandName.HELP}")
            reply(desk, message, "help", hours=desk.hours)
        case Review(reason, candidates):
            message.state, message.route = "review", reason
            message.route_detail = ",".join(map(str, candidates))


def _handled(message: Message, route: str, detail: str = "") -> None:
    message.state, message.route, message.route_detail = "handled", route, detail


def _filed(world: World, message: Message, matter: Matter, route: str) -> None:
    message.state, message.route, message.inquiry_id = "filed", route, matter.id
    _wrote_last(world, message, matter)


def _wrote_last(world: World, message: Message, matter: Matter) -> None:
    if not message.automatic:
        world.last_in[matter.id] = message


def _answer(desk: Desk, message: Message, question: Question, value: str) -> None:
    world, kind = desk.world, question.asked.prompt.kind
    question.answer, question.inbound_id = value, message.id
    if kind not in KEPT_OPEN:
        question.closed_at = world.now
    world.answered.append(question)
    _handled(message, f"prompt_{kind}", value)
    if kind is PromptKind.RATING and question.inquiry_id is not None:
        matter = world.matters[question.inquiry_id]
        message.inquiry_id, message.state = matter.id, "filed"
        _rated(desk, message, matter, int(value))
        _wrote_last(world, message, matter)
    elif kind is PromptKind.RSVP:
        reply(desk, message, f"notice_rsvp_{value}", title=question.title)


def _rated(desk: Desk, message: Message, matter: Matter, rating: int) -> None:
    matter.rating = rating
    line = Line(
        inquiry_id=matter.id,
        kind="rated",
        data={"rating": rating},
        inbound_id=message.id,
    )
    desk.world.note(matter, line)
    say(
        desk,
        matter,
        MessageKind.SYSTEM,
        "callback_thanks",
        _ways_to(desk, matter),
        "thanked",
    )


def _ways_to(desk: Desk, matter: Matter) -> list[Reach]:
    """Where the member wrote last on this matter, then the other addresses."""
    world = desk.world
    last = world.last_in.get(matter.id)
    first = reach_of(last) if last else None
    if first is None and matter.value:
        first = Reach(address=address_of(matter), channel=matter.channel)
    found = [] if first is None else [first]
    member = world.members.get(matter.member_id or 0)
    if member is None or matter.member_id is None:
        return found
    order = list(desk.core.settings.policy.fallback_order)
    homes = sorted(
        world.homes.get(matter.member_id, ()),
        key=lambda one: rank(one.kind, member.preferred_kind, order),
    )
    reaches = (
        Reach(address=address_of(one), last_inbound_at=one.last_inbound_at)
        for one in homes
    )
    return found + [
        one for one in reaches if first is None or one.address != first.address
    ]


def _append(
    desk: Desk, message: Message, matter: Matter, reason: str, thanks: bool
) -> None:
    world = desk.world
    line = Line(
        inquiry_id=matter.id,
        kind="message_in",
        text=message.text,
        inbound_id=message.id,
    )
    world.note(matter, line)
    matter.last_inbound_at = message.received_at
    if not thanks:
        if matter.state == InquiryState.CLOSED:
            _reopen(desk, matter)
        elif matter.state in (InquiryState.ANSWERED, InquiryState.WAITING):
            matter.state = InquiryState.OPEN
    _filed(world, message, matter, reason)


def _reopen(desk: Desk, matter: Matter) -> None:
    new = desk.deadline(desk.world.now)
    matter.state = InquiryState.OPEN
    matter.reopened += 1
    matter.closed_at = None
    matter.deadline_at, matter.deadline_provisional = new.at, new.provisional
    desk.world.opened.append(matter)
    line = Line(inquiry_id=matter.id, kind="reopened", text="message")
    desk.world.note(matter, line)


def _register(desk: Desk, message: Message) -> None:
    world = desk.world
    matter = _new_matter(desk, message)
    world.add(matter)
    world.opened.append(matter)
    line = Line(
        inquiry_id=matter.id,
        kind="received",
        text=message.text,
        inbound_id=message.id,
    )
    world.note(matter, line)
    if matter.received_at >= world.now - timedelta(days=1):
        world.asked[message.key] += 1
    if not message.automatic:
        _acknowledge(desk, message, matter)
    _filed(world, message, matter, "new")


def _new_matter(desk: Desk, message: Message) -> Matter:
    world = desk.world
    received = received_at(message.sent_at, message.received_at, world.now)
    due = desk.deadline(received)
    member = world.belongs(message)
    text = text_of(message.subject, message.text)
    return Matter(
        id=next(world.ids),
        number=world.next_number(_digits(desk.day(received))),
        organisation_id=0,
        member_id=message.member_id,
        owner_id=None,
        source="message",
        channel=message.channel,
        kind=message.kind,
        value=message.value,
        contact_name=member.name if member else message.display_name[:64],
        state=InquiryState.NEW,
        rating=None,
        reopened=0,
        received_at=received,
        deadline_at=due.at,
        deadline_provisional=due.provisional,
        closed_at=None,
        changed_at=world.now,
        last_inbound_at=received,
        conversation_kind=message.conversation_kind,
        conversation_value=message.conversation_value,
        text=text.strip(),
        matter=matters.guess(text),
        urgency=matters.guess_urgency(text),
        new=True,
        touched=True,
    )


@lru_cache(maxsize=64)
def _digits(day: date) -> str:
    return day.strftime("%Y%m%d")


def _acknowledge(desk: Desk, message: Message, matter: Matter) -> None:
    most = desk.core.settings.policy.automatic_answers_per_day
    if desk.world.asked[message.key] > most:
        line = Line(inquiry_id=matter.id, kind="receipt_skipped")
        desk.world.note(matter, line)
        return
    name = "receipt_working" if desk.working else "receipt_after_hours"
    way = way_back(desk, message)
    say(desk, matter, MessageKind.RECEIPT, name, [way], "receipt")


def _refuse(desk: Desk, message: Message, rest: str) -> None:
    world = desk.world
    held = any(not one.ended for one in world.opt_outs.get(message.key, ()))
    if not held:
        made = OptOut(
            id=0,
            kind=message.kind,
            value=message.value,
            member_id=message.member_id,
            inbound_id=message.id,
            evidence=excerpt(message.text, 80),
        )
        world.refuse(made)
        world.refused.append(made)
        reply(desk, message, "opt_out_done")
    _handled(message, "opt_out")
    if rest:
        _register(desk, message)


def _resume(desk: Desk, message: Message) -> None:
    world = desk.world
    held = list(world.opt_outs.get(message.key, ()))
    if message.member_id is not None:
        held += world.member_opt_outs.get(message.member_id, ())
    for one in held:
        one.ended = True
    reply(desk, message, "opt_in_done")
    _handled(message, "opt_in")
