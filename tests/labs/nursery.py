"""Gateways that start without importing anything: forked by a process that has it all.

`python -m tests.labs.nursery SOCKET` forks `run.py WORDS` for each connection, says its
process id, and when it has ended its status; negative is a signal, as of a child of
ours. Importing takes most of a start, and nothing is opened before the fork.
"""

import asyncio
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

Serve = Callable[[Sequence[str]], None]
PROJECT = Path(__file__).parent.parent.parent
START_SECONDS = 90.0  # machines that run tests are busy


@dataclass(slots=True)
class Forked:
    """A gateway, for who asked for it: the part of `asyncio`'s `Process` in use."""

    pid: int
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _hearing: asyncio.Task[int] | None = None

    @property
    def returncode(self) -> int | None:
        if self._hearing is None or not self._hearing.done():
            return None
        return self._hearing.result()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def wait(self) -> int:
        assert self._hearing is not None
        return await asyncio.shield(self._hearing)

    def listen(self) -> None:
        self._hearing = asyncio.create_task(self._hear())

    async def _hear(self) -> int:
        status = int(await self._reader.readline())
        self._writer.close()
        return status


async def fork(nursery: Path, words: Sequence[str], output: Path, log: Path) -> Forked:
    """`run.py WORDS`, its output and errors appended to these files."""
    reader, writer = await asyncio.open_unix_connection(nursery)
    asked = {"words": list(words), "output": str(output), "log": str(log)}
    writer.write(json.dumps(asked).encode() + b"\n")
    made = Forked(int(await reader.readline()), reader, writer)
    made.listen()
    return made


@contextmanager
def nursery(folder: Path) -> Iterator[Path]:
    """The socket of a nursery that is up."""
    path = folder / "nursery"
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.labs.nursery", str(path)],
        cwd=PROJECT,
        env=environment,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert process.poll() is None, "the nursery did not start"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield path
    finally:
        process.terminate()
        process.wait()


def tend(path: Path) -> None:
    """Serve until killed."""
    import adapters
    import run

    adapters.settings_models()  # imports whatever a gateway needs, once for all
    gc.freeze()  # what is imported stays shared
    asked = socket.socket(socket.AF_UNIX)
    asked.bind(f"{path}.new")
    asked.listen(16)
    Path(f"{path}.new").rename(path)
    events = selectors.DefaultSelector()
    events.register(asked, selectors.EVENT_READ)

    def serve(words: Sequence[str]) -> None:
        run.cli(words)

    while True:
        for key, _ in events.select():
            if key.fileobj is asked:
                connection, _ = asked.accept()
                pid, child = _forked(connection, serve)
                events.register(child, selectors.EVENT_READ, (pid, connection))
            else:
                events.unregister(key.fileobj)
                os.close(key.fd)
                _bury(*key.data)


def _forked(connection: socket.socket, serve: Serve) -> tuple[int, int]:
    """Its id, and a file that can be read once it has ended."""
    with connection.makefile("r", encoding="utf-8") as lines:
        order = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        _become(serve, order["words"], order["output"], order["log"])
    connection.sendall(b"%d\n" % pid)
    return pid, os.pidfd_open(pid)


def _bury(pid: int, connection: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    with connection, suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(serve: Serve, words: Sequence[str], output: str, log: str) -> None:
    """Never returns: the child ends when the gateway does."""
    status = 1
    try:
        os.setsid()
        os.closerange(3, 1024)
        for number, path in ((1, output), (2, log)):
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(file, number)
            os.close(file)
        sys.argv = ["run.py", *words]
        serve(words)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    tend(Path(sys.argv[1]))
