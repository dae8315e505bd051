"""The whole way through real mail servers: Postfix as relay and door, Dovecot as the
member's mailbox, a refusing server behind Postfix."""

import asyncio
import email
import shutil
import smtplib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.policy import default

import pytest

from adapters.mail import Settings, build
from adapters.mail.adapter import EmailAdapter
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    DeliveryReceipt,
    Event,
    InboundMessage,
    MessageKind,
    OutboundMessage,
    Outcome,
    ReceiptState,
)
from gateway.errors import StorageUnavailable
from tests.labs.dovecot import Dovecot, dovecot
from tests.labs.mail_lab import OURS, context
from tests.labs.postfix import Postfix, postfix
from tests.labs.smtp_sink import Sink, smtp_sink

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("postfix") and shutil.which("dovecot")),
        reason="needs postfix and dovecot",
    ),
]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if await asyncio.to_thread(done):
                return
            await asyncio.sleep(0.05)


@dataclass
class Net:
    """centre.example is ours, member.example Dovecot's, gone.example the sink's."""

    adapter: EmailAdapter
    door: Postfix
    mailboxes: Dovecot
    refusing: Sink
    events: list[Event] = field(default_factory=list)
    deferrals: int = 0

    async def accept(self, events: Sequence[Event]) -> None:
        if self.deferrals:
            self.deferrals -= 1
            raise StorageUnavailable("database")
        self.events += events

    async def event(self) -> Event:
        await until(lambda: bool(self.events))
        return self.events[0]

    async def arrived(self, user: str) -> EmailMessage:
        await until(lambda: bool(self.mailboxes.inbox(user)))
        [mail] = await asyncio.to_thread(self.mailboxes.inbox, user)
        return email.message_from_bytes(mail, policy=default)


@pytest.fixture
async def net(unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[Net]:
    port = unused_tcp_port_factory
    relay_port, lmtp_port = port(), port()
    settings = Settings(
        address=OURS,
        from_name="党员服务中心",
        lmtp_port=lmtp_port,
        parsers=1,
        relay_port=relay_port,
        relay_tls="none",
    )
    adapter = build(settings, context())
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(smtp_sink())
        boxes = await stack.enter_async_context(dovecot(port(), port()))
        routes = {
            "centre.example": f"lmtp:inet:127.0.0.1:{lmtp_port}",
            "member.example": f"lmtp:inet:127.0.0.1:{boxes.lmtp_port}",
            "gone.example": f"smtp:[127.0.0.1]:{sink.port}",
        }
        door = await stack.enter_async_context(postfix(relay_port, routes))
        opened = Net(adapter, door, boxes, sink)
        await stack.enter_async_context(adapter.listen(opened.accept))
        yield opened
        await adapter.close()


def outbound(to: str, **more: str) -> OutboundMessage:
    return OutboundMessage(
        id="01JDSERVERS",
        kind=MessageKind.ANSWER,
        to=Address(AddressKind.EMAIL, to),
        text="您好，请带身份证。\n.\n再见",
        subject="回复：组织关系转接",
        **more,
    )


async def test_an_answer_reaches_the_mailbox_and_the_reply_comes_back(net: Net) -> None:
    sent = outbound("li@member.example", reply_token="tok-1.x")
    outcome = (await net.adapter.send([sent]))[sent.id]
    assert isinstance(outcome, Accepted)
    mail = await net.arrived("li")
    assert mail["Message-ID"] == outcome.provider_ids[0]
    assert mail["Subject"] == sent.subject
    assert mail.get_content().splitlines() == sent.text.splitlines()

    reply = EmailMessage()
    reply["From"] = "Li Lei <li@member.example>"
    reply["To"] = mail["Reply-To"]
    reply["Subject"] = f"Re: {mail['Subject']}"
    reply["Message-ID"] = "<reply@member.example>"
    reply["In-Reply-To"] = mail["Message-ID"]
    reply.set_content("周五来。\n\n在 2026年11月20日，党员服务中心 写道：\n\n> 您好")
    await asyncio.to_thread(hand_in, net.door.port, reply)
    event = await net.event()
    assert isinstance(event, InboundMessage)
    assert event.text == "周五来。"
    assert event.reply_token == "tok-1.x"
    assert event.answers_to == outcome.provider_ids
    assert not event.automatic


async def test_mails_pipelined_to_postfix_all_arrive_whole(net: Net) -> None:
    """RFC 2920 with a server that we did not write."""
    told: dict[str, Outcome] = {}
    net.adapter.attach(told.__setitem__, lambda: None)
    notes = [replace(outbound("li@member.example"), id=f"P{n}") for n in range(40)]
    net.adapter.submit(notes)
    await until(lambda: len(told) == len(notes))
    assert all(isinstance(one, Accepted) for one in told.values())
    await until(lambda: len(net.mailboxes.inbox("li")) == len(notes))
    mails = [
        email.message_from_bytes(raw, policy=default)
        for raw in await asyncio.to_thread(net.mailboxes.inbox, "li")
    ]
    assert {mail["Message-ID"] for mail in mails} == {
        f"<lx.{note.id}@centre.example>" for note in notes
    }
    for mail in mails:
        body = mail.get_body(("plain",))
        assert body is not None
        assert body.get_content().splitlines() == notes[0].text.splitlines()


async def test_a_refusal_behind_the_relay_comes_back_as_a_receipt(net: Net) -> None:
    net.refusing.replies["RCPT"] = "550 5.1.1 no such user"
    sent = outbound("nobody@gone.example")
    outcome = (await net.adapter.send([sent]))[sent.id]
    assert isinstance(outcome, Accepted)
    event = await net.event()
    assert isinstance(event, DeliveryReceipt)
    assert event.state is ReceiptState.FAILED
    assert (event.reference, event.code) == (sent.id, "failed 5.1.1")
    assert event.provider_id == outcome.provider_ids[0]
    assert event.address == sent.to


async def test_a_deferred_mail_is_delivered_again_by_postfix(net: Net) -> None:
    net.deferrals = 1
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "li@member.example", OURS, "later"
    mail.set_content("hi")
    await asyncio.to_thread(hand_in, net.door.port, mail)
    await until(lambda: not net.deferrals and "status=deferred" in net.door.log)
    assert net.events == []
    flush = await asyncio.create_subprocess_exec(
        "postqueue", "-c", str(net.door.root / "etc"), "-f"
    )
    await flush.wait()
    event = await net.event()
    assert isinstance(event, InboundMessage)
    assert event.text == "hi"


def hand_in(port: int, mail: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", port, "member.example", timeout=20) as client:
        client.send_message(mail, from_addr="li@member.example")
