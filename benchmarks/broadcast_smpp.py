"""A broadcast by SMS over SMPP, journalled, settled, each message with its receipt.

Sixty Chinese characters, personalised, on SQLite with synchronous=FULL, to the
simulated centre over four connections of one account, each with a window of 100, from
the first journal entry until the last row is final. The limit is a bare session: as
many submits built beforehand, over one such connection, each receipt answered.
"""

import asyncio
from pathlib import Path

from benchmarks.harness import broadcast, carrier
from benchmarks.harness.gateway import Site
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import Program, folder

TARGET = Target(figure_at_least=15_000, notes_at_most={"not delivered": 0})
PEOPLE = 500_000
CONNECTIONS = 4
RUN_SECONDS = 1800.0
NOT_FINAL = broadcast.WAITING | {"accepted"}


def measure(scale: float) -> Measurement:
    people = max(500, int(PEOPLE * scale))
    with folder() as place, carrier.centre() as centre:
        limit = carrier.bare(centre.address, people)
        return asyncio.run(_product(place, centre, people, limit))


async def _product(
    place: Path, centre: Program, people: int, limit: float
) -> Measurement:
    site = Site(place, "", carrier.account("sms", place, centre.address, CONNECTIONS))
    site.migrate()
    id = await broadcast.freeze(site.database, "phone", ["sms"], people, carrier.TEXTS)
    with site.running() as gateway:
        await carrier.warm()
        used = gateway.processor_seconds(), centre.processor_seconds()
        async with broadcast.reading(site.database) as reader:
            outcome = await broadcast.run(reader, id, RUN_SECONDS, NOT_FINAL)
        own = gateway.processor_seconds() - used[0]
        others = centre.processor_seconds() - used[1]
        memory = gateway.peak_memory_mib()
    return Measurement(
        figure=people / outcome.seconds,
        unit="messages/s",
        limit=limit,
        limit_is="bare session, submits built beforehand",
        notes={
            "not delivered": people - outcome.states.get("delivered", 0),
            "processor µs a message": own / people * 1e6,
            "of the centre": others / people * 1e6,
            "memory MiB": memory,
        },
    )
