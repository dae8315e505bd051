"""What the sandbox provider writes down: one JSON line for each thing that happened.

A line is complete before the gateway hears of it, so that whoever counts lines counts
what really arrived. No policy here.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.contract import Address, MessageKind


class Medium(StrEnum):
    SMS = "sms"
    QQ = "qq"
    EMAIL = "email"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: datetime
    medium: Medium


class Arrived(_Line):
    """A message of the gateway that reached its person. `id` is the gateway's."""

    what: Literal["arrived"] = "arrived"
    channel: str
    id: str
    provider_id: str
    kind: MessageKind
    to: Address
    text: str
    subject: str = ""
    template: str = ""
    mention: str = ""
    in_reply_to: str = ""
    reply_token: str = ""
    unsubscribe_url: str = ""
    answer_lost: bool = False  # the gateway never heard that it arrived

    @property
    def place(self) -> Address:
        return self.to


class Refused(_Line):
    """A message that the provider turned down; it reached nobody."""

    what: Literal["refused"] = "refused"
    channel: str
    id: str
    to: Address


class Said(_Line):
    """Something a person wrote. `heard`: meant for the gateway, so it is pushed."""

    what: Literal["said"] = "said"
    provider_id: str
    sender: Address
    text: str
    conversation: Address | None = None
    display_name: str = ""
    subject: str = ""
    quoted: str = ""
    answers_to: str = ""
    reply_token: str = ""
    heard: bool = True

    @property
    def place(self) -> Address:
        return self.conversation or self.sender


class Pushed(_Line):
    """The gateway acknowledged what a person wrote."""

    what: Literal["pushed"] = "pushed"
    provider_id: str


class Receipted(_Line):
    """The gateway acknowledged the delivery receipt of a message."""

    what: Literal["receipted"] = "receipted"
    provider_id: str


Message = Arrived | Said
Record = Arrived | Refused | Said | Pushed | Receipted
_RECORD: TypeAdapter[Record] = TypeAdapter(
    Annotated[Record, Field(discriminator="what")]
)


class Ledger:
    """The append-only file. It survives `kill -9`; a power cut may take its end."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file: int | None = os.open(path, flags, 0o600)
        self._torn = not _ends_a_line(path)

    def append(self, record: Record) -> None:
        """Raises OSError where the line is not in the file as a whole."""
        if self._file is None:
            raise OSError("the ledger is closed")
        # A line that a crash or a full disk left unfinished is void, and must not
        # swallow this one.
        line = b"#\n" * self._torn + record.model_dump_json().encode() + b"\n"
        self._torn = True
        if os.write(self._file, line) != len(line):
            raise OSError("the ledger took only a part of a line")
        self._torn = False

    def close(self) -> None:
        """Let the file go; a second call is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read(path: Path, last_bytes: int | None = None) -> Iterator[Record]:
    """Records of a ledger, oldest first; lines that are none are passed over.

    `last_bytes` reads only the end of a long file.
    """
    with path.open("rb") as file:
        if last_bytes is not None and file.seek(0, os.SEEK_END) > last_bytes:
            file.seek(-last_bytes, os.SEEK_END)
            file.readline()
        else:
            file.seek(0)
        for line in file:
            try:
                yield _RECORD.validate_json(line)
            except ValidationError:
                continue
