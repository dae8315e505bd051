"""From the approval to the start: the audience is taken, checked, written, let go.

While that lasts the broadcast is `planning` and nothing of it leaves. A process that
dies over it leaves a try with its token; the next one takes back what that has written
and begins anew. Small audiences are planned by whoever starts them, large ones by the
worker beside the schedule.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog

from broadcasts import approval, check, content, freeze, notices, stage
from broadcasts.freeze import Freeze, Question
from broadcasts.plan import Plan
from broadcasts.stage import Stage, staged
from broadcasts.tables import Broadcast
from gateway import audit
from gateway import database as db
from gateway.actors import GATEWAY
from gateway.core import Core
from gateway.database import is_postgres, to_micros
from gateway.errors import RequestError
from gateway.members import consent, erasure
from gateway.outbox.enqueue import PRIORITY
from gateway.outbox.recovery import DEAD_AFTER
from gateway.phrases import phrase
from gateway.status import BroadcastState
from gateway.tables import Content

log = structlog.get_logger()

SMALL = 5_000  # people that are planned at once, while who starts them waits
_SILENT = timedelta(minutes=2)  # a small one never takes so long: its process failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is decided when a run is started."""

    expires_at: datetime
    exclude_bad: bool
    # Refused where many more are found, or nobody; None: any number will do.
    approved_people: int | None


async def plan(core: Core, broadcast: Broadcast, planned: Plan, terms: Terms) -> None:
    """Do all that is between `planning` and `running`.

    Raises RequestError where it can't run, with nothing written, and Superseded where
    it was cancelled or another process took it over.
    """
    id, token = broadcast.id, broadcast.plan_token
    await freeze.take_back(core, id, token)
    async with staged(planned, f"stage_{id}") as found:
        people = found.reached
        if terms.approved_people is not None:
            _refuse_number(people, terms.approved_people)
        core.hub.publish("broadcast", id)
        bad = await check.check(core, found)
        if bad and not terms.exclude_bad:
            raise approval.bad_texts(core, bad, await check.first_bad(found, 5))
        run = await _begin(core, broadcast, found, people, terms)
        await freeze.write(core, found, run)
        missed = [asdict(one) for one in await stage.left_out(found)]
        await _start(core, broadcast, found, run, bad, missed)


def _refuse_number(people: int, approved: int) -> None:
    if people > approved + approved // 10 + 5:
        words = "批准时是{approved}人，现在是{n}人，请修改后重新提请批准"
        fault = phrase(words, approved=approved, n=people)
        raise RequestError("audience_grown", fault, status=409)
    if not people:
        raise RequestError("nobody", "名单里没有一个人能收到", status=409)


async def _begin(
    core: Core, broadcast: Broadcast, found: Stage, people: int, terms: Terms
) -> Freeze:
    now, policy = core.clock.now(), core.settings.policy
    texts = dict(found.plan.texts)
    async with db.transaction():
        frozen = await Content.create(
            texts=texts, hash=content.digest(texts), created_at=now
        )
        await freeze.claim(
            broadcast.id,
            broadcast.plan_token,
            "people = ?, content_id = ?",
            people,
            frozen.id,
        )
    return Freeze(
        broadcast_id=broadcast.id,
        token=broadcast.plan_token,
        content_id=frozen.id,
        priority=PRIORITY[found.plan.kind],
        canary=policy.canary if people > policy.canary else 0,
        now=now,
        expires_at=terms.expires_at,
        question=_question(core, broadcast, now),
    )


def _question(core: Core, broadcast: Broadcast, now: datetime) -> Question | None:
    if not broadcast.rsvp:
        return None
    days = timedelta(days=core.settings.policy.prompt_days)
    return Question(
        code=broadcast.code,
        data=json.dumps({"title": broadcast.title}, ensure_ascii=False),
        until=broadcast.event_at or now + days,
    )


async def _start(
    core: Core,
    broadcast: Broadcast,
    found: Stage,
    run: Freeze,
    bad: int,
    missed: Sequence[object],
) -> None:
    """The run begins wholly or not at all."""
    now = core.clock.now()
    async with db.transaction():
        await consent.hold_gate()
        await freeze.claim(
            broadcast.id,
            run.token,
            "state = 'running', canary = ?, left_out = ?, started_at = ?, "
            "changed_at = ?, plan_node = NULL, note = ''",
            "waiting" if run.canary else "",
            json.dumps(missed, ensure_ascii=False),
            to_micros(now),
            to_micros(now),
        )
        await erasure.catch_up(broadcast.id, await stage.erased(found), now)
        await freeze.open_chunks(run)
        people = (await Broadcast.get(id=broadcast.id)).planned
        await audit.record(
            core.clock,
            GATEWAY,
            "broadcast.frozen",
            f"broadcast:{broadcast.id}",
            path=await notices.path_of(broadcast),
            people=people,
            excluded=bad,
            canary=run.canary,
        )
    log.info("broadcast.started", broadcast=broadcast.id, people=people, bad=bad)
    await notices.announce(core, broadcast)
    core.wakeups.wake_all()


async def adopt(core: Core) -> Broadcast | None:
    """The next one that nobody plans, now ours with a token of its own."""
    now = core.clock.now()
    found = await db.rows(
        "SELECT b.id, b.plan_token, b.plan_node, b.changed_at, n.stopped_at, n.seen_at "
        "FROM broadcasts b LEFT JOIN nodes n ON n.id = b.plan_node "
        "WHERE b.state = 'planning' ORDER BY b.changed_at, b.id"
    )
    for row in found:
        if _is_left(core, now, row):
            token = row["plan_token"]
            changed = await Broadcast.filter(
                id=row["id"], state=BroadcastState.PLANNING, plan_token=token
            ).update(
                plan_token=token + 1,
                plan_node=core.node_id,
                changed_at=now,
            )
            if changed:
                return await Broadcast.get(id=row["id"])
    return None


def _is_left(core: Core, now: datetime, row: db.Row) -> bool:
    if row["plan_node"] is None:
        return True
    if row["plan_node"] == core.node_id:
        return bool(row["changed_at"] < to_micros(now - _SILENT))
    if not is_postgres():
        return True  # no other process can be alive
    seen = row["seen_at"]
    return bool(seen is None or row["stopped_at"] or seen < to_micros(now - DEAD_AFTER))
