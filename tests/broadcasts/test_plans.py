"""What belongs to one recipient is found by the address: by the index of a broadcast of
a million each recipient would read a million rows, under the one writer's lock."""

import pytest

from broadcasts import running
from gateway.core import Core
from gateway.outbox import moves
from gateway.outbox.moves import Move
from gateway.tables import Chunk, Outbound, PromptRow
from tests.broadcasts.county import County
from tests.labs.plans import watched


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


async def test_a_cancel_reads_no_question_twice(
    core: Core, county: County, sqlite_url: str
) -> None:
    await county.crowd(20)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    first = await Outbound.all().order_by("id").first()
    assert first is not None
    await Chunk.all().update(journalled_to=first.id, state="leased")
    back = [Move(first.id, "queued", "throttled", attempt=1)]
    await moves.advance(back, core.clock.now())
    with watched(sqlite_url) as seen:
        await running.cancel(core, county.clerk, broadcast.id)
    assert await PromptRow.filter(closed_at__isnull=True).count() == 0
    assert len(seen.of("SEARCH p USING")) == 2  # by the chunk, and of what came back
    assert not seen.of("prompts_broadcast", "AUTOMATIC", "SCAN p", "SCAN o")
