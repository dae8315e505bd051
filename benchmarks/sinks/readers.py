"""People who read pages at the console: they sign in once and read one after another.

Each line of the answer is what one page took: its name, milliseconds, status.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Sequence

import aiohttp
import uvloop

PAUSE = 1.0  # seconds between two pages of one person, on average


async def run(
    url: str,
    users: Sequence[str],
    password: str,
    numbers: Sequence[str],
    seconds: float,
) -> None:
    """`numbers` are those of inquiries that every user may see."""
    until = time.monotonic() + seconds
    work = (
        _person(url, name, password, numbers, until, place)
        for place, name in enumerate(users)
    )
    found = [page for pages in await asyncio.gather(*work) for page in pages]
    sys.stdout.write(f"read {json.dumps(found)}\n")


async def _person(
    url: str,
    name: str,
    password: str,
    numbers: Sequence[str],
    until: float,
    seed: int,
) -> list[tuple[str, float, int]]:
    dice, found = random.Random(seed), list[tuple[str, float, int]]()
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(url, cookie_jar=jar) as session:
        await _sign_in(session, name, password)
        while time.monotonic() < until:
            kind = dice.choices(("list", "tab", "detail", "search"), (4, 2, 3, 1))[0]
            found.append(await _read(session, kind, _path(dice, kind, numbers)))
            await asyncio.sleep(dice.uniform(0, 2 * PAUSE))
    return found


async def _sign_in(session: aiohttp.ClientSession, name: str, password: str) -> None:
    async with session.get("/login") as page:
        token = re.search(r'name="csrf" value="([^"]+)"', await page.text())
    form = {
        "username": name,
        "password": password,
        "csrf": token[1] if token else "",
    }
    async with session.post("/login", data=form) as answer:
        if answer.status != 200 or answer.url.path == "/login":
            raise SystemExit(f"{name} was not let in: {answer.status}")


def _path(dice: random.Random, kind: str, numbers: Sequence[str]) -> str:
    match kind:
        case "list":
            return "/inquiries"
        case "tab":
            return f"/inquiries?tab={dice.choice(('closed', 'overdue', 'all'))}"
        case "detail":
            return f"/inquiries/{dice.choice(numbers)}"
        case _:
            return (
                f"/inquiries?q={dice.choice(('介绍信', '党费', '慰问', '13900001234'))}"
            )


async def _read(
    session: aiohttp.ClientSession, kind: str, path: str
) -> tuple[str, float, int]:
    began = time.perf_counter()
    async with session.get(path) as page:
        await page.read()
        return kind, (time.perf_counter() - began) * 1000, page.status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--user", action="append", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--number", action="append", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    uvloop.run(run(given.url, given.user, given.password, given.number, given.seconds))


if __name__ == "__main__":
    main()
