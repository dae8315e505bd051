"""The whole story of one matter, on both engines, through the real parts."""

from datetime import timedelta

import pytest

from gateway.clock import ManualClock
from gateway.contract import AddressKind, DeliveryReceipt, ReceiptState
from gateway.errors import (
    NotFound,
    OutcomeUnknown,
    PermanentFailure,
    RequestError,
    TransientFailure,
)
from gateway.inquiries import closing, work
from gateway.members.consent import opt_out_path
from gateway.tables import (
    AddressRow,
    Inbound,
    Inquiry,
    InquiryEvent,
    OptOutRow,
    Outbound,
)
from tests.flows.conftest import Centre
from tests.labs.outgoing import queued

JIANGUO = "+8619900000001"
QINGYUN = "+8619900000002"
STRANGER = "+8619900000777"


async def test_from_a_text_to_a_rating(centre: Centre, clock: ManualClock) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "老师好，我的党费怎么交？"))
    inquiry = await centre.newest()
    assert inquiry.number == "20261120-0001"
    assert (inquiry.state, inquiry.matter, inquiry.contact_name) == (
        "new",
        "dues",
        "欧阳建国",
    )
    assert inquiry.owner_id == centre.clerk.staff_id
    receipt = centre.phones.last(JIANGUO)
    assert "20261120-0001" in receipt
    assert "12月1日" in receipt  # seven working days from Friday, 20 November

    await work.answer(centre.core, centre.clerk, inquiry.number, "每月交到支部即可。")
    await centre.work()
    assert centre.phones.last(JIANGUO) == "每月交到支部即可。（单号20261120-0001）"
    answer = centre.phones.sent[-1]
    await centre.receive("sms", centre.phones.receipt(answer))
    assert (await Outbound.get(id=int(answer.id))).state == "delivered"

    await closing.close(centre.core, centre.clerk, inquiry.number, "已告知交纳办法")
    await centre.work()
    assert "请回复数字" in centre.phones.last(JIANGUO)
    await centre.receive("sms", centre.phones.text(JIANGUO, "１"))
    inquiry = await centre.newest()
    assert (inquiry.state, inquiry.rating) == ("closed", 1)
    assert "谢谢您的评价" in centre.phones.last(JIANGUO)


async def test_dissatisfied_reopens_and_tells_the_director(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "组织关系怎么转？"))
    inquiry = await centre.newest()
    await closing.close(centre.core, centre.clerk, inquiry.number, "已告知")
    await centre.work()
    await centre.receive("sms", centre.phones.text(JIANGUO, "不满意"))
    again = await centre.newest()
    assert (again.state, again.rating, again.reopened) == ("open", 3, 1)
    assert again.attention == "director"
    assert "已重新办理" in centre.phones.last(JIANGUO)


async def test_a_repeated_push_changes_nothing(centre: Centre) -> None:
    push = centre.phones.text(STRANGER, "请问怎样入党？", key="same")
    await centre.receive("sms", push, push)
    await centre.receive("sms", push)
    assert await Inquiry.all().count() == 1
    assert await Inbound.all().count() == 1
    assert len(centre.phones.sent) == 1


async def test_more_of_the_same_matter_joins_it(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(STRANGER, "请问怎样入党？"))
    inquiry = await centre.newest()
    await work.answer(centre.core, centre.county, inquiry.number, "请先写申请书")
    await centre.receive("sms", centre.phones.text(STRANGER, "交给谁呢？"))
    assert await Inquiry.all().count() == 1
    assert (await centre.newest()).state == "open"
    await work.answer(centre.core, centre.county, inquiry.number, "交给社区支部")
    await centre.receive("sms", centre.phones.text(STRANGER, "好的，谢谢老师！"))
    assert (await centre.newest()).state == "answered"


async def test_an_opt_out_holds_and_has_its_proof(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "ＴＤ"))
    row = await OptOutRow.get(value=JIANGUO)
    assert (row.how, row.evidence, row.ended_at) == ("word", "ＴＤ", None)
    assert row.member_id is not None
    assert "已停止" in centre.phones.last(JIANGUO)
    assert await Inquiry.all().count() == 0
    await centre.receive("sms", centre.phones.text(JIANGUO, "恢复接收"))
    assert (await OptOutRow.get(value=JIANGUO)).ended_at is not None


async def test_an_opt_out_with_a_question_keeps_the_question(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "退订 我想问党龄怎么算"))
    assert await OptOutRow.filter(value=JIANGUO).exists()
    assert (await centre.newest()).text == "退订 我想问党龄怎么算"


