"""Tencent Cloud: the wire in both directions. What all share is in the contract."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession
from yarl import URL

from adapters import tencent
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
from tests.labs.sms import Play, SmsLab, context
from tests.labs.tencent_lab import (
    RECEIPT,
    SAID,
    SECRET,
    SECRET_ID,
    TencentDialect,
    dumped,
    settings,
    status,
)


@pytest.fixture
async def lab() -> AsyncIterator[SmsLab]:
    async with SmsLab(TencentDialect(), [SECRET]) as opened:
        yield opened


def message(**variables: str) -> OutboundMessage:
    return OutboundMessage(
        id="0193f2c4message",
        kind=MessageKind.NOTICE,
        to=Address(AddressKind.PHONE, "+8613800138000"),
        text="ignored",
        template=TemplateUse("1110", variables),
    )


async def sent(lab: SmsLab, one: OutboundMessage) -> object:
    adapter = tencent.build(settings(lab.endpoint, answer_within=0.2), context())
    try:
        return (await adapter.send([one]))[one.id]
    finally:
        await adapter.close()


async def test_parameters_on_the_wire(lab: SmsLab) -> None:
    found = await sent(lab, message(name="张三", when="3月1日"))
    assert found == Accepted(("serial-0193f2c4message",))
    [call] = lab.calls
    assert json.loads(call.body) == {
        "PhoneNumberSet": ["+8613800138000"],
        "SmsSdkAppId": "1400006666",
        "SignName": "连心",
        "TemplateId": "1110",
        "TemplateParamSet": ["张三", "3月1日"],
        "SessionContext": "0193f2c4message",
    }
    assert call.headers["X-TC-Region"] == "ap-guangzhou"


async def test_variables_keep_their_order(lab: SmsLab) -> None:
    await sent(lab, message(z="1", a="2", m="3"))
    assert lab.taken()[0].text == "123"


async def test_half_a_character_can_be_sent(lab: SmsLab) -> None:
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


@pytest.mark.parametrize("play", [Play.SILENT, Play.BROKEN_DOWN])
async def test_silence_and_server_errors_are_unknown(lab: SmsLab, play: Play) -> None:
    lab.play = play
    assert isinstance(await sent(lab, message()), OutcomeUnknown)


async def test_a_wrong_key_concerns_the_account_not_the_message(lab: SmsLab) -> None:
    wrong = settings(lab.endpoint).model_copy(update={"secret_id": "AKIDother"})
    adapter = tencent.build(wrong, context())
    found = (await adapter.send([message()]))["0193f2c4message"]
    await adapter.close()
    assert isinstance(found, TransientFailure)
    assert (found.code, found.throttled) == ("AuthFailure.SignatureFailure", False)
    assert lab.forgeries == 1


def failed(code: str) -> dict[str, object]:
    return {"Response": {"SendStatusSet": [status(code, "+86", "", "")]}}


def broken(code: object) -> dict[str, object]:
    return {"Response": {"Error": {"Code": code, "Message": "m"}}}


OK = status("Ok", "+8613800138000", "s1", "")


@pytest.mark.parametrize(
    ("http", "body", "expected"),
    [
        (200, {"Response": {"SendStatusSet": [OK]}}, Accepted(("s1",))),
        (200, {"Response": {"SendStatusSet": [OK, OK]}}, OutcomeUnknown),
        (200, {"Response": {"SendStatusSet": []}}, OutcomeUnknown),
        (200, {"Response": {"SendStatusSet": ["Ok"]}}, OutcomeUnknown),
        (200, {"Response": {"SendStatusSet": [OK | {"SerialNo": 1}]}}, OutcomeUnknown),
        (200, {"Response": []}, OutcomeUnknown),
        (200, [], OutcomeUnknown),
        (500, {"Response": {"SendStatusSet": [OK]}}, OutcomeUnknown),
        (200, failed("FailedOperation.PhoneNumberInBlacklist"), PermanentFailure),
        (200, failed("LimitExceeded.PhoneNumberDailyLimit"), TransientFailure),
        (200, failed("InternalError.Timeout"), OutcomeUnknown),
        (200, failed("FailedOperation.NeverHeardOf"), PermanentFailure),
        (200, broken("RequestLimitExceeded"), TransientFailure),
        (200, broken("InternalError.RequestTimeException"), TransientFailure),
        (200, broken("NeverHeardOf"), PermanentFailure),
        (200, broken({"a": 1}), OutcomeUnknown),
    ],
)
def test_answers(http: int, body: object, expected: object) -> None:
    found = tencent.outcome(Answer(http, json.dumps(body).encode()))
    assert found == expected or type(found) is expected


def test_a_blacklisted_number_has_opted_out() -> None:
    body = json.dumps(failed("FailedOperation.PhoneNumberInBlacklist")).encode()
    found = tencent.outcome(Answer(200, body))
    assert isinstance(found, PermanentFailure)
    assert found.opted_out


# Signature ---------------------------------------------------------------------------


async def test_the_vendor_sdk_signs_the_same_bytes_alike(lab: SmsLab) -> None:
    """The SDK calls the lab; for its body and second, our signature and the lab's
    (which accepted the call) are the same to the last byte."""
    await by_sdk(lab)
    [call] = lab.calls
    ours = tencent.authorization(
        SECRET_ID,
        SECRET,
        call.headers["Host"],
        call.body,
        at=datetime.fromtimestamp(int(call.headers["X-TC-Timestamp"]), UTC),
    )
    assert ours == call.authorization


async def test_our_parameters_are_placed_where_the_sdk_places_them(
    lab: SmsLab,
) -> None:
    await by_sdk(lab)
    await sent(lab, message(name="张三 & 李四"))
    theirs, ours = lab.calls
    assert json.loads(ours.body) == json.loads(theirs.body)
    for name in ["Host", "Content-Type", "X-TC-Action", "X-TC-Version", "X-TC-Region"]:
        assert ours.headers[name] == theirs.headers[name]


async def by_sdk(lab: SmsLab) -> None:
    with warnings.catch_warnings():
        # The SDK's own modules use what newer Pythons deprecate.
        warnings.simplefilter("ignore")
        await asyncio.to_thread(send_by_sdk, lab.endpoint)


def send_by_sdk(endpoint: str) -> None:
    # Imported here, below the warnings filter. The packages carry no types.
    from tencentcloud.common.credential import (  # type: ignore[import-untyped]
        Credential,
    )
    from tencentcloud.common.profile.client_profile import (  # type: ignore[import-untyped]
        ClientProfile,
    )
    from tencentcloud.common.profile.http_profile import (  # type: ignore[import-untyped]
        HttpProfile,
    )
    from tencentcloud.sms.v20210111.models import (  # type: ignore[import-untyped]
        SendSmsRequest,
    )
    from tencentcloud.sms.v20210111.sms_client import (  # type: ignore[import-untyped]
        SmsClient,
    )

    http = HttpProfile(protocol="http", endpoint=URL(endpoint).authority)
    client = SmsClient(
        Credential(SECRET_ID, SECRET), "ap-guangzhou", ClientProfile(httpProfile=http)
    )
    request = SendSmsRequest()
    request.PhoneNumberSet = ["+8613800138000"]
    request.SmsSdkAppId = "1400006666"
    request.SignName = "连心"
    request.TemplateId = "1110"
    request.TemplateParamSet = ["张三 & 李四"]
    request.SessionContext = "0193f2c4message"
    answer = client.SendSms(request)
    assert answer.SendStatusSet[0].Code == "Ok"


@pytest.mark.parametrize("change", ["body", "time", "type"])
async def test_the_lab_notices_every_change(lab: SmsLab, change: str) -> None:
    await sent(lab, message(name="张三"))
    [call] = lab.calls
    headers, body = dict(call.headers), call.body
    match change:
        case "body":
            body = body.replace(b"1110", b"1111")
        case "time":
            headers["X-TC-Timestamp"] = str(int(headers["X-TC-Timestamp"]) + 1)
        case "type":
            headers["Content-Type"] = "application/json; charset=utf-8"
    headers.pop("Content-Length", None)
    async with (
        ClientSession() as session,
        session.post(lab.endpoint, headers=headers, data=body) as response,
    ):
        assert "SignatureFailure" in await response.text()
    assert lab.forgeries == 1


# Pushes ------------------------------------------------------------------------------


def received(path: str, body: bytes, remote: str = "127.0.0.1") -> tuple[Event, ...]:
    adapter = tencent.build(settings("http://127.0.0.1:1", ["127.0.0.1/32"]), context())
    found = adapter.receive(RawRequest(path=path, body=body, remote=remote))
    assert json.loads(found.reply) == {"result": 0, "errmsg": "OK"}
    return found.events


def receipt(**changed: object) -> DeliveryReceipt:
    [found] = received("report", dumped([RECEIPT | changed]))
    assert isinstance(found, DeliveryReceipt)
    return found


def reply(**changed: object) -> InboundMessage:
    [found] = received("reply", dumped(SAID | changed))
    assert isinstance(found, InboundMessage)
    return found


def test_a_receipt() -> None:
    found = receipt()
    assert found == DeliveryReceipt(
        key=found.key,
        provider_id="2019:5932431142108345",
        reference="message-0",
        state=ReceiptState.DELIVERED,
        code="DELIVRD",
        address=Address(AddressKind.PHONE, "+8613800138000"),
        at=datetime(2026, 11, 21, 1, 30, 5, tzinfo=UTC),
        raw=dumped(RECEIPT),
    )


@pytest.mark.parametrize(
    ("word", "code", "state"),
    [
        ("SUCCESS", "DELIVRD", ReceiptState.DELIVERED),
        ("FAIL", "MK:0001", ReceiptState.FAILED),
        ("success", "DELIVRD", ReceiptState.UNKNOWN),
        ("", "DELIVRD", ReceiptState.UNKNOWN),
        (None, "", ReceiptState.UNKNOWN),
    ],
)
def test_receipt_states(word: object, code: str, state: ReceiptState) -> None:
    found = receipt(report_status=word, errmsg=code)
    assert found.state is state
    assert found.code


def test_a_receipt_without_our_id_still_has_the_provider_s() -> None:
    found = receipt(ext=None)
    assert (found.reference, found.provider_id) == ("", "2019:5932431142108345")


def test_a_reply() -> None:
    found = reply()
    assert found == InboundMessage(
        key=found.key,
        sender=Address(AddressKind.PHONE, "+8613800138000"),
        text="参加",
        raw=dumped(SAID),
        sent_at=datetime.fromtimestamp(1795225860, UTC),
        to="01",
    )


@pytest.mark.parametrize("odd", [None, 10**40, -1, "soon", 1e400, 1.5])
def test_a_reply_with_an_odd_time_is_kept(odd: object) -> None:
    body = dumped(SAID | {"time": odd}).replace(b"Infinity", b"1e400")
    [found] = received("reply", body)
    assert isinstance(found, InboundMessage)
    assert (found.text, found.sent_at) == ("参加", None)


@pytest.mark.parametrize("odd", [True, [], {"1=1": 1}])
def test_a_shape_that_is_no_time_is_refused(odd: object) -> None:
    with pytest.raises(RequestError) as caught:
        received("reply", dumped(SAID | {"time": odd}))
    assert list(caught.value.fields) == ["[0].time"]


def test_keys_part_texts_seconds_and_people() -> None:
    others = [
        reply(text="不参加"),
        reply(time=1795225861),
        reply(mobile="13900139000"),
        reply(extend="02"),
    ]
    assert reply().key == reply().key
    assert len({found.key for found in [reply(), *others]}) == 5


def test_a_number_from_elsewhere() -> None:
    found = reply(nationcode="852", mobile="51234567")
    assert found.sender.value == "+85251234567"


def test_one_bad_row_is_reported_and_its_neighbours_are_kept() -> None:
    body = dumped([RECEIPT, RECEIPT | {"sid": {"a": 1}}, RECEIPT | {"sid": "3"}])
    kinds = [type(event) for event in received("report", body)]
    assert kinds == [DeliveryReceipt, ChannelTrouble, DeliveryReceipt]


def test_shapes_and_paths_that_are_not_a_push() -> None:
    for path, body in [
        ("report", dumped(RECEIPT)),
        ("reply", dumped([SAID])),
        ("reply", dumped(SAID) + b"x"),
        ("reply", b""),
        ("report", b"[1,]"),
        ("report", b"[1 2]"),
        ("report", b"[] []"),
        ("report", b"["),
    ]:
        with pytest.raises(RequestError) as caught:
            received(path, body)
        assert caught.value.status == 400
    with pytest.raises(NotFound):
        received("", b"[]")
    with pytest.raises(RequestError) as caught:
        received("report", b"[]", "203.0.113.9")
    assert caught.value.status == 403
