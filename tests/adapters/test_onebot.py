import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from adapters.onebot import Settings, refusal
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    MessageKind,
    OutboundMessage,
    Outcome,
)
from gateway.errors import OutcomeUnknown, PermanentFailure, TransientFailure
from tests.labs.onebot_host import Host, running, settings
from tests.labs.onebot_peer import (
    BOT,
    GROUP,
    TOKEN,
    OneBotPeer,
    Reply,
    segment,
    text_of,
    until,
)


def outbound(text: str = "您好", **changes: Any) -> OutboundMessage:
    values: dict[str, Any] = {
        "id": "m1",
        "kind": MessageKind.ANSWER,
        "to": Address(AddressKind.QQ, "20007"),
        "text": text,
    }
    return OutboundMessage(**values | changes)


async def send(host: Host, message: OutboundMessage) -> Outcome:
    return (await host.channel.send([message]))[message.id]


async def ready(host: Host) -> None:
    await until(lambda: host.connected)


# What goes out


async def test_a_private_message() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        assert await send(host, outbound()) == Accepted(("5001",))
        [call] = peer.taken
        assert call["action"] == "send_private_msg"
        assert call["params"] == {
            "user_id": 20007,
            "message": [segment("text", text="您好")],
        }


async def test_a_group_answer_quotes_and_mentions() -> None:
    to = Address(AddressKind.GROUP, str(GROUP))
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        message = outbound(to=to, mention="20007", in_reply_to="-77")
        assert isinstance(await send(host, message), Accepted)
        [call] = peer.taken
        assert call["action"] == "send_group_msg"
        assert call["params"] == {
            "group_id": GROUP,
            "message": [
                segment("reply", id="-77"),
                segment("at", qq="20007"),
                segment("text", text=" 您好"),
            ],
        }


async def test_a_cq_code_in_a_text_stays_text() -> None:
    text = "[CQ:at,qq=all] [CQ:image,file=file:///etc/passwd] &#91;"
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        await send(host, outbound(text))
        assert peer.taken[0]["params"]["message"] == [segment("text", text=text)]


async def test_a_batch_keeps_each_outcome_with_its_message() -> None:
    peer = OneBotPeer(refuse=lambda call: text_of(call) == "2")
    async with running() as host, peer.dialled(host.url):
        await ready(host)
        batch = [outbound(str(n), id=f"m{n}") for n in range(4)]
        outcomes = await host.channel.send(batch)
        kinds = {key: type(outcome) for key, outcome in outcomes.items()}
        good = dict.fromkeys(("m0", "m1", "m3"), Accepted)
        assert kinds == good | {"m2": PermanentFailure}


@pytest.mark.parametrize(
    ("to", "code"),
    [
        (Address(AddressKind.GROUP, "700999"), "group_not_served"),
        (Address(AddressKind.QQ, "0"), "bad_address"),
        (Address(AddressKind.QQ, "all"), "bad_address"),
        (Address(AddressKind.QQ, "２０００７"), "bad_address"),
    ],
)
async def test_an_address_out_of_reach_is_refused_here(to: Address, code: str) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        outcome = await send(host, outbound(to=to))
        assert isinstance(outcome, PermanentFailure)
        assert outcome.code == code
        assert peer.taken == []


async def test_five_hundred_calls_at_once() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        messages = [outbound(str(n), id=f"m{n}") for n in range(500)]
        outcomes = await asyncio.gather(*(send(host, m) for m in messages))
        ids = {o.provider_ids for o in outcomes if isinstance(o, Accepted)}
        assert len(ids) == 500
        assert len(peer.taken) == 500


async def test_five_megabytes_go_out() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await ready(host)
        assert isinstance(await send(host, outbound("x" * 5_000_000)), Accepted)
        assert len(peer.sent_texts()[0]) == 5_000_000


async def test_forward_sends_too() -> None:
    peer = OneBotPeer()
    async with peer.served() as url, running(mode="forward", ws_url=url) as host:
        await ready(host)
        assert isinstance(await send(host, outbound()), Accepted)


# What becomes of it


async def test_without_a_connection_nothing_was_sent() -> None:
    async with running() as host:
        outcome = await send(host, outbound())
        assert isinstance(outcome, TransientFailure)
        assert outcome.code == "not_connected"


async def test_after_the_connection_ended_nothing_was_sent() -> None:
    async with running() as host:
        async with OneBotPeer().dialled(host.url):
            await ready(host)
        await until(lambda: not host.connected)
        assert isinstance(await send(host, outbound()), TransientFailure)


