"""Every channel's lab: one line each. An adapter without one fails the suite."""

from collections.abc import Mapping

from tests.contract.labs import LabEntry

LABS: Mapping[str, LabEntry] = {}
