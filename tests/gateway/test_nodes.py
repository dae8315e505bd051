"""Who lives, as the rows of the processes tell."""

from datetime import timedelta

import pytest

from gateway import database as db
from gateway import leases, nodes
from gateway.clock import ManualClock
from gateway.roles import Role
from gateway.tenure import Peer

SENDER = frozenset({Role.SENDER})


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


async def test_the_dead_are_no_peers_once_their_leases_are_free(
    database: None, clock: ManualClock
) -> None:
    """F-4: a channel taken over from a dead process is not given back to it."""
    at = clock.now()
    dead = await nodes.begin(db.rows, SENDER, at)
    alive = await nodes.begin(db.rows, SENDER, at)
    stopped = await nodes.begin(db.rows, SENDER, at)
    await nodes.begin(db.rows, frozenset({Role.WEB}), at)
    assert await takers(clock) == {dead: set(), alive: set(), stopped: set()}
    await nodes.end(db.rows, stopped, at, "")
    clock.advance(leases.LASTS)
    await nodes.seen(db.rows, alive, clock.now(), {"takes": ["channel:sms"]})
    assert await takers(clock) == {dead: set(), alive: {"channel:sms"}}
    clock.advance(timedelta(microseconds=1))
    assert await takers(clock) == {alive: {"channel:sms"}}


async def takers(clock: ManualClock) -> dict[int, set[str]]:
    found: list[Peer] = await nodes.peers(db.rows, Role.SENDER, clock.now())
    return {one.node_id: set(one.takes) for one in found}
