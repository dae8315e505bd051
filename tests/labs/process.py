"""The gateway as a real process: `python run.py` on settings of its own, or forked by
a nursery, which starts in a fraction of the time."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.labs.nursery import PROJECT, START_SECONDS, Forked, fork

SETTINGS = """
sandbox = true
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
[storage]
data_dir = "{data_dir}"
database_url = "{database_url}"
demo = {demo}
reserve_mib = 4
[policy]
allowed_from = "00:00"
allowed_until = "00:00"
[channels.sms]
adapter = "sandbox"
label = "短信"
medium = "sms"
signature = "【清禾党员服务】"
price_fen = 4.5
rate_per_second = 2000
receipt_delay_seconds = 0.2
[channels.qq]
adapter = "sandbox"
label = "QQ"
medium = "qq"
[channels.mail]
adapter = "sandbox"
label = "邮件"
medium = "email"
"""
# One channel more: an account at a simulated centre.
CARRIER = """
[channels.carrier]
adapter = "smpp"
host = "127.0.0.1"
port = {port}
system_id = "lianxin"
password = "file:{word}"
signature = "【清禾党员服务】"
connections = {connections}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Poll what happens in another process; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


@dataclass(slots=True)
class Installation:
    """One data directory with its settings; started, killed and started again."""

    folder: Path
    port: int
    process: asyncio.subprocess.Process | Forked | None = None
    words: tuple[str, ...] = ()  # further words of the command line
    nursery: Path | None = None  # its socket; None: a new interpreter each time

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.toml"

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def add(self, section: str, secret: str = "secret", **values: object) -> None:
        """One channel more; `{word}` in its section is the file with its secret."""
        word = self.folder / "word"
        word.write_text(secret, encoding="utf-8")
        with self.settings.open("a", encoding="utf-8") as settings:
            settings.write(section.format(word=word, **values))

    async def start(self) -> None:
        """Return when it answers; its output is in `output` and `log`."""
        words = ("--settings", str(self.settings), *self.words)
        if self.nursery is None:
            self.process = await self._spawn(words)
        else:
            files = self.folder / "output", self.folder / "log"
            self.process = await fork(self.nursery, words, *files)
        async with aiohttp.ClientSession() as session:
            await until(lambda: self._answers(session), START_SECONDS)

    async def _spawn(self, words: Sequence[str]) -> asyncio.subprocess.Process:
        with (
            (self.folder / "output").open("ab") as output,
            (self.folder / "log").open("ab") as log,
        ):
            return await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROJECT / "run.py"), *words),
                cwd=PROJECT,
                stdout=output,
                stderr=log,
                env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"},
            )

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        assert self.process is not None
        if self.process.returncode is not None:
            raise AssertionError(f"it did not start:\n{self.log[-4000:]}")
        try:
            async with session.get(self.url("/healthz")) as response:
                return response.status in (200, 503)
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """`kill -9`."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; its exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def installation(
    folder: Path,
    database_url: str = "",
    *,
    demo: bool = False,
    nursery: Path | None = None,
) -> AsyncIterator[Installation]:
    """An installation in an empty folder; killed at the end if it still runs."""
    port = free_port()
    made = Installation(folder, port, nursery=nursery)
    made.settings.write_text(
        SETTINGS.format(
            port=port,
            data_dir=made.data_dir,
            database_url=database_url,
            demo=str(demo).lower(),
        ),
        encoding="utf-8",
    )
    try:
        yield made
    finally:
        if made.process is not None:
            await made.kill()
