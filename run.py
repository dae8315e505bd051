"""Assembles and starts everything; the only file that knows every folder.

`python run.py` serves; `python run.py --help` lists the other commands.
"""

import asyncio
import dataclasses
import gc
import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import uvloop
from aiohttp import web
from tortoise.exceptions import BaseORMException

import adapters
from adapters.sandbox import pages as sandbox_pages
from broadcasts import api as broadcasts_api
from broadcasts import daily, daily_pages, schedule
from broadcasts import pages as broadcast_pages
from broadcasts.demo import install as install_broadcasts
from gateway import database, keys, logs, postgres, recount, roles, settings, texts
from gateway.actors import GATEWAY, Role
from gateway.api import deliveries as deliveries_api
from gateway.api import inquiries as inquiries_api
from gateway.api import members as members_api
from gateway.api import verification as verification_api
from gateway.api.operations import mount as mount_api
from gateway.bots import BotBridge
from gateway.channels import Channel, ChannelSet, channel
from gateway.clock import SystemClock
from gateway.contract import ChannelContext
from gateway.core import Core
from gateway.demo.install import install as install_demo
from gateway.demo.install import journal_all
from gateway.drill import commands as drill
from gateway.drill import nursery
from gateway.errors import GatewayError, NotFound, RequestError, SettingsError
from gateway.inbox import pages as review_pages
from gateway.inquiries import pages as desk_pages
from gateway.knowledge import canned_pages
from gateway.knowledge import pages as knowledge_pages
from gateway.outbox import pages as channel_pages
from gateway.roles import Role as NodeRole
from gateway.runtime import SCHEDULER, Runtime
from gateway.settings import Settings
from gateway.sla import Calendar
from gateway.staff import tokens
from gateway.staff.passwords import Hasher
from gateway.staff.people import first_administrator, reset_password
from gateway.tables import Organisation, Staff
from gateway.web import front
from gateway.web.app import build_app, build_bare_app
from gateway.web.keys import BACKGROUND, COUNTS, HEALTH, INBOX, PAGES
from gateway.web.pages import Pages
from gateway.web.routes import add_routes
from gateway.workdays import corrections
from gateway.workdays import pages as calendar_pages

