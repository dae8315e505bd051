"""Ends the process where going on could lose what was promised."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

import structlog

EXIT_STORAGE = 74
"""Exit status after the disk failed: EX_IOERR of sysexits.h."""

log = structlog.get_logger()


def disk_failed(where: str, **codes: int | str) -> NoReturn:
    """A write or an fsync failed: leave at once, acknowledge nothing more.

    After a failed fsync nobody knows what of the file is on the disk, and asking
    again answers "fine" for pages that the kernel has dropped. Only what is read
    anew by the next process can be trusted.
    """
    with suppress(OSError, ValueError):  # the log's own disk may be the broken one
        log.critical("storage.failed", where=where, exit_code=EXIT_STORAGE, **codes)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(EXIT_STORAGE)
