"""Paging of lists: links that keep the filters of the page."""

from urllib.parse import urlencode

from aiohttp import web

Pager = dict[str, object]


def pager(
    request: web.Request, start: int, shown: int, total: int, size: int
) -> Pager | None:
    """For the macro `pages`; None where everything is in sight. `start` counts from 0
    and comes back as the query's `from`."""
    if total <= size and start == 0:
        return None
    return {
        "first": min(start + 1, total),
        "last": start + shown,
        "total": total,
        "previous": link(request, max(0, start - size)) if start else None,
        "next": link(request, start + size) if start + shown < total else None,
    }


def link(request: web.Request, start: int) -> str:
    kept = [(k, v) for k, v in request.query.items() if k not in ("from", "lang")]
    return f"{request.path}?{urlencode([*kept, ('from', start)])}"
