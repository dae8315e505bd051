"""Messages in the database: nothing doubled, nothing lost, nothing in the way."""

import asyncio
from datetime import timedelta

import pytest

from gateway.actors import Action, Actor, Role
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, InboundMessage
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.inbox import tray
from gateway.inbox.router import GIVES_WAY, Router
from gateway.inquiries import closing
from gateway.prompts import PromptKind
from gateway.questions import ask
from gateway.tables import (
    AddressRow,
    Audit,
    Inbound,
    Inquiry,
    OptOutRow,
    PromptRow,
)
from tests.console import staff
from tests.labs.centre import PHONE, Centre, named, nothing_today
from tests.labs.recording import recorder

STRANGER = "+8613900139000"


async def states() -> dict[str, int]:
    found: dict[str, int] = {}
    for one in await Inbound.all():
        found[one.state] = found.get(one.state, 0) + 1
    return found


async def test_a_repeated_push_changes_nothing(centre: Centre) -> None:
    first = await centre.arrives("请问党费", key="same")
    again = await centre.arrives("请问党费", key="same")
    assert first.id == again.id
    assert await Inbound.all().count() == 1
    assert await Inquiry.all().count() == 1
    await centre.sends("短信")
    assert len(recorder(named(centre.core, "短信")).sent) == 1


async def test_the_same_push_in_one_commit_is_stored_once(centre: Centre) -> None:
    event = InboundMessage(key="k", sender=_phone(), text="在吗", raw=b"")
    waiting = [
        asyncio.ensure_future(centre.inbox.accept("短信", [event])) for _ in range(3)
    ]
    await asyncio.sleep(0)
    await centre.inbox.commit()
    await asyncio.gather(*waiting)
    assert await Inbound.all().count() == 1


def _phone() -> Address:
    return Address(AddressKind.PHONE, PHONE)


async def test_two_open_matters_wait_for_a_person(centre: Centre) -> None:
    first, second = await _two_open(centre)
    message = await centre.arrives("再问一下")
    assert (message.state, message.route) == ("review", "several_open")
    [waiting] = await tray.waiting(centre.core, centre.clerk)
    assert [row["id"] for row in waiting.inquiries] == [second.id, first.id]
    assert await tray.waiting(centre.core, centre.other) == []
    number = await tray.decide(
        centre.core, centre.clerk, message.id, f"inquiry:{first.number}"
    )
    assert number == first.number
    after = await Inbound.get(id=message.id)
    assert (after.state, after.inquiry_id, after.route) == ("filed", first.id, "staff")
    assert await Audit.filter(action="review.decided").count() == 1


async def _two_open(centre: Centre) -> tuple[Inquiry, Inquiry]:
    await centre.arrives("第一件")
    first = await centre.inquiry()
    # Closed and reopened by hand, so that two are open at once.
    await closing.close(centre.core, centre.clerk, first.number, "好", call_back=False)
    await centre.arrives("第二件")
    await closing.reopen(centre.core, centre.clerk, first.number, "还没完")
    return await Inquiry.get(id=first.id), await centre.inquiry()


async def test_a_decision_is_taken_once(centre: Centre) -> None:
    await _two_open(centre)
    message = await centre.arrives("再问一下")
    await tray.decide(centre.core, centre.clerk, message.id, "ignore")
    with pytest.raises(RequestError) as refused:
        await tray.decide(centre.core, centre.director, message.id, "new")
    assert refused.value.code == "decided"
    assert await Inquiry.all().count() == 2


@pytest.mark.parametrize("decision", ["", "nonsense", "prompt:1:yes", "inquiry:0"])
async def test_a_wrong_decision_changes_nothing(centre: Centre, decision: str) -> None:
    await _two_open(centre)
    message = await centre.arrives("再问一下")
    with pytest.raises(RequestError):
        await tray.decide(centre.core, centre.clerk, message.id, decision)
    assert (await Inbound.get(id=message.id)).state == "review"


async def test_a_foreign_message_is_not_there(centre: Centre) -> None:
    await _two_open(centre)
    message = await centre.arrives("再问一下")
    for id in (message.id, 10**12):
        with pytest.raises(NotFound):
            await tray.decide(centre.core, centre.other, id, "ignore")


