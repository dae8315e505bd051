"""One CMPP account: what the carrier's opening form says, and how it is used."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters._sms import MEANS, CodeMeaning, Means
from adapters.cmpp.content import Charset
from adapters.cmpp.pdus import Version
from gateway.contract import ReceiptState
from gateway.settings import Secret

_VERSIONS = {"2.0": Version.V20, "2.1": Version.V21, "3.0": Version.V30}


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1)
    port: int = Field(7890, ge=1, le=65535)  # long connections (7.3)
    version: Literal["2.0", "2.1", "3.0"] = "2.0"
    sp_id: str = Field(pattern="^[0-9A-Za-z]{1,6}$")  # 企业代码
    secret: Secret
    service_number: str = Field(pattern="^[0-9]{1,21}$")  # 服务代码
    extension: str = Field("", pattern="^[0-9]{0,20}$")  # put behind it
    service_id: str = Field("", pattern="^[!-~]{0,10}$")  # 业务代码
    msg_src: str = Field("", pattern="^[0-9A-Za-z]{0,6}$")  # empty: sp_id
    fee_user_type: int = Field(2, ge=0, le=3)  # who pays; 2: the SP
    fee_type: str = Field("01", pattern="^[0-9]{2}$")
    fee_code: str = Field("0", pattern="^[0-9]{0,6}$")
    fee_terminal_id: str = Field(
        "", pattern="^[0-9]{0,21}$"
    )  # where fee_user_type is 3
    msg_level: int = Field(0, ge=0, le=9)
    number_prefix: Literal["", "86", "+86"] = ""
    # Whether we put the channel's `signature` before every text, or the carrier does.
    put_signature: bool = True
    charset: Charset = "ucs2"
    wide_references: bool = False  # 16 bits: 66 instead of 67 characters a part
    max_length: int = Field(500, ge=70, le=10_000)  # UTF-16 units, signature included
    verify_ismg: bool = False  # gateways compute AuthenticatorISMG differently
    connections: int = Field(1, ge=1, le=32)
    connection_window: int = Field(16, ge=1, le=10_000)  # W of 7.1
    answer_within_seconds: float = Field(60, gt=0, le=600)  # T of 7.1
    # C of 7.1 is three minutes, T one: too long to learn that a connection is dead.
    # With these it is found and replaced within 30 seconds.
    heartbeat_seconds: float = Field(15, gt=0, le=180)
    heartbeat_within_seconds: float = Field(10, gt=0, le=60)
    parts_wait_minutes: float = Field(10, gt=0, le=24 * 60)
    # What this carrier's own list says.
    codes: dict[Annotated[int, Field(gt=0)], CodeMeaning] = Field(default_factory=dict)
    stats: dict[str, ReceiptState] = Field(default_factory=dict)
    blacklist_stats: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if len(self.src_id) > 21:
            raise ValueError("service_number and extension have more than 21 digits")
        return self

    @property
    def src_id(self) -> str:
        return self.service_number + self.extension

    @property
    def spoken(self) -> Version:
        return _VERSIONS[self.version]

    @property
    def own_codes(self) -> dict[int, Means]:
        return {code: MEANS[meaning] for code, meaning in self.codes.items()}

    @property
    def segments(self) -> tuple[int, int]:
        """UTF-16 units in a lone part and in one of several, in GBK too: the carrier
        bills and re-codes what it gets as UCS-2."""
        return (70, 66) if self.wide_references else (70, 67)
