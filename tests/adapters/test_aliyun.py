"""Aliyun: the wire in both directions. What all channels share is in the contract."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession
from yarl import URL

from adapters import aliyun
from adapters._http import Answer
from gateway.contract import (
    Accepted,
    Address,
    AddressKind,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    MessageKind,
    OutboundMessage,
    RawRequest,
    ReceiptState,
    TemplateUse,
)
from gateway.errors import (
    NotFound,
    OutcomeUnknown,
    PermanentFailure,
    RequestError,
    TransientFailure,
)
from tests.contract.labs import Case
from tests.labs.aliyun_lab import (
    KEY_ID,
    RECEIPT,
    SAID,
    SECRET,
    AliyunDialect,
    rows,
    settings,
)
from tests.labs.sms import Play, SmsLab, context


@pytest.fixture
async def lab() -> AsyncIterator[SmsLab]:
    async with SmsLab(AliyunDialect(), [SECRET]) as opened:
        yield opened


def message(to: str = "+8613800138000", **variables: str) -> OutboundMessage:
    return OutboundMessage(
        id="0193f2c4message",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, to),
        text="ignored",
        template=TemplateUse("SMS_154950909", variables),
    )


async def sent(lab: SmsLab, one: OutboundMessage) -> object:
    adapter = aliyun.build(settings(lab.endpoint, answer_within=0.2), context())
    try:
        return (await adapter.send([one]))[one.id]
    finally:
        await adapter.close()


async def test_parameters_on_the_wire(lab: SmsLab) -> None:
    found = await sent(lab, message(name="张三 & 李四/~*'", when="3月1日+08:00"))
    assert found == Accepted(("biz-0193f2c4message^0",))
    [call] = lab.calls
    assert (call.id, call.number) == ("0193f2c4message", "13800138000")
    assert (call.sign_name, call.template) == ("连心", "SMS_154950909")
    assert call.text == "张三 & 李四/~*'3月1日+08:00"
    assert call.body == b""


@pytest.mark.parametrize(
    ("to", "number"),
    [("+8613800138000", "13800138000"), ("+85251234567", "85251234567")],
)
async def test_numbers_on_the_wire(lab: SmsLab, to: str, number: str) -> None:
    await sent(lab, message(to))
    assert [call.number for call in lab.calls] == [number]


async def test_a_variable_that_is_half_a_character_can_be_sent(lab: SmsLab) -> None:
    assert isinstance(await sent(lab, message(name="\ud800")), Accepted)


async def test_without_a_template_nothing_is_sent(lab: SmsLab) -> None:
    one = OutboundMessage(
        id="free",
        kind=MessageKind.ANSWER,
        to=Address(AddressKind.PHONE, "+8613800138000"),
        text="free text",
    )
    found = await sent(lab, one)
    assert isinstance(found, PermanentFailure)
    assert found.code == "template_required"
    assert lab.calls == []


async def test_silence_is_unknown(lab: SmsLab) -> None:
    lab.play = Play.SILENT
    assert isinstance(await sent(lab, message()), OutcomeUnknown)
    assert len(lab.taken()) == 1


async def test_a_server_error_is_unknown(lab: SmsLab) -> None:
    lab.play = Play.BROKEN_DOWN
    assert isinstance(await sent(lab, message()), OutcomeUnknown)


async def test_a_wrong_key_concerns_the_account_not_the_message(lab: SmsLab) -> None:
    wrong = settings(lab.endpoint).model_copy(update={"access_key_id": "LTAIother"})
    adapter = aliyun.build(wrong, context())
    found = (await adapter.send([message()]))["0193f2c4message"]
    await adapter.close()
    assert isinstance(found, TransientFailure)
    assert (found.code, found.throttled) == ("SignatureDoesNotMatch", False)
    assert found.retry_after
    assert (lab.calls, lab.forgeries) == ([], 1)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"Code": "OK", "BizId": "1^0"}, Accepted(("1^0",))),
        (200, {"Code": "OK"}, OutcomeUnknown),
        (200, {"Code": "OK", "BizId": {"a": 1}}, OutcomeUnknown),
        (200, {"Code": "ok", "BizId": "1^0"}, PermanentFailure),
        (202, {"Code": "OK", "BizId": "1^0"}, PermanentFailure),
        (200, {"Code": "isv.BLACK_KEY_CONTROL_LIMIT"}, PermanentFailure),
        (200, {"Code": "isv.BUSINESS_LIMIT_CONTROL"}, TransientFailure),
        (200, {"Code": "isv.AMOUNT_NOT_ENOUGH"}, TransientFailure),
        (200, {"Code": "isp.SYSTEM_ERROR"}, OutcomeUnknown),
        (400, {"Code": "Throttling.User"}, TransientFailure),
        (200, {"Code": "isv.NEVER_HEARD_OF"}, PermanentFailure),
        (503, {"Code": "ServiceUnavailable"}, OutcomeUnknown),
        (200, [], OutcomeUnknown),
        (200, "OK", OutcomeUnknown),
    ],
)
def test_answers(status: int, body: object, expected: object) -> None:
    found = aliyun.outcome(Answer(status, json.dumps(body).encode()))
    assert found == expected or type(found) is expected


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"<html>", b"[" * 20000, b'{"Code":NaN}', b"null"]
)
def test_a_success_nobody_can_parse_is_unknown(body: bytes) -> None:
    assert isinstance(aliyun.outcome(Answer(200, body)), OutcomeUnknown)


# Signature ---------------------------------------------------------------------------


async def test_the_vendor_sdk_signs_the_same_bytes_alike(lab: SmsLab) -> None:
    """The SDK calls the lab; for the query and headers that it signed, our signature
    and the lab's (which accepted the call) are the same to the last byte."""
    with warnings.catch_warnings():
        # The SDK's own modules use what newer Pythons deprecate.
        warnings.simplefilter("ignore")
        await asyncio.to_thread(send_by_sdk, lab.endpoint)
    [call] = lab.calls
    assert (call.id, call.text) == ("sdk-1", "张三 & 李四/~*'")
    head = dict(p.split("=", 1) for p in call.authorization.split(" ", 1)[1].split(","))
    given = {name.lower(): value for name, value in call.headers.items()}
    signed = {name: given[name] for name in head["SignedHeaders"].split(";")}
    query = aliyun.canonical_query(dict(URL("/?" + call.query, encoded=True).query))
    ours = aliyun.authorization(KEY_ID, SECRET, query, signed)
    assert ours == call.authorization


