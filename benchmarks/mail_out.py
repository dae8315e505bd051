"""One 2 KB mail to each recipient over pooled connections to a recording SMTP sink.

Personalised, journalled and settled by the gateway on SQLite with synchronous=FULL.
The limit is a bare aiosmtplib loop over as many connections, which sends mails of the
same size that were built beforehand to the same sink.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiosmtplib
import uvloop

from adapters.mail.addresses import Mailbox
from adapters.mail.compose import Composer
from benchmarks.harness import broadcast
from benchmarks.harness.gateway import Site, section
from benchmarks.harness.model import Measurement, Target
from benchmarks.harness.processes import Program, folder, python
from gateway.contract import Address, AddressKind, MessageKind, OutboundMessage

TARGET = Target(ratio_at_least=0.7)
PEOPLE = 50_000
BARE_MAILS = 30_000
CONNECTIONS = 5
WARM_SECONDS = 3.0  # a sender begins slowly after its start
RUN_SECONDS = 600.0
ADDRESS = "service@centre.example"
SUBJECT = "{{党组织}}关于召开主题党日活动的通知"
TEXT = "{{姓名}}同志：\n\n" + "\n".join(
    f"{n}、请于本周五下午两点到党员活动中心三楼会议室参加主题党日，带好学习笔记和党员证。"
    for n in range(1, 9)
)


def measure(scale: float) -> Measurement:
    people, bare = max(50, int(PEOPLE * scale)), max(50, int(BARE_MAILS * scale))
    with folder() as place:
        ledger = place / "ledger"
        with python("-m", "benchmarks.sinks.smtp", "--ledger", ledger) as sink:
            limit = uvloop.run(_bare(sink, bare))
            ledger.write_text("")
            return asyncio.run(_product(place, sink, people, limit, ledger))


async def _bare(sink: Program, mails: int) -> float:
    """Mails a second."""
    host, port = sink.address
    content = _content()

    async def send(count: int) -> None:
        client = aiosmtplib.SMTP(
            hostname=host, port=port, use_tls=False, start_tls=False
        )
        async with client:
            for number in range(count):
                to = f"m{number}@member.example"
                await client.sendmail(ADDRESS, [to], content)

    started = time.perf_counter()
    await asyncio.gather(*(send(mails // CONNECTIONS) for _ in range(CONNECTIONS)))
    return mails // CONNECTIONS * CONNECTIONS / (time.perf_counter() - started)


def _content() -> bytes:
    message = OutboundMessage(
        id="1",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.EMAIL, "m1@member.example"),
        text=TEXT,
        subject=SUBJECT,
        unsubscribe_url="http://127.0.0.1:8080/optout/1/0123456789abcdef",
    )
    box = Mailbox(address=ADDRESS, key=b"k" * 32)
    return Composer(box, "党员服务中心").compose(message, datetime.now(UTC))


async def _product(
    place: Path, sink: Program, people: int, limit: float, ledger: Path
) -> Measurement:
    host, port = sink.address
    mail = section(
        "mail",
        adapter="email",
        rate_per_second=1_000_000,
        address=ADDRESS,
        from_name="党员服务中心",
        relay_host=host,
        relay_port=port,
        relay_tls="none",
        connections=CONNECTIONS,
    )
    site = Site(place, "", mail)
    site.migrate()
    texts = {"default": TEXT, "subject": SUBJECT}
    id = await broadcast.freeze(site.database, "email", ["mail"], people, texts)
    with site.running() as gateway:
        await asyncio.sleep(WARM_SECONDS)
        used = gateway.processor_seconds()
        async with broadcast.reading(site.database) as reader:
            outcome = await broadcast.run(reader, id, RUN_SECONDS)
        used = gateway.processor_seconds() - used
        memory = gateway.peak_memory_mib()
    mails = [one for one in _ledger(ledger) if one[0] != broadcast.WARM["email"]]
    return Measurement(
        figure=outcome.states.get("accepted", 0) / outcome.seconds,
        unit="mails/s",
        limit=limit,
        limit_is="bare aiosmtplib, mails built beforehand",
        notes={
            "bytes a mail": sum(size for _, size in mails) / max(1, len(mails)),
            "lost": people - len({to for to, _ in mails}),
            "doubled": len(mails) - len({to for to, _ in mails}),
            "not accepted": people - outcome.states.get("accepted", 0),
            "processor µs a mail": used / people * 1e6,
            "memory MiB": memory,
        },
    )


def _ledger(file: Path) -> Iterator[tuple[str, int]]:
    """Recipient and size of each mail that the sink took."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            found = json.loads(line)
            yield found["recipients"][0], found["bytes"]
