"""Messages from members over SMPP, window 100, answered after a synced commit, filed.

SQLite with synchronous=FULL, four connections of one account, each with that window. Of
the texts 60 % answer a notice, 20 % add to an open inquiry, 15 % open a new one, 5 %
are words such as 退订 and 帮助. It counts until the last message is filed, its
confirmation or receipt enqueued; these leave meanwhile at the pace of a carrier account
(200 a second). The limit is a bare session, one connection, that inserts the same
messages by one statement a read, with FULL, and answers.
"""

import asyncio
import json
import random
import sqlite3
import struct
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import uvloop
from pydantic import SecretStr

from adapters.smpp import pdu
from adapters.smpp.codec import SmppCodec
from adapters.smpp.settings import Settings
from benchmarks.harness import carrier, province
from benchmarks.harness.broadcast import reading
from benchmarks.harness.gateway import Site, section
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import Broken, Program, folder, python
from gateway import database as db
from gateway.clock import SystemClock
from gateway.contract import ChannelContext
from gateway.database import to_micros

TARGET = Target(figure_at_least=12_000)
MESSAGES = 200_000
NEW = 60_000  # of the second round, in which all open a new inquiry
MEMBERS = 300_000
WINDOW = 100
CONNECTIONS = 4
PACE = 200  # answers a second that leave meanwhile
RUN_SECONDS = 600.0
LOOK_SECONDS = 0.05
CHANNEL = "sms"
_NEW = "请问组织关系从外省转过来，介绍信在哪里开？第{number}次来问了，谢谢"
_MORE = "补充一下，材料已经交到支部了，请问什么时候能办好？"
_YES = ("1", "参加", "好的，参加", "2", "不参加")
_WORDS = ("退订", "帮助")


def measure(scale: float) -> Measurement:
    count, new = max(500, int(MESSAGES * scale)), max(500, int(NEW * scale))
    members = max(1000, int(MEMBERS * scale))
    mix, fresh = _mix(count, members), _fresh(new, members)
    with folder() as place:
        mixed = _round(place / "mixed", mix, members)
        opened = _round(place / "new", fresh, members)
        limit = _limit(place, mix)
    return Measurement(
        figure=mixed[0],
        unit="messages/s",
        limit=limit,
        limit_is="stored FULL by one statement a read, answered, nothing routed",
        notes={
            "all new inquiries, messages/s": round(opened[0]),
            "processor µs a message": round(mixed[1], 1),
            "memory MiB": round(mixed[2]),
        },
    )


Texts = list[tuple[int, str]]
"""Members and what they write."""


def _mix(count: int, members: int) -> Texts:
    dice = random.Random(7)
    people = dice.sample(range(1, members + 1), count)
    kinds = dice.choices("amnw", (60, 20, 15, 5), k=count)
    return [
        (who, _text(dice, kind, number))
        for number, (who, kind) in enumerate(zip(people, kinds, strict=True))
    ]


def _text(dice: random.Random, kind: str, number: int) -> str:
    match kind:
        case "a":
            return dice.choice(_YES)
        case "m":
            return _MORE
        case "n":
            return _NEW.format(number=number)
        case _:
            return dice.choice(_WORDS)


def _fresh(count: int, members: int) -> Texts:
    people = random.Random(8).sample(range(1, members + 1), count)
    return [(who, _NEW.format(number=number)) for number, who in enumerate(people)]


def _round(place: Path, texts: Texts, members: int) -> tuple[float, float, float]:
    """Messages a second, processor microseconds each, MiB."""
    place.mkdir()
    with _members(place, texts) as handsets:
        site = Site(place, "", _account(place, handsets.address))
        site.migrate()
        asyncio.run(_fill(site.database, texts, members))
        with site.running() as gateway:
            seconds = asyncio.run(_filed(site.database, len(texts)))
            used = gateway.processor_seconds() / len(texts) * 1e6  # its start, too
            return len(texts) / seconds, used, gateway.peak_memory_mib()


def _members(place: Path, texts: Texts) -> AbstractContextManager[Program]:
    file = place / "texts"
    lines = (json.dumps([province.phone(who)[1:], text]) for who, text in texts)
    file.write_text("\n".join(lines), "utf-8")
    return python(
        *("-m", "benchmarks.sinks.members", "--file", file),
        *(f"--system-id={CHANNEL}", f"--window={WINDOW}"),
    )


def _account(place: Path, address: tuple[str, int]) -> str:
    secret = place / "password"
    secret.write_text(carrier.PASSWORD, "utf-8")
    return section(
        CHANNEL,
        adapter="smpp",
        rate_per_second=PACE,
        host=address[0],
        port=address[1],
        system_id=CHANNEL,
        password=f"file:{secret}",
        connection_window=WINDOW,
        connections=CONNECTIONS,
    )


