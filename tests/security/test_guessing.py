"""S-29: guesses that arrive together count like guesses one after another."""

import asyncio

from gateway.staff import people
from gateway.tables import Session
from gateway.web.keys import CORE, HASHER
from tests.console import PASSWORD, Console


async def guess(console: Console, password: str) -> bool:
    app = console.app
    found = await people.sign_in(
        app[CORE], app[HASHER], "clerk_a", password, "203.0.113.9", None
    )
    return found is not None


async def test_the_right_one_among_many_at_once_opens_nothing(
    console: Console,
) -> None:
    wrong = [guess(console, f"wrong password {n}") for n in range(12)]
    answers = await asyncio.gather(*wrong, guess(console, PASSWORD))
    assert not any(answers)
    assert not await Session.exists()
