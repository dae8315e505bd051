"""`run.py drill …`: what is asked for on the command line, and what is told there."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import typer
import uvloop

from gateway.drill import naive
from gateway.drill import points as pointing
from gateway.drill import power as cutting
from gateway.drill.checker import Verdict
from gateway.drill.control import control
from gateway.drill.crash import Drill, crash
from gateway.drill.peers import SINKS
from gateway.drill.processes import NotStarted
from gateway.postgres import AWAY, SECONDS
from gateway.space import Space

cli = typer.Typer(
    help="Kill it, cut its power, count what is left. In a scratch folder of its own.",
    no_args_is_help=True,
)
_TABLES = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()"
T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Keep = Annotated[Path | None, typer.Option(help="Work here, and leave it there.")]


@cli.command("crash")
def crash_command(
    kills: Annotated[int, typer.Option(min=0, help="kill -9 so often.")] = 20,
    messages: Annotated[int, typer.Option(min=1, help="Members written to.")] = 8000,
    seed: Annotated[int, typer.Option(help="Repeats the same chances.")] = 1,
    engine: Annotated[str, typer.Option(help="sqlite, or postgres://…")] = "sqlite",
    sink: Annotated[str, typer.Option(help=f"all, {', '.join(SINKS)}")] = "all",
    design: Annotated[
        str, typer.Option(help=f"journal, or instead: {', '.join(naive.DESIGNS)}")
    ] = "journal",
    cold: Annotated[bool, typer.Option(help="A new interpreter each time.")] = False,
    keep: Keep = None,
    as_json: Json = False,
) -> None:
    """Kill the gateway at random moments of a broadcast; count lost and doubled.

    Ends with 1 where a promise was broken, and with 2 where the drill could not
    be held. `--design` tries a bare sender instead: pop, resend and claim are
    known to be wrong, there the end must be 1; window is right.
    """
    if design not in ("journal", *naive.DESIGNS):
        known = ", ".join(("journal", *naive.DESIGNS))
        raise typer.BadParameter(f"--design: one of {known}")
    sinks = _chosen("--sink", sink, SINKS)
    if engine != "sqlite" and not engine.startswith(("postgres://", "postgresql://")):
        raise typer.BadParameter("--engine: sqlite, or postgres://user@host/name")
    if engine != "sqlite":
        refuse_used(engine)
    with _folder(keep) as folder:
        if design != "journal":
            _progress(f"{design}: {messages} messages, {kills} kills")
            told = _run(control(folder, design, kills, messages, seed))
        else:
            drill = Drill(
                kills=kills,
                messages=messages,
                seed=seed,
                sinks=sinks,
                url="" if engine == "sqlite" else engine,
                cold=cold,
            )
            told = _run(crash(folder, drill, _progress))
        typer.echo(json.dumps(asdict(told)) if as_json else as_text(told))
        if not told.holds:
            raise _Broken(folder if design == "journal" else None)


@cli.command("points")
def points_command(
    call: Annotated[
        str, typer.Option(help=f"all, {', '.join(pointing.CALLS)}")
    ] = "all",
    most: Annotated[int, typer.Option(min=1, help="Points of each call.")] = 1000,
    step: Annotated[int, typer.Option(min=1, help="Only every n-th.")] = 1,
    sink: Annotated[str, typer.Option(help=f"all, {', '.join(SINKS)}")] = "smpp",
    keep: Keep = None,
    as_json: Json = False,
) -> None:
    """Kill at the n-th system call of a run to 50, for n = 1, 2, … until untouched."""
    if lacking := pointing.missing():
        typer.echo(f"this machine can't: {lacking}", err=True)
        raise typer.Exit(2)
    calls = _chosen("--call", call, pointing.CALLS)
    sinks = _chosen("--sink", sink, SINKS)
    with _folder(keep) as folder:
        work = pointing.points(folder, calls, most, sinks, step, _progress)
        told = _run(work)
        if as_json:
            typer.echo(json.dumps(asdict(told)))
        else:
            hit = ", ".join(f"{n} of {name}" for name, n in told.hit.items())
            until = "until untouched" if told.complete else "as many as asked for"
            typer.echo(f"crash points hit: {hit}; {until}\n{as_text(told.verdict)}")
        if not told.verdict.holds:
            raise _Broken(folder)


@cli.command("power")
def power_command(
    pictures: Annotated[int, typer.Option(min=1, help="Power cuts.")] = 5,
    messages: Annotated[int, typer.Option(min=1, help="Members written to.")] = 5000,
    seed: int = 1,
    sink: Annotated[str, typer.Option(help=f"all, {', '.join(SINKS)}")] = "smpp,smtp",
    control: Annotated[bool, typer.Option(help="A careless writer instead.")] = False,
    as_json: Json = False,
) -> None:
    """Copy the disk of a working gateway at one instant; is all there that was told?

    Ends with 1 where something is missing, and with 2 on a machine that can't do it.
    `--control` commits with synchronous=NORMAL: there the end must be 1.
    """
    if lacking := cutting.missing():
        typer.echo(f"this machine can't cut the power: {lacking}", err=True)
        raise typer.Exit(2)
    sinks = _chosen("--sink", sink, SINKS)
    _progress(f"{pictures} cuts, {messages} messages under way before each")
    with _folder(None) as folder:
        try:
            if control:
                holds = _tell_control(folder, pictures, seed, as_json)
            else:
                work = cutting.power(folder, pictures, messages, seed, sinks)
                holds = _tell_cuts(_run(work), as_json)
        except cutting.NotAllowed as error:
            typer.echo(f"this machine can't cut the power: {error}", err=True)
            raise typer.Exit(2) from None
        if not holds:
            raise _Broken(None if control else folder)


def _tell_control(folder: Path, pictures: int, seed: int, as_json: bool) -> bool:
    told = _run(cutting.control(folder, pictures, seed))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in told]))
    else:
        typer.echo("\n".join(map(_as_line, told)))
    return not any(one.missing or not one.whole for one in told)


def _tell_cuts(told: cutting.Cuts, as_json: bool) -> bool:
    if as_json:
        typer.echo(json.dumps(asdict(told)))
    else:
        typer.echo("\n".join(map(_as_line, told.pictures)))
        typer.echo(f"started from the last one in {told.seconds:.1f} s; in the end:")
        typer.echo(as_text(told.verdict))
    return told.holds


def _chosen(option: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """`all` of the known, or those named with commas, each once."""
    names = tuple(known) if given == "all" else tuple(dict.fromkeys(given.split(",")))
    if not set(names) <= set(known):
        raise typer.BadParameter(f"{option} {given}: expected {', '.join(known)}")
    return names


def _as_line(one: cutting.Picture) -> str:
    damage = "whole" if one.whole else "DAMAGED"
    some = f": {one.missing[0]}" if one.missing else ""
    return (
        f"{one.told} told, {len(one.missing)} missing{some}; the database is {damage}"
    )


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def refuse_used(url: str) -> None:
    """An installation's database must not be taken for a scratch one."""

    async def tables() -> int:
        base = await asyncpg.connect(url, timeout=SECONDS)
        try:
            return int(await base.fetchval(_TABLES))
        finally:
            await base.close()

    try:
        found = uvloop.run(tables())
    except (*AWAY, ValueError) as error:
        why = str(error) or type(error).__name__
        raise typer.BadParameter(f"--engine: {why}") from None
    if found:
        raise typer.BadParameter(
            f"--engine: {found} tables are there; a drill fills an empty database"
        )


