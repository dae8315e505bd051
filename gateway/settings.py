"""settings.toml becomes frozen, checked data here. Every fault is listed at once.

Secrets are never written in the file: it names an environment variable
(`"env:NAME"`) or a file (`"file:PATH"`), which is read when the gateway starts.
"""

import os
import tomllib
from collections.abc import Mapping
from datetime import time, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from gateway.contract import MessageKind
from gateway.errors import SettingsError
from gateway.texts import FIELDS
from gateway.wording import WordingError, parse

Network = IPv4Network | IPv6Network
M = TypeVar("M", bound=BaseModel)


def _resolve_secret(value: object) -> object:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str) or ":" not in value:
        raise ValueError('write "env:NAME" or "file:PATH", never the secret itself')
    source, _, name = value.partition(":")
    if source == "env":
        if not (found := os.environ.get(name)):
            raise ValueError(f"environment variable {name} is not set")
        return SecretStr(found)
    if source == "file":
        try:
            return SecretStr(Path(name).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(f"file {name} can't be read: {error.strerror}") from None
    raise ValueError('write "env:NAME" or "file:PATH"')


Secret = Annotated[SecretStr, BeforeValidator(_resolve_secret)]


def _zone(value: object) -> object:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("expected an IANA time zone such as Asia/Shanghai") from None


Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]


def _wording(text: str) -> str:
    try:
        parse(text, FIELDS)
    except WordingError as error:
        raise ValueError(str(error)) from None
    return text


class Section(BaseModel):
    """A table of settings.toml; unknown keys are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, strict=False
    )


class Server(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = "http://127.0.0.1:8080"
    trusted_proxies: tuple[Network, ...] = ()
    max_body_mib: int = Field(default=4, ge=1, le=64)

    @property
    def secure(self) -> bool:
        return self.public_url.startswith("https://")


class Storage(Section):
    database_url: str = ""
    data_dir: Path = Path("data")
    demo: bool = True
    reserve_mib: int = Field(default=256, ge=0)
    spool_mib: int = Field(default=1024, ge=1)
    busy_seconds: float = Field(default=5, ge=0.1, le=60)


class Centre(Section):
    name: str = "党员服务中心"
    timezone: Zone = ZoneInfo("Asia/Shanghai")
    language: str = Field(default="zh", pattern="^(zh|en)$")
    deadline_working_days: int = Field(default=7, ge=1, le=60)
    opens: tuple[tuple[time, time], ...] = (
        (time(8, 30), time(12)),
        (time(14), time(17, 30)),
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Centre":
        flat = [edge for pair in self.opens for edge in pair]
        if not flat or flat != sorted(set(flat)):
            raise ValueError("opens: pairs of rising times, e.g. [['08:30','12:00']]")
        return self


class Policy(Section):
    allowed_from: time = time(8)
    allowed_until: time = time(21)
    opt_out_words: tuple[str, ...] = ()
    max_attempts: int = Field(default=6, ge=1, le=50)
    answer_expires_hours: int = Field(default=72, ge=1)
    broadcasts_per_day: int = Field(default=5, ge=0)  # to one person; 0: no limit
    broadcast_expires_hours: int = Field(default=24, ge=1)
    canary: int = Field(default=100, ge=0, le=100_000)
    canary_refusals: float = Field(default=0.05, ge=0, le=1)
    canary_seconds: int = Field(default=60, ge=0, le=3600)
    slow_answer_seconds: float = Field(default=10, gt=0, le=600)
    slow_share: float = Field(default=0.15, gt=0, le=1)
    share_step: int = Field(default=10, ge=1, le=100)
    share_step_seconds: int = Field(default=60, ge=1, le=3600)
    inquiry_window_days: int = Field(default=7, ge=0)
    reopen_days: int = Field(default=30, ge=0)
    prompt_days: int = Field(default=14, ge=1)
    automatic_answers_per_day: int = Field(default=3, ge=1)
    messages_per_10_minutes: int = Field(default=10, ge=1)
    fallback_order: tuple[str, ...] = ("qq", "wechat", "phone", "email")

    @property
    def inquiry_window(self) -> timedelta:
        return timedelta(days=self.inquiry_window_days)


class Daily(Section):
    enabled: bool = True
    at: time = time(9)
    grace_minutes: int = Field(default=15, ge=1, le=720)


class Binding(Section):
    """How one message kind is said on a channel that takes approved templates only.

    `variables` maps the provider's variable, in order, to a wording such as
    "{{number}}".
    """

    template: str = Field(min_length=1)
    variables: dict[str, Annotated[str, AfterValidator(_wording)]] = Field(
        default_factory=dict
    )


class ChannelCommon(Section):
    """The keys that every `[channels.NAME]` has, whatever its adapter."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    adapter: str
    enabled: bool = True
    label: str = ""
    signature: str = Field(default="", max_length=18)
    price_fen: float = Field(default=0.0, ge=0)
    rate_per_second: float | None = Field(default=None, gt=0)
    window: int | None = Field(default=None, ge=1, le=1000)
    share: int | None = Field(default=None, ge=0, le=100)  # gateway/outbox/shares
    self_test: str = ""  # an address of the centre's own: gateway/outbox/self_test
    bindings: dict[MessageKind, Binding] = Field(default_factory=dict)


