"""Parts of long messages from members, on disk from before their acknowledgement until
the whole was handed on. Blocking; called in a thread.

A part is acknowledged by itself, because a centre with a window of one brings the
second only then; so it has to be safe by itself.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from adapters.carrier.codec import Codec, Delivery, Malformed, Segment
from gateway.clock import Clock
from gateway.contract import InboundMessage
from gateway.errors import StorageUnavailable

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS parts (
    message INTEGER NOT NULL, -- the parts of one message have this in common
    name TEXT NOT NULL, number INTEGER NOT NULL, total INTEGER NOT NULL,
    content TEXT NOT NULL, raw BLOB NOT NULL, at REAL NOT NULL,
    shown INTEGER NOT NULL DEFAULT 0, -- parts there were when it was last handed on
    UNIQUE (message, number)
);
CREATE INDEX IF NOT EXISTS parts_by_name ON parts (name, message);
CREATE INDEX IF NOT EXISTS parts_by_age ON parts (at);
CREATE INDEX IF NOT EXISTS parts_to_show ON parts (message) WHERE shown < total;
"""
GAP = "…"


class Joined(NamedTuple):
    """A message made of parts, and what to tell `handed_on` about it."""

    message: int
    parts: int
    event: InboundMessage


class Shelf:
    """The parts of one account. Every method raises StorageUnavailable where the disk
    does not do its duty."""

    def __init__(self, path: Path, codec: Codec, clock: Clock, hold: timedelta) -> None:
        self.hold = hold
        self._path = path
        self._codec = codec
        self._clock = clock
        self._opened: sqlite3.Connection | None = None
        self._lock = Lock()

    def put(self, segments: Sequence[Segment]) -> list[Joined]:
        """Keep these; the messages that are whole now."""
        with self._lock:
            try:
                with self._database() as database:
                    for segment in segments:
                        self._put(database, segment)
                    return self._whole(database)
            except sqlite3.Error as error:
                raise StorageUnavailable("parts", type(error).__name__) from None

    def due(self) -> list[Joined]:
        """Messages to hand on by now: whole ones, and those that waited too long."""
        if self._opened is None and not self._path.exists():
            return []
        with self._lock:
            try:
                with self._database() as database:
                    return self._whole(database) + self._overdue(database)
            except sqlite3.Error as error:
                raise StorageUnavailable("parts", type(error).__name__) from None

    def handed_on(self, joined: Iterable[Joined]) -> None:
        """These are stored elsewhere now; their parts stay a while, so that repeated
        ones are recognised and late ones join."""
        oldest = self._now() - 2 * self.hold.total_seconds()
        with self._lock:
            try:
                with self._database() as database:
                    database.executemany(
                        "UPDATE parts SET shown = ? WHERE message = ?",
                        [(one.parts, one.message) for one in joined],
                    )
                    database.execute(
                        "DELETE FROM parts WHERE shown AND message IN (SELECT message"
                        " FROM parts o WHERE o.at < ?1 AND NOT EXISTS (SELECT 1 FROM"
                        " parts n WHERE n.message = o.message AND n.at >= ?1))",
                        (oldest,),
                    )
            except sqlite3.Error as error:
                raise StorageUnavailable("parts", type(error).__name__) from None

    def close(self) -> None:
        with self._lock:
            if self._opened:
                self._opened.close()
                self._opened = None

    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect(self._path, check_same_thread=False)
            self._opened.executescript(_SCHEMA)
        return self._opened

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _put(self, database: sqlite3.Connection, segment: Segment) -> None:
        message = self._message_of(database, segment)
        database.execute(
            "INSERT INTO parts (message, name, number, total, content, raw, at, shown)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, coalesce((SELECT max(shown) FROM parts"
            " WHERE message = ?), 0)) ON CONFLICT DO NOTHING",
            (
                message,
                segment.group,
                segment.number,
                segment.total,
                segment.message.key,
                segment.message.raw,
                self._now(),
                message,
            ),
        )

    def _message_of(self, database: sqlite3.Connection, segment: Segment) -> int:
        """The message this part belongs to: the latest of its name, unless that has
        another part in its place, or is long over."""
        row = database.execute(
            "SELECT message, max(at) FROM parts WHERE name = ? GROUP BY message"
            " ORDER BY message DESC LIMIT 1",
            (segment.group,),
        ).fetchone()
        if row and row[1] >= self._now() - 2 * self.hold.total_seconds():
            there = database.execute(
                "SELECT content FROM parts WHERE message = ? AND number = ?",
                (row[0], segment.number),
            ).fetchone()
            if there is None or there[0] == segment.message.key:
                return int(row[0])
        (last,) = database.execute(
            "SELECT coalesce(max(message), 0) FROM parts"
        ).fetchone()
        return int(last) + 1

    def _whole(self, database: sqlite3.Connection) -> list[Joined]:
        return self._joined(
            database, "HAVING count(*) = max(total) AND max(shown) < max(total)", ()
        )

    def _overdue(self, database: sqlite3.Connection) -> list[Joined]:
        before = self._now() - self.hold.total_seconds()
        return self._joined(
            database,
            "HAVING count(*) < max(total) AND max(shown) = 0 AND min(at) <= ?",
            (before,),
        )

    def _joined(
        self, database: sqlite3.Connection, having: str, values: Sequence[float]
    ) -> list[Joined]:
        # Those that were shown whole stay for a while, and are many.
        found = database.execute(
            "SELECT message, min(at) FROM parts WHERE message IN (SELECT message FROM "
            f"parts WHERE shown < total) GROUP BY message {having}",
            values,
        ).fetchall()
        made: list[Joined] = []
        for message, at in found:
            raws = database.execute(
                "SELECT raw FROM parts WHERE message = ? ORDER BY number", (message,)
            ).fetchall()
            segments = [s for (raw,) in raws if (s := self._segment(raw))]
            if segments:
                event = join(self._codec, segments, at)
                made.append(Joined(message, len(segments), event))
        return made

    def _segment(self, raw: bytes) -> Segment | None:
        try:
            read = self._codec.decode(raw)
        except Malformed:
            return None
        if isinstance(read, Delivery) and isinstance(read.content, Segment):
            return read.content
        return None


