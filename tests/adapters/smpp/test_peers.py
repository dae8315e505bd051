"""Peers that nobody here wrote: servers for our client, clients for our centre."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import smpp34
import smpplib.client
import smpplib.exceptions
import smpplib.gsm
from pydantic import SecretStr

from adapters.smpp.simulator import Behaviour
from gateway.contract import (
    Accepted,
    ChannelTrouble,
    DeliveryReceipt,
    InboundMessage,
    ReceiptState,
)
from gateway.errors import PermanentFailure, TransientFailure
from tests.adapters.smpp.conftest import Talk, talking
from tests.labs.carrier import until
from tests.labs.smpp_lab import PASSWORD, SYSTEM_ID, SmppLab, joined, message

PEERS = Path(__file__).parents[2] / "peers"
NODE = Path(__file__).parents[3] / ".venv" / "bin" / "node"
LONG = "党员活动😀" * 40


# --- the npm package smpp as the centre


class NodeCentre:
    def __init__(self, port: int) -> None:
        self.port = port
        self.took: list[dict[str, Any]] = []
        self.answers: list[dict[str, int]] = []
        self.bound: list[str] = []

    async def read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            found = json.loads(line)
            if "bound" in found:
                self.bound.append(found["bound"])
            else:
                (self.took if "to" in found else self.answers).append(found)


@asynccontextmanager
async def node_centre(*options: str) -> AsyncIterator[NodeCentre]:
    node = str(NODE) if NODE.exists() else shutil.which("node")
    if node is None or not (PEERS / "node_modules" / "smpp").exists():
        pytest.fail("the npm peers are missing: run `make test`")
    running = await asyncio.create_subprocess_exec(
        *(node, "smsc.js", *options),
        cwd=PEERS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert running.stdout
    centre = NodeCentre(int(await running.stdout.readline()))
    reading = asyncio.create_task(centre.read(running.stdout))
    try:
        yield centre
    finally:
        # Not a signal: `node` may be a wrapper around the real one.
        assert running.stdin
        running.stdin.close()
        await running.wait()
        await reading


def by_number(talk: Talk) -> dict[str, DeliveryReceipt]:
    receipts = [e for e in talk.events if isinstance(e, DeliveryReceipt)]
    return {e.address.value: e for e in receipts if e.address}


@pytest.mark.slow
async def test_npm_server_takes_reports_and_answers(tmp_path: Path) -> None:
    async with node_centre() as centre, talking(centre.port, tmp_path) as talk:
        asked = [message(0, "回复我"), message(1, "Hello €"), message(9, "no")]
        first, second, refused = await talk.stream(asked)
        assert first == Accepted(("1",))
        assert second == Accepted(("2",))
        assert isinstance(refused, PermanentFailure)
        assert refused.code == "ESME_RINVDSTADR"
        await until(lambda: len(talk.events) == 3 and len(centre.answers) == 3)
        assert {tuple(a.values()) for a in centre.answers} == {(0,)}
        assert [t["text"] for t in centre.took] == ["回复我", "Hello €"]
        found = by_number(talk)["+8613800138000"]
        assert (found.provider_id, found.state) == ("1", ReceiptState.DELIVERED)
        [said] = [e for e in talk.events if isinstance(e, InboundMessage)]
        assert (said.text, said.sender.value) == ("参加😀", "+8613800138000")


@pytest.mark.slow
async def test_npm_server_joins_our_parts_by_their_headers(tmp_path: Path) -> None:
    async with node_centre() as centre, talking(centre.port, tmp_path) as talk:
        [outcome] = await talk.stream([message(0, LONG)])
        assert isinstance(outcome, Accepted)
        await until(lambda: len(centre.took) == len(outcome.provider_ids))
        assert "".join(part["text"] for part in centre.took) == LONG
        total = len(centre.took)
        places = [part["udh"][-2:] for part in centre.took]
        assert places == [[total, number + 1] for number in range(total)]


@pytest.mark.slow
async def test_npm_server_reads_our_gsm7(tmp_path: Path) -> None:
    async with (
        node_centre() as centre,
        talking(centre.port, tmp_path, text_coding="auto") as talk,
    ):
        await talk.stream([message(0, "Hello [€] {@_}~ ÆØÅ")])
        await until(lambda: centre.took)
        assert centre.took[0]["coding"] == 0
        assert centre.took[0]["text"] == "Hello [€] {@_}~ ÆØÅ"


@pytest.mark.slow
async def test_npm_server_refuses_a_wrong_password(tmp_path: Path) -> None:
    async with (
        node_centre() as centre,
        talking(
            centre.port, tmp_path, connect=False, password=SecretStr("wrong")
        ) as talk,
    ):
        await until(lambda: talk.events)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:ESME_RINVPASWD"


@pytest.mark.slow
async def test_npm_server_with_separate_binds(tmp_path: Path) -> None:
    async with (
        node_centre("separate") as centre,
        talking(centre.port, tmp_path, bind="separate", connections=2) as talk,
    ):
        await until(lambda: len(centre.bound) == 3)
        assert sorted(centre.bound) == ["receiver", "transmitter", "transmitter"]
        asked = [message(0, "回复我"), *(message(10 * n) for n in range(1, 50))]
        outcomes = await talk.stream(asked)
        assert all(isinstance(one, Accepted) for one in outcomes)
        await until(lambda: len(talk.events) == 51 and len(centre.answers) == 51)
        assert {tuple(a.values()) for a in centre.answers} == {(0,)}
        said = [e for e in talk.events if isinstance(e, InboundMessage)]
        assert [one.text for one in said] == ["参加😀"]
        assert len(by_number(talk)) == 50


@pytest.mark.slow
async def test_npm_server_of_separate_binds_refuses_a_transceiver(
    tmp_path: Path,
) -> None:
    async with (
        node_centre("separate") as centre,
        talking(centre.port, tmp_path, connect=False) as talk,
    ):
        await until(lambda: talk.events)
        [trouble] = talk.events
        assert isinstance(trouble, ChannelTrouble)
        assert trouble.code == "login_refused:ESME_RBINDFAIL"
        assert not centre.bound


# --- smpp34 as the centre


@asynccontextmanager
async def smpp34_centre() -> AsyncIterator[tuple[smpp34.Server, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = smpp34.Server("127.0.0.1", port)
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop()


async def test_smpp34_server_accepts_refuses_and_pushes(tmp_path: Path) -> None:
    async with smpp34_centre() as (server, port), talking(port, tmp_path) as talk:
        session = await server.next()
        assert isinstance(session, smpp34.Esme)
        assert session.system_id == SYSTEM_ID
        talk.account.submit([message(0, "您好"), message(1), message(2)])
        for _ in range(3):
            submit = await server.next()
            assert isinstance(submit, smpp34.SubmitSmEvent)
            match submit.destination_addr[-1]:
                case "0":
                    submit.accept("id-1")
                case "1":
                    submit.reject(smpp34.ESME_RINVDSTADR)
                case "2":
                    submit.reject(smpp34.ESME_RTHROTTLED)
        await until(lambda: len(talk.told) == 3)
        first, second, third = (talk.told[f"message-{n}"][0] for n in range(3))
        assert first == Accepted(("id-1",))
        assert isinstance(second, PermanentFailure)
        assert isinstance(third, TransientFailure)
        assert third.throttled
        text = (
            "id:id-1 sub:001 dlvrd:001 submit date:2611210930 "
            "done date:2611210931 stat:DELIVRD err:000 text:"
        )
        number = "8613800138000"
        for pushed in (
            session.deliver_sm(
                "10690000", text.encode(), source_addr=number, esm_class=4
            ),
            session.deliver_sm(
                "10690000",
                "参加".encode("utf-16-be"),
                source_addr=number,
                data_coding=8,
            ),
        ):
            answer = await pushed
            assert answer.is_success
        # Both are on their way at once: either may come first.
        receipt, said = sorted(
            talk.events, key=lambda event: isinstance(event, InboundMessage)
        )
        assert isinstance(receipt, DeliveryReceipt)
        assert receipt.provider_id == "id-1"
        assert isinstance(said, InboundMessage)
        assert said.text == "参加"


async def test_smpp34_server_with_separate_binds(tmp_path: Path) -> None:
    async with (
        smpp34_centre() as (server, port),
        talking(port, tmp_path, bind="separate") as talk,
    ):
        sessions = [await server.next(), await server.next()]
        assert all(isinstance(one, smpp34.Esme) for one in sessions)
        [receiver] = [one for one in sessions if one.can_receive]
        talk.account.submit([message(0)])
        submit = await server.next()
        assert isinstance(submit, smpp34.SubmitSmEvent)
        submit.accept("id-1")
        await until(lambda: talk.told)
        assert talk.told["message-0"] == [Accepted(("id-1",))]
        words = "参加".encode("utf-16-be")
        pushed = receiver.deliver_sm(
            "10690000", words, source_addr="8613800138000", data_coding=8
        )
        await until(lambda: talk.events)
        # smpp34 1.5.0 overlooks every answer of a receiver, and gives up after 30 s.
        pushed.cancel()
        [said] = talk.events
        assert isinstance(said, InboundMessage)
        assert said.text == "参加"


# --- foreign clients of our centre


def smpplib_talk(port: int) -> list[Any]:
    """Binds, sends one long text, hears of it, unbinds. Blocking."""
    client = smpplib.client.Client("127.0.0.1", port, allow_unknown_opt_params=True)
    heard: list[Any] = []
    client.set_message_sent_handler(lambda pdu: heard.append(("sent", pdu.message_id)))
    client.set_message_received_handler(
        lambda pdu: heard.append(("came", pdu.short_message))
    )
    client.connect()
    client.bind_transceiver(system_id=SYSTEM_ID, password=PASSWORD)
    parts, coding, esm_class = smpplib.gsm.make_parts("党" * 100)
    for part in parts:
        client.send_message(
            source_addr="10690000",
            destination_addr="8613800138000",
            short_message=part,
            data_coding=coding,
            esm_class=esm_class,
            registered_delivery=True,
        )
    while len(heard) < 2 * len(parts):
        client.read_once()
    client.unbind()
    client.disconnect()
    return heard


@pytest.mark.slow
async def test_smpplib_client_is_served(lab: SmppLab) -> None:
    heard = await asyncio.to_thread(smpplib_talk, lab.port)
    sent = [id for kind, id in heard if kind == "sent"]
    came = [text for kind, text in heard if kind == "came"]
    assert sent == [b"0000000001", b"0000000002"]
    assert all(b"stat:DELIVRD" in text for text in came)
    assert lab.centre.taken is not None
    assert joined(lab.centre.taken) == {"8613800138000": "党" * 100}
    assert lab.centre.counts.receipts == 2


def smpplib_pair(port: int) -> list[Any]:
    """Sends by a transmitter, hears by a receiver. Blocking."""
    ears, mouth = (
        smpplib.client.Client("127.0.0.1", port, allow_unknown_opt_params=True)
        for _ in range(2)
    )
    heard: list[Any] = []
    ears.set_message_received_handler(lambda pdu: heard.append(pdu.short_message))
    mouth.set_message_sent_handler(lambda pdu: heard.append(pdu.message_id))
    for client in (ears, mouth):
        client.connect()
    ears.bind_receiver(system_id=SYSTEM_ID, password=PASSWORD)
    mouth.bind_transmitter(system_id=SYSTEM_ID, password=PASSWORD)
    text = {
        "source_addr": "10690000",
        "destination_addr": "8613800138000",
        "short_message": b"hello",
        "registered_delivery": True,
    }
    mouth.send_message(**text)
    mouth.read_once()
    ears.read_once()
    for client in (ears, mouth):
        client.unbind()
        client.disconnect()
    return heard


@pytest.mark.slow
async def test_smpplib_clients_of_separate_binds_are_served(lab: SmppLab) -> None:
    lab.centre.behave(Behaviour(transceivers=False))
    sent, came = await asyncio.to_thread(smpplib_pair, lab.port)
    assert sent == b"0000000001"
    assert b"stat:DELIVRD" in came
    assert lab.centre.counts.receipts == 1


async def test_smpp34_client_is_served(lab: SmppLab) -> None:
    client = smpp34.Client("127.0.0.1", lab.port, SYSTEM_ID, PASSWORD)
    session = await client.connect()
    send = partial(session.submit_sm, source_addr="10690000", registered_delivery=1)
    answers = [
        await send(f"86138001380{n:02}", "您好".encode("utf-16-be"), data_coding=8)
        for n in range(20)
    ]
    assert [a.message_id for a in answers] == [f"{n:010}" for n in range(1, 21)]
    came = [await session.next() for _ in range(20)]
    assert all(isinstance(event, smpp34.DeliverSmEvent) for event in came)
    await until(lambda: lab.centre.counts.receipts == 20)
    lab.centre.behave(Behaviour(refuse_share=1.0, refuse_status=0x58))
    refused = await send("8613800138000", b"x")
    assert refused.command_status == smpp34.ESME_RTHROTTLED
    await session.unbind()
    await client.stop()


async def test_a_foreign_client_with_a_wrong_password_is_turned_away(
    lab: SmppLab,
) -> None:
    def bind() -> None:
        client = smpplib.client.Client(
            "127.0.0.1", lab.port, allow_unknown_opt_params=True
        )
        client.connect()
        try:
            client.bind_transceiver(system_id=SYSTEM_ID, password="wrong")
        finally:
            client.disconnect()

    with pytest.raises(smpplib.exceptions.PDUError, match="Invalid Password"):
        await asyncio.to_thread(bind)
    assert lab.centre.counts.binds_refused == 1
