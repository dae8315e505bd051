"""Sheets as bytes: reading uploads in a child process, writing workbooks.

Cells are always written as text, so that nothing a member wrote becomes a formula.
"""

import asyncio
import io
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta

import xlsxwriter

from gateway.errors import RequestError
from gateway.members import sheet_reader
from gateway.members.importing import COLUMNS, RowResult

MAX_UPLOAD = 20 * 1024 * 1024  # bytes
_PATIENCE = timedelta(seconds=60)
_FAULTS = {
    "empty": "表是空的，请填写后再上传",
    "rows": "超过50000行，请分成几个文件上传",
    "columns": "列太多（最多64列），请删去无关的列",
    "encoding": "文字编码无法识别，请另存为 UTF-8 的 CSV 或 .xlsx",
    "broken": "文件读不出来，可能已损坏或设有密码；请另存为 .xlsx 后重试",
    "bomb": "文件展开后太大，请删去多余的工作表和空白区域后重试",
}


def _fault(code: str) -> RequestError:
    text = _FAULTS.get(code, _FAULTS["broken"])
    return RequestError(f"sheet_{code}", text, status=422, fields={"file": text})


async def read(content: bytes) -> list[list[str]]:
    """The rows of an .xlsx, .xls or CSV file (UTF-8, GB 18030, UTF-16).

    RequestError (field `file`) says what is wrong with the file as a whole.
    """
    if len(content) > MAX_UPLOAD:
        raise RequestError("too_large", "文件超过20 MB，请分成几个上传", status=413)
    if not content:
        raise _fault("empty")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        sheet_reader.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            output, _ = await child.communicate(content)
    except TimeoutError:
        raise _fault("bomb") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        # Out of memory or time: the reader was stopped by its limits.
        raise _fault("bomb")
    answer = await asyncio.to_thread(json.loads, output)
    if "fault" in answer:
        raise _fault(answer["fault"])
    rows: list[list[str]] = answer["rows"]
    return rows


def blank() -> bytes:
    """An empty sheet with the columns and one example."""
    return _workbook(
        [c.name for c in COLUMNS], [[c.example for c in COLUMNS]], marked=()
    )


def faulty(header: Sequence[str], results: Iterable[RowResult]) -> bytes:
    """The rows that weren't imported, as they were, with what to mend beside them.

    Can be corrected and uploaded as it is.
    """
    rows = [
        [
            *(result.cells + ("",) * len(header))[: len(header)],
            "；".join(f"{fault.field}：{fault.message}" for fault in result.faults),
        ]
        for result in results
        if result.faults
    ]
    return _workbook([*header, "要改的地方"], rows, marked=(len(header),))


def _workbook(
    header: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[int]
) -> bytes:
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        text = book.add_format({"num_format": "@"})
        bold = book.add_format({"bold": True, "num_format": "@"})
        red = book.add_format({"font_color": "#b42318", "num_format": "@"})
        sheet = book.add_worksheet("党员")
        sheet.set_column(0, max(len(header) - 1, 0), 18, text)
        sheet.freeze_panes(1, 0)
        for column, name in enumerate(header):
            sheet.write_string(0, column, name, bold)
        for number, row in enumerate(rows, start=1):
            for column, cell in enumerate(row):
                style = red if column in marked else text
                sheet.write_string(number, column, cell, style)
    return content.getvalue()
