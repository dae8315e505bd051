"""The peers of a drill: each a channel's settings, and what it wrote down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.contract import AddressKind
from gateway.drill.chance import falls
from gateway.drill.ledgers import Acknowledged, Arrived, Fact, Refused, lines
from gateway.drill.processes import Listening, share_words, sink

WINDOW = 32
CONNECTIONS = 16  # to the mail server
MAILS_IN_HAND = 20  # of each connection, as the mail adapter keeps them
MOST_REFUSED = 5000  # numbers that fit into one argument of a command
# People's words, and a number behind: each text of all channels is another.
WRITTEN = "请问党组织关系怎么转？"
WRITTEN_TO_CMPP = "请问党费怎么补交？"
SINKS = ("smpp", "cmpp", "smtp", "sandbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How badly the peers behave, to so many people; shares are of 1."""

    people: int

    delay: float = 0.06  # seconds at most, before an answer
    refuse: float = 0.01
    drop: float = 0.002  # answers that never come although the message was taken
    early: float = 0.1  # receipts that come before the answer
    receipt_delay: float = 0.5  # seconds at most, of the others
    odd: float = 0.02  # receipts repeated, followed by what is no end; half as many
    # contradicted, telling a failure, or withheld (C-2, C-3)
    inbound: float = 25.0  # messages a second that people write on each channel
    rate: int = 400  # messages a second of each channel: kills must find some left
    seed: int = 1

    def refuses(self, address: str) -> bool:
        return falls(self.refuse, self.seed, "refuse", address)


