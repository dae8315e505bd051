"""One frame of a bot's socket: bytes or text in, a JSON object out. Pure.

The peer is authenticated, not trusted: what it sends may be broken or hostile.
"""

import json
from typing import Any

# Deeper than any OneBot event (a merged forward has 6 levels); Python's own limit
# would be met somewhere inside pydantic or copy.deepcopy.
MAX_DEPTH = 32


class BadFrame(ValueError):
    """Not a JSON object we can work with; the message is a code, never content."""


def read_frame(data: str | bytes) -> dict[str, Any]:
    """The object in a frame. Invalid UTF-8 is read with replacement characters.

    Raises BadFrame: `not_json` (also NaN, 5000-digit integers), `too_deep`,
    `not_an_object`.
    """
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadFrame("too_deep") from None
    except ValueError:
        raise BadFrame("not_json") from None
    if not isinstance(payload, dict):
        raise BadFrame("not_an_object")
    if _depth_exceeds(payload, MAX_DEPTH):
        raise BadFrame("too_deep")
    return payload


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _depth_exceeds(payload: dict[str, Any], limit: int) -> bool:
    level: list[Any] = [payload]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
