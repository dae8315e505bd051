"""What the sandbox provider is told to do wrong, for each medium. Kept in a file."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from adapters.sandbox.records import Medium


class Faults(BaseModel):
    """Switches of one medium. Without any the provider works as it should."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refuse_every: int = Field(
        default=0, ge=0, le=1000
    )  # 0: none, 1: all, n: every n-th
    delay_seconds: float = Field(default=0, ge=0, le=60, allow_inf_nan=False)
    lose_answers: bool = False  # a message arrives, but we never hear of it
    repeat: bool = False  # pushes and receipts come three times
    withhold_receipts: bool = False  # they follow when this is switched off

    @property
    def any(self) -> bool:
        return self != Faults()


_ALL = TypeAdapter(dict[Medium, Faults])


def load(path: Path) -> dict[Medium, Faults]:
    """A missing or damaged file is a provider without faults."""
    try:
        found = _ALL.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        found = {}
    return {medium: found.get(medium, Faults()) for medium in Medium}


def save(path: Path, faults: Mapping[Medium, Faults]) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(_ALL.dump_json(dict(faults), indent=1))
    os.replace(new, path)
