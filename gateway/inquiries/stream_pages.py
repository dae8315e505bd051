"""The desk: the stream, one inquiry, the printed form."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import NotFound
from gateway.inquiries import print_form, queries, view, work
from gateway.inquiries.history import Say
from gateway.inquiries.queries import Filter
from gateway.inquiries.view import NOTHING_REFUSED, Refused
from gateway.tables import AttachmentRow, Inbound
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import counts, render, text
from gateway.web.routes import page

TABS = {
    "open": "在办",
    "mine": "我的",
    "overdue": "超期",
    "attention": "督办",
    "waiting": "待补充",
    "closed": "已办结",
    "all": "全部",
}
_SHOWN_WHEN_NEEDED = frozenset({"attention"})


def words(request: web.Request) -> Say:
    return partial(text, request)


def is_htmx(request: web.Request) -> bool:
    """Asked for by htmx, and not by its way of going back to a page."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


def _filter(query: Mapping[str, str]) -> Filter:
    tab = query.get("tab", "open")
    names = ("state", "channel", "matter", "urgency", "organisation")
    chosen = {name: query.get(name, "")[:32] for name in names}
    return Filter(
        tab=tab if tab in TABS else "open", q=query.get("q", "").strip(), **chosen
    )


def _query(wanted: Filter, **more: str) -> str:
    """The query string that leads to the same list."""
    parts = {
        "tab": wanted.tab,
        "q": wanted.q,
        "state": wanted.state,
        "channel": wanted.channel,
        "matter": wanted.matter,
        "urgency": wanted.urgency,
        "organisation": wanted.organisation,
    }
    return urlencode({k: v for k, v in (parts | more).items() if v})


async def show_stream(request: web.Request, actor: Actor) -> web.StreamResponse:
    if is_htmx(request):
        wanted = _filter(request.query)
        return await render(
            request, "partials/_stream.html", **await _rows(request, actor, wanted)
        )
    return await _stream_page(request, actor, None)


async def _stream_page(
    request: web.Request,
    actor: Actor,
    matter: dict[str, Any] | None,
    status: int = 200,
) -> web.StreamResponse:
    wanted = _filter(request.query)
    say = words(request)
    number = matter["number"] if matter else ""
    return await render(
        request,
        "inquiries.html",
        status=status,
        active="inquiries",
        tabs=await _tabs(request, actor, wanted),
        tab=wanted.tab,
        q=wanted.q,
        filters={
            "channel": wanted.channel,
            "matter": wanted.matter,
            "state": wanted.state,
        },
        channels=_channel_choices(request),
        matters=view.matters(say),
        matter=matter,
        **await _rows(request, actor, wanted, number),
    )


async def _rows(
    request: web.Request, actor: Actor, wanted: Filter, selected: str = ""
) -> dict[str, Any]:
    core = request.app[CORE]
    cursor = request.query.get("cursor", "")
    found = await queries.listing(actor, wanted, core.clock.now(), cursor)
    more = f"/inquiries?{_query(wanted, cursor=found.cursor)}" if found.cursor else ""
    say = words(request)
    return {
        "rows": [view.row(core, one, say) for one in found.rows],
        "more": more,
        "filtered": wanted.narrowed,
        "selected_number": selected or request.query.get("selected", ""),
    }


def shown(number: int) -> int | str:
    """Nobody reads a number of four digits on a tab, and counting it would cost."""
    return number if number < queries.MOST else f"{queries.MOST - 1}+"


async def _tabs(
    request: web.Request, actor: Actor, wanted: Filter
) -> list[dict[str, Any]]:
    numbers = await queries.counts(actor, request.app[CORE].clock.now())
    return [
        {
            "key": key,
            "label": text(request, label),
            "number": shown(numbers[key]),
            "path": f"/inquiries?tab={key}",
            "current": key == wanted.tab,
            "alert": key in ("overdue", "attention") and numbers[key] > 0,
        }
        for key, label in TABS.items()
        if key not in _SHOWN_WHEN_NEEDED or numbers[key] or key == wanted.tab
    ]