def send_by_sdk(endpoint: str) -> None:
    # Imported here, below the warnings filter. The packages carry no types.
    from alibabacloud_dysmsapi20170525.client import (  # type: ignore[import-untyped]
        Client,
    )
    from alibabacloud_dysmsapi20170525.models import (  # type: ignore[import-untyped]
        SendSmsRequest,
    )
    from alibabacloud_tea_openapi.utils_models import (  # type: ignore[import-untyped]
        Config,
    )

    url = URL(endpoint)
    config = Config(
        access_key_id=KEY_ID,
        access_key_secret=SECRET,
        endpoint=url.authority,
        protocol="http",
    )
    answer = Client(config).send_sms(
        SendSmsRequest(
            phone_numbers="13800138000",
            sign_name="连心",
            template_code="SMS_154950909",
            template_param=json.dumps({"name": "张三 & 李四/~*'"}),
            out_id="sdk-1",
        )
    )
    assert answer.body.code == "OK"


async def test_our_parameters_are_placed_where_the_sdk_places_them(
    lab: SmsLab,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await asyncio.to_thread(send_by_sdk, lab.endpoint)
    await sent(lab, message(name="张三 & 李四/~*'"))
    by_sdk, by_us = (
        dict(URL("/?" + call.query, encoded=True).query) for call in lab.calls
    )
    by_us["OutId"] = by_sdk["OutId"]
    assert by_us == by_sdk


def test_a_signature_worked_out_once() -> None:
    """Fixed inputs, so that a change of one byte shows without the SDK."""
    query = aliyun.canonical_query({"SignName": "连心", "OutId": "a b~*"})
    assert query == "OutId=a%20b~%2A&SignName=%E8%BF%9E%E5%BF%83"
    headers = aliyun.headers_to_sign(
        "SendSms",
        "dysmsapi.aliyuncs.com",
        at=datetime(2026, 11, 21, 1, 30, tzinfo=UTC),
        nonce="0" * 32,
    )
    assert headers["x-acs-date"] == "2026-11-21T01:30:00Z"
    found = aliyun.authorization("id", "secret", query, headers)
    assert found.startswith(
        "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host;x-acs-action;"
        "x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
    )


@pytest.mark.parametrize("change", ["query", "nonce", "body", "unsigned"])
async def test_the_lab_notices_every_change(lab: SmsLab, change: str) -> None:
    await sent(lab, message(name="张三"))
    [call] = lab.calls
    headers = dict(call.headers)
    query, body = call.query, b""
    match change:
        case "query":
            query = query.replace("13800138000", "13900139000")
        case "nonce":
            headers["x-acs-signature-nonce"] = "1" * 32
        case "body":
            body = b"x"
        case "unsigned":
            headers["x-acs-extra"] = "1"
    headers.pop("Content-Length", None)
    async with ClientSession() as session:
        url = URL(f"{lab.endpoint}/?{query}", encoded=True)
        async with session.post(url, headers=headers, data=body) as response:
            assert response.status == 400
    assert lab.forgeries == 1


# Pushes ------------------------------------------------------------------------------


def received(path: str, body: bytes, remote: str = "127.0.0.1") -> tuple[Event, ...]:
    adapter = aliyun.build(settings("http://127.0.0.1:1", ["127.0.0.1/32"]), context())
    found = adapter.receive(RawRequest(path=path, body=body, remote=remote))
    assert json.loads(found.reply)["code"] == 0
    return found.events


def receipt(**changed: object) -> DeliveryReceipt:
    [found] = received("report", rows(RECEIPT | changed))
    assert isinstance(found, DeliveryReceipt)
    return found


def reply(**changed: object) -> InboundMessage:
    [found] = received("reply", rows(SAID | changed))
    assert isinstance(found, InboundMessage)
    return found


def test_a_receipt() -> None:
    found = receipt()
    assert found == DeliveryReceipt(
        key=found.key,
        provider_id="900619746936498440^0",
        reference="message-0",
        state=ReceiptState.DELIVERED,
        code="DELIVERED",
        address=Address(AddressKind.PHONE, "+8613800138000"),
        at=datetime(2026, 11, 21, 1, 30, 5, tzinfo=UTC),
        raw=json.dumps(RECEIPT, ensure_ascii=False).encode(),
    )


@pytest.mark.parametrize(
    ("success", "code", "state", "opted_out"),
    [
        (True, "DELIVERED", ReceiptState.DELIVERED, False),
        ("true", "DELIVERED", ReceiptState.DELIVERED, False),
        (False, "MOBILE_NOT_ON_SERVICE", ReceiptState.FAILED, False),
        ("false", "MK:0001", ReceiptState.FAILED, False),
        (False, "MOBILE_IN_BLACK", ReceiptState.FAILED, True),
        (False, "USER_REJECT", ReceiptState.FAILED, True),
        (False, "isv.BLACK_KEY_CONTROL_LIMIT", ReceiptState.FAILED, True),
        (False, "REQUEST_SUCCESS", ReceiptState.UNKNOWN, False),
        (False, "SP_UNKNOWN_ERROR", ReceiptState.UNKNOWN, False),
        (None, "DELIVERED", ReceiptState.UNKNOWN, False),
        (1, "", ReceiptState.UNKNOWN, False),
        ({"a": 1}, "", ReceiptState.UNKNOWN, False),
    ],
)
def test_receipt_states(
    success: object, code: str, state: ReceiptState, opted_out: bool
) -> None:
    found = receipt(success=success, err_code=code)
    assert (found.state, found.opted_out) == (state, opted_out)
    assert found.code


def test_a_receipt_with_an_odd_time_or_number_is_kept() -> None:
    found = receipt(report_time="yesterday", phone_number="1380013****")
    assert (found.at, found.address) == (None, None)
    assert found.reference == "message-0"


def test_a_reply() -> None:
    found = reply()
    assert found == InboundMessage(
        key=found.key,
        sender=Address(AddressKind.PHONE, "+8613800138000"),
        text="参加",
        raw=json.dumps(SAID, ensure_ascii=False).encode(),
        sent_at=datetime(2026, 11, 21, 1, 31, tzinfo=UTC),
        provider_id="1234567890",
        to="1069000012345",
    )


def test_unreadable_characters_are_replaced_and_noted() -> None:
    body = rows(SAID).replace("参加".encode(), b"\\ud800A\\u0000B")
    [found] = received("reply", body)
    assert isinstance(found, InboundMessage)
    assert (found.text, found.notes) == ("\ufffdAB", ("unreadable",))
    assert b"\\ud800A" in found.raw


def test_b2_keys_part_texts_and_days_when_ids_come_round_again() -> None:
    assert reply().key == reply().key
    others = [
        reply(content="不参加"),
        reply(send_time="2026-11-22 09:31:00"),
        reply(sequence_id=1234567891),
        reply(phone_number="13900139000"),
        reply(dest_code="1069000099999"),
        reply(content="参加\0"),
    ]
    assert len({found.key for found in [reply(), *others]}) == 7


def test_a_reply_without_a_sequence_number_is_told_apart_by_its_second() -> None:
    one, again = (reply(sequence_id=None), reply(sequence_id=None))
    later = reply(sequence_id=None, send_time="2026-11-21 09:31:01")
    assert one.key == again.key != later.key


def test_two_receipts_of_one_message_have_two_keys() -> None:
    first = receipt(success=False, err_code="REQUEST_SUCCESS")
    assert first.key != receipt().key == receipt().key


def test_one_bad_row_is_reported_and_its_neighbours_are_kept() -> None:
    bad = SAID | {"phone_number": {"1=1": 1}}
    body = rows(SAID, bad, "row", SAID | {"content": "二"})
    kinds = [type(event) for event in received("reply", body)]
    assert kinds == [InboundMessage, ChannelTrouble, ChannelTrouble, InboundMessage]
    trouble = received("reply", body)[1]
    assert isinstance(trouble, ChannelTrouble)
    assert trouble.code == "unreadable_row"
    assert json.loads(trouble.raw) == bad
    assert trouble == received("reply", body)[1]


def test_a_push_without_one_readable_row_is_refused_with_the_fields() -> None:
    with pytest.raises(RequestError) as caught:
        received("report", rows(RECEIPT | {"biz_id": [], "out_id": "x"}, 7))
    assert caught.value.status == 400
    assert set(caught.value.fields) == {"[0].biz_id", "[1]"}


def test_an_empty_push_is_answered() -> None:
    assert received("report", b" [ ] ") == ()


def test_other_paths_methods_and_sources_are_refused() -> None:
    with pytest.raises(NotFound):
        received("elsewhere", rows(RECEIPT))
    for remote in ["203.0.113.9", "", "not an address", "::1"]:
        with pytest.raises(RequestError) as caught:
            received("report", rows(RECEIPT), remote)
        assert caught.value.status == 403
    assert received("report", rows(RECEIPT), "::ffff:127.0.0.1")
    adapter = aliyun.build(settings("http://127.0.0.1:1"), context())
    with pytest.raises(RequestError) as caught:
        adapter.receive(RawRequest(path="report", body=b"[]", method="GET"))
    assert caught.value.status == 405


async def test_the_lab_pushes_and_hears_the_answer_it_wants(lab: SmsLab) -> None:
    async with lab.adapter(Case.REPEATED) as adapter:
        first = await lab.inbound(Case.REPEATED, adapter)
    assert [type(event) for event in first] == [DeliveryReceipt, InboundMessage]


def test_the_answer_time_is_a_setting() -> None:
    short = settings("http://127.0.0.1:1", answer_within=0.5)
    assert short.answer_within == timedelta(milliseconds=500)
