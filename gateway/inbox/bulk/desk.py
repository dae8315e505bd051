"""What holds for a whole batch, worked out once: settings, days, deadlines, words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from gateway.channels import Route
from gateway.consent import words_of
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.inbox.bulk.world import World
from gateway.inquiries.register import deadline_from
from gateway.inquiries.say import day_text, hours_text, render
from gateway.outbox.enqueue import counts_replies
from gateway.sla import Deadline


@dataclass(slots=True, kw_only=True)
class Desk:
    core: Core
    world: World
    key: bytes  # signs reply tokens
    hours: str
    working: bool
    counts_replies: bool
    ask_who_wrote: frozenset[str]  # kinds of addresses
    opt_out_words: frozenset[str]
    most_answered: int  # messages of ten minutes
    reopen: timedelta
    days: dict[datetime, date] = field(default_factory=dict)
    deadlines: dict[date, Deadline] = field(default_factory=dict)
    day_texts: dict[datetime, str] = field(default_factory=dict)
    worded: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def at(cls, core: Core, world: World) -> "Desk":
        policy = core.settings.policy
        return cls(
            core=core,
            world=world,
            key=core.keys.derive("inquiry"),
            hours=hours_text(core),
            working=core.working_hours.is_open(world.now, core.calendar),
            counts_replies=counts_replies(core),
            ask_who_wrote=frozenset(
                kind.value for kind in AddressKind if core.channels.ask_who_wrote(kind)
            ),
            opt_out_words=words_of(policy.opt_out_words),
            most_answered=policy.messages_per_10_minutes,
            reopen=timedelta(days=policy.reopen_days),
        )

    def day(self, at: datetime) -> date:
        """All of a commit came at one instant."""
        day = self.days.get(at)
        if day is None:
            zone = self.core.settings.centre.timezone
            day = self.days[at] = at.astimezone(zone).date()
        return day

    def deadline(self, at: datetime) -> Deadline:
        """It depends on the day only."""
        day = self.day(at)
        if day not in self.deadlines:
            self.deadlines[day] = deadline_from(self.core, at)
        return self.deadlines[day]

    def day_text(self, at: datetime) -> str:
        if at not in self.day_texts:
            self.day_texts[at] = day_text(self.core, at)
        return self.day_texts[at]

    def words(
        self, text_name: str, route: Route, values: Mapping[str, str]
    ) -> tuple[str, str]:
        """Text and subject. To a crowd that answers one notice, the same is said."""
        kind, language = route.reach.address.kind, self.core.settings.centre.language
        used = self.core.texts.fields(text_name, kind, language)
        key = (text_name, kind.value, *[values.get(name, "") for name in used])
        found = self.worded.get(key)
        if found is None:
            found = self.worded[key] = render(self.core, text_name, route, values)
        return found
