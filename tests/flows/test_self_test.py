"""The self test of an account against a centre that writes its ids in another way."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.smpp.simulator import Behaviour
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.outbox import self_test
from gateway.posts import Post
from tests.labs.owned import owned
from tests.labs.process import until
from tests.labs.smpp_lab import opened

PATIENCE = 60.0


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
        start = partial(
            owned, core, "sms", lab.port, tmp_path, self_test="138 0013 8000"
        )
        async with start(message_ids=wrong) as post:
            said = await seen(core, post)
        assert said["verdict"] == "mismatch"
        assert said["ours"] != said["theirs"] != ""
        clock.advance(timedelta(minutes=1))
        async with start(message_ids="hex_then_decimal") as post:
            assert (await seen(core, post))["verdict"] == "passed"
        assert lab.centre.counts.accepted == 2
