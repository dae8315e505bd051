"""The simulated gateway as a process of its own."""

import asyncio

import uvloop

from adapters.carrier import simulation
from adapters.cmpp.pdus import Version
from adapters.cmpp.simulator.behaviour import Behaviour
from adapters.cmpp.simulator.ismg import Ismg, serving

VERSIONS = {"20": Version.V20, "21": Version.V21, "30": Version.V30}


async def main() -> None:
    parser = simulation.options(
        "adapters.cmpp.simulator", "A carrier's gateway that speaks CMPP.", Behaviour
    )
    parser.add_argument(
        "--version", choices=VERSIONS, default="30", help="the highest it speaks"
    )
    given = parser.parse_args()
    gateway = Ismg(
        simulation.behaving(given, Behaviour),
        version=VERSIONS[given.version],
        ledger=simulation.ledger_path(given),
        accounts=simulation.accounts(given),
        seed=given.seed,
        first_id=given.first_id,
    )
    served = serving(gateway, given.host, given.port)
    await simulation.run(gateway, served, given.host)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
