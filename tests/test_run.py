"""`run.py` as a newcomer and as an administrator meet it: real processes."""

import asyncio
import json
import os
import re
import sqlite3
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.labs.process import PROJECT, Installation, installation

pytestmark = pytest.mark.slow
STOP_SECONDS = 20.0  # room for a busy machine; what hangs, hangs for ever


async def command(
    gateway: Installation, *words: str, **more: str
) -> tuple[int, str, str]:
    """Run one command on the installation: exit status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROJECT / "run.py"),
        "--settings",
        str(gateway.settings),
        *words,
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"} | more,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def get(url: str, **more: object) -> tuple[int, dict[str, object]]:
    async with aiohttp.ClientSession() as session, session.get(url, **more) as answer:  # type: ignore[arg-type]
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_a_second_start_keeps_the_data(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = "" if engine == "sqlite" else request.getfixturevalue("postgres_url")
    async with installation(tmp_path, url, demo=True) as gateway:
        await gateway.start()
        assert re.search(r"admin / [a-z2-9-]{19}", gateway.output)
        status, health = await get(gateway.url("/healthz"))
        assert (status, all(health["parts"].values())) == (200, True)
        begun = time.monotonic()
        assert await gateway.stop() == 0
        assert time.monotonic() - begun < STOP_SECONDS

        await gateway.start()
        assert len(re.findall(r"admin / ", gateway.output)) == 1
        assert await gateway.stop() == 0
        assert "Traceback" not in gateway.log


async def test_a_second_process_on_sqlite_is_refused(tmp_path: Path) -> None:
    async with installation(tmp_path) as gateway:
        await gateway.start()
        status, _, errors = await command(gateway)
        assert status == 2
        assert "another gateway runs on this data" in errors
        assert "Traceback" not in errors


async def test_one_sqlite_file_has_one_gateway(tmp_path: Path) -> None:
    """Also where the second has a folder of its own, and another name for the file."""
    for name in "ab":
        (tmp_path / name).mkdir()
    async with installation(tmp_path / "a") as gateway:
        await gateway.start()
        (tmp_path / "link").symlink_to(gateway.data_dir)
        url = f"sqlite:///{tmp_path}/link/lianxin.sqlite3"
        async with installation(tmp_path / "b") as other:
            for word in ("serve", "migrate"):
                status, _, errors = await command(other, word, DATABASE_URL=url)
                assert (status, "another gateway runs" in errors) == (2, True)
            status, told, errors = await command(other, "verify", DATABASE_URL=url)
            assert (status, errors) == (0, "")
            assert "everything holds" in told


async def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    async with installation(tmp_path) as gateway:
        for port in ("-1", "65536", "http"):
            status, _, errors = await command(gateway, "serve", "--port", port)
            assert (status, "'--port'" in errors) == (2, True)


async def test_a_token_is_made_while_it_runs(tmp_path: Path) -> None:
    async with installation(tmp_path, demo=True) as gateway:
        await gateway.start()
        status, token, errors = await command(gateway, "token", "create", "tests")
        assert (status, errors) == (0, "")
        headers = {"Authorization": f"Bearer {token.strip()}"}
        inquiries = gateway.url("/api/v1/inquiries")
        status, found = await get(inquiries, headers=headers)
        assert status == 200
        assert found["items"]
        assert (await get(inquiries))[0] == 401


async def test_a_lost_password_is_replaced(tmp_path: Path) -> None:
    async with installation(tmp_path, demo=True) as gateway:
        await gateway.start()
        status, password, _ = await command(gateway, "password", "admin")
        assert status == 0
        assert re.fullmatch(r"[a-z2-9-]{19}", password.strip())
        status, _, errors = await command(gateway, "password", "nobody")
        assert (status, "nobody" in errors) == (1, True)


async def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    async with installation(tmp_path) as gateway:
        gateway.settings.write_text(
            """
            sandbox = true
            colour = "red"
            [server]
            port = 99999
            [centre]
            timezone = "Asia/Peking2"
            [channels.sms]
            adapter = "carrier-pigeon"
            [channels.mail]
            adapter = "email"
            address = "not an address"
            password = "hunter2"
            """,
            encoding="utf-8",
        )
        status, _, errors = await command(gateway)
        assert status == 2
        for named in (
            "colour",
            "server.port",
            "centre.timezone",
            "channels.sms.adapter",
            "channels.mail.address",
            "channels.mail.password",
        ):
            assert named in errors
        assert "hunter2" not in errors
        assert not gateway.data_dir.exists()


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with installation(tmp_path) as gateway:
        blocker = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", gateway.port
        )
        async with blocker:
            status, _, errors = await command(gateway)
        assert status == 1
        assert str(gateway.port) in errors
        assert "Traceback" not in errors


async def test_a_database_that_is_of_no_use_is_said(
    tmp_path: Path, postgres_server: str
) -> None:
    """Wrong name, wrong port, empty, no database at all: in words, and `verify` does
    not sound as if a promise were broken."""
    nowhere = "postgres://postgres@127.0.0.1:1/lianxin"
    async with installation(tmp_path) as gateway:
        for url, said in (
            (f"{postgres_server}/nowhere", '"nowhere" does not exist'),
            (f"{postgres_server}/postgres", "run.py migrate"),
            (nowhere, "refused"),
        ):
            status, out, errors = await command(gateway, "verify", DATABASE_URL=url)
            assert (status, out) == (2, "")
            assert said in errors
            assert "Traceback" not in errors
        status, _, errors = await command(gateway, DATABASE_URL=nowhere)
        assert (status, errors.startswith("the database: ")) == (1, True)
        file = gateway.data_dir / "lianxin.sqlite3"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        status, _, errors = await command(gateway, "verify")
        assert (status, "run.py migrate" in errors) == (2, True)
        file.write_bytes(b"x" * 4096)
        for words in (("verify",), ()):
            status, _, errors = await command(gateway, *words)
            assert "the database: file is not a database" in errors
            assert "Traceback" not in errors


async def test_help_and_check(tmp_path: Path) -> None:
    async with installation(tmp_path) as gateway:
        status, out, _ = await command(gateway, "--help")
        assert (status, "migrate" in out) == (0, True)
        status, out, _ = await command(gateway, "check")
        assert (status, "sms" in out) == (0, True)
        status, out, _ = await command(gateway, "migrate")
        assert (status, "up to date" in out) == (0, True)


async def test_it_stops_in_time_while_a_provider_is_silent(tmp_path: Path) -> None:
    async with installation(tmp_path, demo=True) as gateway:
        await gateway.start()
        async with aiohttp.ClientSession() as session:
            stream = await session.get(gateway.url("/sandbox/events"))
            begun = time.monotonic()
            assert await gateway.stop() == 0
            assert time.monotonic() - begun < STOP_SECONDS
            stream.close()


async def test_verify_counts_beside_the_running_gateway(tmp_path: Path) -> None:
    async with installation(tmp_path, demo=True) as gateway:
        await gateway.start()
        status, out, errors = await command(gateway, "verify")
        assert (status, errors) == (0, "")
        assert out.endswith("everything holds\n")
        status, out, errors = await command(gateway, "verify", "--broadcast", "999")
        assert (status, out) == (2, "")
        assert errors == "not_found: there is no broadcast 999\n"
        base = sqlite3.connect(gateway.data_dir / "lianxin.sqlite3", timeout=5)
        base.execute("UPDATE audit SET actor = 'x' WHERE id = 1")
        base.commit()
        base.close()
        status, out, _ = await command(gateway, "verify", "--json")
        assert status == 1
        found = json.loads(out)
        assert [one["object"] for one in found["deviations"]] == ["audit:1"]
