"""The section `[channels.NAME]` of an SMPP account."""

import ssl
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from adapters._sms import MEANS, CodeMeaning, Means
from gateway.contract import ReceiptState
from gateway.settings import Secret


class Bind(StrEnum):
    """SMPP 3.4, 2.2.1."""

    TRANSCEIVER = "transceiver"  # every connection sends and receives
    SEPARATE = "separate"  # `connections` transmitters, and one receiver besides


class TextCoding(StrEnum):
    UCS2 = "ucs2"  # always: what previews count is what leaves
    AUTO = "auto"  # GSM-7 where every character is in it
    LATIN1 = "latin1"  # Latin-1 where every character is in it


class Alphabet(StrEnum):
    """What data_coding 0 means at this centre."""

    GSM7 = "gsm7"
    LATIN1 = "latin1"
    ASCII = "ascii"


class NumberFormat(StrEnum):
    DIGITS = "digits"  # 8613800138000
    PLUS = "plus"  # +8613800138000
    NATIONAL = "national"  # 13800138000; foreign numbers stay 00...


class MessageIds(StrEnum):
    """How ids stand in the submit answer, and in the text of a receipt."""

    AS_IS = "as_is"
    HEX = "hex"
    DECIMAL = "decimal"
    HEX_THEN_DECIMAL = "hex_then_decimal"
    DECIMAL_THEN_HEX = "decimal_then_hex"


def _status(code: str) -> str:
    if not 0 < int(code, 16) <= 0xFFFFFFFF:
        raise ValueError("expected a command_status such as 0x0411")
    return code


StatusCode = Annotated[str, AfterValidator(_status)]


def _no_nul(password: SecretStr) -> SecretStr:
    found = password.get_secret_value()
    if not (found.isascii() and found.isprintable() and len(found) <= 64):
        raise ValueError("expected at most 64 printable ASCII characters")
    return password


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1)
    port: int = Field(2775, ge=1, le=65535)
    tls: bool = False
    tls_ca: Path | None = None  # the centre's own certificate authority
    system_id: str = Field(min_length=1, max_length=15, pattern="^[!-~]+$")
    password: Annotated[Secret, AfterValidator(_no_nul)]
    system_type: str = Field("", max_length=12, pattern="^[!-~]*$")
    bind: Bind = Bind.TRANSCEIVER
    connections: int = Field(1, ge=1, le=32)
    connection_window: int = Field(10, ge=1, le=10_000)

    source: str = Field("", max_length=20, pattern="^[0-9A-Za-z+]*$")
    source_ton: int = Field(0, ge=0, le=255)
    source_npi: int = Field(1, ge=0, le=255)
    destination_ton: int = Field(1, ge=0, le=255)
    destination_npi: int = Field(1, ge=0, le=255)
    number_format: NumberFormat = NumberFormat.DIGITS
    service_type: str = Field("", max_length=5, pattern="^[!-~]*$")
    validity_hours: int = Field(0, ge=0, le=24 * 30)  # 0: the centre's own

    # Whether we put the channel's `signature` before every text, or the centre does.
    put_signature: bool = True
    max_length: int = Field(500, ge=70, le=10_000)  # UTF-16 units with the signature
    text_coding: TextCoding = TextCoding.UCS2
    default_alphabet: Alphabet = Alphabet.GSM7
    gsm7_packed: bool = False
    wide_references: bool = False  # 16 bits: 66 instead of 67 characters a part
    message_ids: MessageIds = MessageIds.AS_IS
    codes: dict[StatusCode, CodeMeaning] = Field(default_factory=dict)
    stats: dict[str, ReceiptState] = Field(default_factory=dict)  # `stat` of receipts
    blacklist_errors: frozenset[str] = frozenset()  # `err` of receipts
    blacklist_stats: frozenset[str] = frozenset()

    answer_within_seconds: float = Field(60, gt=0, le=600)
    heartbeat_seconds: float = Field(10, gt=0, le=300)
    heartbeat_within_seconds: float = Field(10, gt=0, le=60)
    parts_wait_minutes: float = Field(10, gt=0, le=24 * 60)

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        is_gsm7 = self.text_coding is TextCoding.AUTO or self.gsm7_packed
        if is_gsm7 and self.default_alphabet is not Alphabet.GSM7:
            raise ValueError(
                'text_coding = "auto" and gsm7_packed need default_alphabet = "gsm7":'
                " data_coding 0 would be read as something else"
            )
        return self

    @property
    def own_codes(self) -> dict[int, Means]:
        return {int(code, 16): MEANS[means] for code, means in self.codes.items()}

    @property
    def segments(self) -> tuple[int, int]:
        """UTF-16 units in a lone part and in one of several."""
        return (70, 66) if self.wide_references else (70, 67)

    def tls_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        return ssl.create_default_context(cafile=self.tls_ca)
