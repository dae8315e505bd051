"""Group commit: one transaction for all that waits, an error for who deserves it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import database as db
from gateway.commits import Commits
from gateway.errors import StorageUnavailable

INSERT = "INSERT INTO counters (name, value) VALUES (?, ?)"
FATES = ("stored", "raises", "breaks", "cancelled", "unplugged")


class Refused(Exception):
    """A work's own error."""


def work(name: str, fate: str, runs: list[str]) -> Callable[[], Awaitable[str]]:
    async def stored() -> str:
        runs.append(name)
        await db.execute(INSERT, name, 1)
        if fate == "raises":
            raise Refused(name)
        if fate == "breaks":
            await db.execute(INSERT, name, 2)  # the key is taken
        if fate == "unplugged":
            raise asyncio.CancelledError  # what it awaited was cancelled, not itself
        return name

    return stored


async def names() -> list[str]:
    return [row["name"] for row in await db.rows("SELECT name FROM counters")]


async def run_all(fates: list[str]) -> None:
    commits = Commits()
    runs: list[str] = []
    tasks = [
        asyncio.ensure_future(commits.run(work(f"n{n}", fate, runs)))
        for n, fate in enumerate(fates)
    ]
    await asyncio.sleep(0)
    for task, fate in zip(tasks, fates, strict=True):
        if fate == "cancelled":
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    found = set(await names())
    for n, (fate, result) in enumerate(zip(fates, results, strict=True)):
        if fate == "stored":
            assert result == f"n{n}"
            assert f"n{n}" in found
        elif fate == "raises":
            assert isinstance(result, Refused)
            assert str(result) == f"n{n}"
        else:
            assert isinstance(result, BaseException)
        if fate in ("raises", "breaks", "unplugged"):
            assert f"n{n}" not in found


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12))
def test_each_gets_what_it_deserves(database_url: str, fates: list[str]) -> None:
    async def example() -> None:
        async with db.opened(database_url):
            await db.execute("DELETE FROM counters")
            await run_all(fates)

    asyncio.run(example())


async def test_what_gathers_is_committed_together(sqlite_url: str) -> None:
    runs: list[str] = []
    began: list[str] = []
    async with db.opened(sqlite_url):
        commits = Commits()

        def one(n: int) -> Callable[[], Awaitable[None]]:
            async def stored() -> None:
                began.append(str(id(db.connection())))
                await work(f"n{n}", "stored", runs)()

            return stored

        async with db.transaction():  # these come while the writer is busy
            gathered = [asyncio.ensure_future(commits.run(one(n))) for n in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*gathered)
        assert len(await names()) == 100
    assert len(set(began)) == 1  # one transaction for the hundred


async def test_who_comes_before_it_begins_comes_along(sqlite_url: str) -> None:
    """A transaction that stands in the writer's queue takes whoever waits by then."""
    busy, may_end = threading.Event(), threading.Event()

    async def long() -> None:
        busy.set()
        assert may_end.wait(30)

    async with db.opened(sqlite_url):
        commits = Commits()
        runs: list[str] = []
        before = asyncio.ensure_future(db.atomic(long))
        assert await asyncio.to_thread(busy.wait, 30)
        first = asyncio.ensure_future(commits.run(work("first", "stored", runs)))
        for _ in range(10):  # until it stands behind the long one
            await asyncio.sleep(0)
        late = asyncio.ensure_future(commits.run(work("late", "breaks", runs)))
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(before, first, late, return_exceptions=True)
        # They were in one transaction: after its end each had to run again.
        assert runs == ["first", "late", "first", "late"]
        assert await names() == ["first"]


async def test_who_gave_up_before_the_start_is_left_out(sqlite_url: str) -> None:
    runs: list[str] = []
    async with db.opened(sqlite_url):
        commits = Commits()
        async with db.transaction():  # nothing can be committed yet
            kept = asyncio.ensure_future(commits.run(work("kept", "stored", runs)))
            left = asyncio.ensure_future(commits.run(work("left", "stored", runs)))
            await asyncio.sleep(0)
            left.cancel()
        assert await kept == "kept"
        assert (await names(), runs) == (["kept"], ["kept"])


async def test_a_stopped_committer_leaves_nobody_waiting(sqlite_url: str) -> None:
    async with db.opened(sqlite_url):
        commits = Commits()
        async with db.transaction():
            never = work("never", "stored", [])
            waiting = asyncio.ensure_future(commits.run(never))
            await asyncio.sleep(0.01)
            (committer,) = [t for t in asyncio.all_tasks() if t.get_name() == "commits"]
            committer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await commits.run(work("next", "stored", [])) == "next"


async def test_a_work_waits_for_the_database_alone(sqlite_url: str) -> None:
    """In the writer's thread nothing else would ever come."""
    async with db.opened(sqlite_url):
        with pytest.raises(RuntimeError, match="waited for something else"):
            await Commits().run(lambda: asyncio.sleep(0))


async def test_a_work_may_nest_a_transaction(sqlite_url: str) -> None:
    async def nested() -> None:
        await work("outer", "stored", [])()
        try:
            async with db.transaction():
                await work("inner", "raises", [])()
        except Refused:
            pass

    async with db.opened(sqlite_url):
        await Commits().run(nested)
        assert await names() == ["outer"]


async def test_no_storage_is_no_storage_for_all(sqlite_url: str) -> None:
    """Nobody tries alone what the whole batch was refused."""
    tries: list[int] = []

    async def full() -> None:
        tries.append(1)
        raise StorageUnavailable("full")

    async with db.opened(sqlite_url):
        commits = Commits()
        results = await asyncio.gather(
            *(commits.run(full) for _ in range(5)), return_exceptions=True
        )
    assert [type(r) for r in results] == [StorageUnavailable] * 5
    assert len(tries) == 1


async def test_works_of_postgres_run_side_by_side(postgres_url: str) -> None:
    met = asyncio.Barrier(2)

    async def meets() -> None:
        await met.wait()

    async with db.opened(postgres_url), asyncio.timeout(10):
        commits = Commits()
        await asyncio.gather(commits.run(meets), commits.run(meets))