OPERATIONS = (
    *inquiries_api.OPERATIONS,
    *members_api.OPERATIONS,
    *deliveries_api.OPERATIONS,
    *broadcasts_api.OPERATIONS,
    *verification_api.OPERATIONS,
)
PLUGINS = ("bot_plugins.intake", "bot_plugins.commands", "bot_plugins.notices")
STOP_SECONDS = 4.8  # the whole stop; people and service managers wait no longer
GAVE_UP_STATUS = 70  # a part kept dying; "internal software error"
GARBAGE_THRESHOLD = 10_000  # new objects between two looks for unreachable cycles
SWITCH_SECONDS = 0.0005
CLOSE_SECONDS = 1.0  # how long open requests may take once the process is to stop
log = structlog.get_logger()
cli = typer.Typer(
    help="Lianxin 连心: a messaging gateway for member-service centres.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token_cli = typer.Typer(help="API tokens.", no_args_is_help=True)
cli.add_typer(token_cli, name="token")
cli.add_typer(drill.cli, name="drill")
SettingsFile = Annotated[
    Path, typer.Option("--settings", help="The settings file.", show_default=True)
]
DEFAULT_FILE = Path("settings.toml")


@dataclass(frozen=True, slots=True)
class Assembled:
    core: Core
    bots: BotBridge | None
    shared: dict[str, object]


def assemble(checked: Settings) -> Assembled:
    """The core with its channels; nothing is opened yet."""
    data_dir = checked.storage.data_dir
    clock = SystemClock()
    secrets = keys.load(data_dir)
    used = {one.common.adapter for one in checked.channels.values()}
    bots = BotBridge(clock=clock, plugins=PLUGINS) if "onebot" in used else None
    shared: dict[str, object] = {}

    def built(one: settings.Channel) -> Channel:
        context = ChannelContext(
            name=one.name,
            clock=clock,
            timezone=checked.centre.timezone,
            data_dir=data_dir,
            public_url=checked.server.public_url.rstrip("/"),
            secret=secrets.derive,
            bots=bots,
            signature=one.common.signature,
            shared=shared,
        )
        adapter = adapters.build(one.common.adapter, one.own, context)
        return channel(one.name, adapter, one.common)

    core = Core(
        settings=checked,
        clock=clock,
        keys=secrets,
        channels=ChannelSet(built(one) for one in checked.channels.values()),
        texts=texts.load(),
        calendar=Calendar(),
    )
    return Assembled(core, bots, shared)


@asynccontextmanager
async def opened(core: Core) -> AsyncIterator[None]:
    """The database, migrated; on SQLite no second process gets in."""
    url = core.settings.database_url
    with sole_owner(core) if is_sqlite(url) else nullcontext():
        async with AsyncExitStack() as stack:
            async with one_at_a_time(url):
                await stack.enter_async_context(
                    database.opened(
                        url, busy_seconds=core.settings.storage.busy_seconds
                    )
                )
            core.calendar = Calendar(overrides=await corrections.overrides())
            yield


@contextmanager
def sole_owner(core: Core) -> Iterator[None]:
    """Of the data folder and of that of the SQLite file: two gateways with folders of
    their own may have been given one file. Raises SettingsError."""
    file = core.settings.database_url.removeprefix("sqlite://").partition("?")[0]
    folders = {core.settings.storage.data_dir.resolve(), Path(file).resolve().parent}
    with ExitStack() as stack:
        for folder in sorted(folders):
            stack.enter_context(database.sole_owner(folder))
        yield


@asynccontextmanager
async def one_at_a_time(url: str) -> AsyncIterator[None]:
    """Processes that start together migrate and fill the database one by one."""
    if is_sqlite(url):
        yield
        return
    async with postgres.starting(url):
        yield


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite://")


async def first_start(core: Core) -> str | None:
    """Fill an empty database; the one-time password, or None on later starts.

    The demonstration comes only with the sandbox: its numbers could be somebody's.
    """
    if await Organisation.exists():
        return None
    async with database.transaction():
        if not (core.settings.storage.demo and core.settings.sandbox):
            return await first_administrator(core)
        password = await install_demo(core)
        await journal_all()
    # An audience is read as it is committed: only now are the members there.
    await install_broadcasts(core)
    return password


def application(assembled: Assembled, runtime: Runtime) -> web.Application:
    """The one aiohttp application on the one port."""
    core = assembled.core
    app = build_app(core)
    app[INBOX] = runtime.inbox
    for part in (
        desk_pages,
        review_pages,
        channel_pages,
        broadcast_pages,
        daily_pages,
        knowledge_pages,
        canned_pages,
        calendar_pages,
    ):
        add_routes(app, part.ROUTES)
    app[COUNTS] += [desk_pages.count, review_pages.count, broadcast_pages.counts]
    app[COUNTS].append(partial(calendar_pages.count, core))
    app[COUNTS].append(partial(channel_pages.count, core))
    mount_api(app, OPERATIONS)
    if core.settings.sandbox:
        add_routes(app, sandbox_pages.routes(core, assembled.shared))
    if assembled.bots is not None and NodeRole.BOTS in runtime.roles:
        assembled.bots.attach(app)
    return app


def bare_application(assembled: Assembled, runtime: Runtime) -> web.Application:
    """Of a process without pages: health, numbers, and the bots' sockets."""
    app = build_bare_app(assembled.core)
    if assembled.bots is not None and NodeRole.BOTS in runtime.roles:
        assembled.bots.attach(app)
    return app


@dataclass(frozen=True, slots=True)
class Serving:
    """How one process was asked to run."""

    roles: frozenset[NodeRole] = roles.EVERY
    port: int | None = None  # None: that of the settings


EVERYTHING = Serving()


async def serve(checked: Settings, wanted: Serving = EVERYTHING) -> None:
    """Run until SIGINT or SIGTERM; then stop within 5 s with nothing lost.

    Ends with status 70 where a part of it kept dying: a service manager starts anew.
    """
    assembled = assemble(checked)
    core = assembled.core
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with opened(core):
        async with one_at_a_time(checked.database_url):
            password = await first_start(core)
        heartbeat = schedule.Heartbeat(core)
        runtime = Runtime(
            core,
            lambda: daily.today(core),
            alone=is_sqlite(checked.database_url),
            roles=wanted.roles,
            schedule=partial(keep_ticking, heartbeat),
            give_up=stopping.set,
        )
        app = entry(assembled, runtime, heartbeat)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        port = checked.server.port if wanted.port is None else wanted.port
        try:
            await runtime.start()
            await runner.setup()
            site: web.BaseSite = web.TCPSite(runner, checked.server.host, port)
            if NodeRole.WEB in wanted.roles:
                site = front.Site(runner, checked.server.host, port)
                loop.run_in_executor(None, app[PAGES].compile)
            gc.freeze()  # what is there now stays: no look for cycles goes through it
            await site.start()
            welcome(checked, password)
            await stopping.wait()
        finally:
            end_at_the_latest()
            await runtime.drain()
            await runner.cleanup()
            await runtime.stop()
    if runtime.ended:
        raise typer.Exit(GAVE_UP_STATUS)


def entry(
    assembled: Assembled, runtime: Runtime, heartbeat: schedule.Heartbeat
) -> web.Application:
    """What this process answers on its port."""
    if NodeRole.WEB in runtime.roles:
        app = application(assembled, runtime)
    else:
        app = bare_application(assembled, runtime)

    async def ticks() -> bool:
        return not runtime.holds(SCHEDULER) or await heartbeat.is_alive()

    app[BACKGROUND] = runtime
    app[HEALTH]["schedule"] = ticks
    return app


async def keep_ticking(heartbeat: schedule.Heartbeat) -> None:
    async with schedule.ticking(heartbeat):
        await asyncio.Event().wait()


def end_at_the_latest() -> None:
    """A stop that hangs ends like a crash, which loses nothing either."""

    def give_up() -> None:
        log.error("stop.forced", seconds=STOP_SECONDS)
        os._exit(1)

    watch = threading.Timer(STOP_SECONDS, give_up)
    watch.daemon = True
    watch.start()


def welcome(checked: Settings, password: str | None) -> None:
    """Where to go now, on standard output."""
    address = checked.server.public_url
    lines = [f"连心 Lianxin  {address}"]
    if checked.sandbox:
        lines.append(f"沙盒 sandbox  {address}/sandbox  (没有真实短信发出)")
    if password is not None:
        lines.append("")
        lines.append(f"首次登录 first sign-in:  admin / {password}")
        if checked.storage.demo and checked.sandbox:
            lines.append("同一口令也可登录演示账号 (工作人员页面列出全部账号)")
    lines.append("")
    lines.append("Ctrl-C 停止 to stop")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


_NO_DATABASE = (*postgres.UNUSABLE, sqlite3.Error, BaseORMException)


@contextmanager
def explained(status: int = 1) -> Iterator[None]:
    """Errors that people can mend are told in words, not as a traceback. `status` is
    that of what could not be done; of wrong settings it is 2."""
    try:
        yield
    except SettingsError as error:
        for fault in error.faults:
            typer.echo(f"settings: {fault}", err=True)
        raise typer.Exit(2) from None
    except GatewayError as error:
        typer.echo(f"{error.code}: {error.detail}", err=True)
        raise typer.Exit(status) from None
    except _NO_DATABASE as error:
        typer.echo(f"the database: {error or type(error).__name__}", err=True)
        if re.search("no such table|relation .* does not exist", str(error)):
            typer.echo("it is empty or of another version: run.py migrate", err=True)
        raise typer.Exit(status) from None
    except OSError as error:
        typer.echo(f"can't start: {error}", err=True)
        raise typer.Exit(status) from None


def loaded(file: Path) -> Settings:
    checked = settings.load(file, adapters.settings_models())
    logs.configure(checked.log)
    return checked


def run(work: Coroutine[Any, Any, None]) -> None:
    # The database's threads need the interpreter beside a busy loop, again and again:
    # the usual five milliseconds for each turn would be most of a commit.
    sys.setswitchinterval(SWITCH_SECONDS)
    # Messages come and go by the ten thousand a second, hardly any of them in a cycle:
    # many short looks (a millisecond) for what is new, hardly any for what is old.
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@cli.callback(invoke_without_command=True)
def main(context: typer.Context, file: SettingsFile = DEFAULT_FILE) -> None:
    context.obj = file
    if context.invoked_subcommand is None:
        serve_command(context)


@cli.command("serve")
def serve_command(
    context: typer.Context,
    names: Annotated[
        str, typer.Option("--roles", help="What this process does.")
    ] = roles.named(roles.EVERY),
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Instead of the settings' one."),
    ] = None,
) -> None:
    """Start everything in one process on one port (the default).

    On PostgreSQL any number of processes may run, each with some of the roles.
    """
    with explained():
        checked = loaded(context.obj)
        splits = not is_sqlite(checked.database_url)
        run(serve(checked, Serving(roles.parse(names, splits=splits), port)))


