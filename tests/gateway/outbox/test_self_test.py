"""C-4: a test message at the start of an account, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.channels import Channel, ChannelSet
from gateway.clock import ManualClock
from gateway.contract import Address, AddressKind, ReceiptState
from gateway.core import Core
from gateway.errors import OutcomeUnknown, PermanentFailure, SettingsError
from gateway.outbox import self_test
from gateway.outbox.report import Reports
from gateway.outbox.sender import Sender
from gateway.tables import Audit, Outbound
from tests.console import Console
from tests.gateway.outbox.test_chunks import receipt
from tests.labs.recorder import as_channel, recorder
from tests.labs.streams import Carrier, channel

NUMBER = Address(AddressKind.PHONE, "+8613800138000")


@pytest.fixture
def channels(carrier: Carrier) -> ChannelSet:
    made = channel(carrier)
    made.self_test = NUMBER
    return ChannelSet([made])


@pytest.fixture
def account(channels: ChannelSet) -> Channel:
    return next(iter(channels))


async def started(core: Core, sender: Sender, carrier: Carrier) -> str:
    """It begins, and its message leaves; the message's id."""
    await self_test.begin(core, sender.channel)
    await sender.step()
    return next(iter(carrier.waiting), "")


async def said(core: Core, account: Channel) -> Mapping[str, Any]:
    return await self_test.seen(core, account)


async def test_a_receipt_that_finds_its_message_passes(
    core: Core, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    assert await said(core, account) == {}
    id = await started(core, sender, carrier)
    assert [one.to for one in carrier.submitted] == [NUMBER]
    assert (await said(core, account))["verdict"] == "running"
    carrier.answer(id)
    await sender.step()
    assert (await said(core, account))["verdict"] == "running"
    await receipt(core, f"c{id}", ReceiptState.DELIVERED, to=NUMBER.value)
    assert (await said(core, account))["verdict"] == "passed"
    entry = await Audit.get(action="channel.tested")
    assert (entry.actor, entry.detail) == ("gateway", {"outbox": int(id)})


async def test_a_receipt_with_another_id_is_a_mismatch(
    core: Core, clock: ManualClock, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    await receipt(core, "earlier", ReceiptState.DELIVERED, to=NUMBER.value)
    clock.advance(self_test.PATIENCE / 10)
    carrier.answer(await started(core, sender, carrier))
    await sender.step()
    await receipt(core, "else", ReceiptState.DELIVERED, to="+8613800138001")
    assert (await said(core, account))["verdict"] == "running"
    await receipt(core, "161", ReceiptState.DELIVERED, to=NUMBER.value)
    found = await said(core, account)
    [message] = await Outbound.all()
    assert (found["verdict"], found["theirs"]) == ("mismatch", "161")
    assert found["ours"] == message.provider_id


async def test_one_that_cannot_leave_waits_for_the_account(
    core: Core, clock: ManualClock, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    carrier.is_away = True
    assert await started(core, sender, carrier) == ""
    clock.advance(self_test.PATIENCE * 6)
    await sender.step()
    assert (await said(core, account))["verdict"] == "running"
    carrier.is_away = False
    for _ in range(3):
        clock.advance(timedelta(minutes=5))
        await sender.step()
    assert [one.to for one in carrier.submitted] == [NUMBER]


async def test_without_a_receipt_it_is_silent_after_ten_minutes(
    core: Core, clock: ManualClock, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    carrier.answer(await started(core, sender, carrier))
    await sender.step()
    clock.advance(self_test.PATIENCE)
    assert (await said(core, account))["verdict"] == "silent"
    limits = replace(account.capabilities, delivery_receipts=False)
    account.capabilities = limits
    assert (await said(core, account))["verdict"] == "passed"


@pytest.mark.parametrize("outcome", [PermanentFailure("E7"), OutcomeUnknown("silent")])
async def test_what_was_not_taken_failed(
    core: Core,
    sender: Sender,
    carrier: Carrier,
    account: Channel,
    outcome: PermanentFailure | OutcomeUnknown,
) -> None:
    carrier.answer(await started(core, sender, carrier), outcome)
    await sender.step()
    found = await said(core, account)
    assert (found["verdict"], found["reason"]) == ("failed", outcome.code)


async def test_it_begins_once_a_day_until_settings_change(
    core: Core, clock: ManualClock, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    for _ in range(3):  # restarts while it is under way
        await self_test.begin(core, account)
    assert await Outbound.all().count() == 1
    await sender.step()
    carrier.answer_all()
    await sender.step()
    [message] = await Outbound.all()
    await receipt(core, message.provider_id, ReceiptState.DELIVERED)
    await self_test.begin(core, account)
    assert await Outbound.all().count() == 1
    account.common = account.common.model_copy(update={"price_fen": 4.0})
    await self_test.begin(core, account)
    assert await Outbound.all().count() == 2
    clock.advance(self_test.PATIENCE * 144)
    await self_test.begin(core, account)
    assert await Outbound.all().count() == 3


async def test_one_that_failed_is_tried_again_at_the_next_start(
    core: Core, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    carrier.answer(await started(core, sender, carrier), PermanentFailure("E7"))
    await sender.step()
    carrier.answer(await started(core, sender, carrier))
    await sender.step()
    assert len(carrier.submitted) == 2
    assert (await said(core, account))["verdict"] == "running"


async def test_without_a_number_there_is_none(core: Core, account: Channel) -> None:
    account.self_test = None
    await self_test.begin(core, account)
    assert await Outbound.all().count() == 0


async def test_a_mismatch_is_seen_at_the_channel_and_counted(
    console: Console, core: Core, sender: Sender, carrier: Carrier, account: Channel
) -> None:
    clerk = await console.browser("clerk_a")

    async def shown(path: str) -> str:
        return await (await clerk.get(path)).text()

    carrier.answer(await started(core, sender, carrier))
    await sender.step()
    await receipt(core, "161", ReceiptState.DELIVERED, to=NUMBER.value)
    await Reports(core, lambda: [sender]).step()
    page = await shown(f"/channels/{account.name}/now")
    assert "启动自检没有通过" in page
    assert "message_ids" in page
    assert "有异常" in page
    assert 'data-count="channels">1<' in await shown("/channels")
    health = await (await clerk.get("/healthz")).json()
    assert health["channels"] == {account.name: ["self_test"]}


@pytest.mark.parametrize(
    ("number", "limits", "problem"),
    [
        ("12", {}, "手机号码"),
        ("13800138000", {"free_text": False}, "bindings.test"),
        ("13800138000", {"proactive": False}, "only replies"),
    ],
)
def test_one_that_can_never_arrive_is_refused_at_the_start(
    number: str, limits: Mapping[str, object], problem: str
) -> None:
    adapter = recorder(AddressKind.PHONE, **limits)
    with pytest.raises(SettingsError) as refused:
        as_channel("sms", adapter, self_test=number)
    [fault] = refused.value.faults
    assert fault.startswith("channels.sms.self_test: ")
    assert problem in fault
