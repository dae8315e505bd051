"""How often a proof is repeated: few times in every run of the tests, as often as its
row of the failure catalogue says where somebody asks for it (docs/reliability.md)."""

import os


def times(name: str, usual: int) -> int:
    """The environment variable `name`, or else `usual`."""
    return int(os.environ.get(name, usual))
