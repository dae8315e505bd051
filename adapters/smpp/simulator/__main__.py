"""The simulated centre as a process of its own."""

import asyncio

import uvloop

from adapters.carrier import simulation
from adapters.smpp.simulator.behaviour import Behaviour
from adapters.smpp.simulator.centre import Centre, serving


async def main() -> None:
    given = simulation.options(
        "adapters.smpp.simulator", "An SMS centre that speaks SMPP 3.4.", Behaviour
    ).parse_args()
    centre = Centre(
        simulation.behaving(given, Behaviour),
        ledger=simulation.ledger_path(given),
        accounts=simulation.accounts(given),
        seed=given.seed,
        first_id=given.first_id,
    )
    served = serving(centre, given.host, given.port)
    await simulation.run(centre, served, given.host)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