def _channel_choices(request: web.Request) -> list[dict[str, str]]:
    configured = [
        {"value": one.name, "label": one.label} for one in request.app[CORE].channels
    ]
    by_hand = [
        {"value": "counter", "label": text(request, "来访")},
        {"value": "phone", "label": text(request, "来电")},
    ]
    return configured + by_hand


async def show_row(request: web.Request, actor: Actor) -> web.StreamResponse:
    """One row, renewed; 204 where the list in the query string leaves it out."""
    core = request.app[CORE]
    wanted = _filter(request.query)
    id = forms.path_id(request)
    found = await queries.one_row(actor, wanted, core.clock.now(), id)
    if found is None:
        return web.Response(status=204)
    return await render(
        request,
        "partials/_inquiry_row.html",
        row=view.row(core, found, words(request)),
        selected_number=request.query.get("selected", ""),
    )


async def show_counts(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(
        request,
        "partials/_counts.html",
        counts=await counts(request.app, actor),
        tabs=await _tabs(request, actor, _filter(request.query)),
    )


async def show_inquiry(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await show(request, actor)


async def show(
    request: web.Request,
    actor: Actor,
    refused: Refused = NOTHING_REFUSED,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    core, number = request.app[CORE], request.match_info["number"]
    matter = await view.matter(core, actor, number, words(request), refused)
    status = 422 if refused.errors else 200
    if is_htmx(request):
        return await render(
            request,
            "partials/_inquiry.html",
            status=status,
            headers=headers,
            matter=matter,
        )
    if "alone" in request.query:
        return await render(
            request, "inquiry.html", status=status, active="inquiries", matter=matter
        )
    return await _stream_page(request, actor, matter, status)


async def show_live(request: web.Request, actor: Actor) -> web.StreamResponse:
    """What a live update replaces; the answer box is never part of it."""
    core = request.app[CORE]
    number = await queries.number_of(forms.path_id(request))
    matter = await view.matter(core, actor, number, words(request))
    return await render(request, "partials/_inquiry_live.html", matter=matter)


async def show_places(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Whom the matter may be handed to, once somebody wants to."""
    number = request.match_info["number"]
    places = await view.places(actor, number, words(request))
    return await render(request, "partials/_places.html", places=places)


async def show_preview(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The answer as the member will read it, with segments and price."""
    form = await forms.read(request)
    found = await view.preview(
        request.app[CORE],
        actor,
        request.match_info["number"],
        form.get("text", limit=work.LONGEST_ANSWER),
        words(request),
    )
    return await render(request, "partials/_answer_preview.html", preview=found)


async def show_print(request: web.Request, actor: Actor) -> web.StreamResponse:
    number = request.match_info["number"]
    form = await print_form.form(request.app[CORE], actor, number)
    return await render(request, "inquiry_print.html", form=form, active="inquiries")


async def show_attachment(request: web.Request, actor: Actor) -> web.StreamResponse:
    """A file that a member sent: always saved, never shown by the browser."""
    inquiry = await work.find(actor, request.match_info["number"])
    file = await AttachmentRow.get_or_none(id=forms.path_id(request))
    if file is None or not await Inbound.exists(
        id=file.inbound_id, inquiry_id=inquiry.id
    ):
        raise NotFound("attachment")
    name = re.sub(r'[\x00-\x1f"\\/:*?<>|]', "_", file.name) or "file"
    quoted = quote(name, safe="")
    return web.Response(
        body=file.content,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quoted}",
            "Content-Security-Policy": "sandbox",
        },
    )


ONE = "/inquiries/{number}"
ROUTES = (
    page("GET", "/inquiries", show_stream, Action.READ),
    page("GET", "/inquiries/counts", show_counts, Action.READ, background=True),
    page("GET", ONE, show_inquiry, Action.READ),
    page("GET", "/inquiries/{id}/row", show_row, Action.READ, background=True),
    page("GET", "/inquiries/{id}/live", show_live, Action.READ, background=True),
    page("GET", f"{ONE}/print", show_print, Action.READ),
    page("GET", f"{ONE}/places", show_places, Action.WORK),
    page("GET", f"{ONE}/attachments/{{id}}", show_attachment, Action.READ),
    page("POST", f"{ONE}/preview", show_preview, Action.WORK),
)
