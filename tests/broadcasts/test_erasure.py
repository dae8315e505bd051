"""A-16, I-8: somebody who is erased is gone, and gets nothing more."""

import asyncio
import dataclasses
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import pytest

from broadcasts import audience, freeze, notices, planning, recipients
from broadcasts import plan as plans
from broadcasts.stage import staged
from broadcasts.tables import Broadcast
from gateway import database as db
from gateway import verify
from gateway.actors import Actor
from gateway.clock import ManualClock
from gateway.contract import (
    Address,
    AddressKind,
    DeliveryReceipt,
    MessageKind,
    ReceiptState,
)
from gateway.core import Core
from gateway.errors import NotFound, RequestError, TransientFailure
from gateway.inbox.router import Router
from gateway.inquiries import say, work
from gateway.members import codes, consent, erasure, importing, load, registry
from gateway.members.erasure import Extent
from gateway.outbox import moves, receipts
from gateway.outbox.sender import Sender
from gateway.tables import (
    AddressRow,
    Attempt,
    Audit,
    Erasure,
    Inbound,
    Inquiry,
    InquiryEvent,
    Member,
    OptOutRow,
    Outbound,
    PromptRow,
    Staff,
    Subscription,
)
from tests.broadcasts.county import County, phone
from tests.broadcasts.test_freeze import begun, core, terms
from tests.gateway.outbox.test_chunks import waits_for_us
from tests.labs.outgoing import queued
from tests.labs.recorder import Recorder, drain

__all__ = ["core"]

NAME, NUMBER, MAIL = "江金凤", "+8613800138000", "jiang@example.org"
WHY = "本人书面申请"
SECRET = (NAME, NUMBER, "13800138000", MAIL, "jiang")


@pytest.fixture
async def county(county: County) -> County:
    """Its clerk can own what comes in."""
    await Staff.create(
        id=county.clerk.staff_id,
        username="chu",
        name=county.clerk.name,
        role=county.clerk.role,
        organisation=county.north,
        password_hash="",
        created_at=county.core.clock.now(),
    )
    return county


async def jiang(county: County) -> Member:
    return await county.member(
        NAME, ("phone", NUMBER), ("email", MAIL), tags=("志愿者",)
    )


async def erased(county: County, member: Member, actor: Actor | None = None) -> Extent:
    return await erasure.erase(county.core, actor or county.director, member.id, WHY)


async def traces() -> list[str]:
    """Everything in the database that tells who it was."""
    if db.is_postgres():
        names = "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
    else:
        names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return [
        f"{table['name']}.{column}: {_text(cell)}"
        for table in await db.rows(names)
        for row in await db.rows(f'SELECT * FROM "{table["name"]}"')
        for column, cell in row.items()
        if any(word in _text(cell) for word in SECRET)
    ]


def _text(cell: object) -> str:
    if isinstance(cell, bytes | memoryview):
        return bytes(cell).decode("utf-8", "replace")
    return str(cell)


async def holds(core: Core) -> bool:
    found = await verify.verify(db.rows, core.clock.now())
    return found.holds


async def running(county: County, **changes: Any) -> Broadcast:
    broadcast = await begun(county, **changes)
    planned = await notices.plan_of(county.core, broadcast)
    await planning.plan(county.core, broadcast, planned, terms(county.core, broadcast))
    return await Broadcast.get(id=broadcast.id)


async def comes(county: County, text: str) -> Inbound:
    """A message from the number is stored and routed."""
    message = await Inbound.create(
        channel="sms",
        key=str(await Inbound.all().count()),
        kind="phone",
        value=NUMBER,
        text=text,
        display_name=NAME,
        payload=f"{NUMBER} {text}".encode(),
        received_at=county.core.clock.now(),
    )
    await Router(county.core, nothing_today).step()
    return await Inbound.get(id=message.id)


async def nothing_today() -> None:
    return None


async def matter(county: County) -> Inquiry:
    inquiry = await Inquiry.all().order_by("-id").first()
    assert inquiry is not None
    return inquiry


