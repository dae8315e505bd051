"""An inquiry from its text to its rating, on both engines."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.contract import AddressKind
from gateway.errors import NotFound, RequestError
from gateway.inquiries import closing, counter, filing, work
from gateway.inquiries.counter import Entered
from gateway.status import InquiryState
from gateway.tables import Audit, Inbound, Inquiry, InquiryEvent, Outbound, PromptRow
from tests.labs.centre import PHONE, Centre, named
from tests.labs.recording import recorder

SHANGHAI = ZoneInfo("Asia/Shanghai")


async def kinds(inquiry: Inquiry) -> list[str]:
    found = await InquiryEvent.filter(inquiry_id=inquiry.id).order_by("id")
    return [one.kind for one in found]


async def test_a_text_becomes_an_inquiry_with_its_receipt(centre: Centre) -> None:
    message = await centre.arrives("请问党费怎么交？")
    inquiry = await centre.inquiry()
    assert (message.state, message.route) == ("filed", "new")
    assert inquiry.number == "20261120-0001"
    assert inquiry.organisation_id == centre.centre_a.id
    assert inquiry.owner_id == centre.clerk.staff_id
    assert inquiry.contact_name == "张三"
    assert inquiry.matter == "dues"
    # Received on Friday the 20th; seven working days end on the 1st of December.
    assert inquiry.deadline_at == datetime(2026, 12, 2, tzinfo=SHANGHAI)
    await centre.sends("短信")
    [text] = recorder(named(centre.core, "短信")).texts
    assert "20261120-0001" in text
    assert "12月1日前答复" in text
    assert "下班" not in text


async def test_outside_working_hours_the_receipt_says_so(centre: Centre) -> None:
    centre.clock.set(datetime(2026, 11, 21, 20, tzinfo=SHANGHAI))  # a Saturday
    await centre.arrives("请问党费怎么交？")
    await centre.sends("短信")
    [text] = recorder(named(centre.core, "短信")).texts
    assert "下班时间" in text
    assert "08:30-12:00" in text


async def test_a_second_text_joins_and_thanks_change_nothing(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    inquiry = await centre.inquiry()
    await work.answer(centre.core, centre.clerk, inquiry.number, "每月交给支部。")
    message = await centre.arrives("谢谢！")
    assert message.inquiry_id == inquiry.id
    assert (await centre.inquiry()).state == InquiryState.ANSWERED
    message = await centre.arrives("那去年漏交的呢？")
    assert (message.inquiry_id, message.route) == (inquiry.id, "open_inquiry")
    assert (await centre.inquiry()).state == InquiryState.OPEN
    assert await Inquiry.all().count() == 1


async def test_thanks_after_closing_open_nothing(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    inquiry = await centre.inquiry()
    await closing.close(centre.core, centre.clerk, inquiry.number, "已说明")
    message = await centre.arrives("谢谢")
    assert (message.inquiry_id, message.route) == (inquiry.id, "thanks")
    assert await Inquiry.all().count() == 1
    assert (await centre.inquiry()).state == InquiryState.CLOSED


async def test_an_answer_leaves_where_the_member_wrote(centre: Centre) -> None:
    await centre.bind(AddressKind.QQ, "12345678")
    await centre.arrives("在吗", "12345678", AddressKind.QQ, "QQ")
    inquiry = await centre.inquiry()
    sent = await work.answer(centre.core, centre.clerk, inquiry.number, "在的")
    assert (sent.channel, sent.kind, sent.value) == ("QQ", "qq", "12345678")
    inquiry = await centre.inquiry()
    assert inquiry.state == InquiryState.ANSWERED
    assert inquiry.first_response_at == centre.clock.now()
    await centre.sends("QQ")
    assert (await Outbound.get(id=sent.id)).state == "accepted"


async def test_asking_back_waits_for_the_member(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    await work.answer(centre.core, centre.clerk, number, "您在哪个支部？", asks=True)
    assert (await centre.inquiry()).state == InquiryState.WAITING
    await centre.arrives("甲支部")
    assert (await centre.inquiry()).state == InquiryState.OPEN


@pytest.mark.parametrize("text", ["", "  \n", "您好{{不存在}}", "您好{{", "长" * 4001])
async def test_an_answer_that_cant_be_sent_stores_nothing(
    centre: Centre, text: str
) -> None:
    await centre.arrives("请问党费怎么交？")
    before = await Outbound.all().count()
    number = (await centre.inquiry()).number
    with pytest.raises(RequestError) as refused:
        await work.answer(centre.core, centre.clerk, number, text)
    assert "text" in refused.value.fields
    assert await Outbound.all().count() == before
    assert (await centre.inquiry()).state == InquiryState.NEW


async def test_an_outcome_with_a_broken_placeholder_is_refused(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    with pytest.raises(RequestError) as refused:
        await closing.close(centre.core, centre.clerk, number, "办好了{{谁")
    assert "outcome" in refused.value.fields
    assert (await centre.inquiry()).state == InquiryState.NEW


async def test_the_same_form_twice_sends_one_answer(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number

    async def send(key: str) -> Outbound:
        return await work.answer(
            centre.core, centre.clerk, number, "每月交", dedupe_key=key
        )

    first, second = await asyncio.gather(send("a"), send("a"))
    assert first.id == second.id
    assert await Outbound.filter(message_kind="answer").count() == 1


async def test_two_answers_at_once_both_leave(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    await asyncio.gather(
        work.answer(centre.core, centre.clerk, number, "一"),
        work.answer(centre.core, centre.director, number, "二"),
    )
    assert await Outbound.filter(message_kind="answer").count() == 2
    assert (await kinds(await centre.inquiry())).count("answer") == 2


async def test_an_answer_is_taken_back_before_it_leaves(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    await centre.sends("短信")
    number = (await centre.inquiry()).number
    hold = timedelta(seconds=5)
    sent = await work.answer(centre.core, centre.clerk, number, "错了", hold=hold)
    await centre.sends("短信")
    assert (await Outbound.get(id=sent.id)).state == "queued"
    said = await work.take_back(centre.core, centre.clerk, number, sent.id)
    assert said == "错了"
    inquiry = await centre.inquiry()
    assert (inquiry.state, inquiry.first_response_at) == ("new", None)
    centre.later(seconds=10)
    await centre.sends("短信")
    assert (await Outbound.get(id=sent.id)).state == "cancelled"
    assert len(recorder(named(centre.core, "短信")).sent) == 1  # the receipt


async def test_what_has_left_is_not_taken_back(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    hold = timedelta(seconds=5)
    sent = await work.answer(centre.core, centre.clerk, number, "对的", hold=hold)
    centre.later(seconds=6)
    await centre.sends("短信")
    with pytest.raises(RequestError) as refused:
        await work.take_back(centre.core, centre.clerk, number, sent.id)
    assert refused.value.code == "gone"
    assert (await centre.inquiry()).state == InquiryState.ANSWERED


async def test_extending_tells_the_member_the_new_day(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    with pytest.raises(RequestError) as refused:
        await work.extend(centre.core, centre.clerk, number, working_days=3, reason=" ")
    assert "reason" in refused.value.fields
    await work.extend(
        centre.core, centre.clerk, number, working_days=3, reason="等上级答复"
    )
    inquiry = await centre.inquiry()
    assert inquiry.deadline_at == datetime(2026, 12, 5, tzinfo=SHANGHAI)
    assert "told_extended" in await kinds(inquiry)


async def closed(centre: Centre, text: str) -> tuple[Inquiry, Inbound]:
    """An inquiry that was closed, called back, and answered with `text`."""
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    await closing.close(centre.core, centre.clerk, number, "已说明")
    await centre.sends("短信")
    assert "已说明。" in recorder(named(centre.core, "短信")).texts[-1]
    assert await PromptRow.filter(prompt="rating", closed_at=None).count() == 1
    centre.later(hours=1)
    message = await centre.arrives(text)
    return await centre.inquiry(), message


async def test_a_satisfied_member_leaves_it_closed(centre: Centre) -> None:
    inquiry, message = await closed(centre, "1")
    assert (inquiry.rating, inquiry.state) == (1, InquiryState.CLOSED)
    assert (message.state, message.route) == ("filed", "prompt_rating")


async def test_a_dissatisfied_member_reopens_and_the_director_hears(
    centre: Centre,
) -> None:
    inquiry, _ = await closed(centre, "不满意")
    assert (inquiry.rating, inquiry.state) == (3, InquiryState.OPEN)
    assert (inquiry.attention, inquiry.reopened) == ("director", 1)
    assert inquiry.deadline_at > centre.clock.now()
    await centre.sends("短信")
    assert "重新办理" in recorder(named(centre.core, "短信")).texts[-1]
    await closing.dismiss_attention(centre.core, centre.director, inquiry.number)
    assert (await centre.inquiry()).attention == ""


async def test_the_first_receiver_keeps_sight_of_what_is_handed_on(
    centre: Centre,
) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    with pytest.raises(NotFound):
        await work.find(centre.other, number)
    await work.transfer(
        centre.core,
        centre.clerk,
        number,
        organisation_code=centre.centre_b.code,
        reason="属乙中心",
    )
    inquiry = await work.find(centre.other, number)
    assert inquiry.owner_id is None
    assert (await work.find(centre.clerk, number)).id == inquiry.id
    sent = await work.answer(centre.core, centre.clerk, number, "乙中心说可以")
    assert sent.value == PHONE


async def test_nobody_is_given_a_matter_from_outside_of_sight(centre: Centre) -> None:
    await centre.arrives("请问党费怎么交？")
    number = (await centre.inquiry()).number
    for username in ("other", "nobody"):
        with pytest.raises(RequestError) as refused:
            await work.assign(centre.core, centre.clerk, number, username)
        assert refused.value.code == "no_staff"
    await work.assign(centre.core, centre.clerk, number, "director")
    inquiry = await centre.inquiry()
    assert (inquiry.owner_id, inquiry.attention) == (
        centre.director.staff_id,
        "director",
    )


async def test_a_matter_of_the_counter_is_registered_once(centre: Centre) -> None:
    entered = Entered(
        source="counter",
        phone="138 0013 8000",
        text="想转组织关系",
        answer="请带身份证来",
        form="ab" * 16,
    )
    numbers = await asyncio.gather(
        counter.enter(centre.core, centre.clerk, entered),
        counter.enter(centre.core, centre.clerk, entered),
    )
    assert numbers[0] == numbers[1]
    inquiry = await centre.inquiry()
    assert await Inquiry.all().count() == 1
    assert inquiry.member_id == centre.member.id
    assert inquiry.state == InquiryState.ANSWERED
    assert inquiry.owner_id == centre.clerk.staff_id


async def test_every_fault_of_a_new_matter_is_named(centre: Centre) -> None:
    entered = Entered(source="fax", phone="12345", matter="money", text=" ")
    with pytest.raises(RequestError) as refused:
        await counter.enter(centre.core, centre.clerk, entered)
    assert set(refused.value.fields) == {"source", "phone", "matter", "text"}
    assert "12345" not in str(refused.value.fields)


async def test_a_message_moves_is_moved_back_and_split_off(centre: Centre) -> None:
    await centre.arrives("第一件")
    first = await centre.inquiry()
    second_number = await counter.enter(
        centre.core, centre.clerk, Entered(text="第二件", form="")
    )
    message = await centre.arrives("补充说明", display_name="张")
    assert message.inquiry_id == first.id
    core, clerk = centre.core, centre.clerk
    await filing.move(core, clerk, first.number, message.id, second_number)
    second = await Inquiry.get(number=second_number)
    assert (await Inbound.get(id=message.id)).inquiry_id == second.id
    assert "moved_out" in await kinds(first)
    assert (await kinds(second))[-2:] == ["moved_in", "message_in"]
    with pytest.raises(NotFound):
        await filing.move(core, clerk, first.number, message.id, second_number)
    await filing.move(core, clerk, second_number, message.id, first.number)
    number = await filing.split(core, clerk, first.number, message.id)
    third = await Inquiry.get(number=number)
    assert third.text == "补充说明"
    assert (await Inbound.get(id=message.id)).inquiry_id == third.id
    assert await Audit.filter(action__startswith="message.").count() == 3


async def test_nothing_moves_into_a_foreign_inquiry(centre: Centre) -> None:
    await centre.arrives("第一件")
    first = await centre.inquiry()
    foreign = await counter.enter(centre.core, centre.other, Entered(text="别的"))
    message = await Inbound.all().first()
    assert message is not None
    with pytest.raises(RequestError) as refused:
        await filing.move(centre.core, centre.clerk, first.number, message.id, foreign)
    assert "to" in refused.value.fields


async def test_a_plausible_sending_time_counts_for_the_deadline(centre: Centre) -> None:
    sent = datetime(2026, 11, 19, 2, tzinfo=UTC)
    await centre.arrives("昨天写的", sent_at=sent)
    inquiry = await centre.inquiry()
    assert inquiry.received_at == sent
    assert inquiry.number.startswith("20261119-")


async def test_only_pages_that_may_see_it_hear_of_it(centre: Centre) -> None:
    async with centre.core.hub.subscribed() as subscriber:
        await centre.arrives("请问党费怎么交？")
        await centre.sends("短信")
        inquiry = await centre.inquiry()
        await work.transfer(
            centre.core,
            centre.clerk,
            inquiry.number,
            organisation_code=centre.centre_b.code,
            reason="属乙中心",
        )
        await centre.arrives("不相干", "+8613900139000")
        heard = []
        async with asyncio.timeout(5):
            while (change := await subscriber.get()).id != str(inquiry.id + 1):
                heard.append(change)
    topics = {one.topic for one in heard}
    assert topics == {"inquiry"}
    paths = {one.path for one in heard}
    assert paths == {centre.centre_a.path, centre.centre_b.path}


async def test_a_message_filed_under_a_closed_matter_reopens_it(
    centre: Centre,
) -> None:
    await centre.arrives("第一件")
    first = await centre.inquiry()
    second = await counter.enter(centre.core, centre.clerk, Entered(text="第二件"))
    await closing.close(centre.core, centre.clerk, second, "好", call_back=False)
    message = await Inbound.get(inquiry_id=first.id)
    await filing.move(centre.core, centre.clerk, first.number, message.id, second)
    after = await Inquiry.get(number=second)
    assert (after.state, after.reopened) == (InquiryState.OPEN, 1)
