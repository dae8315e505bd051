"""The self test of an account against a centre that writes its ids in another way."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters import smpp
from adapters.smpp.simulator import Behaviour
from gateway import database as db
from gateway import leases
from gateway.channels import ChannelSet, channel
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.outbox import self_test
from gateway.posts import Post
from gateway.settings import Channel as Section
from gateway.settings import ChannelCommon
from gateway.supervisor import Supervisor
from gateway.tables import Node
from tests.labs.carrier import context
from tests.labs.process import until
from tests.labs.smpp_lab import opened, settings

PATIENCE = 60.0
NUMBER = "138 0013 8000"


@asynccontextmanager
async def started(core: Core, port: int, folder: Path, ids: str) -> AsyncIterator[Post]:
    """The account's owner, as after a start of the process."""
    now = core.clock.now()
    core.node_id = (await Node.create(started_at=now, seen_at=now)).id
    own = settings(port, message_ids=ids)
    common = ChannelCommon(adapter="smpp", self_test=NUMBER)
    sections = {"sms": Section(name="sms", common=common, own=own)}
    core.settings = core.settings.model_copy(update={"channels": sections})
    adapter = smpp.build(own, context("sms", folder))
    core.channels = ChannelSet([made := channel("sms", adapter, common)])
    await leases.register(db.rows, ["channel:sms"])
    await db.execute("UPDATE leases SET until = 1")
    lease = await leases.take(db.rows, "channel:sms", core.node_id, now)
    assert lease is not None
    supervisor, inbox = Supervisor(), Inbox(core)
    post = Post(core, made, supervisor, partial(inbox.accept, "sms"))
    await post.begin(lease)
    try:
        yield post
    finally:
        await post.end(True)
        await supervisor.stop()
        await adapter.close()


async def seen(core: Core, post: Post) -> Mapping[str, Any]:
    """What it says in the end."""

    async def ended() -> bool:
        said = await self_test.seen(core, post.channel)
        return bool(said) and said["verdict"] != "running"

    await until(ended, PATIENCE)
    return await self_test.seen(core, post.channel)


@pytest.mark.parametrize("wrong", ["as_is", "hex"])
async def test_a_wrong_spelling_of_ids_is_found_at_the_start(
    core: Core, clock: ManualClock, tmp_path: Path, wrong: str
) -> None:
    """C-4: with a test number; the right setting passes at the next start."""
    async with opened(tmp_path, Behaviour(message_ids="hex_then_decimal")) as lab:
        lab.centre._id = 1000  # the first nine look alike in every spelling
        async with started(core, lab.port, tmp_path, wrong) as post:
            said = await seen(core, post)
        assert said["verdict"] == "mismatch"
        assert said["ours"] != said["theirs"] != ""
        clock.advance(timedelta(minutes=1))
        async with started(core, lab.port, tmp_path, "hex_then_decimal") as post:
            assert (await seen(core, post))["verdict"] == "passed"
        assert lab.centre.counts.accepted == 2
