"""Room on the disk: when it gets tight, and the reserve that gets us out.

On a full disk SQLite can't even delete: room has to come from outside the database.
So a file of our own holds some, and goes when the database says that it is full.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

MIB = 1024 * 1024
SHARE = 10  # a tenth of the disk free, or less, is tight ...
LARGEST = 5 * 1024 * MIB  # ... but so many bytes are room on any disk
LOG_BYTES = 512 * MIB  # a longer write-ahead log means that somebody reads for ever
LOOK_SECONDS = 1.0  # how long an answer may be repeated

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How one process is off for room. `spooled` and `free` are bytes."""

    tight: bool = False
    reserve_gone: bool = False
    log_long: bool = False
    spooled: int = 0
    free: int = 0

    @property
    def troubles(self) -> frozenset[str]:
        """Names of the fields that somebody has to hear of."""
        names = ("tight", "reserve_gone", "log_long", "spooled")
        return frozenset(name for name in names if getattr(self, name))


def storage_of(told: Mapping[str, Any]) -> Storage:
    """As a process told it in its heartbeat; nothing told is nothing wrong."""
    return Storage(**{n: told[n] for n in Storage.__slots__ if n in told})


class Space:
    """The disk under `folder`, with a `reserve` of so many bytes. `database` is the
    SQLite file, None on PostgreSQL; its log is long beyond `log_bytes`."""

    def __init__(
        self,
        folder: Path,
        reserve: int,
        database: Path | None,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self._folder, self._bytes, self._database = folder, reserve, database
        self._log_bytes = log_bytes
        self._reserve = folder / "reserve"
        self._looked_at = -LOOK_SECONDS
        self._tight = False

    @property
    def tight(self) -> bool:
        """Nothing is sent any more; what comes in is still stored (D-2)."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._tight = self._is_tight()
        return self._tight

    @property
    def reserve_gone(self) -> bool:
        return self._bytes > 0 and not self._reserve.exists()

    @property
    def log_long(self) -> bool:
        """The write-ahead log can't start anew (D-5)."""
        if self._database is None:
            return False
        with suppress(OSError):
            path = self._database.with_name(self._database.name + "-wal")
            return path.stat().st_size > self._log_bytes
        return False

    def storage(self, spooled: int) -> Storage:
        """`spooled`: bytes that were acknowledged and wait outside the database."""
        return Storage(
            tight=self.tight,
            reserve_gone=self.reserve_gone,
            log_long=self.log_long,
            spooled=spooled,
            free=self._room()[0],
        )

    def keep_reserve(self) -> None:
        """Make the reserve where it is missing and there is room. May block."""
        if not self.reserve_gone:
            return
        free, total = self._room()
        if free - self._bytes <= _limit(total):
            return
        new = self._reserve.with_suffix(".new")
        try:
            with new.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._bytes)
            new.replace(self._reserve)
        except OSError as error:
            log.warning("reserve.not_made", errno=error.errno)
            new.unlink(missing_ok=True)

    def release(self) -> bool:
        """Give the reserve up. False where there is none any more."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        self._looked_at = -LOOK_SECONDS
        log.error("reserve.released", bytes=self._bytes)
        return True

    def _is_tight(self) -> bool:
        free, total = self._room()
        # Once tight, a little more must be free before it is not: no to and fro.
        limit = _limit(total)
        tight = free < (limit * 5 // 4 if self._tight else limit)
        if tight != self._tight:
            log.warning("disk.tight" if tight else "disk.roomy", free_mib=free // MIB)
        return tight

    def _room(self) -> tuple[int, int]:
        """Free for us, and all, in bytes."""
        try:
            found = os.statvfs(self._folder)
        except OSError:  # not made yet
            return LARGEST * SHARE, LARGEST * SHARE
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _limit(total: int) -> int:
    return min(total // SHARE, LARGEST)