class _Broken(Exception):
    """A promise was broken; `folder` is what somebody will want to look at."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(str(folder))
        self.folder = folder


def _run(work: Coroutine[Any, Any, T]) -> T:
    """In a loop of its own. Whoever ends the drill by SIGTERM or by closing the
    terminal leaves no process, mount or folder behind, as with Ctrl-C."""
    ended: list[int] = []

    async def run() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def end(number: int) -> None:
            ended.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
                loop.add_signal_handler(number, end, number)
        return await work

    try:
        return uvloop.run(run())
    except asyncio.CancelledError:
        raise typer.Exit(128 + ended[0]) from None


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A scratch folder, gone afterwards unless a promise was broken; or the given one,
    which must be empty."""
    try:
        folder = _made(keep)
    except OSError as error:
        typer.echo(f"no folder to work in: {error}", err=True)
        raise typer.Exit(2) from None
    stays = keep is not None
    try:
        yield folder
    except _Broken as broken:
        stays = stays or broken.folder is not None
        if broken.folder is not None:
            _progress(f"ledgers, database and log are left in {broken.folder}")
        raise typer.Exit(1) from None
    except (*AWAY, NotStarted) as error:
        why = str(error) or type(error).__name__
        typer.echo(f"the drill could not be held: {why}", err=True)
        raise typer.Exit(2) from None
    finally:
        if not stays:
            shutil.rmtree(folder, ignore_errors=True)


def _made(keep: Path | None) -> Path:
    """Raises OSError where there is no room, or none may be made."""
    place = Path(tempfile.gettempdir()) if keep is None else keep.absolute()
    place.mkdir(parents=True, exist_ok=True)
    if keep is not None and any(place.iterdir()):
        raise typer.BadParameter(f"--keep {keep}: the folder is not empty")
    if Space(place, 0, None).tight:
        raise OSError(f"{place}: the disk is nearly full, so nothing would be sent")
    return place if keep else Path(tempfile.mkdtemp(prefix="lianxin-drill-"))


def as_text(told: Verdict) -> str:
    """The figures, then what is wrong."""
    unknown = f"{told.unknown_at_kills} ({told.unknown_per_kill} a kill under load"
    left = ", ".join(f"{n} of {name}" for name, n in told.really_sent_left.items())
    states = ", ".join(f"{n} {state}" for state, n in told.states.items())
    met = ", ".join(f"{n} of {name}" for name, n in told.kills_by_channel.items())
    figures = [
        (
            "kills",
            f"{told.kills}, {told.kills_under_load} under load"
            + (f" ({met})" if met else ""),
        ),
        ("planned", f"{told.planned}"),
        ("states of all messages", states),
        ("arrived at the peers", f"{told.arrived}; refused there {told.refused}"),
        ("lost", f"{told.lost}"),
        ("doubled", f"{told.doubled}"),
        ("in doubt at the kills", f"{unknown}, {told.really_sent} really sent)"),
        (
            "unknown at the end",
            f"{told.unknown_left}, {told.unknown_left_really_sent} really sent"
            + (f" ({left})" if left else ""),
        ),
        (
            "inbound acknowledged",
            f"{told.inbound_acknowledged}; lost {told.inbound_lost}, "
            f"doubled {told.inbound_doubled}",
        ),
        ("receipts without a message", f"{told.receipts_unmatched}"),
        (
            "opt-outs, erasures",
            f"{told.opted_out}, {told.erased}; sent after them {told.after_opt_out}",
        ),
    ]
    wide = max(len(name) for name, _ in figures)
    lines = [f"{name:<{wide}}  {value}" for name, value in figures]
    lines += [f"BROKEN {reason}" for reason in told.reasons]
    return "\n".join([*lines, "every promise was kept" if told.holds else "it failed"])
