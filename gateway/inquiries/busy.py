"""Who of an organisation has least to do: new matters go there."""

from collections.abc import Collection
from dataclasses import dataclass, field

from gateway import database as db


@dataclass(slots=True)
class Busy:
    """Open inquiries of the clerks of some organisations, counted on while giving."""

    _open: dict[int, int] = field(default_factory=dict)  # staff -> open inquiries
    _clerks: dict[int, list[int]] = field(default_factory=dict)  # by organisation

    @classmethod
    async def of(cls, organisations: Collection[int]) -> "Busy":
        given, values = db.table({"id": "BIGINT"}, [(id,) for id in organisations])
        found = await db.rows_at_once(
            ("id", "organisation_id", "n"),
            "SELECT s.id, s.organisation_id, (SELECT COUNT(*) FROM inquiries i "
            "WHERE i.owner_id = s.id AND i.state <> 'closed') AS n FROM staff s "
            f"WHERE s.organisation_id IN (SELECT id FROM {given} AS k) "
            "AND s.role = 'clerk' AND s.active ORDER BY s.id",
            *values,
        )
        made = cls()
        for row in found:
            made._open[row["id"]] = row["n"]
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
