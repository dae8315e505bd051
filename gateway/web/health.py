"""`/healthz` for whoever watches the process, `/metrics` for Prometheus."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from tortoise.exceptions import BaseORMException

from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.nodes import LeaseView, NodeView
from gateway.outbox import account, journal
from gateway.outbox.report import reports
from gateway.postgres import AWAY
from gateway.web.keys import BACKGROUND, CORE, HEALTH, Check, Tells
from gateway.web.routes import public

_PATIENCE = timedelta(seconds=3)
log = structlog.get_logger()


async def healthz(request: web.Request) -> web.Response:
    """200 where every part of this process is well, else 503; `parts` says which are.

    `status` is ok, degraded (a channel can't do its work, which no other process of
    ours could do instead: still 200) or failing (503). `channels` says what ails each.
    `tasks` tells more of the background parts; `nodes` and `leases` are those of the
    whole cluster. These three are null while the database doesn't answer.
    """
    checks = request.app[HEALTH]
    alive = await asyncio.gather(*(_alive(n, c) for n, c in checks.items()))
    parts = dict(zip(checks, alive, strict=True))
    more: dict[str, Any] = {}
    if (background := request.app.get(BACKGROUND)) is not None:
        parts |= background.parts()
        more = await _cluster(background)
    well = all(parts.values())
    channels = await _channels(request.app[CORE], more.get("leases"))
    ailing = any(channels.values()) if channels else False
    status = ("degraded" if ailing else "ok") if well else "failing"
    said = {"status": status, "parts": parts, "channels": channels} | more
    return web.Response(
        text=json.dumps(said, ensure_ascii=False),
        status=200 if well else 503,
        content_type="application/json",
    )


async def _channels(
    core: Core, leases: Sequence[Mapping[str, Any]] | None
) -> dict[str, list[str]] | None:
    """By name what ails it: unreachable, not_connected, waiting, self_test,
    no_owner."""
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            told = await reports()
    except (TimeoutError, StorageUnavailable, OSError, BaseORMException):
        return None
    free = {one["name"] for one in leases or () if not one["node"]}
    return {
        one.name: [
            *account.ails(one, told.get(one.name, {})),
            *(["no_owner"] if f"channel:{one.name}" in free else []),
        ]
        for one in core.channels
    }


async def _cluster(background: Tells) -> dict[str, Any]:
    said = {"roles": sorted(background.roles), "tasks": background.report()}
    try:
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            nodes, leases = await background.cluster()
    except (*AWAY, StorageUnavailable, BaseORMException):
        return said | {"nodes": None, "leases": None}
    return said | {
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
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            return await check()
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
