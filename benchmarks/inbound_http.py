"""Provider pushes, one message a request, acknowledged after a synced commit.

64 connections push to the gateway on SQLite with synchronous=FULL, while its router
works on what came in. The limit is a trivial aiohttp handler that stores nothing,
pushed to by the same program. Both have started and are warmed up.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from benchmarks.harness.gateway import Site, section
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import Broken, Program, folder, python
from gateway import keys

TARGET = Target(ratio_at_least=0.6)
MESSAGES = 60_000
CONNECTIONS = 64
RUN_SECONDS = 300.0
REST_SECONDS = 0.5
CHANNEL = "sms"


def measure(scale: float) -> Measurement:
    count = max(640, int(MESSAGES * scale))
    with python("-m", "benchmarks.sinks.trivial") as trivial:
        limit = _pushed(trivial, trivial.address[1], "/hooks", count)
    with folder() as place:
        channel = section(
            CHANNEL,
            adapter="tencent",
            label="短信",
            signature="【清禾党员服务】",
            secret_id="id",
            secret_key=f"file:{place / 'secret'}",
            sdk_app_id="1400000001",
            sign_name="清禾党员服务",
        )
        (place / "secret").write_text("secret")
        site = Site(place, "", channel)
        with site.running() as gateway:
            token = keys.load(place / "data").derive(f"hook:{CHANNEL}").hex()[:32]
            path = f"/hooks/{CHANNEL}/{token}/reply"
            _wait_for_rest(gateway)
            reached = _pushed(gateway, _port(site), path, count)
            stored = _stored(site)
            memory = gateway.peak_memory_mib()
    if stored != count + count // 4:
        raise Broken(f"{count + count // 4} were acknowledged, {stored} are stored")
    return Measurement(
        figure=reached["rate"],
        unit="messages/s",
        limit=limit["rate"],
        limit_is="a trivial aiohttp handler",
        notes={
            "p99 ms": round(reached["p99 ms"], 1),
            "processor µs a message": round(reached["processor µs"], 1),
            "of the limit": round(limit["processor µs"], 1),
            "memory MiB": round(memory),
        },
    )


def _wait_for_rest(program: Program) -> None:
    """Until it has started wholly: what it does then is not measured."""
    used = -1.0
    while (now := program.processor_seconds()) - used > REST_SECONDS / 10:
        used = now
        time.sleep(REST_SECONDS)


def _pushed(program: Program, port: int, path: str, count: int) -> Mapping[str, Any]:
    """What was told of so many pushes, after a quarter as many that nobody measures."""
    _push(port, path, count, count // 4)
    before = program.processor_seconds()
    told = _push(port, path, 0, count)
    used = program.processor_seconds() - before
    return {**told, "processor µs": used / count * 1e6}


def _push(port: int, path: str, first: int, count: int) -> Mapping[str, Any]:
    with python(
        *("-m", "benchmarks.sinks.pusher", f"--port={port}", f"--path={path}"),
        *(f"--first={first}", f"--count={count}", f"--connections={CONNECTIONS}"),
    ) as it:
        output = it.collect(RUN_SECONDS)
    told: Mapping[str, Any] = json.loads(output.partition("pushed ")[2])
    if told["refused"]:
        raise Broken(f"{told['refused']} of {count} pushes were refused")
    return told


def _port(site: Site) -> int:
    (file,) = site.folder.glob("settings-*.toml")
    return int(file.stem.partition("-")[2])


def _stored(site: Site) -> int:
    with closing(sqlite3.connect(site.database.removeprefix("sqlite://"))) as base:
        return int(base.execute("SELECT COUNT(*) FROM inbound").fetchone()[0])
