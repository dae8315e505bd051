"""Finds the benchmarks: the modules of `benchmarks` itself."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import benchmarks
from benchmarks.harness.model import Measurement, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One module: its docstring, `TARGET` and `measure(scale)`."""

    name: str
    about: str  # the first line of the docstring
    target: Target
    measure: Callable[[float], Measurement]


def names() -> Sequence[str]:
    found = pkgutil.iter_modules(benchmarks.__path__)
    modules = (one.name for one in found if not one.ispkg and one.name != "__main__")
    return sorted(name.replace("_", "-") for name in modules)


def load(name: str) -> Benchmark:
    """Raises KeyError for a name that is not there."""
    if name not in names():
        raise KeyError(name)
    module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    return Benchmark(
        name=name,
        about=(module.__doc__ or "").partition("\n")[0],
        target=module.TARGET,
        measure=module.measure,
    )


def every() -> Mapping[str, Benchmark]:
    return {name: load(name) for name in names()}
