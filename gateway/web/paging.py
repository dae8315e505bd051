"""Paging of lists: links that keep the filters of the page."""

from urllib.parse import urlencode

from aiohttp import web

Pager = dict[str, object]


def pager(
    request: web.Request,
    start: int,
    shown: int,
    total: int,
    size: int,
    anchor: str = "",
) -> Pager | None:
    """For the macro `pages`; None where everything is in sight. `start` counts from 0
    and comes back as the query's `from`; the list stands at `anchor` of its page."""
    if total <= size and start == 0:
        return None

    def to(start: int) -> str:
        return link(request, start, anchor)

    final = (total - 1) // size * size
    return {
        "first": min(start + 1, total),
        "last": start + shown,
        "total": total,
        "begin": to(0) if start > size else None,
        "previous": to(max(0, start - size)) if start else None,
        "next": to(start + size) if start + shown < total else None,
        "end": to(final) if start + size < final else None,
    }


def link(request: web.Request, start: int, anchor: str = "") -> str:
    kept = [(k, v) for k, v in request.query.items() if k not in ("from", "lang")]
    return f"{request.path}?{urlencode([*kept, ('from', start)])}{anchor}"
