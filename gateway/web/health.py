"""`/healthz` for whoever watches the process, `/metrics` for Prometheus."""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiohttp import web
from tortoise.exceptions import BaseORMException

from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.nodes import LeaseView, NodeView
from gateway.outbox import account, journal
from gateway.outbox.report import Report, reports
from gateway.postgres import AWAY
from gateway.runtime import missing
from gateway.web.keys import BACKGROUND, CORE, HEALTH, Check, Tells
from gateway.web.routes import public

_PATIENCE = 3.0  # seconds; a monitor waits for ten at most
_AWAY = (*AWAY, StorageUnavailable, BaseORMException)
T = TypeVar("T")
log = structlog.get_logger()


async def healthz(request: web.Request) -> web.Response:
    """200 where every part of this process is well, else 503; `parts` says which are.

    `status` is ok, degraded (a channel can't do its work, or no process has a role:
    nothing that a balancer could mend, still 200) or failing (503). `channels` says
    what ails each, `missing` which roles nobody has. `tasks` tells more of the
    background parts; `nodes` and `leases` are those of the whole cluster. What only the
    database knows is null while it doesn't answer.
    """
    app = request.app
    checks = app[HEALTH]
    alive, more, told = await asyncio.gather(
        asyncio.gather(*(_alive(n, c) for n, c in checks.items())),
        _cluster(app[CORE], app.get(BACKGROUND)),
        _reports(),
    )
    parts = dict(zip(checks, alive, strict=True))
    if (background := app.get(BACKGROUND)) is not None:
        parts |= background.parts()
    well = all(parts.values())
    channels = _channels(app[CORE], told, more.get("leases"))
    ailing = any((channels or {}).values()) or bool(more.get("missing"))
    status = ("degraded" if ailing else "ok") if well else "failing"
    said = {"status": status, "parts": parts, "channels": channels} | more
    return web.Response(
        text=json.dumps(said, ensure_ascii=False),
        status=200 if well else 503,
        content_type="application/json",
    )


async def _in_time(work: Awaitable[T]) -> T:
    """Raises TimeoutError. Where the database stands still, cancelling a question waits
    for it as well: whoever asked goes on alone."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_heard)
    done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
    if not done:
        task.cancel()
        raise TimeoutError
    return task.result()


def _heard(task: asyncio.Task[Any]) -> None:
    """However late it ended, nobody is to complain that it went unheard."""
    if not task.cancelled():
        task.exception()


async def _reports() -> Mapping[str, Report] | None:
    try:
        return await _in_time(reports())
    except _AWAY:
        return None


def _channels(
    core: Core,
    told: Mapping[str, Report] | None,
    leases: Sequence[Mapping[str, Any]] | None,
) -> dict[str, list[str]] | None:
    """By name what ails it: unreachable, not_connected, no_receiver, waiting,
    self_test, no_owner."""
    if told is None:
        return None
    free = {one["name"] for one in leases or () if not one["node"]}
    return {
        one.name: [
            *account.ails(one, told.get(one.name, {})),
            *(["no_owner"] if f"channel:{one.name}" in free else []),
        ]
        for one in core.channels
    }


async def _cluster(core: Core, background: Tells | None) -> dict[str, Any]:
    if background is None:
        return {}
    said = {"roles": sorted(background.roles), "tasks": background.report()}
    try:
        nodes, leases = await _in_time(background.cluster())
    except _AWAY:
        return said | {"nodes": None, "leases": None, "missing": None}
    return said | {
        "missing": missing(core, nodes),
        "nodes": [_node(one) for one in nodes if one.alive],
        "leases": [_lease(one) for one in leases],
    }


def _node(node: NodeView) -> dict[str, Any]:
    return {
        "name": node.name,
        "roles": node.roles,
        "version": node.version,
        "since": node.started_at.isoformat(),
        "seen": node.seen_at.isoformat(),
    }


def _lease(lease: LeaseView) -> dict[str, Any]:
    since = None if lease.since is None else lease.since.isoformat()
    return {
        "name": lease.name,
        "node": lease.node,
        "epoch": lease.epoch,
        "since": since,
    }


async def _alive(name: str, check: Check) -> bool:
    try:
        return await _in_time(check())
    except Exception as error:
        log.warning("health.failed", part=name, error=type(error).__name__)
        return False


async def metrics(request: web.Request) -> web.Response:
    core = request.app[CORE]
    for channel in core.channels:
        queued = await journal.queued(channel.name)
        core.metrics.queue.labels(channel.name).set(queued)
    body = core.metrics.exposition()
    return web.Response(
        body=body, headers={"Content-Type": "text/plain; version=0.0.4"}
    )


ROUTES = (
    public("GET", "/healthz", healthz),
    public("GET", "/metrics", metrics),
)
