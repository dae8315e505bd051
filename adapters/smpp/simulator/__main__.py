"""The simulated centre as a process of its own.

Commands come on standard input, one a line, answers on standard output:
`set NAME VALUE`, `say SYSTEM_ID FROM TO TEXT`, `stats`, `hangup`, `stop`.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from adapters.smpp.simulator.behaviour import add_options, from_options, value
from adapters.smpp.simulator.centre import Centre, serving


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m adapters.smpp.simulator",
        description=f"{__doc__}\nShares run from 0 to 1, times are seconds, "
        "switches are on or off, lists have commas.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--ledger", default="none", help="file of JSON lines, or none")
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="SYSTEM_ID:PASSWORD",
        help="none: everybody is let in",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-id", type=int, default=1)
    add_options(parser)
    return parser.parse_args()


def said(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Console:
    """Reads commands; an unreadable one is answered, never fatal."""

    def __init__(self, centre: Centre, stop: asyncio.Event) -> None:
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
            said(self._answer(*line.split(" ", 4)) if line else "ok")
        except (ValueError, TypeError) as error:
            said(f"error {error}")

    def _answer(self, command: str, *rest: str) -> str:
        centre = self._centre
        match command, rest:
            case "set", (name, *written):
                found = value(name, " ".join(written))
                behaviour = dataclasses.replace(centre.behaviour, **{name: found})
                centre.behave(behaviour)
            case "say", (system_id, sender, to, text):
                centre.say(system_id, sender, to, text)
            case "stats", ():
                return json.dumps(centre.stats())
            case "hangup", ():
                centre.hang_up()
            case "stop", ():
                self._stop.set()
            case _:
                raise ValueError("expected set, say, stats, hangup or stop")
        return "ok"


async def run(given: argparse.Namespace) -> None:
    path = None if given.ledger == "none" else Path(given.ledger)
    accounts = dict(account.split(":", 1) for account in given.account)
    centre = Centre(
        from_options(given),
        ledger=path,
        accounts=accounts,
        seed=given.seed,
        first_id=given.first_id,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with serving(centre, given.host, given.port) as port:
        said(f"listening on {given.host}:{port}")
        Console(centre, stop).attach()
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options()))
