"""The page 运行状态: which processes run, how their parts are, who owns what."""

from functools import partial
from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import Row, is_postgres
from gateway.nodes import LeaseView, NodeView
from gateway.phrases import phrase
from gateway.runtime import missing
from gateway.space import MIB
from gateway.web.keys import BACKGROUND, CORE
from gateway.web.pages import render, text
from gateway.web.routes import page

ROLES = {
    "web": "网页与接口",
    "bots": "机器人连接",
    "sender": "发送",
    "scheduler": "定时任务",
}
PARTS = {
    "heartbeat": "心跳",
    "inbox": "收件箱",
    "router": "消息分派",
    "leases": "租约",
    "reports": "渠道状态",
    "signals": "进程间通知",
    "calendar": "工作日历",
    "scheduler": "定时任务",
    "watchdog": "主循环监视",
}
_CALM_SECONDS = 600.0  # so long after a fault it is history
_WITH_CHANNEL = {"sender": "发送：{name}", "listener": "接收：{name}"}


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    context = await _context(request)
    return await render(request, "system.html", active="system", **context)


async def show_state(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(request, "partials/_system.html", **await _context(request))


async def show_storage(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The warning above every page, again."""
    return await render(request, "partials/_storage.html")


async def _context(request: web.Request) -> dict[str, Any]:
    background = request.app.get(BACKGROUND)
    if background is None:
        return {"nodes": [], "leases": [], "running": 0, "missing": []}
    nodes, leases = await background.cluster()
    say = partial(text, request)
    return {
        "nodes": [_node(request, one) for one in nodes],
        "leases": [_lease(request, one) for one in leases],
        "running": sum(one.alive for one in nodes),
        "missing": [say(ROLES[one]) for one in missing(request.app[CORE], nodes)],
        "splits": is_postgres(),
    }


def _node(request: web.Request, node: NodeView) -> Row:
    say = partial(text, request)
    return {
        "name": node.name,
        "roles": [say(ROLES.get(one, one)) for one in node.roles],
        "version": node.version,
        "started_at": node.started_at,
        "seen_at": node.seen_at,
        "state": _state(node),
        "ended": _part(request, node.ended) if node.ended else "",
        # What a process that is gone said last of its parts tells nothing any more.
        "parts": [
            _told(request, name, node) for name in sorted(node.parts) if node.alive
        ],
        "troubles": sorted(node.storage.troubles) if node.alive else [],
        "spooled_mib": node.storage.spooled / MIB,
        "free_mib": node.storage.free // MIB,
    }


def _state(node: NodeView) -> str:
    if node.stopped_at is not None:
        return "ended" if node.ended else "stopped"
    if not node.alive:
        return "lost"
    if node.late:
        return "late"
    well = all(one.get("well") for one in node.parts.values())
    return "ok" if well and not node.storage.troubles else "trouble"


def _told(request: web.Request, name: str, node: NodeView) -> Row:
    told = node.parts[name]
    return {
        "name": _part(request, name),
        "well": bool(told.get("well")),
        "deaths": int(told.get("deaths", 0)),
        "error": str(told.get("error", "")),
        "calm": (told.get("steady") or 0.0) >= _CALM_SECONDS,
    }


def _lease(request: web.Request, lease: LeaseView) -> Row:
    _, _, channel = lease.name.partition(":")
    name = text(request, PARTS["scheduler"])
    if channel:
        name = _channel(request.app[CORE], channel)
    return {
        "name": name,
        "node": lease.node,
        "epoch": lease.epoch,
        "since": lease.since,
    }


def _part(request: web.Request, name: str) -> str:
    kind, _, channel = name.partition(":")
    if kind not in _WITH_CHANNEL:
        return text(request, PARTS.get(name, name))
    known = text(request, _channel(request.app[CORE], channel))
    return text(request, phrase(_WITH_CHANNEL[kind], name=known))


def _channel(core: Core, name: str) -> str:
    known = core.channels.get(name)
    return name if known is None else known.label


ROUTES = (
    page("GET", "/system", show, Action.ADMINISTER),
    page("GET", "/storage", show_storage, Action.READ, background=True),
    page("GET", "/system/state", show_state, Action.ADMINISTER, background=True),
)
