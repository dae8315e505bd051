"""A carrier's gateway (ISMG) that speaks CMPP, for drills, benchmarks and tests.

`python -m adapters.cmpp.simulator --help` tells what it can be made to do.
"""

from adapters.cmpp.simulator.behaviour import Behaviour
from adapters.cmpp.simulator.ismg import Ismg, serving, text_of

__all__ = ["Behaviour", "Ismg", "serving", "text_of"]
