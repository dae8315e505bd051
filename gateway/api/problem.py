"""The shape of every error, as gateway.web.errors writes it (RFC 9457)."""

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """What went wrong."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable and machine-readable.")
    detail: str = Field(description="For people; may be empty.")
    fields: dict[str, str] = Field(description="What to mend, by field.")
