"""The simulated gateway by itself: who gets in, what it survives and writes down."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters.cmpp.pdus import Version
from adapters.cmpp.simulator import Behaviour, Ismg, serving
from gateway.clock import ManualClock
from tests.adapters.cmpp import tables
from tests.adapters.cmpp.tables import V2, V3, pdu
from tests.labs.cmpp_lab import until

AT = datetime(2026, 11, 20, 10, 0, 30, tzinfo=ZoneInfo("Asia/Shanghai"))
ACCOUNTS = {"901234": "s3cret"}
BOTH = pytest.mark.parametrize("version", [V2, V3])


class Provider:
    """A client of bytes from the field tables."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def hear(self) -> bytes:
        """One whole PDU; empty where the gateway hung up."""
        async with asyncio.timeout(5):
            try:
                head = await self._reader.readexactly(4)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return b""
            return head + await self._reader.readexactly(int.from_bytes(head) - 4)

    def leave(self) -> None:
        self._writer.close()

    async def login(
        self, version: int, *, source: str = "901234", secret: str = "s3cret"
    ) -> bytes:
        self.say(connect(version, source=source, secret=secret))
        return await self.hear()


def connect(
    version: int, *, source: str = "901234", secret: str = "s3cret", at: str = ""
) -> bytes:
    at = at or "1120100030"
    plain = source.encode() + bytes(9) + secret.encode() + at.encode()
    digest = hashlib.md5(plain).digest()
    return tables.connect(1, source, digest, version, int(at))


@asynccontextmanager
async def dialled(gateway: Ismg, count: int = 1) -> AsyncIterator[list[Provider]]:
    async with serving(gateway) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        providers = [Provider(*pair) for pair in pairs]
        try:
            yield providers
        finally:
            for provider in providers:
                provider.leave()


def gateway(behaviour: Behaviour | None = None, ledger: Path | None = None) -> Ismg:
    return Ismg(
        behaviour, accounts=ACCOUNTS, clock=ManualClock(AT), ledger=ledger, seed=1
    )


@BOTH
async def test_it_lets_in_who_knows_the_secret(version: int) -> None:
    async with dialled(gateway()) as [provider]:
        said = await provider.login(version)
        digest = connect(version)[18:34]
        proof = hashlib.md5(bytes(1 if version == V2 else 4) + digest + b"s3cret")
        # The version is the highest that it speaks.
        status = (0).to_bytes(1 if version == V2 else 4)
        assert said == pdu(0x80000001, 1, status + proof.digest() + b"\x30")


@BOTH
@pytest.mark.parametrize(
    ("source", "secret", "status"),
    [("901234", "guess", 3), ("900000", "s3cret", 2)],
)
async def test_it_refuses_strangers(
    version: int, source: str, secret: str, status: int
) -> None:
    async with dialled(gateway()) as [provider]:
        said = await provider.login(version, source=source, secret=secret)
        assert int.from_bytes(said[12 : 13 if version == V2 else 16]) == status


@pytest.mark.parametrize(
    ("at", "status"), [("1120100030", 0), ("1120095035", 3), ("1399999999", 3)]
)
async def test_it_looks_at_the_clock_where_told_to(at: str, status: int) -> None:
    async with dialled(gateway(Behaviour(clock_tolerance=300))) as [provider]:
        provider.say(connect(V2, at=at))
        assert (await provider.hear())[12] == status


