"""The simulated centre as a process: its ledger, its console, its moods."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.smpp import pdu
from adapters.smpp.simulator import Behaviour
from gateway.contract import Accepted, DeliveryReceipt, InboundMessage, ReceiptState
from tests.adapters.smpp.conftest import talking
from tests.labs.carrier import until
from tests.labs.smpp_lab import PASSWORD, SYSTEM_ID, SmppLab, message, opened

PROJECT = Path(__file__).parents[3]


class Process:
    def __init__(self, running: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._running = running

    async def ask(self, line: str) -> str:
        assert self._running.stdin
        self._running.stdin.write(line.encode() + b"\n")
        return await self.answer()

    async def answer(self) -> str:
        assert self._running.stdout
        return (await self._running.stdout.readline()).decode().strip()

    async def stats(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(await self.ask("stats"))
        return found


@asynccontextmanager
async def process(*options: str) -> AsyncIterator[Process]:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.smpp.simulator", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=PROJECT,
    )
    assert running.stdout
    first = (await running.stdout.readline()).decode()
    assert first.startswith("listening on 127.0.0.1:")
    try:
        yield Process(running, int(first.rsplit(":", 1)[1]))
    finally:
        running.terminate()
        await running.communicate()


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


@pytest.mark.slow
async def test_a_process_with_a_ledger_and_a_console(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    account = f"--account={SYSTEM_ID}:{PASSWORD}"
    async with process("--ledger", str(ledger), account) as centre:
        async with talking(centre.port, tmp_path) as talk:
            await talk.stream([message(0, '您好\n"党员"'), message(1, "党" * 80)])
            await until(lambda: len(talk.events) == 3)
            said = await centre.ask(f"say {SYSTEM_ID} 8613900139000 10690000 参加 活动")
            assert said == "ok"
            await until(lambda: len(talk.events) == 4)
            assert await centre.ask("set refuse_share 1") == "ok"
            assert await centre.ask("set refuse_status 0x58") == "ok"
            await talk.stream([message(2)])
        assert (await centre.ask("nonsense")).startswith("error ")
        assert (await centre.ask("set speed 3")).startswith("error ")
        assert (await centre.ask("set receipts perhaps")).startswith("error ")
        stats = await centre.stats()
    assert (stats["accepted"], stats["refused"], stats["replies"]) == (3, 1, 1)
    taken = [line for line in lines(ledger) if line["kind"] == "mt"]
    assert [line["id"] for line in taken] == ["0000000001", "0000000002", "0000000003"]
    assert taken[0]["text"] == '您好\n"党员"'
    assert taken[0]["to"] == "8613800138000"
    assert taken[0]["system_id"] == SYSTEM_ID
    assert [line["part"][1:] for line in taken[1:]] == [[2, 1], [2, 2]]
    [reply] = [line for line in lines(ledger) if line["kind"] == "mo"]
    assert (reply["from"], reply["text"]) == ("8613900139000", "参加 活动")


async def test_the_ledger_is_written_before_the_answer(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    dropped = Behaviour(drop_share=1.0, receipts=False)
    async with (
        opened(tmp_path, dropped, ledger) as lab,
        talking(lab.port, tmp_path) as talk,
    ):
        talk.account.submit([message(n) for n in range(50)])
        await until(lambda: lab.centre.counts.accepted == 50)
        assert len(lines(ledger)) == 50


async def test_the_ledger_names_who_was_refused(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    refusing = Behaviour(refuse_numbers=("8613800138001",))
    async with (
        opened(tmp_path, refusing, ledger) as lab,
        talking(lab.port, tmp_path) as talk,
    ):
        await talk.stream([message(n) for n in range(3)])
        found = [(line["kind"], line["to"]) for line in lines(ledger)]
    assert sorted(found) == [
        ("mt", "8613800138000"),
        ("mt", "8613800138002"),
        ("refused", "8613800138001"),
    ]


async def test_the_ledger_can_be_read_whatever_was_sent(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    odd = b'8"6\x01\\\xff'
    body = b"\0\0\0%b\0\0\0%b\0" % (odd, odd) + bytes(9) + b"\2hi"
    async with opened(tmp_path, ledger=ledger) as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        bind = f"{SYSTEM_ID}\0{PASSWORD}\0".encode() + bytes(5)
        writer.write(pdu.frame(pdu.BIND_TRANSCEIVER, 1, bind))
        writer.write(pdu.frame(pdu.SUBMIT_SM, 2, body))
        await until(lambda: lab.centre.counts.accepted == 1)
        writer.close()
        await reader.read()
    [line] = lines(ledger)
    assert line["to"] == line["from"] == odd.decode("latin-1")


async def test_the_dates_of_receipts_are_those_of_the_channel(lab: SmppLab) -> None:
    async with talking(lab.port, lab.data_dir) as talk:
        before = datetime.now(UTC) - timedelta(seconds=2)
        await talk.stream([message(0)])
        await until(lambda: len(talk.events) == 1)
        [receipt] = talk.events
        assert isinstance(receipt, DeliveryReceipt)
        assert receipt.at is not None
        assert before < receipt.at < datetime.now(UTC) + timedelta(seconds=2)


async def test_moods_of_receipts(lab: SmppLab) -> None:
    """C-2, C-3: repeated, contradicting, intermediate, reordered, withheld, failed"""
    lab.centre.behave(
        Behaviour(
            repeat_share=1.0,
            contradict_share=1.0,
            enroute_share=1.0,
            reorder=True,
            receipt_delay_max=0.05,
            receipt_tlvs=True,
        )
    )
    async with talking(lab.port, lab.data_dir) as talk:
        await talk.stream([message(n) for n in range(20)])
        await until(lambda: len(talk.events) == 80)
        found = [e for e in talk.events if isinstance(e, DeliveryReceipt)]
        assert len({e.key for e in found}) == 60
        assert [e.state for e in found].count(ReceiptState.FAILED) == 20
        lab.centre.behave(Behaviour(withhold_share=1.0))
        await talk.stream([message(n) for n in range(20)])
        assert len(talk.events) == 80
        lab.centre.behave(Behaviour(fail_share=1.0))
        await talk.stream([message(n) for n in range(20)])
        await until(lambda: len(talk.events) == 100)
        last = [e for e in talk.events[80:] if isinstance(e, DeliveryReceipt)]
        assert {(e.state, e.code) for e in last} == {
            (ReceiptState.FAILED, "UNDELIV:001")
        }


async def test_refusals_by_number_and_word(lab: SmppLab) -> None:
    lab.centre.behave(
        Behaviour(refuse_numbers=("8613800138001",), refuse_words=("贷款",))
    )
    async with talking(lab.port, lab.data_dir) as talk:
        asked = [message(0), message(1), message(2, "低息贷款")]
        first, second, third = await talk.stream(asked)
    assert isinstance(first, Accepted)
    assert not isinstance(second, Accepted)
    assert not isinstance(third, Accepted)


async def test_ids_begin_again_after_a_wrap(lab: SmppLab) -> None:
    """C-8"""
    lab.centre.behave(Behaviour(id_wrap=10, receipts=False))
    async with talking(lab.port, lab.data_dir) as talk:
        found = await talk.stream([message(n) for n in range(30)])
    ids = [o.provider_ids[0] for o in found if isinstance(o, Accepted)]
    assert len(set(ids)) == 10


async def test_what_was_not_acknowledged_is_brought_after_the_next_bind(
    lab: SmppLab,
) -> None:
    lab.centre.say(SYSTEM_ID, "8613800138000", "10690000", "早")
    async with talking(lab.port, lab.data_dir) as talk:
        await until(lambda: talk.events)
        [said] = talk.events
        assert isinstance(said, InboundMessage)
        assert said.text == "早"