async def test_nothing_tells_any_more_who_it_was(core: Core, county: County) -> None:
    member = await jiang(county)
    await county.crowd(2)
    await county.subscribe("phone", NUMBER, member.id)
    first = await running(county)
    await drain(core)
    await comes(county, f"我是{NAME}，电话{NUMBER[3:]}，党费交多少？")
    inquiry = await matter(county)
    await work.answer(core, county.clerk, inquiry.number, f"{NAME}同志：按月交。")
    await drain(core)
    await comes(county, "1")  # comes to the activity
    await comes(county, "帮助")
    await registry.binding_code(core, county.clerk, member.id)
    second = await running(county, title="又一次")
    before = "\n".join(await traces())
    assert all(word in before for word in SECRET)

    reached = await erased(county, member)

    assert (reached.waiting, reached.inquiries) == (3, 1)  # a notice, two replies
    assert await traces() == []
    assert not await Member.exists(id=member.id)
    assert not await AddressRow.exists(value=NUMBER)
    assert await Subscription.all().count() == 0
    assert await PromptRow.filter(closed_at__isnull=True, member_id=member.id) == []
    found = await recipients.overview(county.director, first.id)
    assert found.answers is not None
    assert (found.answers.yes, found.is_balanced) == (1, True)
    found = await recipients.overview(county.director, second.id)
    assert found.states["cancelled"] == 1
    assert found.is_balanced
    assert await holds(core)


