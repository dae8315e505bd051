"""What every service is handed: settings, clock, keys, channels, hub, calendar."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.channels import ChannelSet
from gateway.clock import Clock
from gateway.commits import Commits
from gateway.consent import QuietHours
from gateway.hub import Hub
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.sla import Calendar, WorkingHours
from gateway.space import MIB, Space
from gateway.texts import Texts
from gateway.wakeup import Wakeups


@dataclass(slots=True, kw_only=True)
class Core:
    """One running gateway. Built by run.py and by tests, never global."""

    settings: Settings
    clock: Clock
    keys: Keys
    channels: ChannelSet
    texts: Texts
    calendar: Calendar  # replaced whole when staff correct a day
    hub: Hub = field(default_factory=Hub)
    wakeups: Wakeups = field(default_factory=Wakeups)
    commits: Commits = field(default_factory=Commits)
    metrics: Metrics = field(default_factory=Metrics)
    node_id: int = 0
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        storage, url = self.settings.storage, self.settings.database_url
        path = Path(url.removeprefix("sqlite://")) if "sqlite:" in url else None
        self.space = Space(storage.data_dir, storage.reserve_mib * MIB, path)

    @property
    def working_hours(self) -> WorkingHours:
        centre = self.settings.centre
        return WorkingHours(timezone=centre.timezone, spells=centre.opens)

    @property
    def quiet_hours(self) -> QuietHours:
        """In the centre's time zone."""
        policy = self.settings.policy
        return QuietHours(start=policy.allowed_until, end=policy.allowed_from)
