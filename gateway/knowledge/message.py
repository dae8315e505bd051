"""An entry as the daily Q&A says it, and how that looks on a telephone and in QQ."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.channels import Channel
from gateway.contract import AddressKind, MessageKind
from gateway.core import Core
from gateway.text import excerpt, length, segment_count
from gateway.texts import fill, variant
from gateway.wording import check_text

SHORT_ANSWER = 60  # characters, where the whole one is too long for a channel
_USUAL_SEGMENTS = (70, 67)  # where no SMS channel says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Wordings by variant, and the values of their placeholders."""

    texts: Mapping[str, str]
    values: Mapping[str, str]


def compose(core: Core, question: str, answer: str, basis: str) -> Message:
    return Message(
        texts=dict(core.texts.variants("daily", core.settings.centre.language)),
        values={
            "question": _plain(question),
            "answer_text": _plain(answer),
            "basis": _plain(basis) or "—",
        },
    )


def shortened(message: Message) -> Message:
    """In text messages only the beginning of the answer; all else as it was."""
    sms = message.texts.get("sms", message.texts["default"])
    begun = excerpt(message.values["answer_text"], SHORT_ANSWER)
    return Message(
        texts={**message.texts, "sms": sms.replace("answer_text", "text")},
        values={**message.values, "text": begun},
    )


def _plain(text: str) -> str:
    """Text messages carry the signature in these brackets and no others."""
    return text.replace("【", "〔").replace("】", "〕")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One message as a member reads it. `units` counts as the channel does, `segments`
    is 0 where nothing is billed by segment; `problem` is empty where it can be sent."""

    kind: AddressKind
    label: str  # of the channel; empty: none serves this kind
    text: str
    units: int
    segments: int = 0
    price_fen: float = 0.0
    cut: bool = False  # only the beginning of the answer fits
    problem: str = ""


def looks(core: Core, question: str, answer: str, basis: str) -> list[Look]:
    """The message by SMS and in QQ, on the first channel that serves each."""
    whole = compose(core, question, answer, basis)
    kinds = (AddressKind.PHONE, AddressKind.QQ)
    return [_look(core, whole, kind) for kind in kinds]


def _look(core: Core, message: Message, kind: AddressKind) -> Look:
    serving = core.channels.serving(kind)
    if not serving:
        return _without_channel(message, kind)
    channel = serving[0]
    found = _on(channel, message, kind)
    if kind is AddressKind.PHONE and _too_long(channel, found.text):
        return replace(_on(channel, shortened(message), kind), cut=True)
    return found


def _without_channel(message: Message, kind: AddressKind) -> Look:
    text = fill(variant(message.texts, kind), message.values).strip()
    segments = segment_count(text, _USUAL_SEGMENTS) if kind is AddressKind.PHONE else 0
    return Look(kind=kind, label="", text=text, units=len(text), segments=segments)


def _on(channel: Channel, message: Message, kind: AddressKind) -> Look:
    limits, common = channel.capabilities, channel.common
    text = fill(variant(message.texts, kind), message.values).strip()
    signed = common.signature + text
    segments = segment_count(signed, limits.segments) if limits.segments else 0
    problems = [one.message for one in check_text(text, limits, common.signature)]
    if not limits.free_text and channel.binding(MessageKind.DAILY) is None:
        problems.insert(0, "这个渠道只能发审核过的模板，每日一答还没有配模板")
    return Look(
        kind=kind,
        label=channel.label,
        text=signed,
        units=length(signed, limits.encoding),
        segments=segments,
        price_fen=common.price_fen * max(segments, 1),
        cut=False,
        problem=problems[0] if problems else "",
    )


def _too_long(channel: Channel, text: str) -> bool:
    limits = channel.capabilities
    return length(text, limits.encoding) > limits.max_length