@pytest.mark.parametrize("forward", [False, True])
async def test_a_dropped_line_is_unknown_at_once(forward: bool) -> None:
    peer = OneBotPeer(reply=Reply.DROP)
    async with peer.served() as url:
        changes: dict[str, Any] = {"mode": "forward", "ws_url": url} if forward else {}
        async with running(**changes) as host:
            if forward:
                await ready(host)
                outcome = await timed(host, 1)
            else:
                async with peer.dialled(host.url):
                    await ready(host)
                    outcome = await timed(host, 1)
    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.code == "connection_lost"
    assert len(peer.taken) == 1


async def timed(host: Host, seconds: float) -> Outcome:
    started = time.perf_counter()
    outcome = await send(host, outbound())
    assert time.perf_counter() - started < seconds
    return outcome


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply.NOTHING, "timeout"),
        (Reply.GARBAGE, "no_message_id"),
        (Reply.NO_ID, "no_message_id"),
    ],
)
async def test_no_clear_answer_is_unknown(reply: Reply, code: str) -> None:
    peer = OneBotPeer(reply=reply)
    async with running(api_timeout=0.3) as host, peer.dialled(host.url):
        await ready(host)
        outcome = await send(host, outbound())
        assert isinstance(outcome, OutcomeUnknown)
        assert outcome.code == code
        assert len(peer.taken) == 1


async def test_an_answer_that_comes_twice_harms_nobody() -> None:
    peer = OneBotPeer(reply=Reply.TWICE)
    async with running() as host, peer.dialled(host.url):
        await ready(host)
        for number in range(20):
            outcome = await send(host, outbound(str(number)))
            assert outcome == Accepted((str(5001 + number),))
        assert peer.connections == 1


async def test_an_answer_to_an_earlier_line_settles_nothing() -> None:
    peer = OneBotPeer(reply=Reply.NOTHING)
    async with running(api_timeout=0.3) as host:
        async with peer.dialled(host.url):
            await ready(host)
            await send(host, outbound())
            old = peer.taken[0]["echo"]
        await until(lambda: not host.connected)
        async with peer.dialled(host.url):
            await ready(host)
            sending = asyncio.create_task(send(host, outbound()))
            await until(lambda: len(peer.taken) == 2)
            late = {"status": "ok", "retcode": 0, "data": {"message_id": 1}}
            await peer.send(late | {"echo": old})
            assert isinstance(await sending, OutcomeUnknown)


NAPCAT = "NTEvent serviceAndMethod:NodeIKernelMsgService/sendMsg EventRet:\n"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        ({"retcode": 1400}, PermanentFailure, "bad_request"),
        ({"retcode": 1401}, PermanentFailure, "unauthorized"),
        ({"retcode": 1403}, PermanentFailure, "forbidden"),
        ({"retcode": 1404}, PermanentFailure, "no_such_action"),
        ({"retcode": 100}, PermanentFailure, "bad_parameter"),
        ({"retcode": 102}, PermanentFailure, "no_permission"),
        ({"retcode": 103}, PermanentFailure, "operation_refused"),
        ({"retcode": 104}, TransientFailure, "credentials_expired"),
        ({"retcode": 201}, TransientFailure, "not_ready"),
        (
            {"retcode": 100, "msg": "SEND_MSG_API_ERROR", "wording": "请参考输出"},
            OutcomeUnknown,
            "failed_in_doubt",
        ),
        (
            {
                "retcode": 1200,
                "message": f'EventChecker Failed: {NAPCAT}{{"result": 110}}',
            },
            PermanentFailure,
            "qq_110",
        ),
        (
            {
                "retcode": 200,
                "message": f'EventChecker Failed: {NAPCAT}{{"result": -1}}',
            },
            PermanentFailure,
            "qq_-1",
        ),
        (
            {"retcode": 1200, "message": f'Timeout: {NAPCAT}{{"result": 0}}'},
            OutcomeUnknown,
            "retcode_1200",
        ),
        ({"retcode": 4711}, OutcomeUnknown, "retcode_4711"),
        ({"retcode": "1400"}, OutcomeUnknown, "failed_in_doubt"),
        ({"retcode": None, "msg": {"a": 1}}, OutcomeUnknown, "failed_in_doubt"),
        ({}, OutcomeUnknown, "failed_in_doubt"),
    ],
)
def test_what_a_failed_answer_means(
    answer: dict[str, Any], kind: type[Exception], code: str
) -> None:
    error = refusal(answer)
    assert type(error) is kind
    assert error.code == code


async def test_a_refusal_over_the_wire() -> None:
    peer = OneBotPeer(reply=Reply.FAILED, failure={"retcode": 1404})
    async with running() as host, peer.dialled(host.url):
        await ready(host)
        outcome = await send(host, outbound())
        assert isinstance(outcome, PermanentFailure)
        assert outcome.code == "no_such_action"


