"""One message over the API: tries, receipts, and who may look."""

from gateway.actors import Role
from gateway.contract import MessageKind
from gateway.errors import PermanentFailure
from gateway.outbox import receipts
from gateway.tables import Outbound, Receipt
from tests.gateway.api.callers import PHONE, Callers
from tests.labs.outgoing import queued
from tests.labs.recorder import Recorder, drain


async def _sent(callers: Callers) -> int:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    answer = await clerk.post(f"/inquiries/{number}/replies", {"text": "好的"})
    await drain(callers.core)
    return int(answer.body["delivery_id"])


async def test_a_refusal_is_told_with_its_code(callers: Callers, sms: Recorder) -> None:
    sms.answers[PHONE] = PermanentFailure("isv.BLACK", "13800138000 is black")
    clerk = await callers.caller()
    found = (await clerk.get(f"/deliveries/{await _sent(callers)}")).body
    assert (found["state"], found["reason"]) == ("failed", "isv.BLACK")
    assert [(a["number"], a["code"]) for a in found["attempts"]] == [(1, "isv.BLACK")]
    assert "black" not in str(found), "a provider's words may hold anything"


async def test_receipts_are_listed(callers: Callers, sms: Recorder) -> None:
    id = await _sent(callers)
    row = await Outbound.get(id=id)
    await Receipt.create(
        channel="sms",
        key="r1",
        provider_id=row.provider_id,
        state="delivered",
        code="DELIVRD",
        received_at=callers.core.clock.now(),
        payload=b"{}",
    )
    await receipts.apply_waiting(callers.core, "sms")
    approver = await callers.caller(Role.APPROVER)
    found = (await approver.get(f"/deliveries/{id}")).body
    assert found["state"] == "delivered"
    assert found["to"] == {"kind": "phone", "value": "138****8000"}
    assert [(r["code"], r["effect"]) for r in found["receipts"]] == [
        ("DELIVRD", "applied")
    ]


async def test_what_belongs_to_nobody_is_for_the_top(callers: Callers) -> None:
    row = await queued(callers.core.clock.now(), message_kind=MessageKind.TEST)
    for where, status in (("county", 200), ("a", 404), ("b", 404)):
        caller = await callers.caller(Role.ADMINISTRATOR, where)
        assert (await caller.get(f"/deliveries/{row.id}")).status == status
