"""What comes over the line: order, repeats, hostile frames, a database that is away."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import WSMsgType
from structlog.testing import capture_logs

from gateway.bots.driver import MAX_FRAME_BYTES
from gateway.contract import Address, AddressKind
from tests.labs.onebot_host import Host, running
from tests.labs.onebot_peer import GROUP, OneBotPeer, segment, until


async def test_a_private_message_arrives_whole() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        sent = peer.private("组织关系怎么转？", user=20007, number=42)
        frame = json.dumps(sent)
        await peer.send_raw(frame, WSMsgType.TEXT)
        await until(lambda: host.inbox.messages)
        [message] = host.inbox.messages
        assert message.sender == Address(AddressKind.QQ, "20007")
        assert message.text == "组织关系怎么转？"
        assert message.raw == frame.encode()
        assert message.sent_at == datetime.fromtimestamp(1_790_000_000, UTC)
        assert message.provider_id == "42"
        assert message.conversation is None
        assert message.display_name == "老王"
        assert message.key.startswith("msg:private:42:")
        assert message.notes == ()


async def test_a_group_message_keeps_its_group() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        called = [segment("at", qq=peer.self_id), segment("text", text=" 党费怎么交")]
        await peer.send(peer.group(called, user=20007))
        await until(lambda: host.inbox.messages)
        [message] = host.inbox.messages
        assert message.conversation == Address(AddressKind.GROUP, str(GROUP))
        assert message.sender == Address(AddressKind.QQ, "20007")
        assert message.text == "党费怎么交"


async def test_the_same_event_again_has_the_same_key() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        again = peer.private("一样", number=7)
        other = peer.private("不一样", number=7)  # ids are counted anew after a restart
        await peer.send(again, again, other, again)
        await until(lambda: len(host.inbox.events) == 4)
        keys = [event.key for event in host.inbox.events]
        assert keys[0] == keys[1] == keys[3] != keys[2]


async def test_each_persons_messages_stay_in_order() -> None:
    """Quoting makes nonebot ask the peer first: those would fall behind."""
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        for number in range(50):
            for user in (20001, 20002, 20003):
                parts = [segment("text", text=f"{user}-{number}")]
                if number % 3 == 0:
                    parts.insert(0, segment("reply", id="9"))
                await peer.send(peer.private(parts, user=user, number=number + 1))
        await until(lambda: len(host.inbox.events) == 150)
        for user in (20001, 20002, 20003):
            theirs = [t for t in host.inbox.texts if t.startswith(str(user))]
            assert theirs == [f"{user}-{number}" for number in range(50)]


async def test_five_hundred_events_at_once() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(
            *(peer.private(str(n), user=20000 + n, number=n + 1) for n in range(500))
        )
        await until(lambda: len(host.inbox.events) == 500, 20)
        assert len({event.key for event in host.inbox.events}) == 500


async def test_while_the_database_is_away_messages_wait_in_order() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        host.inbox.refusals = 1
        await peer.send(*(peer.private(str(n), number=n + 1) for n in range(5)))
        await until(lambda: len(host.inbox.events) == 5)
        assert host.inbox.texts == ["0", "1", "2", "3", "4"]


async def test_a_stop_while_the_database_is_away_tells_what_is_lost() -> None:
    with capture_logs() as logged:
        async with running() as host, OneBotPeer().dialled(host.url) as peer:
            host.inbox.refusals = 10**6
            await peer.send(*(peer.private(str(n), number=n + 1) for n in range(5)))
            await until(lambda: host.inbox.refusals < 10**6)
            started = time.perf_counter()
            await host.runner.cleanup()
            assert time.perf_counter() - started < 1.5
    lost = [e for e in logged if e["event"] == "bot_event.lost"]
    assert len(lost) == 5


async def test_a_stop_does_not_wait_for_storage_that_hangs() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        host.inbox.hangs = True
        await peer.send(peer.private("?"))
        await until(lambda: host.inbox.hanging)
        started = time.perf_counter()
        await host.runner.cleanup()
        assert time.perf_counter() - started < 1.5


async def still_listening(host: Host, peer: OneBotPeer) -> None:
    await peer.send(peer.private("还在吗", number=999))
    await until(lambda: host.inbox.texts[-1:] == ["还在吗"])
    assert peer.connections == 1


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "null",
        "你好",
        '{"a":' * 20000 + "1" + "}" * 20000,
        "[" * 100_000,
        '{"post_type": "message"}',
        '{"post_type": ["message"]}',
        '{"post_type": {"$gt": ""}, "time": 1, "self_id": 1000100}',
        '{"post_type": "message", "time": 1, "user_id": {"1=1 --": 1}}',
        '{"time": 1e400, "post_type": "message", "user_id": 1}',
        '{"time": NaN}',
        '{"echo": "1", "status": "ok"}',
        '{"echo": {"a": [1]}, "status": null}',
        '{"self_id": 1000100, "time": ' + "9" * 5000 + "}",
        b"\xff\xfe\x00",
        b'{"text": "\xff\xff"}',
    ],
    ids=range(18),
)
@pytest.mark.parametrize("kind", [WSMsgType.TEXT, WSMsgType.BINARY])
async def test_no_frame_stops_the_reader(frame: Any, kind: WSMsgType) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send_raw(frame, kind)
        await still_listening(host, peer)
        assert len(host.inbox.events) == 1


async def test_no_event_of_odd_shape_stops_the_reader() -> None:
    """Every field of a good event replaced by every kind of wrong value."""
    wrong: list[Any] = [None, "", "x", -1, 2**70, 1.5, True, [], {}, [[]], {"a": {}}]
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        for made in (peer.private("a"), peer.group("a"), peer.heartbeat(online=True)):
            for name in made:
                await peer.send(*(made | {name: value} for value in wrong))
        await still_listening(host, peer)


async def test_invalid_utf8_in_a_text_is_replaced() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        frame = json.dumps(peer.private("A?B")).encode().replace(b"A?B", b"A\xff\xfeB")
        await peer.send_raw(frame, WSMsgType.TEXT)
        await until(lambda: host.inbox.texts == ["A��B"])
        assert host.inbox.messages[0].raw == frame


async def test_what_a_text_column_refuses_is_taken_out() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private("a\0b\ud800c"))
        await until(lambda: host.inbox.texts == ["ab�c"])


@pytest.mark.parametrize("size", [65_535, 65_536, 5_000_000])
async def test_a_long_text_arrives_whole(size: int) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private("x" * size))
        await until(lambda: host.inbox.messages)
        assert len(host.inbox.messages[0].text) == size
        await still_listening(host, peer)


async def test_a_frame_beyond_all_measure_costs_the_line_and_no_more() -> None:
    async with running() as host:
        async with OneBotPeer().dialled(host.url) as peer:
            await until(lambda: host.connected)
            with suppress(ConnectionError):
                await peer.send_raw(b"x" * (MAX_FRAME_BYTES + 1), WSMsgType.TEXT)
            await until(lambda: not host.connected)
        async with OneBotPeer().dialled(host.url) as again:
            await still_listening(host, again)


async def test_a_message_without_what_nobody_needs_is_taken() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        spare = peer.private("够了")
        for name in ("font", "raw_message", "sender", "sub_type"):
            del spare[name]
        await peer.send(spare)
        await until(lambda: host.inbox.texts == ["够了"])


async def test_a_message_written_in_cq_codes_is_taken() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        sent = peer.private("") | {"message": "看&#91;图&#93;[CQ:image,file=a.jpg]"}
        await peer.send(sent)
        await until(lambda: host.inbox.texts == ["看[图][图片]"])


async def test_events_of_another_account_are_not_ours() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private("别人的") | {"self_id": 1000999})
        await peer.send(peer.private("自己的") | {"self_id": peer.self_id})
        await until(lambda: "自己的" in host.inbox.texts)
        assert host.inbox.texts == ["自己的"]
        assert host.inbox.troubles == ["wrong_account"]


async def test_no_word_of_a_message_is_logged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with capture_logs() as logged:
        async with running() as host, OneBotPeer().dialled(host.url) as peer:
            await peer.send(peer.private("不可外传", user=20987))
            broken = peer.private("也不可外传", user=20987)
            await peer.send(broken | {"time": "x"})
            await still_listening(host, peer)
    shown = str(logged) + "".join(capfd.readouterr())
    assert "外传" not in shown
    assert "20987" not in shown
    assert "bot_event.dropped" in str(logged)


async def test_a_deep_frame_does_not_hold_up_the_loop() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        started = time.perf_counter()
        await peer.send_raw('{"a":' * 20000 + "1" + "}" * 20000, WSMsgType.TEXT)
        await still_listening(host, peer)
        assert time.perf_counter() - started < 1
