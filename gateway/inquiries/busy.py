"""Who of an organisation has least to do: new matters go there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from gateway import database as db
from gateway.clock import Clock

KEPT_SECONDS = 10.0


class OpenInquiries:
    """How many each clerk has, for who asks many times a second: a clerk may have ten
    thousand. Counted now and then; what is given out in between is added."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[int, int] = {}
        self._until = -inf

    async def of(self, clerks: Sequence[int]) -> dict[int, int]:
        """By the id of staff; to be kept up to date by who gives inquiries to them."""
        now = self._clock.monotonic()
        if now >= self._until:
            self._counts, self._until = {}, now + KEPT_SECONDS
        unknown = [(id,) for id in clerks if id not in self._counts]
        if unknown:
            given, values = db.table({"id": "BIGINT"}, unknown)
            for row in await db.rows_at_once(
                ("id", "n"),
                "SELECT k.id, (SELECT COUNT(*) FROM inquiries i WHERE "
                f"i.owner_id = k.id AND i.state <> 'closed') AS n FROM {given} k",
                *values,
            ):
                self._counts[row["id"]] = row["n"]
        return self._counts


@dataclass(slots=True)
class Busy:
    """The clerks of some organisations, and how many inquiries they have open."""

    _open: dict[int, int] = field(default_factory=dict)  # by the id of staff
    _clerks: dict[int, list[int]] = field(default_factory=dict)  # by organisation

    @classmethod
    async def of(
        cls, organisations: Collection[int], inquiries: OpenInquiries
    ) -> "Busy":
        given, values = db.table({"id": "BIGINT"}, [(id,) for id in organisations])
        found = await db.rows_at_once(
            ("id", "organisation_id"),
            "SELECT s.id, s.organisation_id FROM staff s WHERE s.organisation_id IN "
            f"(SELECT id FROM {given} AS k) AND s.role = 'clerk' AND s.active "
            "ORDER BY s.id",
            *values,
        )
        made = cls(_open=await inquiries.of([row["id"] for row in found]))
        for row in found:
            made._clerks.setdefault(row["organisation_id"], []).append(row["id"])
        return made

    def give(self, organisation_id: int) -> int | None:
        """The clerk with the fewest, who has one more now; None without clerks."""
        clerks = self._clerks.get(organisation_id)
        if not clerks:
            return None
        chosen = min(clerks, key=lambda id: (self._open[id], id))
        self._open[chosen] += 1
        return chosen

    def more(self, staff_id: int | None) -> None:
        """Somebody's matter was opened again."""
        if staff_id in self._open:
            self._open[staff_id] += 1
