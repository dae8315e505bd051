"""Answers, attendance, the list and its export."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from python_calamine import load_workbook

from broadcasts import recipients, running
from broadcasts.tables import Broadcast
from gateway import questions
from gateway.channels import ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.errors import RequestError
from gateway.members import registry
from gateway.prompts import Choice, choose
from gateway.status import Bucket, OutboundState
from gateway.tables import AddressRow, Outbound, PromptRow
from tests.broadcasts.county import County, phone
from tests.labs.recorder import Recorder, as_channel, drain, recorder
from tests.labs.streams import Carrier, channel, new_sender


async def answer(core: Core, number: int, text: str) -> None:
    """As the router does it: the open questions of the address, then the reading."""
    address = Address(AddressKind.PHONE, phone(number))
    found = choose(text, await questions.open_at(core, [address]))
    assert isinstance(found, Choice)
    row = await PromptRow.get(id=found.prompt.id)
    await questions.answered(core, row, found.value, 1)


async def test_answers_are_counted_and_may_change(core: Core, county: County) -> None:
    await county.crowd(5)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await answer(core, 0, "参加")
    await answer(core, 1, "1")
    await answer(core, 2, "请假")
    assert await recipients.answers(broadcast.id) == recipients.Answers(2, 1, 2)
    await answer(core, 1, "有事请假")
    assert await recipients.answers(broadcast.id) == recipients.Answers(1, 2, 2)
    row = await PromptRow.filter(broadcast_id=broadcast.id).first()
    assert row is not None
    assert (row.data, row.code) == ({"title": "主题党日"}, f"AA{1 + broadcast.id}")


async def test_two_notices_are_told_apart_by_code(core: Core, county: County) -> None:
    await county.crowd(1)
    first, second = await county.approved(), await county.approved(title="另一场")
    await running.start(core, county.clerk, first.id)
    await running.start(core, county.clerk, second.id)
    code = (await PromptRow.get(broadcast_id=second.id)).code
    await answer(core, 0, f"{code} 1")
    assert (await recipients.answers(second.id)).yes == 1
    assert (await recipients.answers(first.id)).yes == 0


async def test_answers_close_when_the_activity_begins(
    core: Core, county: County, clock: ManualClock
) -> None:
    await county.crowd(1)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    clock.advance(timedelta(days=3))
    address = Address(AddressKind.PHONE, phone(0))
    assert await questions.open_at(core, [address]) == []


async def test_a_question_follows_its_message_to_another_channel(
    core: Core, county: County, clock: ManualClock
) -> None:
    """The reply window of QQ closes between plan and send; the text message goes."""
    ways = (("qq", "10001"), ("phone", phone(0)))
    await county.member("两种联系方式", *ways)
    await AddressRow.filter(kind="qq").update(last_inbound_at=clock.now())
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    assert (await PromptRow.get()).kind == "qq"
    clock.advance(timedelta(days=2, minutes=1))
    await Outbound.all().update(expires_at=clock.now() + timedelta(hours=1))
    await drain(core)
    await answer(core, 0, "参加")
    [row] = await recipients.recipients(county.clerk, broadcast.id)
    assert (row.channel, row.reason, row.answer) == ("sms", "rerouted", "yes")
    assert (await recipients.answers(broadcast.id)).yes == 1


async def test_nobody_changes_to_an_address_that_is_written_to_already(
    core: Core, county: County, clock: ManualClock, sms: Recorder
) -> None:
    """A-15: who is in the list twice, or got the number of another one since; the
    others of the channel are not held up by it."""
    mine = await county.member("先来", ("qq", "10001"))
    await county.member("原主", ("phone", phone(7)))
    await county.member("旁人", ("qq", "10002"), ("phone", phone(8)))
    await AddressRow.filter(kind="qq").update(last_inbound_at=clock.now())
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await AddressRow.filter(value=phone(7)).update(member_id=mine.id)
    clock.advance(timedelta(days=2, minutes=1))
    await Outbound.all().update(expires_at=clock.now() + timedelta(hours=1))
    await drain(core)
    assert sorted(sms.to) == [phone(7), phone(8)]
    row = await Outbound.get(member_id=mine.id)
    assert (row.state, row.reason) == ("suppressed", "listed_already")
    assert row.detail == "qq:reply_window_closed, phone:listed_already"
    counts = await recipients.counts(broadcast.id)
    assert (counts[Bucket.ACCEPTED], counts[Bucket.SUPPRESSED]) == (2, 1)


@pytest.mark.parametrize(
    ("state", "accepted", "balanced"),
    [("running", 3, True), ("running", 2, False), ("planning", 2, True)],
)
def test_what_is_planned_is_the_sum_of_the_states(
    state: str, accepted: int, balanced: bool
) -> None:
    """Promise O; slices are written down one after the other."""
    found = recipients.Overview(
        broadcast=Broadcast(state=state, planned=3),
        states={OutboundState.ACCEPTED: accepted},
        answers=None,
    )
    assert found.is_balanced == balanced


async def test_attendance_is_ticked_and_stands_in_the_history(
    core: Core, county: County, clock: ManualClock
) -> None:
    await county.crowd(4)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    await answer(core, 0, "参加")
    with pytest.raises(RequestError) as refused:
        await recipients.record_attendance(core, county.clerk, broadcast.id, [], [])
    assert refused.value.code == "too_early"
    clock.advance(timedelta(days=3, hours=1))
    assert (
        await recipients.record_all_who_said_yes(core, county.clerk, broadcast.id) == 1
    )
    rows = await recipients.recipients(county.clerk, broadcast.id)
    shown = [row.id for row in rows]
    assert [row.attended for row in rows] == [True, False, False, False]
    foreign = [*shown[1:3], 999_999]
    came = await recipients.record_attendance(
        core, county.clerk, broadcast.id, shown[:3], foreign
    )
    assert came == 2
    rows = await recipients.recipients(county.clerk, broadcast.id)
    assert [row.attended for row in rows] == [False, True, True, False]
    lines = []
    for member in county.members[:3]:
        known = await registry.find(county.clerk, member.id)
        [line] = await registry.participation(known)
        lines.append((line.title, line.rsvp, line.attended))
    assert lines == [
        ("主题党日", "yes", False),
        ("主题党日", "", True),
        ("主题党日", "", True),
    ]


async def test_the_list_is_filtered_and_paged(core: Core, county: County) -> None:
    await county.crowd(7)
    await county.member("百分%号", ("phone", phone(90)))
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    seen, after = [], 0
    while page := await recipients.recipients(
        county.clerk, broadcast.id, after=after, limit=3
    ):
        seen += [row.name for row in page]
        after = page[-1].id
    assert len(seen) == len(set(seen)) == 8
    rows = await recipients.recipients(county.clerk, broadcast.id, q="%")
    assert [(row.name, row.to) for row in rows] == [("百分%号", "138****0090")]
    assert await recipients.total(county.clerk, broadcast.id, state="waiting") == 8
    assert await recipients.total(county.clerk, broadcast.id, state="dead") == 0
    with pytest.raises(RequestError) as refused:
        await recipients.total(county.clerk, broadcast.id, state="nonsense")
    assert refused.value.status == 422


async def test_who_waits_for_an_answer_is_not_counted_as_still_to_come(
    core: Core, county: County
) -> None:
    carrier = Carrier()
    core.channels = ChannelSet([channel(carrier)])
    await county.crowd(carrier.capabilities.window + 3)
    id = (await county.approved()).id
    await running.start(core, county.clerk, id)
    sender = await new_sender(core)
    for _ in range(2):
        await sender.step()
    assert len(carrier.waiting) == 10

    async def listed(state: str) -> list[str]:
        rows = await recipients.recipients(county.clerk, id, state=state)
        assert await recipients.total(county.clerk, id, state=state) == len(rows)
        return [row.state for row in rows]

    assert await listed("sending") == ["sending"] * 10
    assert await listed("planned") == ["planned"] * 3
    assert sorted(await listed("waiting")) == ["planned"] * 3 + ["sending"] * 10
    await running.cancel(core, county.clerk, id)
    assert await listed("planned") == []
    assert await listed("sending") == ["sending"] * 10
    carrier.answer_all()
    await sender.step()
    assert await listed("sending") == []
    assert await listed("accepted") == ["accepted"] * 10


async def test_the_export_holds_text_never_formulas(
    core: Core, county: County, tmp_path: Path
) -> None:
    await county.member("=1+1", ("phone", phone(1)))
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)
    await recipients.export(core, county.clerk, broadcast.id, tmp_path / "a.xlsx")
    book = load_workbook(tmp_path / "a.xlsx")
    rows = book.get_sheet_by_index(0).to_python()
    assert rows[0][0] == "姓名"
    assert rows[1][:5] == ["=1+1", "柳汀支部", "sms", "138****0001", "渠道已接收"]
    assert rows[1][6] == "未回复"


async def test_a_receipt_that_never_comes_is_no_failure(
    core: Core, county: County, clock: ManualClock
) -> None:
    """C-7: after 72 hours it is said, where the channel has receipts at all."""
    await county.crowd(1)
    broadcast = await county.approved()
    await running.start(core, county.clerk, broadcast.id)
    await drain(core)

    async def said(core: Core) -> tuple[str, str]:
        [row] = await recipients.recipients(county.clerk, broadcast.id)
        return row.state, recipients.reason_of(core, row)

    with_receipts = recorder(AddressKind.PHONE, delivery_receipts=True)
    other = dataclasses.replace(
        core, channels=ChannelSet([as_channel("sms", with_receipts)])
    )
    clock.advance(timedelta(hours=71, minutes=59))
    assert await said(other) == ("accepted", "")
    clock.advance(timedelta(minutes=1))
    assert await said(other) == ("accepted", "三天没有送达回执")
    assert await said(core) == ("accepted", "")  # nobody promised one
    counts = await recipients.counts(broadcast.id)
    assert (counts[Bucket.ACCEPTED], counts[Bucket.REFUSED]) == (1, 0)
