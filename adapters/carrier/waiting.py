"""Messages whose answer is awaited, and what the answers of all parts amount to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.contract import Accepted, Outcome
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

PartOutcome = str | DeliveryError
TRIES = 9  # of a part that is refused for now, while others of its message were taken


@dataclass(slots=True)
class Waiting:
    """One message between its first byte and its last answer."""

    id: str
    parts: int
    written_at: float | None = None  # monotonic; when its latest part left
    bodies: Sequence[bytes] = ()  # of the parts, if many
    numbers: dict[int, int] = field(default_factory=dict)  # sequence → part, if many
    outcomes: dict[int, PartOutcome] = field(default_factory=dict)  # by part
    refused: dict[int, DeliveryError] = field(default_factory=dict)  # to leave again
    tries: int = 1
    doubted: bool = False  # and that was told

    def settle(self, sequence: int, outcome: PartOutcome) -> Outcome | None:
        """Note one part's answer; the message's outcome once every part has one. A
        doubt is told once: late answers come one by one, and the last one ends it."""
        if self.parts == 1:
            return Accepted((outcome,)) if type(outcome) is str else joined([outcome])
        self.outcomes[self.numbers[sequence]] = outcome
        if len(self.outcomes) < self.parts:
            return None
        found = joined([self.outcomes[part] for part in range(self.parts)])
        if not isinstance(found, OutcomeUnknown):
            return found
        is_told, self.doubted = self.doubted, True
        return None if is_told else found

    def take_back(self) -> bool:
        """Whether the parts that were refused may leave again: for now only, while
        others were taken. Half a message helps nobody, and none of it may leave twice.
        """
        refused = {n: o for n, o in self.outcomes.items() if not isinstance(o, str)}
        if self.doubted or self.tries >= TRIES or not 0 < len(refused) < self.parts:
            return False
        if not all(_passes(one) for one in refused.values()):
            return False
        for part in refused:
            del self.outcomes[part]
        self.refused = refused
        self.tries += 1
        return True

    def given_up(self) -> Outcome:
        """Where the refused parts can't leave any more."""
        known = self.outcomes | self.refused
        return joined([known[part] for part in range(self.parts)])


def _passes(refusal: DeliveryError) -> bool:
    """Too fast, or busy; not what lasts for minutes."""
    return isinstance(refusal, TransientFailure) and refusal.retry_after is None


def joined(parts: Sequence[PartOutcome]) -> Outcome:
    """The outcome of a message by those of its parts.

    Once one part was taken the whole must not leave again by itself: a refusal of
    another that lasts is permanent then, whatever it would have been alone.
    """
    taken = [part for part in parts if isinstance(part, str)]
    if len(taken) == len(parts):
        return Accepted(tuple(taken))
    failures = [part for part in parts if not isinstance(part, str)]
    unknown = [f for f in failures if isinstance(f, OutcomeUnknown)]
    if unknown:
        return unknown[0]
    if taken:
        return PermanentFailure("partly_refused", _account(parts))
    final = [f for f in failures if not isinstance(f, TransientFailure)]
    return (final or failures)[0]


def _account(parts: Sequence[PartOutcome]) -> str:
    """Which part was taken under which id, which was refused with which code."""
    said = (part if isinstance(part, str) else part.code for part in parts)
    return " ".join(f"{number}:{word}" for number, word in enumerate(said, 1))