async def _fill(url: str, texts: Texts, members: int) -> None:
    """The province, the notice's questions, and the open inquiries."""
    async with db.opened(url), db.transaction():
        await province.fill(members)
        now = to_micros(SystemClock().now())
        asked = [(province.phone(who),) for who, text in texts if text in _YES]
        await db.execute_many(
            "INSERT INTO prompts (kind, value, prompt, code, options, broadcast_id, "
            "data, opened_at, expires_at, answer) VALUES ('phone', ?, 'rsvp', 'A1', "
            f"'[]', 1, '{{\"title\": \"主题党日\"}}', {now}, {now + province.DAY}, '')",
            asked,
        )
        known = [
            (f"20200101-{number:06d}", province.phone(who), province.BEFORE + who)
            for number, (who, text) in enumerate(texts)
            if text == _MORE
        ]
        await db.execute_many(
            "INSERT INTO inquiries (number, value, member_id, organisation_id, "
            "first_organisation_id, source, channel, kind, conversation_kind, "
            "conversation_value, contact_name, text, matter, urgency, state, outcome, "
            "attention, reopened, received_at, deadline_at, deadline_provisional, "
            f"changed_at) VALUES (?, ?, ?, {province.FIRST_CENTRE}, "
            f"{province.FIRST_CENTRE}, 'message', 'sms', 'phone', '', '', '', "
            f"'一件事', 'dues', 'normal', 'answered', '', '', 0, {now}, "
            f"{now + province.DAY}, 0, {now})",
            known,
        )


async def _filed(url: str, count: int) -> float:
    """Seconds from the first stored message until the last is filed."""
    until = time.monotonic() + RUN_SECONDS
    async with reading(url) as reader:
        while time.monotonic() < until:
            [(last,)] = await reader.rows("SELECT MAX(id) FROM inbound")
            left = await reader.rows(
                "SELECT 1 FROM inbound WHERE state = 'stored' LIMIT 1"
            )
            if last is not None and last >= count and not left:
                ended = time.time()
                await _checked(await reader.rows(_STATES), count)
                [(began,)] = await reader.rows("SELECT MIN(received_at) FROM inbound")
                return ended - int(began) / 1e6
            await asyncio.sleep(LOOK_SECONDS)
    raise Broken("not all messages were filed")


_STATES = "SELECT state, COUNT(*) FROM inbound GROUP BY state"


async def _checked(states: list[tuple[object, ...]], count: int) -> None:
    """All are there, and nothing had to go before staff."""
    found = {str(state): int(str(n)) for state, n in states}
    if found.get("filed", 0) + found.get("handled", 0) != count:
        raise Broken(f"of {count} messages: {found}")


class Bare(asyncio.Protocol):
    """Takes what members write: one insert and one synced commit a read."""

    def __init__(self, file: sqlite3.Connection, count: int) -> None:
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._file, self._left, self._rest = file, count, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_login())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        start, answers, bodies = 0, list[bytes](), list[bytes]()
        while start + 16 <= len(data):
            size, command, _, sequence = struct.unpack_from(">IIII", data, start)
            if start + size > len(data):
                break
            if command == pdu.DELIVER_SM:
                bodies.append(data[start : start + size])
                head = pdu.HEADER.pack(17, pdu.DELIVER_SM_RESP, 0, sequence)
                answers.append(head + b"\0")
            elif command == pdu.BIND_TRANSCEIVER_RESP:
                self._began = time.perf_counter()
            start += size
        self._rest = data[start:]
        self._store(bodies)
        self._transport.write(b"".join(answers))
        if not self._left and not self.done.done():
            self.done.set_result(time.perf_counter() - self._began)

    def _store(self, bodies: list[bytes]) -> None:
        if bodies:
            marks = ",".join(["(?)"] * len(bodies))
            self._file.execute(f"INSERT INTO inbound (payload) VALUES {marks}", bodies)
            self._left -= len(bodies)


def _login() -> bytes:
    given = {"host": "127.0.0.1", "system_id": CHANNEL, "password": SecretStr("bare")}
    context = ChannelContext(
        name=CHANNEL,
        clock=SystemClock(),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=Path("unused"),
        public_url="",
        secret=lambda purpose: purpose.encode().ljust(32, b"."),
    )
    return SmppCodec(Settings.model_validate(given), context).login(1)


def _limit(place: Path, texts: Texts) -> float:
    file = sqlite3.connect(place / "bare.sqlite3", isolation_level=None)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=FULL")
    file.execute("CREATE TABLE inbound (id INTEGER PRIMARY KEY, payload BLOB)")

    async def run(address: tuple[str, int]) -> float:
        loop = asyncio.get_running_loop()
        transport, bare = await loop.create_connection(
            lambda: Bare(file, len(texts)), *address
        )
        try:
            return len(texts) / await bare.done
        finally:
            transport.close()

    with _members(place, texts) as members:
        return uvloop.run(run(members.address))
