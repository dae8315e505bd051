"""A simulated centre as a process: its behaviour as options, commands while it runs.

Commands come on standard input, one a line, answers on standard output:
`set NAME VALUE`, `say ACCOUNT FROM TO TEXT`, `stats`, `leave`
(ends each session in order), `hangup`, `stop`.
"""

import asyncio
import dataclasses
import json
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

Behaviour = TypeVar("Behaviour")


class Simulated(Protocol):
    """A centre that can be told to behave differently from now on."""

    @property
    def behaviour(self) -> Any: ...
    def behave(self, behaviour: Any) -> None: ...
    def say(self, account: str, sender: str, to: str, text: str) -> None: ...
    def stats(self) -> Mapping[str, int]: ...
    def leave(self) -> None: ...
    def hang_up(self) -> None: ...


def options(module: str, about: str, behaviour: type[Any]) -> ArgumentParser:
    """What every simulated centre is started with; every field of the dataclass
    `behaviour` is an option."""
    parser = ArgumentParser(
        prog=f"python -m {module}",
        description=f"{about} Shares run from 0 to 1, times are seconds, switches are "
        "on or off, lists have commas. Beside each way to behave stands the usual one; "
        f"what each means: {behaviour.__module__.replace('.', '/')}.py.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 unless told")
    parser.add_argument("--port", type=int, default=0, help="any free one unless told")
    parser.add_argument("--ledger", default="none", help="a file of JSON lines")
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="NAME:SECRET",
        help="may come often; without it everybody is let in",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-id", type=int, default=1)
    for field in dataclasses.fields(behaviour):
        option = "--" + field.name.replace("_", "-")
        reader = _READERS[type(field.default)]
        usual = _written(field.default)
        parser.add_argument(
            option, type=reader, default=field.default, metavar="…", help=usual
        )
    return parser


def _written(value: object) -> str:
    """As it is written on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) or "none" if isinstance(value, tuple) else str(value)


def ledger_path(given: Namespace) -> Path | None:
    return None if given.ledger == "none" else Path(given.ledger)


def accounts(given: Namespace) -> dict[str, str]:
    return dict(account.split(":", 1) for account in given.account)


def behaving(given: Namespace, behaviour: type[Behaviour]) -> Behaviour:
    fields = dataclasses.fields(behaviour)  # type: ignore[arg-type]
    return behaviour(**{field.name: getattr(given, field.name) for field in fields})


def changed(behaviour: Behaviour, name: str, written: str) -> Behaviour:
    """`behaviour` with one field as written on a command line. Raises ValueError."""
    kinds = {f.name: type(f.default) for f in dataclasses.fields(behaviour)}  # type: ignore[arg-type]
    if name not in kinds:
        raise ValueError(f"there is no setting {name}")
    found = _READERS[kinds[name]](written)
    return dataclasses.replace(behaviour, **{name: found})  # type: ignore[type-var]


def _flag(written: str) -> bool:
    if written not in {"on", "off"}:
        raise ValueError("expected on or off")
    return written == "on"


def _words(written: str) -> tuple[str, ...]:
    return tuple(filter(None, written.split(",")))


def _whole(written: str) -> int:
    return int(written, 0)


_READERS: Mapping[type, Any] = {
    bool: _flag,
    tuple: _words,
    int: _whole,
    float: float,
    str: str,
}


async def run(
    centre: Simulated, serving: AbstractAsyncContextManager[int], host: str
) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with serving as port:
        _said(f"listening on {host}:{port}")
        Console(centre, stop).attach()
        await stop.wait()


def _said(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Console:
    """Reads commands; an unreadable one is answered, never fatal."""

    def __init__(self, centre: Simulated, stop: asyncio.Event) -> None:
        self._centre = centre
        self._stop = stop
        self._rest = b""

    def attach(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            os.set_blocking(0, False)
            loop.add_reader(0, self._read)
        except OSError:  # no standard input, or one that can't be waited for
            return

    def _read(self) -> None:
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(0)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._obey(line.decode("utf-8", "replace").strip())

    def _obey(self, line: str) -> None:
        try:
            _said(self._answer(*line.split(" ", 4)) if line else "ok")
        except (ValueError, TypeError) as error:
            _said(f"error {error}")

    def _answer(self, command: str, *rest: str) -> str:
        centre = self._centre
        match command, rest:
            case "set", (name, *written):
                centre.behave(changed(centre.behaviour, name, " ".join(written)))
            case "say", (account, sender, to, text):
                centre.say(account, sender, to, text)
            case "stats", ():
                return json.dumps(centre.stats())
            case "leave", ():
                centre.leave()
            case "hangup", ():
                centre.hang_up()
            case "stop", ():
                self._stop.set()
            case _:
                raise ValueError("expected set, say, stats, leave, hangup or stop")
        return "ok"
