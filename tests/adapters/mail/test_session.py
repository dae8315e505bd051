"""One connection, byte by byte: round trips, strange relays, what is on its way when
the connection dies."""

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mail.adapter import EmailAdapter
from adapters.mail.endings import Phase, classify
from adapters.mail.session import Job, Mail, Session
from gateway.clock import ManualClock, SystemClock
from gateway.contract import Accepted, OutboundMessage, Outcome, Streams
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from tests.adapters.mail.test_relay import NOW, adapter, message
from tests.labs.onebot_peer import until
from tests.labs.smtp_script import HANG_UP, smtp_script
from tests.labs.smtp_sink import smtp_sink

OPENING = (b"250 sender ok\r\n", b"250 recipient ok\r\n", b"354 go on\r\n")
TAKEN = b"250 2.0.0 taken\r\n"


def honest(_: int, group: bytes) -> Sequence[bytes]:
    """What a relay with PIPELINING says."""
    taken = [TAKEN] if b"\r\n.\r\n" in group or group == b".\r\n" else []
    opened = list(OPENING) if b"MAIL FROM" in group else []
    return [*taken, *opened] or [b"221 bye\r\n"]


async def submit(
    sender: EmailAdapter, notes: Sequence[OutboundMessage]
) -> dict[str, Outcome]:
    told: dict[str, Outcome] = {}
    everything = asyncio.Event()

    def answered(id: str, outcome: Outcome) -> None:
        assert id not in told, "told twice"
        told[id] = outcome
        if len(told) == len(notes):
            everything.set()

    sender.attach(answered, lambda: None)
    sender.submit(notes)
    async with asyncio.timeout(10):
        await everything.wait()
    return told


async def test_a_mail_costs_one_round_trip() -> None:
    async with smtp_script(honest) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message(n) for n in range(10)])
        await sender.close()
    assert all(isinstance(one, Accepted) for one in told.values())
    [groups] = script.groups
    assert len(groups) == 10 + 2, "one to begin, one each, and QUIT"
    assert groups[0].count(b"\r\n") == 3
    for group in groups[1:10]:
        content, _, opening = group.partition(b"\r\n.\r\n")
        assert content.startswith(b"From: ")
        assert re.fullmatch(
            rb"MAIL FROM:<[^>]+>\r\nRCPT TO:<li@member.example>\r\nDATA\r\n", opening
        )
    assert groups[11] == b"QUIT\r\n"


async def test_without_pipelining_each_command_waits() -> None:
    def answer(_: int, group: bytes) -> Sequence[bytes]:
        assert group.count(b"\r\n") == 1 or group.endswith(b"\r\n.\r\n")
        if group.startswith(b"DATA"):
            return [b"354 go on\r\n"]
        return [b"250 ok\r\n"]

    async with smtp_script(answer, hello=b"250 script.test\r\n") as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message(n) for n in range(3)])
        await sender.close()
    assert all(isinstance(one, Accepted) for one in told.values())
    assert len(script.groups[0]) == 3 * 4 + 1


async def test_a_mail_for_nobody_is_a_lone_dot() -> None:
    """RFC 2920 section 3.1: some relays take DATA though they refused the recipient."""

    def answer(_: int, group: bytes) -> Sequence[bytes]:
        if b"nobody@" in group:
            taken = [TAKEN] if b"\r\n.\r\n" in group else []
            return [*taken, b"250 ok\r\n", b"550 5.1.1 nobody\r\n", b"354 go on\r\n"]
        if group.startswith(b".\r\n"):
            return [b"554 5.5.1 no recipients\r\n", *OPENING]
        return honest(0, group)

    notes = [message(0), message(1, "nobody@member.example"), message(2)]
    async with smtp_script(answer) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, notes)
        await sender.close()
    kinds = [type(told[note.id]) for note in notes]
    assert kinds == [Accepted, PermanentFailure, Accepted]
    assert script.groups[0][2].startswith(b".\r\nMAIL FROM")


async def test_a_connection_cut_after_the_dot_leaves_only_that_mail_unknown() -> None:
    """A-21: the mail behind it has sent its envelope only, and goes another way."""

    def answer(connection: int, group: bytes) -> Sequence[bytes]:
        cut = connection == 0 and b"\r\n.\r\n" in group
        return [HANG_UP] if cut else honest(connection, group)

    async with smtp_script(answer) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message(n) for n in range(4)])
        await sender.close()
    assert [type(told[f"m{n}"]) for n in range(4)] == [OutcomeUnknown, *[Accepted] * 3]
    contents = b"".join(b"".join(groups) for groups in script.groups)
    for n in range(4):
        assert contents.count(f"Message-ID: <lx.m{n}@".encode()) == 1, "none twice"