def join(codec: Codec, segments: Sequence[Segment], at: float) -> InboundMessage:
    """One message of parts in order; what is missing shows as a gap. `at`, the seconds
    when the first came, makes the same words said again another message."""
    first, total = segments[0], segments[0].total
    text, lost = _text(codec, segments)
    notes = [note for segment in segments for note in segment.message.notes]
    if lost:
        notes.append("unreadable")
    if len(segments) < total:
        notes.append("incomplete")
    contents = "".join(s.message.key for s in segments)
    name = sha256(f"{first.group}:{at:.6f}:{contents}".encode()).hexdigest()[:32]
    return replace(
        first.message,
        key=f"parts:{name}:{len(segments)}",
        text=text,
        raw=b"".join(segment.message.raw for segment in segments),
        notes=tuple(dict.fromkeys(notes)),
    )


def _text(codec: Codec, segments: Sequence[Segment]) -> tuple[str, bool]:
    """Neighbours of one coding are read together: a character may lie on a border."""
    pieces: list[str] = []
    lost, body, expected = False, b"", 1
    for index, segment in enumerate(segments):
        if segment.number != expected:
            pieces.append(GAP)
        body += segment.body
        expected = segment.number + 1
        after = segments[index + 1] if index + 1 < len(segments) else None
        if (
            after is None
            or after.coding != segment.coding
            or after.number != segment.number + 1
        ):
            text, unreadable = codec.text(segment.coding, body)
            pieces.append(text)
            lost, body = lost or unreadable, b""
    if expected <= segments[0].total:
        pieces.append(GAP)
    return "".join(pieces), lost
