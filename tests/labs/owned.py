"""SMPP accounts with their owner at work, as after a start of the process: sender,
sessions and the way in are the gateway's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from adapters import smpp
from gateway import database as db
from gateway import leases
from gateway.channels import ChannelSet, channel
from gateway.core import Core
from gateway.inbox import Inbox
from gateway.posts import Post
from gateway.settings import Channel as Section
from gateway.settings import ChannelCommon
from gateway.supervisor import Supervisor
from gateway.tables import Node
from tests.labs.carrier import context
from tests.labs.smpp_lab import settings


@asynccontextmanager
async def owned(
    core: Core,
    name: str,
    port: int,
    folder: Path,
    *,
    self_test: str = "",
    rate: float | None = None,
    **own: object,
) -> AsyncIterator[Post]:
    """`own` are settings of the account; it joins the channels that there are."""
    section = Section(
        name=name,
        common=ChannelCommon(adapter="smpp", self_test=self_test, rate_per_second=rate),
        own=settings(port, **own),
    )
    sections = {**core.settings.channels, name: section}
    core.settings = core.settings.model_copy(update={"channels": sections})
    adapter = smpp.build(section.own, context(name, folder))
    made = channel(name, adapter, section.common)
    others = [one for one in core.channels if one.name != name]
    core.channels = ChannelSet([*others, made])
    supervisor, inbox = Supervisor(), Inbox(core)
    post = Post(core, made, supervisor, partial(inbox.accept, name))
    await post.begin(await _lease(core, name))
    try:
        yield post
    finally:
        await post.end(True)
        await supervisor.stop()
        await adapter.close()


async def _lease(core: Core, name: str) -> leases.Lease:
    now = core.clock.now()
    if not core.node_id:
        core.node_id = (await Node.create(started_at=now, seen_at=now)).id
    await leases.register(db.rows, [f"channel:{name}"])
    found = await leases.take(db.rows, f"channel:{name}", core.node_id, now)
    assert found is not None
    return found
