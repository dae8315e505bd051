"""The review tray: messages whose meaning the router would not guess."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import from_micros
from gateway.inbox import tray
from gateway.inbox.tray import Waiting
from gateway.inquiries import history, words
from gateway.inquiries.history import Say, masked
from gateway.prompts import PromptKind
from gateway.tables import Inquiry
from gateway.text import excerpt
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text, toast_header
from gateway.web.routes import page

_LONGEST_TITLE = 40
_RSVP = {"yes": "参加“{title}”", "no": "不参加“{title}”"}
_DONE = {
    "inquiry": "已归入 {number}",
    "new": "已另立新单 {number}",
    "opt_out": "已按退订处理",
    "ignore": "已存档，不用处理",
    "prompt": "已按回复记下",
}


async def count(actor: Actor) -> Mapping[str, int]:
    """For the navigation (`app[COUNTS]`): messages that wait for a decision."""
    return {"review": await tray.count(actor)}


async def show_tray(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(
        request,
        "review.html",
        active="review",
        messages=await _messages(request, actor),
    )


async def show_items(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _items(request, actor)


async def _items(
    request: web.Request, actor: Actor, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    found = await _messages(request, actor)
    return await render(
        request, "partials/_review_items.html", headers=headers, messages=found
    )


async def _messages(request: web.Request, actor: Actor) -> list[dict[str, Any]]:
    core, say = request.app[CORE], partial(text, request)
    return [await _item(core, one, say) for one in await tray.waiting(core, actor)]


async def _item(core: Core, one: Waiting, say: Say) -> dict[str, Any]:
    """The `message` of templates/pages/partials/_review_item.html."""
    row = one.message
    who = row["member"] or row["display_name"] or masked(row["kind"], row["value"])
    said = f"{row['subject']}\n{row['text']}" if row["subject"] else row["text"]
    return {
        "id": row["id"],
        "who": who,
        "organisation": row["organisation"] or masked(row["kind"], row["value"]),
        "channel": history.channel(core, row["channel"], row["kind"], say),
        "received_at": from_micros(row["received_at"]),
        "text": said,
        "reason": say(words.REVIEWS.get(row["route"], row["route"])),
        "suggestions": [
            {
                "number": found["number"],
                "title": excerpt(found["text"], _LONGEST_TITLE),
                "state": found["state"],
                "reason": "",
            }
            for found in one.inquiries
        ],
        "meanings": await _meanings(one, say),
    }


async def _meanings(one: Waiting, say: Say) -> list[dict[str, str]]:
    """The answers that open questions would take this message for."""
    meanings = []
    for prompt in one.prompts:
        question = await tray.subject_of(prompt.id)
        inquiry = await Inquiry.get_or_none(id=question.inquiry_id)
        for value, _ in prompt.prompt.options:
            if prompt.prompt.kind is PromptKind.RSVP:
                title = str(dict(question.data).get("title", ""))
                label = say(_RSVP[value], title=title)
            else:
                number = inquiry.number if inquiry else ""
                rating = say(words.RATINGS[int(value)])
                label = say("评价 {number}：{rating}", number=number, rating=rating)
            choice = f"prompt:{prompt.id}:{value}"
            meanings.append({"value": choice, "label": label, "hint": prompt.code})
    return meanings


async def decide(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    decision = form.get("decision", limit=80)
    id = forms.path_id(request)
    number = await tray.decide(request.app[CORE], actor, id, decision)
    said = text(request, _DONE[decision.partition(":")[0]], number=number)
    if request.headers.get("HX-Request") == "true":
        return await _items(request, actor, toast_header(said))
    return redirect(request, "/review", said)


ROUTES = (
    page("GET", "/review", show_tray, Action.WORK),
    page("GET", "/review/items", show_items, Action.WORK, background=True),
    page("POST", "/review/{id}", decide, Action.WORK),
)