@cli.command("migrate")
def migrate_command(context: typer.Context) -> None:
    """Bring the database to this version and stop."""

    async def work() -> None:
        async with opened(assemble(checked).core):
            typer.echo("the database is up to date")

    with explained():
        checked = loaded(context.obj)
        run(work())


@cli.command("check")
def check_command(context: typer.Context) -> None:
    """Check the settings and stop."""
    with explained():
        checked = loaded(context.obj)
        names = ", ".join(checked.channels) or "none"
        typer.echo(f"settings are in order; channels: {names}")


@cli.command("verify")
def verify_command(
    context: typer.Context,
    broadcast: Annotated[int | None, typer.Option(help="Only this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Recount what is promised: planned = the sum of the states, and the rest.

    Ends with 1 where something does not hold, and with 2 where nothing could be
    counted. The gateway may run meanwhile.
    """
    with explained(status=2):
        run(_verify(loaded(context.obj), broadcast, as_json))


async def _verify(checked: Settings, broadcast: int | None, as_json: bool) -> None:
    now = SystemClock().now()
    report = await recount.recount(checked.database_url, now, broadcast)
    if broadcast is not None and not report.balances:
        raise NotFound(f"there is no broadcast {broadcast}")
    typer.echo(recount.as_json(report) if as_json else recount.as_text(report))
    if not report.holds:
        raise typer.Exit(1)


@drill.cli.command("nursery", hidden=True)
def nursery_command(context: typer.Context) -> None:
    """Fork a gateway for each line on standard input: for the drills."""
    # Once for all: whatever the adapters import, and the pages.
    Pages(assemble(loaded(context.obj)).core).compile()
    nursery.tend(lambda: run(serve(loaded(context.obj))))


@cli.command("password")
def password_command(
    context: typer.Context,
    username: Annotated[str, typer.Argument(help="Whose password is lost.")],
) -> None:
    """Give somebody a new one-time password; it is shown once."""
    with explained():
        checked = loaded(context.obj)
        run(_reset_password(checked, username))


async def _reset_password(checked: Settings, username: str) -> None:
    core = assemble(checked).core
    async with database.opened(checked.database_url):
        staff = await Staff.get_or_none(username=username)
        if staff is None:
            raise RequestError("no_staff", f"nobody is called {username!r} here")
        actor = dataclasses.replace(GATEWAY, name="command line")
        _, password = await reset_password(core, Hasher(), actor, staff.id)
        typer.echo(password)


@token_cli.command("create")
def create_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.CLERK,
    organisation: Annotated[
        str, typer.Option(help="Code of the organisation whose subtree it sees.")
    ] = "",
) -> None:
    """Make an API token; it is shown once."""
    with explained():
        checked = loaded(context.obj)
        run(_create_token(checked, name, role, organisation))


async def _create_token(
    checked: Settings, name: str, role: Role, organisation: str
) -> None:
    core = assemble(checked).core
    # No lock: a token can be made while the gateway runs.
    async with database.opened(checked.database_url):
        wanted = {"code": organisation} if organisation else {"parent_id": None}
        found = await Organisation.filter(**wanted).order_by("id").first()
        if found is None:
            raise RequestError("no_organisation", f"no organisation {organisation!r}")
        actor = dataclasses.replace(GATEWAY, name=tokens.COMMAND_LINE)
        typer.echo(await tokens.create(core, actor, name, role, found.id))


if __name__ == "__main__":
    cli()
