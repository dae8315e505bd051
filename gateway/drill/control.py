"""The crash drill with a sender that is known to be wrong; see naive.py."""

import asyncio
import random
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from gateway.drill import naive
from gateway.drill.checker import Evidence, Kill, Message, Verdict, judge
from gateway.drill.ledgers import Tail
from gateway.drill.peers import mail_facts
from gateway.drill.processes import ROOT, START_SECONDS, end, share_words, sink, until
from gateway.status import OutboundState

CHANNEL = "mail"
WINDOW = 32
ARRIVE = 200  # messages at most between a start and its kill


async def control(
    folder: Path, design: str, kills: int, messages: int, seed: int
) -> Verdict:
    """Kill the sender after random numbers of messages, let the last one finish, and
    count.

    `folder` is empty and of this drill alone.
    """
    base, ledger = folder / "naive.sqlite3", folder / "mail.jsonl"
    people = [f"p{number}@example.org" for number in range(messages)]
    naive.create(base, CHANNEL, people)
    manners = share_words(delay=0.06, refuse=0.01, drop=0.002, seed=seed)
    words = ("--ledger", str(ledger), *manners)
    chance = random.Random(seed)
    tail = Tail(ledger, b'"arrived"')
    done = []
    async with sink("gateway.drill.mail_sink", *words, log=folder / "log") as peer:
        for _ in range(kills):
            async with _started(design, base, peer.port) as process:
                wanted = tail.count() + chance.randint(1, ARRIVE)
                await until(partial(_reached, process, tail, wanted), START_SECONDS)
            done.append(Kill(at=time.time(), open={CHANNEL: _open(base)}))
        async with _started(design, base, peer.port) as process:
            await process.wait()
    return judge(
        Evidence(
            facts=list(mail_facts(ledger, CHANNEL)),
            messages=_messages(base),
            planned=messages,
            inbound={},
            kills=done,
            windows={CHANNEL: WINDOW},
        )
    )


async def _reached(
    process: asyncio.subprocess.Process, tail: Tail, wanted: int
) -> bool:
    """Whether so many messages have arrived, or there is nothing more to send."""
    return tail.count() >= wanted or process.returncode is not None


@asynccontextmanager
async def _started(
    design: str, base: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The sender as a process; killed at the end of the context."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.drill.naive", "--design", design),
        *("--database", str(base), "--port", str(port), "--window", str(WINDOW)),
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process.pid)
        await process.wait()


def _open(path: Path) -> frozenset[int]:
    with closing(sqlite3.connect(path)) as base:
        found = base.execute("SELECT id FROM outbox WHERE state = 'sending'")
        return frozenset(id for (id,) in found)


def _messages(path: Path) -> list[Message]:
    with closing(sqlite3.connect(path)) as base:
        found = base.execute("SELECT id, channel, value, state FROM outbox").fetchall()
    return [
        Message(id, channel, value, OutboundState(state), broadcast_id=1)
        for id, channel, value, state in found
    ]