async def test_what_is_refused_is_seen(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    centre.phones.answers[JIANGUO] = PermanentFailure("bad_number")
    sent = await work.answer(centre.core, centre.clerk, inquiry.number, "您好")
    await centre.work()
    row = await Outbound.get(id=sent.id)
    assert (row.state, row.reason) == ("failed", "bad_number")
    assert await InquiryEvent.filter(inquiry=inquiry, kind="undelivered").exists()


async def test_unknown_stays_until_evidence(centre: Centre, clock: ManualClock) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    centre.phones.answers[JIANGUO] = OutcomeUnknown("silence")
    sent = await work.answer(centre.core, centre.clerk, inquiry.number, "您好")
    await centre.work()
    clock.advance(timedelta(hours=2))
    await centre.work()
    row = await Outbound.get(id=sent.id)
    assert (row.state, row.attempts) == ("unknown", 1)


async def test_a_certain_failure_is_tried_again(
    centre: Centre, clock: ManualClock
) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    centre.phones.answers[JIANGUO] = TransientFailure("refused_connection")
    sent = await work.answer(centre.core, centre.clerk, inquiry.number, "您好")
    await centre.work()
    assert (await Outbound.get(id=sent.id)).state == "queued"
    del centre.phones.answers[JIANGUO]
    clock.advance(timedelta(minutes=20))
    await centre.work()
    assert (await Outbound.get(id=sent.id)).state == "accepted"


async def test_an_early_receipt_waits_for_its_message(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    sent = await work.answer(centre.core, centre.clerk, inquiry.number, "您好")
    early = DeliveryReceipt(
        key="early", provider_id=f"p{sent.id}", state=ReceiptState.DELIVERED, raw=b""
    )
    await centre.receive("sms", early)
    assert (await Outbound.get(id=sent.id)).state == "delivered"


async def test_another_centre_sees_nothing(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    with pytest.raises(NotFound):
        await work.answer(centre.core, centre.stranger, inquiry.number, "您好")
    with pytest.raises(NotFound):
        await work.answer(centre.core, centre.stranger, "20261120-9999", "您好")


async def test_words_that_are_no_placeholder_are_told(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    inquiry = await centre.newest()
    with pytest.raises(RequestError) as caught:
        await work.answer(centre.core, centre.clerk, inquiry.number, "您好{{生日}}")
    assert "生日" in caught.value.fields["text"]
    assert inquiry.kind == AddressKind.PHONE


async def test_unasked_mail_carries_its_way_out(centre: Centre) -> None:
    address = await AddressRow.create(
        kind="email", value="a@example.org", created_at=centre.core.clock.now()
    )
    row = await queued(
        centre.core.clock.now(),
        message_kind="notice",
        channel="mail",
        kind="email",
        value="a@example.org",
    )
    await centre.work()
    sent = centre.mails.sent[-1]
    assert sent.id == str(row.id)
    expected = opt_out_path(centre.core, address.id)
    assert sent.unsubscribe_url == f"http://127.0.0.1:8080{expected}"


async def test_a_receipt_with_an_absurd_reference_harms_nobody(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    absurd = DeliveryReceipt(
        key="absurd",
        provider_id="",
        reference="9" * 64,
        state=ReceiptState.DELIVERED,
        raw=b"",
    )
    sent = centre.phones.sent[-1]
    await centre.receive("sms", absurd, centre.phones.receipt(sent))
    assert (await Outbound.get(id=int(sent.id))).state == "delivered"


async def test_a_receipt_that_waits_is_swept_up(
    centre: Centre, clock: ManualClock
) -> None:
    await centre.receive("sms", centre.phones.text(JIANGUO, "你好"))
    sent = centre.phones.sent[-1]
    await Outbound.filter(id=int(sent.id)).update(provider_id="", state="unknown")
    await centre.receive("sms", centre.phones.receipt(sent))
    await Outbound.filter(id=int(sent.id)).update(provider_id=f"p{sent.id}")
    await centre.work()
    assert (await Outbound.get(id=int(sent.id))).state == "unknown"
    clock.advance(timedelta(minutes=2))
    await centre.work()
    assert (await Outbound.get(id=int(sent.id))).state == "delivered"


async def test_an_answer_without_a_question_is_no_inquiry(centre: Centre) -> None:
    await centre.receive("sms", centre.phones.text(STRANGER, "１。"))
    message = await Inbound.get(value=STRANGER)
    assert (message.state, message.route) == ("review", "bare_answer")
    assert await Inquiry.all().count() == 0
