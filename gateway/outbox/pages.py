"""The channels page: their state, test messages, and messages of unknown outcome."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.channels import Channel
from gateway.core import Core
from gateway.database import from_micros
from gateway.errors import NotFound
from gateway.inquiries import history, words
from gateway.inquiries.history import masked
from gateway.outbox import account, overview, queries, unknown
from gateway.outbox.report import STUCK, UNREACHABLE, reports
from gateway.status import Bucket
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page


async def count(core: Core, actor: Actor) -> Mapping[str, int]:
    """For the navigation: channels that no process serves, of which nobody answers or
    that can't receive, where something waits too long, or whose self test failed."""
    told, free = await reports(), await account.unserved(core)
    alarms = {UNREACHABLE, STUCK, account.SELF_TEST, account.NO_RECEIVER}
    found = [
        one.name
        for one in core.channels
        if one.name in free
        or alarms.intersection(account.ails(one, told.get(one.name, {})))
    ]
    return {"channels": len(found)}


async def show_channels(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(
        request, "channels.html", active="channels", **await _context(request, actor)
    )


async def show_cards(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(
        request, "partials/_channel_cards.html", **await _context(request, actor)
    )


async def show_channel(request: web.Request, actor: Actor) -> web.StreamResponse:
    channel = _channel(request)
    return await render(
        request,
        "channel.html",
        active="channels",
        name=channel.name,
        label=channel.label,
        adapter=channel.common.adapter,
        kind=overview.first_kind(channel),
        **await _now(request, channel),
    )


async def show_now(request: web.Request, actor: Actor) -> web.StreamResponse:
    context = await _now(request, _channel(request))
    return await render(request, "partials/_channel_now.html", **context)


def _channel(request: web.Request) -> Channel:
    found = request.app[CORE].channels.get(request.match_info["name"])
    if found is None:
        raise NotFound("channel")
    return found


async def _now(request: web.Request, channel: Channel) -> dict[str, Any]:
    now = await account.seen(request.app[CORE], channel)
    return {"now": now, "state": now["state"]}


async def _context(request: web.Request, actor: Actor) -> dict[str, Any]:
    say = partial(text, request)
    return {
        "channels": await overview.cards(request.app[CORE], actor, say),
        "may_test": actor.may(Action.ADMINISTER),
        "unknown": await _unknown(request, actor),
        "notices": await _notices(actor),
    }


async def _unknown(request: web.Request, actor: Actor) -> list[dict[str, Any]]:
    if not actor.may(Action.WORK):
        return []
    core, say = request.app[CORE], partial(text, request)
    return [
        {
            "id": row["id"],
            "who": row["member"] or masked(row["kind"], row["value"]),
            "to": masked(row["kind"], row["value"]),
            "channel": history.channel(core, row["channel"], row["kind"], say),
            "number": row["number"] or "",
            "reason": say(words.reason(row["reason"])),
            "at": from_micros(row["changed_at"]),
            "queries": queries.shown(core, row, say),
        }
        for row in await unknown.unknown(actor)
    ]


async def _notices(actor: Actor) -> list[dict[str, Any]]:
    """Notices whose unknown messages are decided on together, on their own pages."""
    if not actor.may(Action.WORK):
        return []
    return [
        {
            "title": row["title"],
            "number": int(row["n"]),
            "since": from_micros(row["since"]),
            "path": f"/broadcasts/{row['id']}?state={Bucket.UNKNOWN}#people",
        }
        for row in await unknown.notices(actor)
    ]


async def send_test(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    name = request.match_info["name"]
    core = request.app[CORE]
    await overview.send_test(core, actor, name, form.get("to"), form.get("text"))
    return redirect(
        request, "/channels", text(request, "测试消息已交出，结果显示在渠道卡片上")
    )


async def decide(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    await unknown.decide(
        request.app[CORE],
        actor,
        forms.path_id(request),
        form.get("decision"),
        form.get("reason"),
    )
    said = text(request, "已按您的决定处理")
    return redirect(request, "/channels#unknown", said)


async def ask(request: web.Request, actor: Actor) -> web.StreamResponse:
    await queries.hurry(request.app[CORE], actor, forms.path_id(request))
    said = text(request, "正在向服务商查询，过一会儿再看结果")
    return redirect(request, "/channels#unknown", said)


ROUTES = (
    page("GET", "/channels", show_channels, Action.READ),
    page("GET", "/channels/cards", show_cards, Action.READ, background=True),
    page("GET", "/channels/{name}", show_channel, Action.READ),
    page("GET", "/channels/{name}/now", show_now, Action.READ, background=True),
    page("POST", "/channels/{name}/test", send_test, Action.ADMINISTER),
    page("POST", "/messages/{id}/decide", decide, Action.WORK),
    page("POST", "/messages/{id}/ask", ask, Action.WORK),
)
