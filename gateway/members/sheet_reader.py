"""Reads one uploaded sheet from standard input, writes its rows as JSON.

Runs as a process of its own with little memory and time: a sheet of a few kilobytes
can claim billions of cells. Knows nothing of the gateway. Formulas are never
computed: a cell is what was stored in it.
"""

import csv
import io
import json
import resource
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime

MAX_ROWS = 50_001  # with the header
MAX_COLUMNS = 64
MAX_CELL = 500  # characters kept of one cell
MAX_INFLATED = 100 * 1024 * 1024  # bytes
MAX_ENTRIES = 2000
MAX_RATIO = 200
MEMORY = 1024 * 1024 * 1024  # bytes
SECONDS = 30


class Unreadable(Exception):
    """`args[0]` is a code that the gateway puts into words."""


def read(content: bytes) -> list[list[str]]:
    if content.startswith(b"PK\x03\x04"):
        return _workbook(_inflated(content))
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        return _workbook(content)
    return _text(content)


def _inflated(content: bytes) -> bytes:
    """The same archive with every size known to be true."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _repacked(archive, len(content))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Unreadable("broken") from error


def _repacked(archive: zipfile.ZipFile, size: int) -> bytes:
    entries = archive.infolist()
    allowed = min(MAX_INFLATED, max(size * MAX_RATIO, 1024 * 1024))
    claimed = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_ENTRIES or claimed > allowed:
        raise Unreadable("bomb")
    repacked = io.BytesIO()
    with zipfile.ZipFile(repacked, "w", zipfile.ZIP_STORED) as copy:
        for entry in entries:
            # Reads no more than what is claimed, and checks its sum.
            copy.writestr(entry.filename, archive.read(entry))
    return repacked.getvalue()


def _workbook(content: bytes) -> list[list[str]]:
    # Imported here: the limits of this process are set before it takes memory.
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_filelike(io.BytesIO(content)) as workbook:
            if not workbook.sheet_names:
                raise Unreadable("empty")
            sheet = workbook.get_sheet_by_index(0)
            if sheet.total_height > MAX_ROWS:
                raise Unreadable("rows")
            if sheet.total_width > MAX_COLUMNS:
                raise Unreadable("columns")
            found = sheet.to_python(skip_empty_area=False)
            return _limited([_cell(cell) for cell in row] for row in found)
    except CalamineError as error:
        raise Unreadable("broken") from error


def _cell(value: object) -> str:
    match value:
        case bool():
            return "是" if value else "否"
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case datetime() if value.time() == datetime.min.time():
            return value.date().isoformat()
        case date():
            return value.isoformat()
    return str(value)


def _text(content: bytes) -> list[list[str]]:
    text = _decoded(content)
    if "\0" in text:
        raise Unreadable("broken")
    head = text[:2000].splitlines()[:1] or [""]
    delimiter = max("\t;,", key=head[0].count)
    csv.field_size_limit(100_000)
    try:
        return _limited(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Unreadable("broken") from error


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        codecs = ["utf-16"]
    else:
        codecs = ["utf-8-sig", "gb18030"]
    for codec in codecs:
        try:
            return content.decode(codec)
        except UnicodeDecodeError:
            continue
    raise Unreadable("encoding")


def _limited(rows: Iterable[list[str]]) -> list[list[str]]:
    return list(_checked(rows))


def _checked(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    for number, row in enumerate(rows, start=1):
        if number > MAX_ROWS:
            raise Unreadable("rows")
        if len(row) > MAX_COLUMNS:
            raise Unreadable("columns")
        yield [_storable(cell.strip()[:MAX_CELL]) for cell in row]


def _storable(cell: str) -> str:
    kept = cell.replace("\0", "")
    return kept.encode("utf-8", "replace").decode("utf-8")


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        answer: dict[str, object] = {"rows": read(sys.stdin.buffer.read())}
    except Unreadable as error:
        answer = {"fault": error.args[0]}
    except MemoryError:
        answer = {"fault": "bomb"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