COMMON_KEYS = frozenset(ChannelCommon.model_fields)


class Channel(Section):
    """One configured account: what the gateway reads, and what its adapter reads."""

    name: str
    common: ChannelCommon
    own: Any  # the adapter's Settings


class Log(Section):
    level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    json_lines: bool = False


class Settings(Section):
    server: Server = Server()
    storage: Storage = Storage()
    centre: Centre = Centre()
    policy: Policy = Policy()
    daily: Daily = Daily()
    log: Log = Log()
    sandbox: bool = False
    channels: dict[str, Channel] = Field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """DATABASE_URL wins over the file; the default is SQLite in `data_dir`."""
        given = os.environ.get("DATABASE_URL") or self.storage.database_url
        return given or f"sqlite://{self.storage.data_dir / 'lianxin.sqlite3'}"


AdapterSettings = Mapping[str, type[BaseModel]]


def load(path: Path, adapters: AdapterSettings) -> Settings:
    """Read and check the whole file.

    `adapters` maps an adapter's name to the model of its own section. Raises
    SettingsError with one line for each fault: file, key, what is expected.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: can't be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not valid TOML: {error}"]) from None
    return from_document(document, adapters, str(path))


def from_document(
    document: dict[str, Any], adapters: AdapterSettings, file: str = "settings.toml"
) -> Settings:
    document = dict(document)
    faults: list[str] = []
    sections = document.pop("channels", {})
    channels = {}
    if not isinstance(sections, dict):
        faults.append(f"{file}: [channels]: expected one table per channel")
        sections = {}
    for name, section in sections.items():
        channel = _channel(name, section, adapters, file, faults)
        if channel is not None:
            channels[name] = channel
    settings = _checked(Settings, document, file, "", faults)
    if faults or settings is None:
        raise SettingsError(faults)
    sandboxed = [n for n, c in channels.items() if c.common.adapter == "sandbox"]
    if sandboxed and not settings.sandbox:
        mend = "remove this section, or set sandbox = true at the top"
        raise SettingsError([f"{file}: [channels.{one}]: {mend}" for one in sandboxed])
    return settings.model_copy(update={"channels": channels})


def _channel(
    name: str,
    section: object,
    adapters: AdapterSettings,
    file: str,
    faults: list[str],
) -> Channel | None:
    where = f"channels.{name}"
    if not isinstance(section, dict):
        faults.append(f"{file}: [{where}]: expected a table")
        return None
    if not name.isidentifier() or not name.isascii() or len(name) > 32:
        faults.append(f"{file}: [{where}]: name it with letters, digits and _")
        return None
    common = _checked(ChannelCommon, section, file, where, faults)
    if common is None:
        return None
    model = adapters.get(common.adapter)
    if model is None:
        known = ", ".join(sorted(adapters))
        faults.append(f"{file}: {where}.adapter: expected one of: {known}")
        return None
    if not common.enabled:
        return None
    rest = {key: value for key, value in section.items() if key not in COMMON_KEYS}
    own = _checked(model, rest, file, where, faults)
    if own is None:
        return None
    return Channel(name=name, common=common, own=own)


def _checked(
    model: type[M],
    values: dict[str, Any],
    file: str,
    where: str,
    faults: list[str],
) -> M | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            key = ".".join([where, *map(str, fault["loc"])]).strip(".")
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = "no such setting; remove it or correct its spelling"
            faults.append(f"{file}: {key}: {message}")
        return None