def address(kind: AddressKind, number: int) -> str:
    """Invented: numbers that nobody has, mail that goes nowhere."""
    return {
        AddressKind.PHONE: f"+86199{number:08d}",
        AddressKind.EMAIL: f"p{number}@example.org",
    }.get(kind, f"{900_000_000 + number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One channel of the drill. `section` is its part of settings.toml."""

    channel: str
    kind: AddressKind
    section: str
    facts: Callable[[], Sequence[Fact]]
    ledger: Path
    mark: bytes  # in each line of the ledger that says that a message arrived
    receipts: bool
    window: int  # messages that may be in doubt after a kill
    calm: Callable[[], Awaitable[None]] | None = None  # people stop writing


@asynccontextmanager
async def peers(
    folder: Path, names: Sequence[str], manners: Manners
) -> AsyncIterator[Sequence[Peer]]:
    """Start the named ones, side by side; they end with the context.

    Raises NotStarted.
    """
    made = {"smpp": _smpp, "cmpp": _cmpp, "smtp": _smtp, "sandbox": _sandbox}
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.TaskGroup() as group:
                starting = [
                    group.create_task(
                        stack.enter_async_context(made[name](folder, manners))
                    )
                    for name in names
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        yield [one.result() for one in starting]


@asynccontextmanager
async def _smtp(folder: Path, manners: Manners) -> AsyncIterator[Peer]:
    ledger = folder / "smtp.jsonl"
    words = share_words(
        delay=manners.delay,
        refuse=manners.refuse,
        drop=manners.drop,
        seed=manners.seed,
    )
    started = sink(
        "gateway.drill.mail_sink",
        *("--ledger", str(ledger), *words),
        log=folder / "smtp.log",
    )
    async with started as peer:
        yield Peer(
            channel="mail",
            kind=AddressKind.EMAIL,
            section=_MAIL.format(
                host=peer.host,
                port=peer.port,
                connections=CONNECTIONS,
                rate=manners.rate,
            ),
            window=CONNECTIONS * MAILS_IN_HAND,
            facts=lambda: mail_facts(ledger, "mail"),
            ledger=ledger,
            mark=b'"what": "arrived"',
            receipts=False,
        )


_MAIL = """
[channels.mail]
adapter = "email"
address = "service@example.org"
relay_host = "{host}"
relay_port = {port}
relay_tls = "none"
connections = {connections}
rate_per_second = {rate}
timeout_seconds = 5
"""


def mail_facts(ledger: Path, channel: str) -> Sequence[Fact]:
    """What mail_sink wrote down."""
    return [
        Arrived(channel, line["to"], line["at"], line["told"])
        if line["what"] == "arrived"
        else Refused(channel, line["to"])
        for line in lines(ledger)
    ]


@asynccontextmanager
async def _smpp(folder: Path, manners: Manners) -> AsyncIterator[Peer]:
    """The simulated SMS centre, whose answers name messages in hexadecimal and its
    receipts in decimal (C-4); and members' replies."""
    ledger, password = folder / "smpp.jsonl", folder / "smpp.password"
    password.write_text("drill", encoding="ascii")
    words = (
        *_carrier_words(ledger, manners, WRITTEN, "+"),
        *("--enroute-share", str(manners.odd), "--message-ids", "hex_then_decimal"),
    )
    module = "adapters.smpp.simulator"
    async with sink(module, *words, log=folder / "smpp.log") as peer:
        section = _SMPP.format(
            host=peer.host,
            port=peer.port,
            window=WINDOW,
            password=password,
            rate=manners.rate,
        )
        yield _carrier("smpp", section, peer, ledger, "+")


_SMPP = """
[channels.smpp]
adapter = "smpp"
host = "{host}"
port = {port}
system_id = "drill"
password = "file:{password}"
source = "10690000"
message_ids = "hex_then_decimal"
connection_window = {window}
answer_within_seconds = 5
rate_per_second = {rate}
share = 50
"""


@asynccontextmanager
async def _cmpp(folder: Path, manners: Manners) -> AsyncIterator[Peer]:
    """The simulated carrier's gateway. Its ids are those of the SMS centre (C-5), and
    begin again after so many that few are on their way (C-8)."""
    ledger, secret = folder / "cmpp.jsonl", folder / "cmpp.secret"
    secret.write_text("drill", encoding="ascii")
    words = (
        *_carrier_words(ledger, manners, WRITTEN_TO_CMPP, "+86"),
        *("--accepted-share", str(manners.odd), "--id-wrap", str(2 * manners.people)),
        *("--account", "901234:drill"),
        # Brought again to a gateway that was killed before it answered.
        *("--deliver-again-after", "5", "--deliver-times", "1000"),
    )
    module = "adapters.cmpp.simulator"
    async with sink(module, *words, log=folder / "cmpp.log") as peer:
        section = _CMPP.format(
            host=peer.host,
            port=peer.port,
            window=WINDOW,
            secret=secret,
            rate=manners.rate,
        )
        yield _carrier("cmpp", section, peer, ledger, "+86")


_CMPP = """
[channels.cmpp]
adapter = "cmpp"
host = "{host}"
port = {port}
version = "3.0"
sp_id = "901234"
secret = "file:{secret}"
service_number = "10690001"
connection_window = {window}
answer_within_seconds = 5
rate_per_second = {rate}
share = 50
"""


def _carrier(
    channel: str, section: str, peer: Listening, ledger: Path, before: str
) -> Peer:
    """One of both simulators. `before` is what its numbers leave out."""
    return Peer(
        channel=channel,
        kind=AddressKind.PHONE,
        section=section,
        window=WINDOW,
        calm=lambda: peer.say("set mo_rate 0"),
        facts=lambda: carrier_facts(ledger, channel, before),
        ledger=ledger,
        mark=b'"kind":"mt"',
        receipts=True,
    )


def _carrier_words(
    ledger: Path, manners: Manners, written: str, before: str
) -> Sequence[str]:
    """Options that both simulators have. `before` is what their numbers leave out."""
    refused = [
        one.removeprefix(before)
        for number in range(1, manners.people + 1)
        if manners.refuses(one := address(AddressKind.PHONE, number))
    ]
    half = str(manners.odd / 2)
    return (
        *("--ledger", str(ledger), "--seed", str(manners.seed)),
        *("--answer-delay-max", str(manners.delay)),
        *("--drop-share", str(manners.drop), "--early-share", str(manners.early)),
        *("--receipt-delay-max", str(manners.receipt_delay), "--reorder", "on"),
        *("--repeat-share", str(manners.odd), "--contradict-share", half),
        *("--fail-share", half, "--withhold-share", half),
        *("--mo-rate", str(manners.inbound), "--mo-text", written),
        *("--refuse-numbers", ",".join(refused[:MOST_REFUSED])),
    )


def carrier_facts(ledger: Path, channel: str, before: str) -> Sequence[Fact]:
    """A message of several parts has arrived with its first one."""
    found: list[Fact] = []
    for line in lines(ledger):
        if line["kind"] == "mo":
            found.append(Acknowledged(channel, line["text"]))
        elif line.get("part", (0, 1, 1))[2] != 1:
            continue
        elif line["kind"] == "refused":
            found.append(Refused(channel, before + line["to"]))
        else:
            found.append(Arrived(channel, before + line["to"], line["at"]))
    return found


@asynccontextmanager
async def _sandbox(folder: Path, manners: Manners) -> AsyncIterator[Peer]:
    """The provider in the gateway's own process: its ledger outlives each kill."""
    ledger = folder / "data" / "sandbox" / "ledger.jsonl"
    yield Peer(
        channel="sandbox",
        kind=AddressKind.QQ,
        section=_SANDBOX.format(window=WINDOW, rate=manners.rate),
        window=WINDOW,
        facts=lambda: sandbox_facts(ledger, "sandbox"),
        ledger=ledger,
        mark=b'"what":"arrived"',
        receipts=False,
    )


_SANDBOX = """
[channels.sandbox]
adapter = "sandbox"
medium = "qq"
window = {window}
rate_per_second = {rate}
"""


def sandbox_facts(ledger: Path, channel: str) -> Sequence[Fact]:
    found: list[Fact] = []
    said: dict[str, str] = {}
    for line in lines(ledger):
        match line.get("what"):
            case "said":
                said[line["provider_id"]] = line["text"]
            case "arrived":
                found.append(Arrived(channel, line["to"]["value"], _seconds(line)))
            case "refused":
                found.append(Refused(channel, line["to"]["value"]))
            case "pushed":
                found.append(Acknowledged(channel, said[line["provider_id"]]))
    return found


def _seconds(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()