async def test_staff_say_which_question_was_answered(centre: Centre) -> None:
    expires = centre.clock.now().replace(year=2027)
    for title in ("义诊", "讲座"):
        await ask(
            centre.core, _phone(), PromptKind.RSVP, expires, data={"title": title}
        )
    message = await centre.arrives("参加")
    assert (message.state, message.route) == ("review", "which_prompt")
    [waiting] = await tray.waiting(centre.core, centre.clerk)
    wanted = waiting.prompts[1]
    await tray.decide(centre.core, centre.clerk, message.id, f"prompt:{wanted.id}:yes")
    assert (await PromptRow.get(id=wanted.id)).answer == "yes"
    assert (await PromptRow.get(id=waiting.prompts[0].id)).answer == ""


async def test_opting_out_from_the_tray_is_kept_with_its_words(
    centre: Centre,
) -> None:
    await _two_open(centre)
    message = await centre.arrives("别再发了")
    await tray.decide(centre.core, centre.clerk, message.id, "opt_out")
    row = await OptOutRow.get(value=PHONE)
    assert (row.how, row.evidence, row.staff_id) == (
        "staff",
        "别再发了",
        centre.clerk.staff_id,
    )


async def test_a_strangers_message_is_for_the_top(centre: Centre) -> None:
    top = await staff(centre.core, Role.CLERK, centre.county, "top")
    message = await centre.arrives("自动回复", STRANGER, automatic=True)
    assert message.state == "review"
    assert await tray.count(top) == 1
    assert await tray.count(centre.clerk) == 0
    approver = await staff(centre.core, Role.APPROVER, centre.county, "approver")
    assert not approver.may(Action.WORK)
    assert await tray.count(approver) == 0
    number = await tray.decide(centre.core, top, message.id, "new")
    assert (await Inquiry.get(number=number)).organisation_id == centre.county.id


async def test_a_poisoned_message_goes_before_staff_after_three_tries(
    core: Core, centre: Centre
) -> None:
    await AddressRow.filter(value=PHONE).delete()
    await centre.arrives("第一条")
    # A kind of address that no code knows makes every step on it fail.
    await Inbound.create(
        channel="短信",
        key="poison",
        kind="carrier-pigeon",
        value="1",
        text="咕",
        payload=b"",
        received_at=core.clock.now(),
    )
    for _ in range(3):
        await centre.router.step()
    poisoned = await Inbound.get(key="poison")
    assert (poisoned.state, poisoned.route, poisoned.tries) == ("review", "failed", 3)
    assert (await centre.arrives("后面的照常")).state == "filed"
    top = Actor(name="top", role=Role.ADMINISTRATOR, organisation_id=1, path="/")
    assert await tray.count(top) == 1


async def test_promise_i_every_acknowledged_message_is_somewhere(
    centre: Centre,
) -> None:
    texts = ["请问党费", "谢谢", "帮助", "TD", "恢复接收", "退订 还想问一件事", "订阅"]
    for text in texts:
        await centre.arrives(text)
    await centre.arrives("休假中", STRANGER, automatic=True)
    found = await states()
    assert sum(found.values()) == len(texts) + 1
    assert set(found) <= {"filed", "handled", "review", "ignored"}


async def test_the_router_gives_way_to_a_crowd_for_a_while(
    core: Core, clock: ManualClock
) -> None:
    asked = 0

    def pressed() -> bool:
        nonlocal asked
        asked += 1
        clock.advance(timedelta(seconds=1))
        return asked < 100

    router = Router(core, nothing_today, pressed)
    await router.give_way(2.0)
    assert asked == 2 * GIVES_WAY
    asked = 98  # the crowd goes
    await router.give_way(2.0)
    assert asked == 100


async def test_the_router_gives_way_to_nobody_when_it_is_late(centre: Centre) -> None:
    centre.later(seconds=-31)
    event = InboundMessage(
        key="old", sender=Address(AddressKind.PHONE, STRANGER), text="您好", raw=b""
    )
    delivery = asyncio.ensure_future(centre.inbox.accept("短信", [event]))
    await asyncio.sleep(0)
    await centre.inbox.commit()
    await delivery
    centre.later(seconds=31)
    router = Router(centre.core, nothing_today, lambda: pytest.fail("it was asked"))
    assert await router.step() == 1
    await router.give_way(1.0)
