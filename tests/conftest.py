"""What most tests need: a database of each engine, and a gateway that stands still.

PostgreSQL is a cluster of our own, started once for a run. Each test gets a fresh
copy of a database that was migrated once.
"""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import hypothesis
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpClient

from gateway import keys, texts
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.database import opened
from gateway.settings import Settings, Storage
from gateway.sla import Calendar
from gateway.web.app import build_app
from tests.console import Console
from tests.labs import nursery as nurseries

_NUMBERS = count(1)
# It wins over a test's own settings, and may be that of an installation.
os.environ.pop("DATABASE_URL", None)
# How long an example takes says something of the machine, nothing of the product.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` in a loop of its own, away from the loops of the tests."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _migrated(url: str) -> None:
    async with opened(url):
        pass


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail(
            "PostgreSQL is missing: run `make test`, or apt-get install postgresql"
        )
    return found[-1].parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_postgres(*command: str | Path) -> None:
    """PostgreSQL refuses to run as root."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/"
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running cluster; the address of its databases without their names."""
    programs = _postgres_programs()
    home = Path(tempfile.mkdtemp(prefix="lianxin-postgres-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(home, account.pw_uid, account.pw_gid)
    data, port = home / "data", _free_port()
    _as_postgres(
        *(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"),
        *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
    )
    # Ordinary tests don't cut the power, so nothing has to reach the disk.
    options = (
        f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off "
        "-c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
    )
    control = (programs / "pg_ctl", "-D", data, "-w")
    _as_postgres(*control, "-l", home / "log", "-o", options, "start")
    try:
        yield f"postgres://postgres@127.0.0.1:{port}"
    finally:
        _as_postgres(*control, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    _run(_postgres_execute(postgres_server, "CREATE DATABASE migrated"))
    _run(_migrated(f"{postgres_server}/migrated"))
    return postgres_server


async def _postgres_execute(server: str, statement: str) -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "lianxin.sqlite3"
    _run(_migrated(f"sqlite://{path}"))
    return path


@pytest.fixture(scope="session")
def nursery() -> Iterator[Path]:
    """Forks gateways: tests/labs/nursery.py."""
    with (
        tempfile.TemporaryDirectory(prefix="lianxin-nursery-") as folder,
        nurseries.nursery(Path(folder)) as socket_path,
    ):
        yield socket_path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite file of its own."""
    path = tmp_path / "lianxin.sqlite3"
    shutil.copy(sqlite_template, path)
    return f"sqlite://{path}"


@pytest.fixture
def postgres_url(postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of its own."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    _run(
        _postgres_execute(
            postgres_template, f"CREATE DATABASE {name} TEMPLATE migrated"
        )
    )
    yield f"{postgres_template}/{name}"
    _run(_postgres_execute(postgres_template, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The test runs once on each engine."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[None]:
    async with opened(database_url):
        yield


@pytest.fixture
def clock() -> ManualClock:
    """A working Friday, ten in the morning."""
    return ManualClock(datetime(2026, 11, 20, 10, tzinfo=ZoneInfo("Asia/Shanghai")))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Override it in a test module that needs other settings."""
    return Settings(storage=Storage(data_dir=tmp_path))


@pytest.fixture
def channels() -> ChannelSet:
    """Override it in a test module that needs channels."""
    return ChannelSet()


@pytest.fixture
def core(
    database: None, settings: Settings, clock: ManualClock, channels: ChannelSet
) -> Core:
    """A gateway on an empty, migrated database of each engine."""
    return Core(
        settings=settings,
        clock=clock,
        keys=keys.load(settings.storage.data_dir),
        channels=channels,
        texts=texts.load(),
        calendar=Calendar(),
    )


@pytest.fixture
async def app(core: Core) -> web.Application:
    """The foundation of the console; add what a test needs before `console`."""
    return build_app(core)


@pytest.fixture
async def console(app: web.Application, aiohttp_client: AiohttpClient) -> Console:
    """Browsers on a small county: see tests/console.py."""
    return await Console.open(app, aiohttp_client)
