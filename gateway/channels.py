"""The configured channels, and the choice of one for a message. Choosing is pure."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway import addresses
from gateway.contract import (
    Adapter,
    Address,
    AddressKind,
    Capabilities,
    MessageKind,
)
from gateway.errors import SettingsError
from gateway.phrases import phrase
from gateway.settings import Binding, ChannelCommon


@dataclass(slots=True, kw_only=True)
class Channel:
    """One configured account: its adapter, its limits, what staff call it."""

    name: str
    adapter: Adapter
    common: ChannelCommon
    capabilities: Capabilities
    listening: bool = False  # its own entry (mail server, bot socket) is open
    trouble: str = ""  # last error code; empty: none since the last success
    self_test: Address | None = None  # where a message goes at the start
    tested: int = 0  # the newest such message

    @property
    def label(self) -> str:
        # The labels of the settings we ship are words of ours.
        return phrase(self.common.label or self.name)

    def serves(self, kind: AddressKind) -> bool:
        return kind in self.capabilities.address_kinds

    def binding(self, kind: MessageKind) -> Binding | None:
        return self.common.bindings.get(kind)


def channel(name: str, adapter: Adapter, common: ChannelCommon) -> Channel:
    """Settings may lower an adapter's rate and window, so they win over its own."""
    limits = adapter.capabilities
    changes: dict[str, float | int] = {}
    if common.rate_per_second is not None:
        changes["rate_per_second"] = common.rate_per_second
    if common.window is not None:
        changes["window"] = common.window
    limits = dataclasses.replace(limits, **changes)  # type: ignore[arg-type]
    made = Channel(name=name, adapter=adapter, common=common, capabilities=limits)
    if common.self_test:
        made.self_test = _own_address(made)
    return made


def _own_address(channel: Channel) -> Address:
    """Raises SettingsError where no message of the self test could ever go there."""
    where = f"channels.{channel.name}.self_test"
    if not channel.capabilities.free_text and not channel.binding(MessageKind.TEST):
        raise SettingsError([f"{where}: needs a template: add bindings.test"])
    if not channel.capabilities.proactive:
        raise SettingsError([f"{where}: this channel only replies; remove it"])
    problem = ""
    for kind in sorted(channel.capabilities.address_kinds):
        try:
            return addresses.parse(kind, channel.common.self_test)
        except addresses.AddressError as error:
            problem = problem or str(error)
    raise SettingsError([f"{where}: {problem}"])


class ChannelSet:
    """All enabled channels by name."""

    def __init__(self, channels: Iterable[Channel] = ()) -> None:
        self._channels = {channel.name: channel for channel in channels}
        self._preferring: dict[tuple[AddressKind, str], Sequence[Channel]] = {}

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def __len__(self) -> int:
        return len(self._channels)

    def get(self, name: str) -> Channel | None:
        return self._channels.get(name)

    def serving(self, kind: AddressKind) -> list[Channel]:
        return [channel for channel in self if channel.serves(kind)]

    def preferring(self, kind: AddressKind, name: str) -> Sequence[Channel]:
        """Those for `kind`, the one of that name first."""
        key = kind, name if name in self._channels else ""
        found = self._preferring.get(key)
        if found is None:
            serving = sorted(self.serving(kind), key=lambda one: one.name != name)
            found = self._preferring[key] = tuple(serving)
        return found

    def ask_who_wrote(self, kind: AddressKind) -> bool:
        """Whether any for this kind may only answer: it counts who wrote, and when."""
        return any(not one.capabilities.proactive for one in self.serving(kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One way a person can be reached now.

    `replies_used` counts what we sent since `last_inbound_at`; `channel` is where the
    person wrote last, which is preferred among channels of the same kind.
    """

    address: Address
    channel: str = ""
    last_inbound_at: datetime | None = None
    replies_used: int = 0
    in_reply_to: str = ""
    mention: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one channel can't carry this message; shown in the timeline."""

    channel: str
    code: str


@dataclass(frozen=True, slots=True)
class Route:
    channel: Channel
    reach: Reach
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class NoRoute:
    refusals: tuple[Refusal, ...] = field(default=())


def refusal(
    channel: Channel, kind: MessageKind, reach: Reach, now: datetime
) -> str | None:
    """The code why `channel` may not carry a message of `kind`; None if it may."""
    limits = channel.capabilities
    if not limits.free_text and channel.binding(kind) is None:
        return "template_only"
    if reach.last_inbound_at is None:
        return None if limits.proactive else "never_wrote"
    window = limits.reply_window
    if window is None:
        return None
    open_window = now - reach.last_inbound_at <= window
    if open_window and limits.replies_per_message is not None:
        open_window = reach.replies_used < limits.replies_per_message
        if not open_window and not limits.proactive:
            return "replies_used"
    return None if open_window or limits.proactive else "reply_window_closed"


def choose(
    channels: ChannelSet, kind: MessageKind, reaches: Sequence[Reach], now: datetime
) -> Route | NoRoute:
    """The first channel, in the order of `reaches`, that may carry the message.

    Every channel passed over is recorded with its reason.
    """
    refusals: list[Refusal] = []
    for reach in reaches:
        candidates = channels.preferring(reach.address.kind, reach.channel)
        if not candidates:
            refusals.append(Refusal(reach.address.kind.value, "no_channel"))
        for candidate in candidates:
            code = refusal(candidate, kind, reach, now)
            if code is None:
                return Route(candidate, reach, tuple(refusals))
            refusals.append(Refusal(candidate.name, code))
    return NoRoute(tuple(refusals))
