"""One scratch installation: settings of its own, people, a gateway that is killed."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from gateway import database, keys, texts
from gateway import tokens as signed
from gateway.actors import GATEWAY, Role
from gateway.channels import ChannelSet
from gateway.clock import SystemClock
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.drill.peers import Peer, address
from gateway.drill.processes import (
    ROOT,
    START_SECONDS,
    NotStarted,
    end,
    is_alive,
    last_words,
    until,
)
from gateway.settings import Settings, Storage
from gateway.sla import Calendar
from gateway.staff import sessions, tokens
from gateway.staff.people import first_administrator
from gateway.tables import AddressRow, Member, Organisation, Session, Staff

SETTINGS = """
sandbox = true
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
[storage]
data_dir = "{data}"
database_url = "{url}"
demo = false
[policy]
allowed_from = "00:00"
allowed_until = "00:00"
canary = {canary}
canary_refusals = 1.0
canary_seconds = 1
broadcasts_per_day = 0
[daily]
enabled = false
[log]
json_lines = true
"""


@dataclass(slots=True)
class Site:
    """`start` and `kill` as often as wanted; `close` at the end."""

    folder: Path
    port: int
    url: str
    writer: str = ""  # API tokens
    approver: str = ""
    cookie: str = ""  # of a director's browser, and the token of its forms
    csrf: str = ""
    cold: bool = False  # a fresh interpreter for each start
    _nursery: asyncio.subprocess.Process | None = None
    _pid: int = 0

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.toml"

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    async def start(self) -> None:
        """Return once the process is there; it may not listen yet."""
        if self._nursery is None or self.cold:
            self._nursery = await self._spawn()
        if self.cold:
            self._pid = self._nursery.pid
            return
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(b"start\n")
        self._pid = int((await self._heard("started"))[1])

    async def _spawn(self) -> asyncio.subprocess.Process:
        what = ("serve",) if self.cold else ("drill", "nursery")
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, str(ROOT / "run.py")),
                *("--settings", str(self.settings), *what),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=log if self.cold else asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"},
            )

    async def _heard(self, word: str) -> Sequence[str]:
        assert self._nursery is not None
        assert self._nursery.stdout is not None
        line = (await self._nursery.stdout.readline()).decode()
        if not line.startswith(word):
            raise NotStarted(line.strip() or last_words(self.log))
        return line.split()

    async def kill(self, *, group: bool = True) -> int:
        """`kill -9`, of everything it has started too. Its status."""
        if group:
            end(self._pid)
        else:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        status = await self._ended()
        end(self._pid)  # whoever was left of the group
        return status

    @property
    def pid(self) -> int:
        return self._pid

    def is_alive(self) -> bool:
        if self.cold:
            return self._nursery is not None and self._nursery.returncode is None
        return is_alive(self._pid)

    async def revive(self) -> int:
        """Start anew what has ended by itself, as a service manager would."""
        status = await self._ended()
        await self.start()
        return status

    async def stop(self) -> int:
        """SIGTERM, and the status of a stop in good order: 0."""
        os.kill(self._pid, signal.SIGTERM)
        return await self._ended()

    async def _ended(self) -> int:
        assert self._nursery is not None
        async with asyncio.timeout(START_SECONDS):
            if self.cold:
                return await self._nursery.wait()
            return int((await self._heard("ended"))[2])

    async def close(self) -> None:
        if self._nursery is None:
            return
        if self._pid and self.is_alive():
            # Waited for: until it is gone it holds files open.
            with suppress(NotStarted, TimeoutError):
                await self.kill()
        end(self._nursery.pid)
        await self._nursery.wait()

    def opt_out_path(self, address_id: int) -> str:
        key = keys.load(self.data).derive("opt-out")
        return f"/o/{signed.sign(key, 'opt-out', address_id)}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def prepared(
    folder: Path,
    url: str,
    peers: Sequence[Peer],
    people: int,
    *,
    canary: int = 0,
    cold: bool = False,
) -> Site:
    """Settings, a migrated database, everybody who is written to, and two tokens.

    `canary` people of each channel go ahead; meanwhile nobody else is written to.
    """
    site = Site(
        folder=folder,
        port=free_port(),
        url=url or f"sqlite://{folder / 'data' / 'lianxin.sqlite3'}",
        cold=cold,
    )
    text = SETTINGS.format(port=site.port, data=site.data, url=url, canary=canary)
    site.settings.write_text(text + "".join(peer.section for peer in peers), "utf-8")
    core = Core(
        settings=Settings(storage=Storage(data_dir=site.data)),
        clock=SystemClock(),
        keys=keys.load(site.data),
        channels=ChannelSet(()),
        texts=texts.load(),
        calendar=Calendar(),
    )
    async with database.opened(site.url):
        await first_administrator(core)
        top = await Organisation.get(parent_id=None)
        await _people(core, top.id, [peer.kind for peer in peers], people)
        actor = replace(GATEWAY, name="drill")
        site.writer = await tokens.create(core, actor, "w", Role.CLERK, top.id)
        site.approver = await tokens.create(core, actor, "a", Role.APPROVER, top.id)
        site.cookie, site.csrf = await _signed_in(core, top.id)
    return site


async def _signed_in(core: Core, organisation_id: int) -> tuple[str, str]:
    """A director, who may erase members: cookie and form token of the browser."""
    person = await Staff.create(
        username="director",
        name="director",
        role=Role.DIRECTOR,
        organisation_id=organisation_id,
        password_hash="",
        must_change_password=False,
        created_at=core.clock.now(),
    )
    cookie = await sessions.start(core, person.id, "127.0.0.1")
    return cookie, (await Session.get(staff_id=person.id)).csrf


def name_of(number: int) -> str:
    return f"党员{number}"


async def _people(
    core: Core, organisation_id: int, kinds: Sequence[AddressKind], people: int
) -> None:
    """One address each, the kinds in turn."""
    now = core.clock.now()
    async with database.transaction():
        await Member.bulk_create(
            (
                Member(
                    id=number,
                    name=name_of(number),
                    organisation_id=organisation_id,
                    created_at=now,
                )
                for number in range(1, people + 1)
            ),
            batch_size=1000,
        )
        await AddressRow.bulk_create(
            (
                AddressRow(
                    id=number,
                    kind=kinds[number % len(kinds)],
                    value=address(kinds[number % len(kinds)], number),
                    member_id=number,
                    verified_at=now,
                    verified_how="import",
                    created_at=now,
                )
                for number in range(1, people + 1)
            ),
            batch_size=1000,
        )


class Api:
    """The gateway's API and pages, for a caller that waits out every restart."""

    def __init__(self, site: Site, session: aiohttp.ClientSession) -> None:
        self._site = site
        self._session = session

    async def call(
        self, method: str, path: str, token: str, body: Any = None, key: str = ""
    ) -> Mapping[str, Any]:
        """Again until it is answered: a repeated call with one key acts once.

        Raises NotStarted where it is refused, or not answered for minutes.
        """
        headers = {"Authorization": f"Bearer {token}"}
        if key:
            headers["Idempotency-Key"] = key
        address = f"http://127.0.0.1:{self._site.port}/api/v1{path}"
        end, last = time.monotonic() + START_SECONDS, "no answer"
        while time.monotonic() < end:
            try:
                answer = await self._session.request(
                    method, address, json=body, headers=headers
                )
                found: Mapping[str, Any] = await answer.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                await asyncio.sleep(0.05)
                continue
            if answer.status < 300:
                return found
            last = f"{answer.status} {found}"
            if answer.status != 503 and found.get("code") != "in_flight":
                break
            await asyncio.sleep(0.1)
        raise NotStarted(f"{method} {path}: {last}")

    async def opt_out(self, address_id: int) -> bool:
        """Whether the page said that it is done."""
        path = self._site.opt_out_path(address_id)
        try:
            async with self._session.post(
                f"http://127.0.0.1:{self._site.port}{path}"
            ) as answer:
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def erase(self, number: int) -> bool:
        """Whether the page said that this member is erased, now or before a crash."""
        form = {"csrf": self._site.csrf, "name": name_of(number), "reason": "演练"}
        try:
            async with self._session.post(
                f"http://127.0.0.1:{self._site.port}/members/{number}/erase",
                data=form,
                cookies={"session": self._site.cookie},
                allow_redirects=False,
            ) as answer:
                return answer.status in (303, 404)
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def answers(self) -> None:
        """Wait until the gateway does. Raises NotStarted where it has ended instead."""
        await until(self._answers, START_SECONDS)

    async def _answers(self) -> bool:
        if not self._site.is_alive():
            raise NotStarted(f"the gateway ended: {last_words(self._site.log)}")
        return await self.healthy()

    async def healthy(self) -> bool:
        try:
            async with self._session.get(
                f"http://127.0.0.1:{self._site.port}/healthz"
            ) as answer:
                return answer.status in (200, 503)
        except (aiohttp.ClientError, TimeoutError):
            return False