async def test_a_relay_that_always_cuts_moves_no_mail_for_ever() -> None:
    def answer(connection: int, group: bytes) -> Sequence[bytes]:
        return [HANG_UP] if b"\r\n.\r\n" in group else honest(connection, group)

    async with smtp_script(answer) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message(n) for n in range(6)])
        await sender.close()
    assert len(told) == 6
    assert not any(isinstance(one, Accepted) for one in told.values())


async def test_a_relay_that_goes_after_a_mail_costs_the_next_nothing() -> None:
    """H-10: 421 for having sent too much on one connection."""

    def answer(connection: int, group: bytes) -> Sequence[bytes]:
        if connection == 0 and b"\r\n.\r\n" in group:
            return [TAKEN, b"421 4.7.0 too many mails here\r\n", HANG_UP]
        return honest(connection, group)

    async with smtp_script(answer) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message(n) for n in range(4)])
        await sender.close()
    assert all(isinstance(one, Accepted) for one in told.values())
    assert len(script.groups) == 2


STRANGE = [
    (b"250-go\r\n250-on\r\n250 please\r\n", Accepted),
    (b"251 forwarded\r\n", OutcomeUnknown),
    (b"354 more\r\n", OutcomeUnknown),
    (b"250\r\n", Accepted),
    (b"2x0 what\r\n", OutcomeUnknown),
    (b"\r\n", OutcomeUnknown),
    (b"999 what\r\n", OutcomeUnknown),
    (b"250-" + b"x" * 40_000, OutcomeUnknown),
    (b"250-for ever\r\n" * 4000, OutcomeUnknown),
]


@pytest.mark.parametrize(("reply", "kind"), STRANGE)
async def test_a_strange_reply_to_a_mail(reply: bytes, kind: type[Outcome]) -> None:
    def answer(_: int, group: bytes) -> Sequence[bytes]:
        return [reply] if b"\r\n.\r\n" in group else honest(0, group)

    async with smtp_script(answer) as script:
        sender = adapter(script.port, connections=1)
        told = await submit(sender, [message()])
        await sender.close()
    assert type(told["m0"]) is kind


@given(st.lists(st.integers(1, 60), max_size=40))
async def test_replies_may_come_in_any_pieces(cuts: list[int]) -> None:
    replies = b"".join((*OPENING, b"250-one\r\n250 two\r\n", *OPENING, TAKEN))
    told, transport = await _fed(replies, cuts, mails=2)
    assert told == [None, None]
    assert transport.written.count(b"\r\n.\r\n") == 2


class _Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        pass

    close = abort


async def _fed(
    replies: bytes, cuts: list[int], mails: int
) -> tuple[list[DeliveryError | None], _Wire]:
    told: list[DeliveryError | None] = []
    mail = Mail(sender="a@b.cn", recipient="c@d.cn", content=b"X: y\r\n\r\n.z\r\n")
    waiting = [Job(mail, told.append) for _ in range(mails)]
    wire = _Wire()
    session = Session(
        wire,
        pipelining=True,
        timeout_seconds=60,
        max_mails=100,
        clock=SystemClock(),
        take=lambda: waiting.pop() if waiting else None,
        told=lambda job, failure: job.done(failure),
        idle=lambda _: None,
        ended=lambda _, __: None,
    )
    session.begin()
    for cut in [*cuts, len(replies)]:
        session.data_received(replies[:cut])
        replies = replies[cut:]
    session.end(ConnectionResetError())
    return told, wire


async def test_a_line_of_dots_is_doubled_and_read_as_it_was() -> None:
    replies = b"".join((*OPENING, TAKEN))
    _, wire = await _fed(replies, [], mails=1)
    assert wire.written.endswith(b"X: y\r\n\r\n..z\r\n.\r\n")


