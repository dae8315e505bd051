"""`/healthz` for whoever watches the process, `/metrics` for Prometheus."""

import asyncio
import json
from datetime import timedelta

import structlog
from aiohttp import web

from gateway.outbox import journal
from gateway.web.keys import CORE, HEALTH, Check
from gateway.web.routes import public

_PATIENCE = timedelta(seconds=3)
log = structlog.get_logger()


async def healthz(request: web.Request) -> web.Response:
    """200 where every part is alive, else 503; `parts` says which are."""
    checks = request.app[HEALTH]
    alive = await asyncio.gather(*(_alive(n, c) for n, c in checks.items()))
    parts = dict(zip(checks, alive, strict=True))
    well = all(alive)
    return web.Response(
        text=json.dumps({"status": "ok" if well else "degraded", "parts": parts}),
        status=200 if well else 503,
        content_type="application/json",
    )


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
