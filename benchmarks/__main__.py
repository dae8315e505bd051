"""`python -m benchmarks`: list, run one or all, write the report."""

import json
import sys
from typing import Annotated

import typer

from benchmarks.harness import discovery, report, runner
from benchmarks.harness.model import Result
from benchmarks.harness.processes import Broken

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def told(line: str) -> None:
    """Progress goes to standard error: standard output is for the result."""
    sys.stderr.write(f"{line}\n")


@cli.command()
def main(
    name: Annotated[
        str,
        typer.Argument(help="A benchmark, `all`, or `report`; nothing lists them."),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="The result as JSON instead of a table.")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, help="The median of so many runs.")] = 3,
    scale: Annotated[
        float, typer.Option(min=0.0001, max=5.0, help="Of the full amount.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", hidden=True)] = False,
) -> None:
    """Measure the product beside the physical limit of this machine."""
    if name == "":
        for one in discovery.every().values():
            typer.echo(f"{one.name:20} {one.about}")
    elif name == "report":
        report.write_document()
    elif name != "all" and name not in discovery.names():
        typer.echo(f"no benchmark {name!r}: {', '.join(discovery.names())}", err=True)
        raise typer.Exit(2)
    elif once:
        runner.once(discovery.load(name), scale)
    else:
        chosen = discovery.names() if name == "all" else [name]
        results = [found for one in chosen if (found := _run(one, runs, scale))]
        _tell(results, as_json)
        if len(results) < len(chosen):
            raise typer.Exit(1)


def _run(name: str, runs: int, scale: float) -> Result | None:
    """One that breaks must not cost the others."""
    try:
        return runner.run(discovery.load(name), runs, scale, told)
    except Broken as error:
        told(f"{name}: {error}")
        return None


def _tell(results: list[Result], as_json: bool) -> None:
    # A smaller amount is for looking; it must not replace what the document shows.
    report.keep([one for one in results if one.scale == 1])
    if as_json:
        found = [report.saved(one) for one in results]
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
    elif results:
        typer.echo(report.screen(results))


if __name__ == "__main__":
    cli()
