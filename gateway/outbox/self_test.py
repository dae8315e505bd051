"""The self test of an account at its start: a message to a telephone of the centre's
own, and whether its receipt finds it (C-4). A wrong setting shows at once, and not as
thousands of messages that never become `delivered`."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from itertools import count
from typing import Any

import structlog

from gateway import audit
from gateway import database as db
from gateway.actors import GATEWAY
from gateway.channels import Channel, Reach, Route
from gateway.contract import MessageKind
from gateway.core import Core
from gateway.database import Row, to_micros
from gateway.outbox.enqueue import Draft, enqueue

PATIENCE = timedelta(minutes=10)  # for the receipt
_UNDER_WAY = frozenset({"queued", "sending"})
log = structlog.get_logger()


class Verdict(StrEnum):
    RUNNING = "running"  # not answered, or its receipt may still come
    PASSED = "passed"
    FAILED = "failed"  # refused, or perhaps not sent; `reason` says why
    SILENT = "silent"  # taken, but no receipt came
    MISMATCH = "mismatch"  # a receipt came for the number, and its id is unknown


BAD = frozenset({Verdict.FAILED, Verdict.SILENT, Verdict.MISMATCH})


async def begin(core: Core, channel: Channel) -> None:
    """Enqueue it, unless with these settings one passed today or is under way."""
    if channel.self_test is None:
        return
    for number in count():
        key = f"{_key(core, channel)}:{number}"
        found = await _row("dedupe_key = ?", key)
        if found is None:
            channel.tested = await _enqueue(core, channel, key)
            return
        channel.tested = found["id"]
        if (await _verdict(core, channel, found))["verdict"] not in BAD:
            return


def _key(core: Core, channel: Channel) -> str:
    section = core.settings.channels.get(channel.name)
    said = section.model_dump_json() if section else channel.common.model_dump_json()
    settings = hashlib.sha256(said.encode()).hexdigest()[:16]
    day = core.clock.now().astimezone(core.settings.centre.timezone).date()
    return f"self_test:{channel.name}:{day}:{settings}"


async def _enqueue(core: Core, channel: Channel, key: str) -> int:
    assert channel.self_test is not None
    kind, language = channel.self_test.kind, core.settings.centre.language
    draft = Draft(
        kind=MessageKind.TEST,
        text=core.texts.render("self_test", kind, {}, language),
        extras={"subject": core.texts.subject("self_test", {}, language)},
        dedupe_key=key,
    )
    route = Route(channel, Reach(address=channel.self_test, channel=channel.name))
    async with db.transaction():
        row = await enqueue(core, draft, route)
        assert row is not None, key
        what = f"channel:{channel.name}"
        await audit.record(core.clock, GATEWAY, "channel.tested", what, outbox=row.id)
    log.info("self_test.began", channel=channel.name, outbound=row.id)
    return int(row.id)


async def seen(core: Core, channel: Channel) -> Mapping[str, Any]:
    """What became of the newest; empty where there was none."""
    found = await _row("id = ?", channel.tested) if channel.tested else None
    return {} if found is None else await _verdict(core, channel, found)


async def _row(where: str, value: object) -> Row | None:
    found = await db.rows(
        "SELECT id, state, reason, provider_id, kind, value, created_at, changed_at "
        f"FROM outbox WHERE {where}",
        value,
    )
    return found[0] if found else None


async def _verdict(core: Core, channel: Channel, row: Row) -> Mapping[str, Any]:
    """With the instant of the last change, and both ids where they differ."""
    said = {"at": row["changed_at"], "reason": row["reason"]}
    verdict, theirs = _by_state(channel, row["state"]), ""
    if verdict is None:
        theirs = await _stranger(channel.name, row)
        verdict = _by_receipt(theirs, to_micros(core.clock.now()), row)
    return {**said, "verdict": verdict, "ours": row["provider_id"], "theirs": theirs}


def _by_state(channel: Channel, state: str) -> Verdict | None:
    """None: it depends on its receipt."""
    if state in _UNDER_WAY:
        return Verdict.RUNNING
    if state in ("delivered", "read"):
        return Verdict.PASSED
    if state != "accepted":
        return Verdict.FAILED
    return None if channel.capabilities.delivery_receipts else Verdict.PASSED


def _by_receipt(theirs: str, now: int, row: Row) -> Verdict:
    if theirs:
        return Verdict.MISMATCH
    waited = timedelta(microseconds=now - row["changed_at"])
    return Verdict.RUNNING if waited < PATIENCE else Verdict.SILENT


async def _stranger(channel: str, row: Row) -> str:
    """The id in a receipt for the same number that found no message since; or ""."""
    found = await db.rows(
        "SELECT provider_id FROM receipts WHERE channel = ? AND effect = '' "
        "AND value <> '' AND value = ? AND kind = ? AND received_at >= ? "
        "ORDER BY id DESC LIMIT 1",
        channel,
        row["value"],
        row["kind"],
        row["created_at"],
    )
    return str(found[0]["provider_id"]) if found else ""
