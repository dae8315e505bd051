"""S-29: guesses that arrive together count like guesses one after another."""

import asyncio

from gateway.staff import people
from gateway.staff.passwords import Hasher
from gateway.tables import Session
from gateway.web.keys import CORE, HASHER
from tests.console import PASSWORD, Console


class Slow(Hasher):
    """Has begun on a password, and goes on when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def verify(self, password: str, hash: str | None) -> bool:
        self.begun.set()
        await self.go_on.wait()
        return await super().verify(password, hash)


async def guess(console: Console, password: str, hasher: Hasher | None = None) -> bool:
    app = console.app
    found = await people.sign_in(
        app[CORE], hasher or app[HASHER], "clerk_a", password, "203.0.113.9", None
    )
    return found is not None


async def test_the_right_one_among_many_at_once_opens_nothing(
    console: Console,
) -> None:
    slow = Slow()
    right = asyncio.create_task(guess(console, PASSWORD, slow))
    await slow.begun.wait()
    wrong = (guess(console, f"wrong password {n}") for n in range(12))
    assert not any(await asyncio.gather(*wrong))
    slow.go_on.set()
    assert not await right
    assert not await Session.exists()
