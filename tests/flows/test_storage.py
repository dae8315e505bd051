"""Disks that fill up, fail, or lose their power, under a process that stores.

Mounting and tracing need root and strace: where they are missing the tests say so.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import database as db
from gateway.core import Core
from gateway.errors import StorageUnavailable
from gateway.fatal import EXIT_STORAGE
from gateway.inbox import Inbox
from gateway.outbox.sender import Sender
from gateway.space import MIB, Space
from gateway.tables import Content
from tests.labs.outgoing import queued
from tests.labs.phones import Phones
from tests.labs.process import until
from tests.labs.storing import REFUSALS, core_in, message, url_in

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount the disks that fail here"
)
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace makes the disk fail: install it"
)


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


@contextmanager
def mounted(*what: str | Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    run("mount", *what, at)
    try:
        yield at
    finally:
        # Lazily: a test that failed may still have files open there.
        run("umount", "--lazy", at)


@contextmanager
def storing(
    folder: Path, ledger: Path, reserve_kib: int = 0, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    module = (sys.executable, "-m", "tests.labs.storing")
    process = subprocess.Popen(
        [*before, *module, str(folder), str(ledger), str(reserve_kib)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def migrated(folder: Path, template: Path) -> Path:
    """A folder whose database needs no writing before the first message."""
    made = folder / "data"
    made.mkdir()
    shutil.copy(template, made)
    return made


def acknowledged(ledger: Path) -> set[str]:
    text = ledger.read_text("ascii") if ledger.exists() else ""
    return {line for line in text.split("\n")[:-1] if line}


def until_acknowledged(ledger: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while (found := len(acknowledged(ledger))) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


async def found(folder: Path) -> set[str]:
    """What the next process has, the spool drained."""
    async with db.opened(url_in(folder)):
        (checked,) = await db.rows("PRAGMA integrity_check")
        assert list(checked.values()) == ["ok"]
        inbox = Inbox(core_in(folder))
        running = asyncio.create_task(inbox.run())
        await inbox.accept("sms", [message("last")])  # behind what waits in the spool
        await until(lambda: drained(inbox), 30)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return {row["key"] for row in await db.rows("SELECT key FROM inbound")}


async def drained(inbox: Inbox) -> bool:
    return inbox.spooled == 0


@needs_root
@pytest.mark.parametrize("mib", [4, 8, 16])
async def test_a_full_disk_loses_nothing_and_lets_us_out(
    tmp_path: Path, mib: int
) -> None:
    """D-2: the reserve goes first; then nothing is acknowledged; then room helps."""
    ledger = tmp_path / "ledger"
    with mounted("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", at=tmp_path / "d") as d:
        with storing(d, ledger, reserve_kib=1024) as process:
            process.wait(120)
        assert not (d / "reserve").exists()
        told = acknowledged(ledger)
        assert len(told) > 100
        run("mount", "-o", f"remount,size={mib * 2}m", d)
        assert told <= await found(d)


EPISODES = 6


@needs_root
@pytest.mark.parametrize("mib", [4, 8, 16])
async def test_a_disk_that_is_full_again_and_again(tmp_path: Path, mib: int) -> None:
    """D-2: each time the reserve goes, then nothing is acknowledged, then somebody
    makes room, and the same process goes on, with a new reserve."""
    told: set[str] = set()
    room = mib * MIB
    with mounted("-t", "tmpfs", "-o", f"size={room}", "tmpfs", at=tmp_path / "d") as d:
        core = core_in(d, reserve_kib=256)
        async with db.opened(url_in(d)):
            inbox = Inbox(core)
            running = asyncio.create_task(inbox.run())

            async def goes_on() -> bool:
                return await takes(inbox, told)

            for episode in range(EPISODES):
                await asyncio.to_thread(core.space.keep_reserve)
                assert not core.space.reserve_gone
                told |= await stored_until_full(inbox, f"{episode}")
                assert core.space.reserve_gone
                room += room // 8 + MIB // 2
                run("mount", "-o", f"remount,size={room}", d)
                await until(goes_on, 30)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        assert len(told) > EPISODES * 20
        # The log holds everything until its end: then the file needs as much again.
        run("mount", "-o", f"remount,size={room * 2}", d)
        assert told <= await found(d)


async def stored_until_full(inbox: Inbox, episode: str) -> set[str]:
    """What was acknowledged before nothing was any more."""
    told: set[str] = set()
    refused = number = 0
    while refused < REFUSALS:
        number += 1
        key = f"{episode}.{number}"
        try:
            await inbox.accept("sms", [message(key)])
        except StorageUnavailable:
            refused += 1
        else:
            refused = 0
            told.add(key)
    return told


async def takes(inbox: Inbox, told: set[str]) -> bool:
    key = f"again {len(told)}"
    try:
        await inbox.accept("sms", [message(key)])
    except StorageUnavailable:
        return False
    told.add(key)
    return inbox.spooled == 0


@needs_strace
@pytest.mark.parametrize("when", ["60..66", "200..900+7"])
def test_calls_that_find_no_room_for_a_while(
    tmp_path: Path, sqlite_template: Path, when: str
) -> None:
    """D-2: wherever the disk is full in the middle, it goes on when there is room."""
    folder, ledger = migrated(tmp_path, sqlite_template), tmp_path / "ledger"
    trace = ("strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=pwrite64,fallocate")
    inject = ("-e", f"inject=pwrite64,fallocate:error=ENOSPC:when={when}")
    with storing(folder, ledger, before=(*trace, *inject)):
        until_acknowledged(ledger, 400)
    assert acknowledged(ledger) <= asyncio.run(found(folder))


@needs_root
async def test_what_waits_for_room_leaves_when_there_is_some(
    tmp_path: Path, core: Core, phones: Phones
) -> None:
    """D-2: nothing is sent while the disk is tight, and nothing is lost by it."""
    now = core.clock.now()
    await Content.create(id=1, texts={"sms": "您好"}, hash="", created_at=now)
    expires = now + timedelta(days=1)
    row = await queued(now, text=None, content_id=1, expires_at=expires)
    account = core.channels.get("sms")
    assert account is not None
    sender = Sender(core, account)
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", at=tmp_path / "d") as d:
        core.space = Space(d, 0, None)
        (d / "old backup").write_bytes(bytes(15 * MIB // 2))
        assert core.space.tight
        assert await sender.step() == 0
        await row.refresh_from_db()
        assert (row.state, row.attempts, phones.sent) == ("queued", 0, [])
        (d / "old backup").unlink()

        async def left() -> bool:
            await sender.step()
            await sender.answers()
            await row.refresh_from_db()
            return bool(row.state == "accepted")

        await until(left, 10)
        assert len(phones.sent) == 1


@needs_strace
@pytest.mark.parametrize("call", ["fsync,fdatasync", "pwrite64"])
@pytest.mark.parametrize(
    ("when", "file"), [(40, ""), (111, ""), (300, ""), (111, "lianxin.sqlite3-wal")]
)
async def test_a_failing_disk_ends_the_process(
    tmp_path: Path, sqlite_template: Path, call: str, when: int, file: str
) -> None:
    """D-3: at once, with its own exit status; what was acknowledged is there. Where
    only the database's file fails, the spool must not stand in for it."""
    folder, ledger = migrated(tmp_path, sqlite_template), tmp_path / "ledger"
    trace = ("strace", "-f", "-q", "-o", "/dev/null", "-e", f"trace={call}")
    inject = ("-e", f"inject={call}:error=EIO:when={when}+")
    if file:
        trace = (*trace, "-P", str(folder / file))
    with storing(folder, ledger, before=(*trace, *inject)) as process:
        assert process.wait(120) == EXIT_STORAGE
        assert process.stdout is not None
        assert b"storage.failed" in process.stdout.read()
    told = acknowledged(ledger)
    assert len(told) >= when // 30
    assert told <= await found(folder)


@needs_root
async def test_a_power_cut_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """D-1: pictures of the disk as it is while the writer stands still."""
    image, ledger = tmp_path / "image", tmp_path / "ledger"
    run("truncate", "-s", "64M", image)
    run("mkfs.ext4", "-q", image)
    disk = mounted("-o", "loop", image, at=tmp_path / "d")
    with disk as d, storing(d, ledger) as process:
        for number in range(1, 4):
            until_acknowledged(ledger, number * 200)
            os.killpg(process.pid, signal.SIGSTOP)
            copy = tmp_path / f"copy{number}"
            shutil.copy(image, copy)
            told = acknowledged(ledger)
            os.killpg(process.pid, signal.SIGCONT)
            with mounted("-o", "loop", copy, at=tmp_path / f"m{number}") as seen:
                assert told <= await found(seen)