@BOTH
async def test_a_submit_is_written_down_before_it_is_answered(
    version: int, tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    async with dialled(gateway(ledger=path)) as [provider]:
        await provider.login(version)
        content = bytes((5, 0, 3, 9, 2, 1)) + "主题党日".encode("utf-16-be")
        provider.say(
            tables.submit(
                version,
                7,
                number="13800138000",
                msg_fmt=8,
                content=content,
                total=2,
                index=1,
                udhi=1,
            )
        )
        answer = await provider.hear()
        [line] = map(json.loads, path.read_text().splitlines())
        id = int(line.pop("id"))
        assert answer == tables.submit_resp(version, 7, id, 0)
        assert line == {
            "kind": "mt",
            "at": AT.timestamp(),
            "system_id": "901234",
            "to": "13800138000",
            "from": "1065700001",
            "part": [9, 2, 1],
            "coding": 8,
            "text": "主题党日",
        }
        # Month, day, hour, minute, second, in the uppermost bits (8.4.3.2).
        assert id >> 38 == 11 << 22 | 20 << 17 | 10 << 12 | 0 << 6 | 30
        report = tables.report(
            version,
            id,
            "DELIVRD",
            "13800138000",
            submitted="2611201000",
            done="2611201000",
            smsc=id & 0xFFFFFFFF,
        )
        assert await provider.hear() == tables.deliver(
            version,
            1,
            msg_id=id,
            sender="13800138000",
            content=report,
            msg_fmt=0,
            report=1,
        )


async def test_what_can_not_be_written_down_is_not_answered() -> None:
    """The ledger is on a full disk: first the line, then the answer."""
    async with dialled(gateway(ledger=Path("/dev/full"))) as [provider]:
        await provider.login(V2)
        provider.say(
            tables.submit(V2, 7, number="13800138000", msg_fmt=8, content=b"\0x")
        )
        assert await provider.hear() == b""


@BOTH
async def test_a_reply_is_written_down_when_it_is_taken(
    version: int, tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    playing = gateway(ledger=path)
    async with dialled(playing) as [provider]:
        await provider.login(version)
        playing.say("901234", "13900000001", "10657", "退订")
        brought = await provider.hear()
        assert path.read_text() == ""
        id = int.from_bytes(brought[12:20])
        provider.say(tables.deliver_resp(version, 1, id))
        await until(path.read_text)
        line = json.loads(path.read_text())
        assert (line["kind"], line["from"], line["text"]) == (
            "mo",
            "13900000001",
            "退订",
        )


@BOTH
async def test_a_delivery_that_is_refused_does_not_come_again(version: int) -> None:
    """Any Result but 0 is the end of it; only silence brings it again."""
    playing = gateway(Behaviour(deliver_again_after=0.05))
    async with dialled(playing) as [provider]:
        await provider.login(version)
        playing.say("901234", "13900000001", "10657", "退订")
        await provider.hear()
        provider.say(tables.deliver_resp(version, 1, 0, 9))
        await until(lambda: playing.counts.given_up == 1)
        assert playing.stats()["to_bring"] == 0


@BOTH
async def test_other_operations_are_answered_politely(version: int) -> None:
    status = 1 if version == V2 else 4
    async with dialled(gateway()) as [provider]:
        await provider.login(version)
        provider.say(pdu(8, 2))
        assert await provider.hear() == pdu(0x80000008, 2, b"\0")
        provider.say(pdu(7, 3, bytes(8)))
        assert await provider.hear() == pdu(0x80000007, 3, (1).to_bytes(status))
        provider.say(pdu(6, 4, b"20261120" + bytes(19)))
        assert (await provider.hear())[:20] == pdu(0x80000006, 4, bytes(51))[
            :12
        ] + b"20261120"
        provider.say(pdu(2, 5))
        assert await provider.hear() == pdu(0x80000002, 5)
        assert await provider.hear() == b""


async def test_a_submit_before_a_login_is_refused() -> None:
    async with dialled(gateway()) as [provider]:
        provider.say(tables.submit(V2, 7, number="13800138000", msg_fmt=8, content=b""))
        assert await provider.hear() == tables.submit_resp(V2, 7, 0, 1)


@pytest.mark.parametrize("length", [0, 2, 11, 65_537, 0xFFFF_FFFF])
async def test_s_48_a_length_that_can_not_be_ends_one_connection(length: int) -> None:
    """S-48, H-9: the other goes on."""
    async with dialled(gateway(), 2) as [bad, good]:
        await good.login(V3)
        bad.say(length.to_bytes(4) + bytes(20))
        assert await bad.hear() == b""
        good.say(pdu(8, 2))
        assert await good.hear() == pdu(0x80000008, 2, b"\0")


async def test_s_48_a_thousand_wrong_secrets_do_not_keep_anybody_out() -> None:
    async with dialled(gateway(), 2) as [bad, good]:
        for _ in range(1000):
            bad.say(connect(V2, secret="guess"))
        for _ in range(1000):
            assert (await bad.hear())[12] == 3
        assert (await good.login(V2))[12] == 0


@pytest.mark.parametrize("highest", [Version.V20, Version.V30])
async def test_it_says_which_version_is_too_high(highest: Version) -> None:
    playing = Ismg(version=highest)
    async with dialled(playing) as [provider]:
        provider.say(connect(V3))
        said = await provider.hear()
        assert len(said) == (30 if highest is Version.V20 else 33)
        assert said[-1] == highest


@pytest.mark.slow
async def test_it_runs_as_a_process_and_obeys(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "adapters.cmpp.simulator", "--version", "20"),
        *("--ledger", str(path), "--account", "901234:s3cret", "--refuse-part", "2"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            first = (await process.stdout.readline()).decode()
            assert first.startswith("listening on 127.0.0.1:")
            port = int(first.rpartition(":")[2])
            provider = Provider(*await asyncio.open_connection("127.0.0.1", port))
            assert (await provider.login(V2))[12] == 0
            submit = tables.submit(
                V2, 2, number="13800138000", msg_fmt=8, content=b"\0x"
            )
            for command, result in (
                ("set refuse_share 1", 13),
                ("set refuse_status 8", 8),
                ("set refuse_share 0", 0),
            ):
                process.stdin.write(command.encode() + b"\n")
                assert await process.stdout.readline() == b"ok\n"
                provider.say(submit)
                assert (await provider.hear())[20] == result
            process.stdin.write(b"set mood bad\nstats\n")
            answer = await process.stdout.readline()
            assert answer == b"error there is no setting mood\n"
            stats = json.loads(await process.stdout.readline())
            assert (stats["accepted"], stats["refused"]) == (1, 2)
            # A throttled one comes again: it is no refusal.
            told = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
            assert told == ["refused", "mt"]
            provider.leave()
            process.stdin.write(b"stop\n")
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
