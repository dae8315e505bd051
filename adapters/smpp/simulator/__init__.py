"""An SMS centre that speaks SMPP 3.4, for drills, benchmarks and tests.

`python -m adapters.smpp.simulator --help` tells what it can be made to do.
"""

from adapters.smpp.simulator.behaviour import Behaviour
from adapters.smpp.simulator.centre import Centre, serving

__all__ = ["Behaviour", "Centre", "serving"]
