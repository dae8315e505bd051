"""What a draft will look like, to whom it goes and what it costs. Stores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from broadcasts import approval, content, notices, stage
from broadcasts import audience as audiences
from broadcasts.check import as_outbound
from broadcasts.content import Draft
from broadcasts.plan import Plan, fields
from broadcasts.stage import Group, LeftOut, staged
from gateway.actors import Action, Actor
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.database import Row
from gateway.errors import RequestError
from gateway.outbox.admit import NotSayable, message
from gateway.text import segment_count
from gateway.wording import check_text

_NO_ANSWER_HINT = "勾选了请党员回复，但短信正文没有写怎样回复，例如：参加回1，不参加回2"
_NO_OPT_OUT_HINT = "短信正文没有写怎样退订，例如：拒收请回复R"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One recipient's message; `problem` is empty where it can be sent."""

    subject: str
    text: str
    segments: int
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One channel: how many get it there, what three of them read, what it costs.

    `segments` is that of the longest sample; 0 where nothing is billed by segment.
    """

    kind: AddressKind
    channel: str
    label: str
    people: int
    segments: int
    price_fen: float
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`people` will get it; `repeated` entries of a list were named more than once."""

    people: int = 0
    opted_out: int = 0
    left_out: Sequence[LeftOut] = ()
    repeated: int = 0
    price_fen: float = 0.0
    ways: Sequence[Way] = ()
    large: bool = False
    hints: Sequence[str] = ()

    @property
    def unreachable(self) -> int:
        return sum(one.count for one in self.left_out)


async def of_draft(
    core: Core, actor: Actor, draft: Draft, id: int | None = None
) -> tuple[Preview, dict[str, str]]:
    """The preview as far as the draft goes, and what is still wrong, by field."""
    actor.require(Action.BROADCAST)
    organisation_id, scope = actor.organisation_id, actor.path
    if id is not None:
        broadcast = await notices.find(actor, id)
        organisation_id = broadcast.organisation_id
        scope = await notices.path_of(broadcast)
    faults = content.faults(draft)
    try:
        audience = audiences.parse(draft.audience)
        # Numbers are worth showing while the text is still being written.
        texts = {n: t for n, t in draft.texts.items() if n not in faults}
        planned = await notices.draft_plan(
            core,
            audience,
            organisation_id,
            scope,
            title=draft.title,
            texts=texts,
            event_at=draft.event_at,
            place=draft.place,
        )
    except RequestError as error:
        return Preview(), faults | error.fields
    repeated = getattr(audience, "repeated", 0)
    found = await of_plan(core, planned, repeated=repeated, hints=_hints(draft))
    return found, faults


async def of_plan(
    core: Core,
    planned: Plan,
    *,
    repeated: int = 0,
    usual: int = 0,
    hints: Sequence[str] = (),
) -> Preview:
    async with staged(planned) as found:
        groups = await stage.groups(found)
        missed = await stage.left_out(found)
        names = fields(core, planned)
        samples = await stage.samples(found)
        rows = [as_outbound(planned, names, row) for row in samples]
    ways = [_way(core, planned, group, rows) for group in groups]
    people = sum(group.people for group in groups)
    refused = sum(group.opted_out for group in groups)
    return Preview(
        people=people - refused,
        opted_out=refused,
        left_out=missed,
        repeated=repeated,
        price_fen=sum(way.price_fen for way in ways),
        ways=ways,
        large=approval.is_large(people, usual),
        hints=hints,
    )


def _hints(draft: Draft) -> list[str]:
    sms = content.frozen(draft.texts)["sms"]
    hints = []
    if sms and draft.rsvp and "回" not in sms.replace("拒收请回复", ""):
        hints.append(_NO_ANSWER_HINT)
    if sms and not any(word in sms for word in ("退订", "拒收")):
        hints.append(_NO_OPT_OUT_HINT)
    return hints


def _way(core: Core, planned: Plan, group: Group, rows: Sequence[Row]) -> Way:
    channel = core.channels.get(group.channel)
    assert channel is not None  # plans are made of configured channels
    own = [r for r in rows if (r["channel"], r["kind"]) == (group.channel, group.kind)]
    samples = [_sample(core, planned, row) for row in own]
    segments = max((sample.segments for sample in samples), default=0)
    people = group.people - group.opted_out
    return Way(
        kind=group.kind,
        channel=group.channel,
        label=channel.label,
        people=people,
        segments=segments,
        price_fen=channel.common.price_fen * max(segments, 1) * people,
        samples=samples,
    )


def _sample(core: Core, planned: Plan, row: Row) -> Sample:
    channel = core.channels.get(row["channel"])
    assert channel is not None
    try:
        said = message(channel, row, {0: planned.texts})
    except NotSayable as error:
        problem = approval.BAD_REASONS.get(error.code, error.code)
        return Sample(subject="", text="", segments=0, problem=problem)
    signed = channel.common.signature + said.text
    limits = channel.capabilities
    problems = check_text(said.text, limits, channel.common.signature)
    return Sample(
        subject=said.subject,
        text=signed,
        segments=segment_count(signed, limits.segments) if limits.segments else 0,
        problem=problems[0].message if problems else "",
    )
