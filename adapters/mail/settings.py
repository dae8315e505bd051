"""The section `[channels.NAME]` of an e-mail channel in settings.toml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from adapters.mail.addresses import normalise
from gateway.settings import Secret

Tls = Literal["required", "opportunistic", "none", "implicit"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _own_address(text: str) -> str:
    address = normalise(text)
    if address is None or "+" in address:
        raise ValueError("write a plain address such as service@example.org")
    local, _, domain = address.partition("@")
    if len(local) > 16:
        raise ValueError("at most 16 characters before the @: tokens follow them")
    return f"{local.lower()}@{domain}"


class Settings(BaseModel):
    """Where mail comes in, where it goes out, and under which name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_own_address)]
    from_name: str = Field(default="", max_length=60)

    listen_host: str = "127.0.0.1"
    smtp_port: int = Field(default=0, ge=0, le=65535)  # 0: off
    lmtp_port: int = Field(default=0, ge=0, le=65535)  # 0: off
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_mail_mib: int = Field(default=25, ge=1, le=100)
    max_recipients: int = Field(default=20, ge=1, le=1000)
    max_connections: int = Field(default=100, ge=1, le=10_000)
    idle_seconds: float = Field(default=300, gt=0)
    parsers: int = Field(default=2, ge=1, le=16)

    relay_host: str = "127.0.0.1"
    relay_port: int = Field(default=25, ge=1, le=65535)
    relay_tls: Tls = "required"
    relay_ca_file: Path | None = None
    username: str = ""
    password: Secret | None = None
    connections: int = Field(default=5, ge=1, le=50)
    timeout_seconds: float = Field(default=60, gt=0)
    bounce_addresses: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if bool(self.username) != bool(self.password):
            raise ValueError("username and password: give both or neither")
        open_wire = self.relay_tls in ("none", "opportunistic")
        if self.username and open_wire and self.relay_host not in LOOPBACK:
            raise ValueError(
                'relay_tls: a password needs "required" or "implicit" TLS'
                " unless the relay is on this machine"
            )
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key: give both or neither")
        return self

    @property
    def domain(self) -> str:
        return self.address.partition("@")[2]
