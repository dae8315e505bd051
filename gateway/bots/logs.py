"""nonebot's log (loguru) put into ours, without what people wrote.

nonebot logs the text and sender of each message, and a parser's error quotes its
input: of a record only place, level and kind of error are kept.
"""

from typing import TYPE_CHECKING

import structlog
from nonebot.log import logger

if TYPE_CHECKING:
    from loguru import Message

log = structlog.get_logger()


def forward() -> None:
    """Replace every loguru sink; importing nonebot has put one on stdout."""
    logger.remove()
    logger.add(_emit, level="WARNING", format="{level}", catch=False)


def _emit(message: "Message") -> None:
    record = message.record
    error = record["exception"]
    fields = {
        "at": f"{record['module']}.{record['function']}:{record['line']}",
        "error": error.type.__name__ if error and error.type else None,
    }
    if record["level"].no >= logger.level("ERROR").no:
        log.error("nonebot.failed", **fields)
    else:
        log.warning("nonebot.warned", **fields)
