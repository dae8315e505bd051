"""Processes of a drill: started, waited for, and killed; by their own id only."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of a start on a machine that is busy with other things; a quick one waits for nothing.
START_SECONDS = 180.0
_LISTENING = re.compile(r"listening on (\S+):([0-9]+)")


class NotStarted(RuntimeError):
    """A process of the drill did not come up; its last words are in the message."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A peer that is up."""

    host: str
    port: int
    process: asyncio.subprocess.Process

    async def say(self, command: str) -> None:
        """One line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        await self.process.stdin.drain()


@asynccontextmanager
async def sink(module: str, *words: str, log: Path) -> AsyncIterator[Listening]:
    """A peer as a process of its own, once it listens."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *words),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode(errors="replace")
        found = _LISTENING.search(line)
        if found is None:
            raise NotStarted(f"{module}: {line or last_words(log)}")
        yield Listening(found[1], int(found[2]), process)
    finally:
        end(process.pid)
        await process.wait()


def end(pid: int) -> None:
    """`kill -9` of a process and of all that it started; both may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """False also for one that has ended and that nobody has asked for its status yet:
    whoever traces it may keep it so."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # a system that doesn't tell
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def until(check: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Poll what happens in another process; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if await check():
                return
            await asyncio.sleep(0.02)


def share_words(**shares: float | int) -> Sequence[str]:
    """Options of a sink: `--delay 0.06 --drop 0.002`."""
    return [word for name, n in shares.items() for word in (f"--{name}", str(n))]


def last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
