"""What the bot takes for itself, and what it leaves alone."""

from typing import Any

import pytest

from gateway.contract import Address, AddressKind, ChannelTrouble
from tests.labs.onebot_host import running
from tests.labs.onebot_peer import BOT, GROUP, OneBotPeer, segment, until

CALL = segment("at", qq=BOT)
OTHER = segment("at", qq="20009")


def text(words: str) -> dict[str, Any]:
    return segment("text", text=words)


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        # called at the front, at the end, in the middle
        ([CALL, text(" 党费怎么交")], "党费怎么交"),
        ([text("党费怎么交 "), CALL], "党费怎么交"),
        ([text("请问"), CALL, text("党费怎么交")], "请问党费怎么交"),
        ([CALL], ""),
        ([CALL, text(" 帮助")], "帮助"),
        # not called
        ([text("党费怎么交")], None),
        ([OTHER, text(" 党费怎么交")], None),
        ([segment("at", qq="all"), text(" 开会")], None),
        ([segment("image", file="a.jpg")], None),
        # a command is a whole message
        ([text("帮助")], "帮助"),
        ([text("菜单")], "帮助"),
        ([text(" 订阅　")], "订阅"),
        ([text("/退订")], "退订"),
        ([text("今日一答")], "今日一答"),
        ([text("每日一答")], "今日一答"),
        ([text("今日问答")], "今日一答"),
        ([text("绑定 A7K2-9QXW")], "绑定 A7K2-9QXW"),
        ([text("绑定：ａ７ｋ２９")], "绑定 a7k29"),
        ([text("绑定A7K29")], "绑定 A7K29"),
        ([text("绑定 138 0013-8000")], "绑定 138 0013-8000"),
        ([text("绑定")], "绑定"),
        ([text("绑定手机号怎么弄")], None),
        ([text("停订每日一答")], "停订"),
        ([text("查进度")], "进度"),
        ([text("帮助" * 30)], None),
        ([text("我想订阅报纸")], None),
        ([text("谁能帮助我")], None),
        ([OTHER, text("帮助")], None),
    ],
)
async def test_in_a_group(said: list[dict[str, Any]], taken: str | None) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.group(said), peer.group([CALL, text("完")], number=2))
        await until(lambda: host.inbox.texts[-1:] == ["完"])
        assert host.inbox.texts[:-1] == ([] if taken is None else [taken])


async def test_in_a_group_a_reply_to_the_bot_is_taken() -> None:
    peer = OneBotPeer(quoted_senders={5001: int(BOT), 5002: 20009})
    async with running() as host, peer.dialled(host.url):
        await peer.send(
            peer.group([segment("reply", id="5002"), text("对别人")], number=1),
            peer.group([segment("reply", id="5001"), text("对机器人")], number=2),
        )
        await until(lambda: host.inbox.messages)
        [message] = host.inbox.messages
        assert (message.text, message.answers_to) == ("对机器人", ("5001",))


async def test_a_group_that_is_not_served_is_not_heard() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        elsewhere = peer.group([CALL, text("有人吗")], group=700999)
        kicked = peer.notice(
            "group_decrease",
            sub_type="kick_me",
            user_id=int(BOT),
            group_id=700999,
            operator_id=1,
        )
        await peer.send(elsewhere, kicked, peer.private("有人"))
        await until(lambda: host.inbox.texts == ["有人"])
        assert len(host.inbox.events) == 1


@pytest.mark.parametrize("said", ["党费怎么交", "TD", "1", "绑定吗", "我想订阅报纸"])
async def test_in_private_everything_is_taken_as_it_is(said: str) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private(said))
        await until(lambda: host.inbox.texts == [said])


@pytest.mark.parametrize(("said", "taken"), [("#菜单", "帮助"), ("退订", "退订")])
async def test_in_private_a_command_is_canonical_too(said: str, taken: str) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private(said))
        await until(lambda: host.inbox.texts == [taken])


def decrease(kind: str, user: int) -> dict[str, Any]:
    return {
        "notice_type": "group_decrease",
        "sub_type": kind,
        "user_id": user,
        "group_id": GROUP,
        "operator_id": 1,
    }


def ban(kind: str, user: int) -> dict[str, Any]:
    return decrease(kind, user) | {"notice_type": "group_ban", "duration": 600}


ME = int(BOT)


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        (decrease("kick_me", ME), ["kicked"]),
        (decrease("kick", ME), ["kicked"]),
        (decrease("leave", ME), ["left_group"]),
        (decrease("kick", 20009), []),
        (decrease("leave", 20009), []),
        (ban("ban", ME), ["muted"]),
        (ban("ban", 0), ["group_muted"]),
        (ban("lift_ban", ME), []),
        (ban("ban", 20009), []),
        ({"notice_type": "friend_add", "user_id": 20009}, []),
        ({"notice_type": "bot_offline", "user_id": ME}, ["offline"]),
        ({"notice_type": "from_the_future"}, []),
    ],
)
async def test_what_befalls_the_bot_is_told(
    fields: dict[str, Any], codes: list[str]
) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.notice(fields["notice_type"]) | fields)
        await peer.send(peer.private("完", user=20030))
        await until(lambda: host.inbox.texts == ["完"])
        await until(lambda: len(host.inbox.troubles) == len(codes))
        assert host.inbox.troubles == codes


async def test_trouble_names_its_group_and_repeats_its_key() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        kicked = peer.notice("group_decrease") | decrease("kick_me", ME)
        await peer.send(kicked, kicked)
        await until(lambda: len(host.inbox.events) == 2)
        first, second = host.inbox.events
        assert first == second
        assert isinstance(first, ChannelTrouble)
        assert first.address == Address(AddressKind.GROUP, str(GROUP))
        assert b"kick_me" in first.raw


async def test_a_heartbeat_tells_when_the_account_is_logged_out() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        up, down = peer.heartbeat(online=True), peer.heartbeat(online=False)
        await peer.send(up, down, down, up)
        await until(lambda: host.inbox.troubles == ["offline", "offline"])
        assert len({event.key for event in host.inbox.events}) == 1


async def test_the_bot_does_not_hear_itself() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        own = peer.group([CALL, text("回声")], user=ME)
        await peer.send(own, own | {"post_type": "message_sent"}, peer.private("完"))
        await until(lambda: host.inbox.texts == ["完"])
