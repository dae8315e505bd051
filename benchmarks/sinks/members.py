"""A centre at which many members write at once: their texts are read from a file.

The file holds one JSON list `[sender, text]` a line; all wait when the gateway binds,
and leave as fast as the window lets them. Messages to members are taken as usual.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from adapters.smpp.simulator.behaviour import Behaviour
from adapters.smpp.simulator.centre import Centre, serving


async def run(lines: Sequence[str], system_id: str, window: int) -> None:
    centre = Centre(Behaviour(deliver_window=window))
    for line in lines:
        sender, text = json.loads(line)
        centre.deliver(system_id, centre.said(system_id, sender, "10690000", text))
    async with serving(centre) as port:
        sys.stdout.write(f"listening on 127.0.0.1:{port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--system-id", required=True)
    parser.add_argument("--window", type=int, required=True)
    given = parser.parse_args()
    lines = given.file.read_text("utf-8").splitlines()
    uvloop.run(run(lines, given.system_id, given.window))


if __name__ == "__main__":
    main()
