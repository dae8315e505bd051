"""Where events wait on the disk while the database can't take them.

An append-only file: every record bears its length and a checksum and is synced before
anybody hears "accepted". What a power cut tore, or a disk forgot, is set aside beside
it and told; whatever else is whole is loaded.
"""

import base64
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from gateway.contract import (
    Address,
    AddressKind,
    Attachment,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
    ReceiptState,
)
from gateway.database import from_micros, to_micros
from gateway.errors import StorageUnavailable
from gateway.fatal import disk_failed

MAGIC = b"LXev"
_HEAD = struct.Struct(">4sI16s")  # magic, bytes of the body, checksum of the body
_KINDS: dict[str, type[Any]] = {
    "message": InboundMessage,
    "receipt": DeliveryReceipt,
    "opt_out": OptOut,
    "trouble": ChannelTrouble,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
Record = tuple[str, tuple[Event, ...]]
"""A channel, and what came by it in one delivery."""

log = structlog.get_logger()


def encode(channel: str, events: Sequence[Event]) -> bytes:
    """One record, ready to be appended."""
    told = [{"is": _NAMES[type(one)], **dataclasses.asdict(one)} for one in events]
    # ASCII: half a surrogate pair has no other form.
    return frame(json.dumps([channel, told], default=_plain).encode("ascii"))


def frame(body: bytes) -> bytes:
    return _HEAD.pack(MAGIC, len(body), _checksum(body)) + body


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"~bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {"~at": to_micros(value)}
    raise TypeError(type(value).__name__)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def decode(body: bytes) -> Record:
    channel, told = json.loads(body, object_hook=_rich)
    return channel, tuple(_event(one) for one in told)


def _rich(told: dict[str, Any]) -> Any:
    if "~bytes" in told:
        return base64.b64decode(told["~bytes"])
    return from_micros(told["~at"]) if "~at" in told else told


def _event(told: Mapping[str, Any]) -> Event:
    fields = {name: _field(name, value) for name, value in told.items()}
    event: Event = _KINDS[fields.pop("is")](**fields)
    return event


def _field(name: str, value: Any) -> Any:
    match name:
        case "sender" | "conversation" | "address" if value is not None:
            return Address(AddressKind(value["kind"]), value["value"])
        case "attachments":
            return tuple(Attachment(**one) for one in value)
        case "answers_to" | "notes":
            return tuple(value)
        case "state":
            return ReceiptState(value)
    return value


def scan(data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Start and end of each piece, with its body; None where it is damaged."""
    start = 0
    while start < len(data):
        end, body = _piece(data, start)
        if body is None:
            end = _next_whole(data, start + 1)
        yield start, end, body
        start = end


def _piece(data: bytes, start: int) -> tuple[int, bytes | None]:
    if len(data) - start < _HEAD.size:
        return len(data), None
    magic, length, checksum = _HEAD.unpack_from(data, start)
    body = data[start + _HEAD.size : start + _HEAD.size + length]
    whole = magic == MAGIC and len(body) == length and _checksum(body) == checksum
    return start + _HEAD.size + length, body if whole else None


def _next_whole(data: bytes, start: int) -> int:
    while (start := data.find(MAGIC, start)) >= 0:
        if _piece(data, start)[1] is not None:
            return start
        start += 1
    return len(data)


class Spool:
    """One file, owned by one process. Every call may block: use a thread."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes: what comes above is refused."""
        self._folder, self._limit = folder, limit
        self._file = -1
        self._path = folder
        self._read = self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that are not in the database yet."""
        return self._size - self._read

    def open(self) -> None:
        """Own a file, take over what dead processes left; a second call is harmless."""
        if self._file >= 0:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        known = {int(p.stem) for p in self._folder.glob("*.spool") if p.stem.isdigit()}
        for number in sorted({*known, *range(len(known) + 1)}):
            path = self._folder / f"{number}.spool"
            file = _open(path)
            if not _locked(file):
                os.close(file)
            elif self._file < 0:
                self._path, self._file = path, self._mended(path, file)
                self._size = os.fstat(self._file).st_size
            else:
                self._adopt(path, file)
        _sync_folder(self._folder)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._read = self._size = 0

    def append(self, records: Iterable[bytes]) -> None:
        """Synced when this returns. Raises StorageUnavailable: nothing was kept."""
        self.open()
        self._write(self._size, b"".join(records))

    def take(self, most: int) -> tuple[list[Record], int]:
        """The next records, together about `most` bytes, and where they end.

        They stay until `done` is told that end.
        """
        while self._read < self._size:
            rest = self._size - self._read
            data = os.pread(self._file, min(most, rest), self._read)
            records, end = _leading(data)
            if records:
                return records, self._read + end
            if most >= rest:
                _, end, _ = next(scan(data))
                self.set_aside([data[:end]])
                self._read += end
            most = most * 2 + 1  # the next one is longer than what was read
        return [], self._read

    def done(self, end: int) -> None:
        """What ends there is in the database."""
        self._read = end
        if self._read >= self._size:
            self._write(0, b"")

    def _mended(self, path: Path, file: int) -> int:
        """The file, or one in its place that holds what is whole of it."""
        data = os.pread(file, os.fstat(file).st_size, 0)
        pieces = list(scan(data))
        damaged = [data[start:end] for start, end, body in pieces if body is None]
        if not damaged:
            return file
        self.set_aside(damaged)
        other = path.with_suffix(".new")
        mended = _open(other)
        _locked(mended)
        os.ftruncate(mended, 0)
        whole = (data[start:end] for start, end, body in pieces if body is not None)
        _write_all(mended, b"".join(whole), 0)
        os.fsync(mended)
        other.replace(path)
        os.close(file)
        return mended

    def set_aside(self, damaged: Sequence[bytes]) -> None:
        aside = self._folder / f"{time.time_ns()}.damaged"
        aside.write_bytes(b"".join(damaged))
        log.error("spool.damaged", bytes=sum(map(len, damaged)), set_aside=aside.name)

    def _adopt(self, path: Path, file: int) -> None:
        """Take over the file of a process that is gone."""
        file = self._mended(path, file)
        try:
            if found := os.pread(file, os.fstat(file).st_size, 0):
                self._write(self._size, found)
            os.ftruncate(file, 0)
        except StorageUnavailable:
            log.warning("spool.full", file=path.name)  # it is tried at the next start
        finally:
            os.close(file)

    def _write(self, start: int, data: bytes) -> None:
        """Let the file hold `data` from `start` on, and nothing behind it."""
        if start + len(data) > self._limit:
            raise StorageUnavailable("spool_full")
        try:
            _write_all(self._file, data, start)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                disk_failed("spool", errno=error.errno or 0)
            os.ftruncate(self._file, self._size)
            raise StorageUnavailable("spool_full") from None
        try:
            os.ftruncate(self._file, start + len(data))
            os.fsync(self._file)
        except OSError as error:
            disk_failed("spool", errno=error.errno or 0)
        self._size = start + len(data)
        self._read = min(self._read, start)


def _leading(data: bytes) -> tuple[list[Record], int]:
    """The records before the first that is cut, damaged or strange; where they end."""
    records: list[Record] = []
    end = 0
    for _, stop, body in scan(data):
        if body is None:
            break
        try:
            records.append(decode(body))
        except (KeyError, TypeError, ValueError):  # of another version
            break
        end = stop
    return records, end


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write_all(file: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """A new file's name must survive a power cut, too."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(found)
    finally:
        os.close(found)