async def test_connections_are_shown() -> None:
    async with smtp_sink(pipelining=True) as sink:
        sink.late = asyncio.Event()
        sender = adapter(sink.port, connections=2)
        assert isinstance(sender, Streams)
        assert [one.state for one in sender.connections()] == ["closed"]
        before = sender.room()
        told: dict[str, Outcome] = {}
        sender.attach(told.__setitem__, lambda: None)
        sender.submit([message(n) for n in range(8)])
        assert sender.room() == before - 8
        await until(lambda: len(sink.mails) == 2)
        shown = sender.connections()
        assert [(one.name, one.state) for one in shown] == [
            ("1", "open"),
            ("2", "open"),
        ]
        assert [(one.awaited, one.window) for one in shown] == [(2, 2), (2, 2)]
        sink.late.set()
        await until(lambda: len(told) == 8)
        assert sender.room() == before
        await sender.close()
    assert [one.state for one in sender.connections()] == ["closed"]


async def test_a_refused_login_is_tried_by_one_connection_alone() -> None:
    async with smtp_sink() as sink:
        sink.greeting = "554 5.7.1 you are blocked"
        sender = adapter(sink.port, connections=5)
        told = await submit(sender, [message(n) for n in range(20)])
        assert [one.last_error for one in sender.connections()] == ["smtp_554"]
        await sender.close()
    assert all(type(one) is TransientFailure for one in told.values())
    assert sink.connections == 1


async def test_room_that_comes_back_is_told() -> None:
    async with smtp_sink(pipelining=True) as sink:
        sender = adapter(sink.port, connections=1)
        rooms: list[int] = []
        told: dict[str, Outcome] = {}
        sender.attach(told.__setitem__, lambda: rooms.append(sender.room()))
        room = sender.room()
        sender.submit([message(n) for n in range(room)])
        assert sender.room() == 0
        await until(lambda: len(told) == room)
        await sender.close()
    assert rooms == [1]


async def test_what_can_t_be_a_mail_is_answered_and_the_rest_goes() -> None:
    async with smtp_sink(pipelining=True) as sink:
        sender = adapter(sink.port)
        told = await submit(sender, [message(0, "a b@d.example"), message(1)])
        await sender.close()
    assert [type(told[f"m{n}"]) for n in (0, 1)] == [PermanentFailure, Accepted]


async def test_closing_tells_every_mail() -> None:
    """What was handed over is unknown, what was not has certainly not left."""
    async with smtp_sink(pipelining=True) as sink:
        sink.late = asyncio.Event()
        sender = adapter(sink.port, connections=1)
        told: dict[str, Outcome] = {}
        sender.attach(told.__setitem__, lambda: None)
        sender.submit([message(n) for n in range(5)])
        await until(lambda: sink.mails)
        await sender.close()
        await sender.close()
    kinds = [type(told[f"m{n}"]) for n in range(5)]
    assert kinds == [OutcomeUnknown, *[TransientFailure] * 4]


async def test_a_mail_nobody_waits_for_does_not_leave_later() -> None:
    async with smtp_sink(pipelining=True) as sink:
        sink.late = asyncio.Event()
        sender = adapter(sink.port, connections=1)
        tasks = [asyncio.create_task(sender.send([message(n)])) for n in range(4)]
        await until(lambda: sink.mails)
        tasks[3].cancel()
        sink.late.set()
        await asyncio.wait(tasks)
        await sender.close()
    assert len(sink.mails) == 3


async def test_a_connection_is_replaced_after_a_thousand_mails() -> None:
    async with smtp_script(honest) as script:
        sender = adapter(script.port, connections=1)
        sent = 0
        while sent < 1200:
            notes = [message(n) for n in range(sent, sent + sender.room())]
            told = await submit(sender, notes)
            assert all(isinstance(one, Accepted) for one in told.values())
            sent += len(notes)
        await sender.close()
    assert len(script.groups) == 2


def test_what_a_mail_on_a_lost_connection_means() -> None:
    """A-21 in one place."""
    lost = ConnectionResetError()
    assert isinstance(classify(lost, Phase.HANDED_OVER), OutcomeUnknown)
    assert isinstance(classify(lost, Phase.ENVELOPE), TransientFailure)


async def test_an_idle_connection_is_left_politely() -> None:
    clock = ManualClock(NOW)
    async with smtp_script(honest) as script:
        sender = adapter(script.port, clock, connections=1)
        await submit(sender, [message(0)])
        clock.advance(timedelta(minutes=1))
        await submit(sender, [message(1)])
        await sender.close()
    assert script.groups[0][-1] == b"QUIT\r\n"
    assert len(script.groups) == 2
