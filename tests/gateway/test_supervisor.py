"""I-6: a part that dies is started again and seen, and ends the process at last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tortoise.exceptions import IntegrityError, OperationalError

from gateway.errors import StorageUnavailable
from gateway.supervisor import (
    DEATHS,
    Part,
    Supervisor,
    beat,
    beside,
    is_storage_trouble,
)
from gateway.wakeup import Wakeups

PATIENCE = 10.0


class Given:
    """Which parts were given up, as run.py is told."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.supervisor = Supervisor(self._give_up)

    def _give_up(self, part: Part) -> None:
        self.parts.append(part.name)


@pytest.fixture
async def given() -> AsyncIterator[Given]:
    made = Given()
    yield made
    await made.supervisor.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def raising(error: Exception, deaths: int) -> Callable[[], Awaitable[None]]:
    """Dies so often, then works."""
    left = iter(range(deaths))

    async def work() -> None:
        if next(left, None) is not None:
            raise error
        await asyncio.Event().wait()

    return work


async def test_a_part_that_died_works_again_and_was_seen(given: Given) -> None:
    """I-6."""
    given.supervisor.start("router", raising(ValueError("once"), 1))
    part = given.supervisor.parts()["router"]
    await until(lambda: part.deaths == 1)
    assert not part.is_well()
    await until(lambda: part.alive)
    assert not part.is_well()  # still: a monitor that looks seldom has to see it
    assert part.last_error == "ValueError"
    assert given.parts == []


async def test_the_third_death_gives_the_process_up(given: Given) -> None:
    """I-6."""
    given.supervisor.start("router", raising(ValueError("always"), 99))
    await until(lambda: given.parts == ["router"])
    assert given.supervisor.parts()["router"].deaths == DEATHS


async def test_a_database_that_is_away_gives_up_nobody(given: Given) -> None:
    """D-2, F-3: it comes back, and a new process would find the same."""
    given.supervisor.start("sender", raising(OperationalError("locked"), DEATHS))
    part = given.supervisor.parts()["sender"]
    await until(lambda: part.deaths == DEATHS)
    # Well at once when it works again: the others, all red, could take nothing over.
    await until(lambda: part.alive)
    assert part.is_well()
    assert given.parts == []


@pytest.mark.parametrize(
    ("error", "storage"),
    [
        (OSError(28, "No space left on device"), True),
        (StorageUnavailable("not_stored"), True),
        (IntegrityError("duplicate"), False),
        (KeyError("name"), False),
    ],
)
def test_what_counts_as_trouble_of_the_storage(error: Exception, storage: bool) -> None:
    assert is_storage_trouble(error) is storage


async def test_a_part_that_gives_no_sign_of_life_is_not_well(given: Given) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        beat()
        begun.set()
        await asyncio.Event().wait()

    given.supervisor.start("leases", work, patience=0.05)
    part = given.supervisor.parts()["leases"]
    await begun.wait()
    assert part.is_well()
    await until(lambda: not part.is_well())
    assert part.alive
    assert part.silent() > 0.05


async def test_waiting_for_work_is_a_sign_of_life(given: Given) -> None:
    wakeups = Wakeups()

    async def work() -> None:
        while True:
            await wakeups.wait("router", 0.01)

    given.supervisor.start("router", work)
    part = given.supervisor.parts()["router"]
    first = part.beat_at
    await until(lambda: part.beat_at > first)


async def test_what_was_stopped_is_no_longer_listed(given: Given) -> None:
    given.supervisor.start("one", raising(ValueError("never"), 0))
    given.supervisor.start("two", raising(ValueError("never"), 0))
    await given.supervisor.stop("one")
    assert list(given.supervisor.parts()) == ["two"]


async def test_a_sign_of_life_outside_of_a_part_is_nothing() -> None:
    beat()


async def failing() -> None:
    await asyncio.sleep(0)
    raise ValueError("a connection's keeper")


async def test_what_runs_beside_a_part_dies_with_it(given: Given) -> None:
    """I-6: also a task that a part has started for itself."""
    ended: list[str] = []

    async def staying() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("other")

    async def work() -> None:
        async with beside(staying(), failing()):
            await asyncio.Event().wait()

    given.supervisor.start("listener", work)
    part = given.supervisor.parts()["listener"]
    await until(lambda: part.deaths == 1)
    assert part.last_error == "ValueError"
    assert ended == ["other"]


async def test_what_runs_beside_ends_with_the_body() -> None:
    ended: list[str] = []

    async def staying() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("it")

    async with beside(staying()):
        await asyncio.sleep(0)
    assert ended == ["it"]
    with pytest.raises(KeyError):
        async with beside(staying()):
            raise KeyError
