"""What nobody knows leaves that state only by a named person's decision."""

import pytest

from gateway import database as db
from gateway.actors import Role
from gateway.contract import AddressKind
from gateway.errors import NotFound, OutcomeUnknown, RequestError
from gateway.inquiries import work
from gateway.outbox import moves, overview, unknown
from gateway.outbox.moves import Move
from gateway.tables import Attempt, Audit, Outbound
from tests.console import staff
from tests.labs.centre import PHONE, Centre, named
from tests.labs.recording import recorder


async def lost(centre: Centre) -> Outbound:
    """An answer whose outcome is unknown."""
    await centre.arrives("请问党费怎么交？")
    await centre.sends("短信")
    recorder(named(centre.core, "短信")).outcome = OutcomeUnknown("no_answer")
    number = (await centre.inquiry()).number
    sent = await work.answer(centre.core, centre.clerk, number, "每月交")
    await centre.sends("短信")
    recorder(named(centre.core, "短信")).outcome = None
    return await Outbound.get(id=sent.id)


async def test_it_is_never_sent_again_by_itself(centre: Centre) -> None:
    message = await lost(centre)
    assert message.state == "unknown"
    centre.later(days=1)
    await centre.sends("短信")
    assert (await Outbound.get(id=message.id)).state == "unknown"
    assert await Attempt.filter(outbound_id=message.id).count() == 1


@pytest.mark.parametrize(
    ("decision", "state"),
    [("sent", "accepted"), ("again", "accepted"), ("give_up", "dead")],
)
async def test_a_person_decides_with_a_reason(
    centre: Centre, decision: str, state: str
) -> None:
    message = await lost(centre)
    [row] = await unknown.unknown(centre.clerk)
    assert row["id"] == message.id
    assert await unknown.unknown(centre.other) == []
    await unknown.decide(
        centre.core, centre.clerk, message.id, decision, "电话问过本人"
    )
    await centre.sends("短信")
    assert (await Outbound.get(id=message.id)).state == state
    attempts = 2 if decision == "again" else 1
    assert await Attempt.filter(outbound_id=message.id).count() == attempts
    entry = await Audit.get(action="message.decided")
    assert entry.detail == {"decision": decision, "reason": "电话问过本人"}
    with pytest.raises(NotFound):
        await unknown.decide(centre.core, centre.clerk, message.id, "sent", "再来")


async def test_a_decision_is_counted_in_its_broadcast(centre: Centre) -> None:
    message = await lost(centre)
    await Outbound.filter(id=message.id).update(broadcast_id=1)
    await moves.tally({(1, "unknown"): 1}, centre.core.clock.now())
    await unknown.decide(centre.core, centre.clerk, message.id, "give_up", "退休了")
    assert await moves.counts(1) == {"dead": 1}


async def test_without_a_reason_or_right_nothing_happens(centre: Centre) -> None:
    message = await lost(centre)
    with pytest.raises(RequestError):
        await unknown.decide(centre.core, centre.clerk, message.id, "sent", "  ")
    with pytest.raises(RequestError):
        await unknown.decide(centre.core, centre.clerk, message.id, "burn", "因为")
    with pytest.raises(NotFound):
        await unknown.decide(centre.core, centre.other, message.id, "sent", "因为")
    assert (await Outbound.get(id=message.id)).state == "unknown"


async def in_broadcast(centre: Centre, count: int) -> list[int]:
    """Unknown answers, given to broadcast 1 with its tally."""
    ids = [(await lost(centre)).id for _ in range(count)]
    for id in ids:
        await Outbound.filter(id=id).update(broadcast_id=1, value=f"+86138{id:08d}")
    await moves.tally({(1, "unknown"): count}, centre.core.clock.now())
    return ids


@pytest.mark.parametrize(
    ("decision", "state"),
    [("sent", "accepted"), ("again", "queued"), ("give_up", "dead")],
)
async def test_many_are_decided_at_once(
    centre: Centre, decision: str, state: str
) -> None:
    ids = await in_broadcast(centre, 3)
    assert await unknown.open_to(centre.clerk, ids) == set(ids)
    done = await unknown.decide_all(
        centre.core, centre.clerk, 1, [*ids, ids[0]], decision, "运营商查过"
    )
    assert (done.decided, done.settled) == (3, 0)
    assert await moves.counts(1) == {state: 3}
    assert await unknown.open_to(centre.clerk, ids) == set()
    entries = await Audit.filter(action="message.decided").order_by("id")
    assert {entry.object for entry in entries} == {f"outbox:{id}" for id in ids}
    for entry in entries:
        assert entry.detail == {"decision": decision, "reason": "运营商查过"}


async def test_what_evidence_settled_meanwhile_is_left_and_told(centre: Centre) -> None:
    first, second, third = await in_broadcast(centre, 3)
    async with db.transaction():
        now = centre.core.clock.now()
        await moves.advance([Move(second, "delivered", "receipt")], now)
    done = await unknown.decide_all(
        centre.core, centre.clerk, 1, [first, second, third], "give_up", "退休了"
    )
    assert (done.decided, done.settled) == (2, 1)
    assert await moves.counts(1) == {"dead": 2, "delivered": 1}
    assert (await Outbound.get(id=second)).reason == "receipt"
    assert await Audit.filter(action="message.decided").count() == 2


async def test_a_foreign_message_among_many_stops_them_all(centre: Centre) -> None:
    ids = await in_broadcast(centre, 2)
    elsewhere = await lost(centre)
    assert await unknown.open_to(centre.other, ids) == set()
    for actor, wanted in (
        (centre.other, ids),
        (centre.clerk, [*ids, elsewhere.id]),  # not of this broadcast
        (centre.clerk, [*ids, 10**9]),
    ):
        with pytest.raises(NotFound):
            await unknown.decide_all(centre.core, actor, 1, wanted, "sent", "因为")
    for wanted, decision, reason in (
        ([], "sent", "因为"),
        (ids, "burn", "因为"),
        (ids, "sent", " "),
    ):
        with pytest.raises(RequestError) as refused:
            await unknown.decide_all(
                centre.core, centre.clerk, 1, wanted, decision, reason
            )
        assert refused.value.status == 422
    assert await moves.counts(1) == {"unknown": 2}
    assert not await Audit.filter(action="message.decided").exists()


async def test_a_test_message_leaves_on_this_very_channel(centre: Centre) -> None:
    core = centre.core
    chief = await staff(core, Role.ADMINISTRATOR, centre.county, "chief")
    with pytest.raises(RequestError) as refused:
        await overview.send_test(core, centre.clerk, "短信", PHONE, "试")
    assert refused.value.status == 403
    with pytest.raises(RequestError) as refused:
        await overview.send_test(core, chief, "短信", "12", "试")
    assert "to" in refused.value.fields
    await overview.send_test(core, chief, "短信", "138 0013 8000", "试一下")
    await centre.sends("短信")
    assert recorder(named(core, "短信")).texts == ["试一下"]
    cards = await overview.cards(core, chief, lambda text, **values: text)
    card = next(one for one in cards if one["name"] == "短信")
    assert card["tests"][0]["state"] == "accepted"
    assert card["tests"][0]["to"] == "138****8000"
    assert card["kind"] == AddressKind.PHONE
    assert (card["state"], card["waiting"]) == ("ok", 0)
