"""The peers of a drill: each a channel's settings, and what it wrote down."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.contract import AddressKind
from gateway.drill.ledgers import Acknowledged, Arrived, Fact, Refused, lines
from gateway.drill.processes import share_words, sink

WINDOW = 32
SINKS = ("smtp", "sandbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How badly the peers behave; shares are of 1."""

    delay: float = 0.06  # seconds at most, before an answer
    refuse: float = 0.01
    drop: float = 0.002  # answers that never come although the message was taken
    early: float = 0.1  # receipts that come before the answer
    inbound: float = 50.0  # messages a second that people write
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One channel of the drill. `section` is its part of settings.toml."""

    channel: str
    kind: AddressKind
    section: str
    facts: Callable[[], Sequence[Fact]]
    ledger: Path
    receipts: bool


@asynccontextmanager
async def peers(
    folder: Path, names: Sequence[str], manners: Manners
) -> AsyncIterator[Sequence[Peer]]:
    """Start the named ones; they end with the context."""
    made = {"smtp": _smtp, "sandbox": _sandbox}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(made[name](folder, manners))
            for name in names
        ]


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
    async with started as (host, port):
        yield Peer(
            channel="mail",
            kind=AddressKind.EMAIL,
            section=_MAIL.format(host=host, port=port, window=WINDOW),
            facts=lambda: mail_facts(ledger, "mail"),
            ledger=ledger,
            receipts=False,
        )


_MAIL = """
[channels.mail]
adapter = "email"
address = "service@example.org"
relay_host = "{host}"
relay_port = {port}
relay_tls = "none"
connections = {window}
window = {window}
rate_per_second = 5000
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
async def _sandbox(folder: Path, manners: Manners) -> AsyncIterator[Peer]:
    """The provider in the gateway's own process: its ledger outlives each kill."""
    ledger = folder / "data" / "sandbox" / "ledger.jsonl"
    yield Peer(
        channel="sandbox",
        kind=AddressKind.QQ,
        section=_SANDBOX.format(window=WINDOW),
        facts=lambda: sandbox_facts(ledger, "sandbox"),
        ledger=ledger,
        receipts=False,
    )


_SANDBOX = """
[channels.sandbox]
adapter = "sandbox"
medium = "qq"
window = {window}
rate_per_second = 5000
"""


def sandbox_facts(ledger: Path, channel: str) -> Sequence[Fact]:
    found: list[Fact] = []
    for line in lines(ledger):
        match line.get("what"):
            case "arrived":
                found.append(Arrived(channel, line["to"]["value"], _seconds(line)))
            case "refused":
                found.append(Refused(channel, line["to"]["value"]))
            case "pushed":
                found.append(Acknowledged(channel, f"said:{line['provider_id']}"))
    return found


def _seconds(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()