async def test_neither_token_nor_text_is_logged_or_shown() -> None:
    peer = OneBotPeer(reply=Reply.FAILED, failure={"retcode": 100, "msg": "回显正文"})
    with capture_logs() as logged:
        async with running() as host, peer.dialled(host.url):
            await ready(host)
            outcome = await send(host, outbound("正文不可外传"))
            shown = [str(logged), str(outcome), str(vars(host.channel))]
    assert [s for s in (TOKEN, "正文") for text in shown if s in text] == []


async def test_a_second_close_is_harmless() -> None:
    async with running() as host:
        await host.channel.close()
        await host.channel.close()


# What comes in: segments


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ([segment("text", text="看"), segment("image", file="a.jpg")], "看[图片]"),
        ([segment("face", id="1"), segment("text", text="谢谢")], "[表情]谢谢"),
        ([segment("at", qq="20009"), segment("text", text=" 你来")], "@20009 你来"),
        ([segment("at", qq="20009", name="@小李")], "@小李"),
        ([segment("at", qq="all"), segment("text", text="开会")], "@全体成员开会"),
        ([segment("at", qq=BOT), segment("text", text=" 在吗")], "在吗"),
        ([segment("record", file="a.amr")], "[语音]"),
        ([segment("json", data="{}")], "[卡片]"),
        ([segment("from_the_future", x=1)], "[其他]"),
        ([segment("text", text="[CQ:face,id=1]")], "[CQ:face,id=1]"),
        ([segment("reply", id="3"), segment("text", text="对")], "对"),
    ],
)
async def test_segments_become_a_text(
    segments: list[dict[str, Any]], text: str
) -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private(segments))
        await until(lambda: host.inbox.messages)
        assert host.inbox.texts == [text]


async def test_a_quotation_says_what_it_answers() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(
            peer.private([segment("reply", id="5001"), segment("text", text="对")])
        )
        await until(lambda: host.inbox.messages)
        assert host.inbox.messages[0].answers_to == ("5001",)


async def test_pictures_leave_their_address_for_staff() -> None:
    pictures = [
        segment("image", file="a", url="https://pictures.example/a"),
        segment("image", file="b", url="javascript:alert(1)"),
        segment("image", file="c"),
    ]
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private(pictures))
        await until(lambda: host.inbox.messages)
        [message] = host.inbox.messages
        assert message.text == "[图片][图片][图片]"
        assert message.notes == ("image:https://pictures.example/a",)


async def test_a_name_is_one_short_printable_line() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        sent = peer.private("a")
        sent["sender"] = {"card": "", "nickname": "老\n王\u202e" + "x" * 200}
        await peer.send(sent)
        await until(lambda: host.inbox.messages)
        assert host.inbox.messages[0].display_name == "老王" + "x" * 62


async def test_a_time_beyond_all_calendars_is_not_told() -> None:
    async with running() as host, OneBotPeer().dialled(host.url) as peer:
        await peer.send(peer.private("a") | {"time": 10**18})
        await until(lambda: host.inbox.messages)
        assert host.inbox.messages[0].sent_at is None


# Settings


def test_numbers_may_be_written_as_numbers() -> None:
    made = settings(self_id=1000100, groups=[700001, "700002"], api_timeout=5)
    assert (made.self_id, made.groups) == ("1000100", ("700001", "700002"))
    assert made.api_timeout == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"access_token": SecretStr("")}, "at least 16"),
        ({"access_token": SecretStr("fifteen-letters")}, "at least 16"),
        ({"access_token": SecretStr("with space in the middle")}, "without spaces"),
        ({"access_token": SecretStr("口令" * 10)}, "ASCII"),
        ({"access_token": None}, "env:NAME"),
        ({"self_id": "bot"}, "digits only"),
        ({"self_id": True}, "string"),
        ({"groups": ["all"]}, "digits only"),
        ({"mode": "forward"}, "needs a ws://"),
        ({"mode": "forward", "ws_url": "http://127.0.0.1"}, "needs a ws://"),
        ({"ws_url": "ws://127.0.0.1"}, 'only with mode = "forward"'),
        ({"mode": "http"}, "reverse"),
        ({"api_timeout": 0}, "greater"),
        ({"secret": "x"}, "Extra"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        settings(**changes)
    assert "fifteen-letters" not in str(caught.value)


def test_a_token_is_required() -> None:
    with pytest.raises(ValidationError, match="access_token"):
        Settings.model_validate({"self_id": BOT})
