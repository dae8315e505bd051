"""How SQLite goes about the statements of the writer, as it tells itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tortoise import connections


@dataclass(frozen=True, slots=True)
class Steps:
    """Statements with their values, and the steps of each once they have run."""

    ran: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)  # and its statement

    def of(self, *words: str) -> list[tuple[str, str]]:
        """Steps in which one of these words stands, with the end of the statement."""
        return [
            (step, statement[-200:])
            for step, statement in self.steps
            if any(word in step for word in words)
        ]


@contextmanager
def watched(url: str) -> Iterator[Steps]:
    """Of all that the writer runs meanwhile; it must have been used before."""
    found = Steps()
    base = connections.get("default")._writer._base
    base.set_trace_callback(found.ran.append)
    yield found
    base.set_trace_callback(None)
    reader = sqlite3.connect(url.removeprefix("sqlite://"))
    for statement in found.ran:
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            plan = reader.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            found.steps.extend((str(step[3]), statement) for step in plan)
    reader.close()
