"""What the benchmarks over SMPP have in common: texts, an account, the centre."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import uvloop
from pydantic import SecretStr

from adapters.smpp.codec import SmppCodec
from adapters.smpp.settings import Settings
from benchmarks.harness import bare_smpp
from benchmarks.harness.gateway import section
from benchmarks.harness.processes import Program, python
from gateway.clock import SystemClock
from gateway.contract import (
    Address,
    AddressKind,
    ChannelContext,
    MessageKind,
    OutboundMessage,
)

PASSWORD = "bench"
WARM_SECONDS = 3.0  # a sender begins slowly after its start
WINDOW = bare_smpp.WINDOW
# Sixty Chinese characters with the recipient's own: one segment of UCS-2.
TEXT = (
    "{{姓名}}同志您好，{{党组织}}定于本周五下午两点在中心三楼会议室"
    "召开组织生活会，请带学习笔记参加，能来请回复1"
)
TEXTS: Mapping[str, str] = {"default": TEXT}
_DIFFERENT = 1000  # messages built for the bare loop


@contextmanager
def centre(*options: str) -> Iterator[Program]:
    """The simulated centre; it sends a receipt for every message."""
    with python("-m", "adapters.smpp.simulator", *options) as program:
        yield program


def account(
    name: str,
    folder: Path,
    address: tuple[str, int],
    connections: int = 1,
    share: int = 100,
) -> str:
    """The section of one channel, each of its connections with the window."""
    secret = folder / "password"
    secret.write_text(PASSWORD, "utf-8")
    host, port = address
    return section(
        name,
        adapter="smpp",
        rate_per_second=1_000_000,
        host=host,
        port=port,
        system_id=name,
        password=f"file:{secret}",
        connection_window=WINDOW,
        connections=connections,
        share=share,
    )


def bare(address: tuple[str, int], messages: int) -> float:
    """Messages a second of a bare session against the same centre."""
    settings = Settings.model_validate(
        {
            "host": address[0],
            "port": address[1],
            "system_id": "bare",
            "password": SecretStr(PASSWORD),
        }
    )
    codec = SmppCodec(settings, _context())
    bodies = [codec.bodies(_message(number))[0] for number in range(_DIFFERENT)]
    login = codec.login(1)
    return uvloop.run(bare_smpp.rate(address, login, bodies, messages))


def _message(number: int) -> OutboundMessage:
    text = TEXT.replace("{{姓名}}", f"党员{number}")
    return OutboundMessage(
        id=str(number),
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, f"+86{13800000000 + number}"),
        text=text.replace("{{党组织}}", "清禾县第三党支部"),
    )


def _context() -> ChannelContext:
    return ChannelContext(
        name="bare",
        clock=SystemClock(),
        timezone=ZoneInfo("Asia/Shanghai"),
        data_dir=Path("unused"),
        public_url="",
        secret=lambda purpose: purpose.encode().ljust(32, b"."),
    )


async def warm() -> None:
    await asyncio.sleep(WARM_SECONDS)