async def test_the_record_of_a_matter_stays_without_its_person(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    await comes(county, f"我是{NAME}，党费交多少？")
    inquiry = await matter(county)
    assert inquiry.member_id == member.id
    await work.answer(
        core, county.clerk, inquiry.number, "按月交。", hold=timedelta(hours=1)
    )
    await erased(county, member)
    left = await matter(county)
    assert (left.member_id, left.contact_name, left.value) == (None, "", "")
    assert left.text == "我是○○○，党费交多少？"
    told = {e.kind: e.text for e in await InquiryEvent.filter(inquiry_id=left.id)}
    assert "按月交" in told["answer"]
    assert "erased" in told
    assert await say.ways_to(core, left) == []
    with pytest.raises(RequestError, match="没有可用的渠道"):
        await work.answer(core, county.clerk, left.number, "还有一事")
    await drain(core)
    states = {o.message_kind: (o.state, o.reason) for o in await Outbound.all()}
    assert states["answer"] == ("cancelled", "erased")


async def test_a_refusal_stays_in_force_at_every_address(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    address = Address(AddressKind.PHONE, NUMBER)
    async with db.transaction():
        await consent.opt_out(core, address, how="word", evidence=f"退订 {NAME}")
    await erased(county, member)
    found = await OptOutRow.filter(ended_at__isnull=True).order_by("kind")
    assert [(o.kind, o.member_id, o.evidence) for o in found] == [
        ("email", None, ""),
        ("phone", None, ""),
    ]
    again = await county.member("新党员", ("phone", NUMBER))
    await running(county)
    await drain(core)
    [row] = await Outbound.filter(member_id=again.id)
    assert (row.state, row.reason) == ("suppressed", "opted_out")


async def test_who_refused_once_and_resumed_leaves_no_refusal(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    address = Address(AddressKind.PHONE, NUMBER)
    async with db.transaction():
        await consent.opt_out(core, address, how="word", evidence="R")
        await consent.resume(core, address, how="word")
    await erased(county, member)
    assert await OptOutRow.all().count() == 0


async def test_what_others_have_stays_theirs(core: Core, county: County) -> None:
    """The number belonged to somebody else before; that one's rows stay whole."""
    first = await county.member("李前", ("phone", NUMBER))
    await running(county, rsvp=False)
    await drain(core)
    await AddressRow.filter(value=NUMBER).delete()
    second = await jiang(county)
    reached = await erased(county, second)
    assert reached.waiting == 0
    [row] = await Outbound.all()
    assert (row.member_id, row.value, row.state) == (first.id, NUMBER, "accepted")


async def test_the_audit_names_who_did_it_and_why_and_not_whom(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    await erased(county, member)
    [entry] = await Audit.filter(action="member.erased")
    assert (entry.actor, entry.staff_id) == ("岑主任", 2)
    assert entry.object == f"member:{member.id}"
    assert entry.detail == {
        "reason": WHY,
        "cancelled": 0,
        "under_way": 0,
        "inquiries": 0,
    }


@pytest.mark.parametrize(
    "reason", ["", " \n ", "字" * 201, f"{NAME}申请", "来电13800138000申请"]
)
async def test_a_reason_is_needed_and_names_nobody(county: County, reason: str) -> None:
    member = await jiang(county)
    with pytest.raises(RequestError) as told:
        await erasure.erase(county.core, county.director, member.id, reason)
    assert "reason" in told.value.fields
    assert await Member.exists(id=member.id)


async def test_only_a_director_of_the_subtree_may(county: County) -> None:
    member = await jiang(county)
    for actor, error in (
        (county.clerk, RequestError),
        (dataclasses.replace(county.director, staff_id=None), RequestError),
        (county.stranger, NotFound),
    ):
        with pytest.raises(error):
            await erased(county, member, actor)
    assert await Member.exists(id=member.id)
    await erased(county, member, county.head)
    with pytest.raises(NotFound):
        await erased(county, member)


async def test_an_import_makes_a_new_member(core: Core, county: County) -> None:
    member = await jiang(county)
    await erased(county, member)
    sheet = [
        [importing.NAME, importing.PLACE, importing.PHONE],
        [NAME, "柳汀支部", NUMBER[3:]],
    ]
    made = await load.write(core, county.clerk, sheet)
    assert (made.count("new"), made.bad) == (1, [])
    again = await Member.get(name=NAME)
    assert again.id > member.id
    await running(county)
    await drain(core)
    [row] = await Outbound.all()
    assert (row.member_id, row.state) == (again.id, "accepted")


async def test_the_erased_are_not_found_and_not_chosen(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    await county.crowd(1)
    await erased(county, member)
    for text in ("", NAME, "志愿者", NUMBER, MAIL):
        page = await registry.page(county.director, registry.Filter(text=text))
        assert member.id not in {m.id for m in page.members}
    for description in (
        {"type": "organisation", "code": "08"},
        {"type": "tag", "tag": "志愿者"},
        {"type": "members", "ids": [member.id]},
        {"type": "list", "entries": [NUMBER]},
        {"type": "subscribers"},
    ):
        kind = MessageKind.NOTICE
        texts = {"default": "开会"}
        found = await plans.prepare(
            core, audience.parse(description), "/", kind, texts, {}
        )
        async with staged(found) as chosen:
            people = await chosen.rows(f"SELECT member_id FROM {chosen.people}")
            assert member.id not in {row["member_id"] for row in people}


async def test_a_code_that_was_given_binds_to_nobody(
    core: Core, county: County
) -> None:
    member = await jiang(county)
    asker = Address(AddressKind.QQ, "7000001")
    async with db.transaction():
        code = await codes.issue(core, member.id, asker)
    await erased(county, member)
    await Inbound.create(
        channel="qq",
        key="bind",
        kind="qq",
        value=asker.value,
        text=f"绑定 {code}",
        payload=b"",
        received_at=core.clock.now(),
    )
    await Router(core, nothing_today).step()
    message = await Inbound.get(key="bind")
    assert (message.state, message.route) == ("handled", "bind_failed")
    await comes(county, "我又来了，党费交多少？")
    assert (await matter(county)).member_id is None


async def test_who_is_erased_while_a_notice_is_written_gets_nothing(
    core: Core, county: County, sms: Recorder
) -> None:
    """A-16: rows of the erased that come after the erasure never leave, and nothing of
    them is left, whether the run begins or is cancelled before."""
    member = await jiang(county)
    await county.crowd(3)
    broadcast = await begun(county)
    planned = await notices.plan_of(core, broadcast)
    wanted = terms(core, broadcast)
    async with staged(planned, f"stage_{broadcast.id}") as found:
        run = await planning._begin(core, broadcast, found, found.reached, wanted)
        await erased(county, member)
        await freeze.write(core, found, run)
        assert await traces()
        await planning._start(core, broadcast, found, run, 0, [])
    assert await traces() == []
    await drain(core)
    assert sorted(sms.to) == [phone(n) for n in range(3)]
    told = await recipients.overview(county.director, broadcast.id)
    assert told.states == {"accepted": 3, "cancelled": 1}
    assert told.is_balanced
    assert await holds(core)


async def test_the_gate_looks_by_itself(
    core: Core, county: County, sms: Recorder
) -> None:
    """A-16: a recipient in a chunk and a message alone, both written after it by
    somebody who had read before."""
    member = await jiang(county)
    await county.crowd(2)
    await running(county)
    await erased(county, member)
    [row] = await Outbound.filter(member_id=member.id)
    now = core.clock.now()
    await Outbound.filter(id=row.id).update(
        state="planned", reason="", value=NUMBER, variables={"name": NAME}
    )
    await moves.tally({(row.broadcast_id or 0, "cancelled"): -1}, now)
    await moves.tally({(row.broadcast_id or 0, "planned"): 1}, now)
    text = f"{NAME}同志：按月交。"
    alone = await queued(now, value=NUMBER, member_id=member.id, text=text)
    await drain(core)
    assert sorted(sms.to) == [phone(0), phone(1)]
    for id in (row.id, alone.id):
        one = await Outbound.get(id=id)
        assert (one.state, one.reason) == ("cancelled", "erased")
        assert (one.value, one.variables) == (f"erased:{id}", {})
    assert await traces() == []
    assert await holds(core)


async def test_who_erases_passes_the_gate_alone(core: Core, county: County) -> None:
    """A-16: nobody is erased between a sender's look and its journal."""
    member = await jiang(county)
    outside = copy_context()
    async with db.transaction():
        await consent.hold_gate()
        erasing = asyncio.create_task(erased(county, member), context=outside)
        await (waits_for_us() if db.is_postgres() else asyncio.sleep(0))
        assert not erasing.done()
    await erasing
    assert await Erasure.exists(member_id=member.id)


async def test_an_import_and_an_erasure_wait_for_each_other(
    core: Core, county: County
) -> None:
    """I-8: no sheet writes to a member who is gone."""
    member = await jiang(county)
    outside = copy_context()
    async with db.transaction():
        await consent.hold_members()
        erasing = asyncio.create_task(erased(county, member), context=outside)
        await (waits_for_us() if db.is_postgres() else asyncio.sleep(0))
        assert not erasing.done()
    await erasing
    assert await Erasure.exists(member_id=member.id)


async def test_what_comes_back_from_the_wire_does_not_leave_again(
    core: Core, county: County, sms: Recorder, clock: ManualClock
) -> None:
    """A-16: it was on its way when its person was erased, and was refused for now."""
    member = await jiang(county)
    await running(county)
    sms.answers[NUMBER] = TransientFailure("busy")
    sender = Sender(core, next(iter(core.channels)))
    await sender.step()
    reached = await erased(county, member)
    assert (reached.waiting, reached.under_way) == (0, 1)
    await sender.answers()
    await sender.step()
    clock.advance(timedelta(hours=1))
    await sender.step()
    assert sms.to == [NUMBER]
    [row] = await Outbound.all()
    assert (row.state, row.reason) == ("cancelled", "erased")
    await erasure.finish(core)
    assert await traces() == []
    assert (await Erasure.get()).under_way == []
    assert await holds(core)


async def test_what_is_in_doubt_is_settled_by_its_receipt_and_then_forgotten(
    core: Core, county: County, clock: ManualClock
) -> None:
    member = await jiang(county)
    await running(county)
    [row] = await Outbound.all()
    await moves.advance(
        [moves.Move(row.id, "unknown", "timeout", attempt=1)], clock.now()
    )
    await Attempt.create(
        outbound_id=row.id,
        number=1,
        channel="sms",
        kind="phone",
        value=NUMBER,
        node_id=1,
        journalled_at=clock.now(),
        outcome="unknown",
    )
    await Outbound.filter(id=row.id).update(attempts=1)
    await erased(county, member)
    await erasure.finish(core)
    assert (await Outbound.get()).value == NUMBER
    told = DeliveryReceipt(
        key="late",
        provider_id="c1",
        state=ReceiptState.DELIVERED,
        raw=NUMBER.encode(),
        address=Address(AddressKind.PHONE, NUMBER),
    )
    await core.commits.run(lambda: receipts.store(core, "sms", [(told.key, told)]))
    assert (await Outbound.get()).state == "delivered"
    await erasure.finish(core)
    assert await traces() == []


async def test_what_is_never_settled_is_forgotten_after_three_days(
    core: Core, county: County, clock: ManualClock
) -> None:
    member = await jiang(county)
    await running(county)
    [row] = await Outbound.all()
    await moves.advance([moves.Move(row.id, "unknown", "timeout")], clock.now())
    await erased(county, member)
    await erasure.finish(core)
    assert await traces()
    clock.advance(timedelta(hours=73))
    await erasure.finish(core)
    assert await traces() == []
    assert (await Outbound.get()).state == "unknown"
