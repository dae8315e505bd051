import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from adapters import sandbox
from adapters.sandbox.adapter import world_of
from adapters.sandbox.faults import Faults
from adapters.sandbox.records import Arrived, Medium
from adapters.sandbox.world import World
from gateway.contract import (
    Accepted,
    Adapter,
    Address,
    AddressKind,
    DeliveryReceipt,
    InboundMessage,
    Listens,
    MessageKind,
    OutboundMessage,
    Outcome,
    ReceiptState,
    TemplateUse,
)
from gateway.errors import (
    OutcomeUnknown,
    PermanentFailure,
    RequestError,
    SettingsError,
    StorageUnavailable,
    TransientFailure,
)
from tests.labs.sandbox_lab import (
    PHONE,
    SECONDS,
    Gateway,
    arrived,
    context,
    message,
    settings,
)


@dataclasses.dataclass(kw_only=True)
class Running:
    adapter: Adapter
    world: World
    gateway: Gateway


@asynccontextmanager
async def running(
    data_dir: Path, medium: str = "sms", **more: object
) -> AsyncIterator[Running]:
    """A channel that sends and listens, until the context is left."""
    gateway = Gateway()
    given = context(data_dir, medium)
    adapter = sandbox.build(settings(medium, **more), given)
    assert isinstance(adapter, Listens)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(adapter.close)
        await stack.enter_async_context(adapter.listen(gateway.accept))
        yield Running(adapter=adapter, world=world_of(given), gateway=gateway)


def mail(**more: object) -> OutboundMessage:
    letter = OutboundMessage(
        id="7",
        kind=MessageKind.ANSWER,
        to=Address(AddressKind.EMAIL, "zhang@example.org"),
        text="请带身份证。\n周一办理。",
        subject="您的咨询",
        reply_token="tok2345",
    )
    return dataclasses.replace(letter, **more)  # type: ignore[arg-type]


def place(value: str, kind: AddressKind = AddressKind.PHONE) -> Address:
    return Address(kind, value)


# What the gateway sends.


async def test_a_text_arrives_and_its_receipt_follows(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        outcomes = await run.adapter.send([message(1, "您好")])
        [[receipt]] = await run.gateway.pushed(1)
        [shown] = run.world.history.at(Medium.SMS, place(PHONE))
    assert outcomes == {"message-1": Accepted((shown.provider_id,))}
    assert isinstance(shown, Arrived)
    assert (shown.id, shown.text, shown.channel) == ("message-1", "您好", "sms")
    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.reference == "message-1"
    assert receipt.provider_id == shown.provider_id
    assert receipt.state is ReceiptState.DELIVERED


async def test_a_text_carries_no_subject_and_no_mention(tmp_path: Path) -> None:
    more = dataclasses.replace(message(1), subject="通知", mention="10001")
    async with running(tmp_path) as run:
        await run.adapter.send([more])
    [shown] = arrived(tmp_path)
    assert (shown.subject, shown.mention) == ("", "")


async def test_it_is_in_the_ledger_before_the_send_is_acknowledged(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as run:
        for index in range(20):
            await run.adapter.send([message(index)])
            assert len(arrived(tmp_path)) == index + 1


@pytest.mark.parametrize(("every", "reached"), [(1, []), (3, [0, 1, 3, 4])])
async def test_refusing_is_permanent_and_reaches_nobody(
    tmp_path: Path, every: int, reached: list[int]
) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(refuse_every=every))
        outcomes: dict[str, Outcome] = {}
        for index in range(6):
            outcomes |= await run.adapter.send([message(index)])
        assert len(run.world.history.refused(Medium.SMS)) == 6 - len(reached)
    assert [one.id for one in arrived(tmp_path)] == [f"message-{i}" for i in reached]
    refused = [o for o in outcomes.values() if isinstance(o, PermanentFailure)]
    assert [one.code for one in refused] == ["sandbox_refused"] * (6 - len(reached))


async def test_a_lost_answer_is_unknown_until_its_receipt(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(lose_answers=True))
        outcomes = await run.adapter.send([message(1)])
        [[receipt]] = await run.gateway.pushed(1)
    assert isinstance(outcomes["message-1"], OutcomeUnknown)
    assert isinstance(receipt, DeliveryReceipt)
    assert receipt.reference == "message-1"
    assert [one.answer_lost for one in arrived(tmp_path)] == [True]


async def test_a_short_delay_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(delay_seconds=0.05))
        before = asyncio.get_running_loop().time()
        outcomes = await run.adapter.send([message(1)])
        took = asyncio.get_running_loop().time() - before
    assert isinstance(outcomes["message-1"], Accepted)
    assert took >= 0.05


async def test_after_a_long_delay_it_arrives_unheard(tmp_path: Path) -> None:
    async with running(tmp_path, answer_within_seconds=0.02) as run:
        run.world.set_faults(Medium.SMS, Faults(delay_seconds=0.1))
        outcomes = await run.adapter.send([message(1)])
        assert isinstance(outcomes["message-1"], OutcomeUnknown)
        assert arrived(tmp_path) == []
        await run.gateway.pushed(1)
    assert len(arrived(tmp_path)) == 1


async def test_withheld_receipts_follow_when_they_may(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(withhold_receipts=True))
        for index in range(3):
            outcomes = await run.adapter.send([message(index)])
            assert isinstance(outcomes[f"message-{index}"], Accepted)
        run.world.write(Medium.SMS, PHONE, "有人吗")
        [[said]] = await run.gateway.pushed(1)
        assert isinstance(said, InboundMessage), "no receipt came before it"
        run.world.set_faults(Medium.SMS, Faults())
        [_, receipts] = await run.gateway.pushed(2)
    assert [one.reference for one in receipts if isinstance(one, DeliveryReceipt)] == [
        "message-0",
        "message-1",
        "message-2",
    ]


async def test_a_receipt_owed_at_a_crash_follows_after_the_restart(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(withhold_receipts=True))
        await run.adapter.send([message(1)])
    async with running(tmp_path) as run:
        assert run.world.faults(Medium.SMS).withhold_receipts
        run.world.set_faults(Medium.SMS, Faults())
        [[receipt]] = await run.gateway.pushed(1)
        assert isinstance(receipt, DeliveryReceipt)
    async with running(tmp_path) as run:
        await run.adapter.send([message(2)])
        [[second]] = await run.gateway.pushed(1)
    assert isinstance(second, DeliveryReceipt)
    assert second.reference == "message-2", "the first was acknowledged"


async def test_receipts_are_repeated_with_the_same_key(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(repeat=True))
        await run.adapter.send([message(1)])
        pushes = await run.gateway.pushed(3)
    assert pushes[0] == pushes[1] == pushes[2]


@pytest.mark.parametrize("medium", ["qq", "email"])
async def test_only_texts_have_receipts(tmp_path: Path, medium: str) -> None:
    to = place("10001", AddressKind.QQ)
    letter = mail() if medium == "email" else dataclasses.replace(mail(), to=to)
    async with running(tmp_path, medium) as run:
        assert not run.adapter.capabilities.delivery_receipts
        await run.adapter.send([letter])
        run.world.write(Medium(medium), letter.to.value, "谢谢")
        [[first]] = await run.gateway.pushed(1)
    assert isinstance(first, InboundMessage)


async def test_a_foreign_address_and_a_missing_template_are_refused(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, free_text=False) as run:
        bare = message(1)
        filled = dataclasses.replace(message(2), template=TemplateUse("SMS_1", {}))
        wrong = dataclasses.replace(filled, id="3", to=mail().to)
        outcomes = await run.adapter.send([bare, filled, wrong])
    assert isinstance(outcomes["message-2"], Accepted)
    assert str(outcomes["message-1"]) == "template_required"
    assert str(outcomes["3"]) == "bad_address"
    assert [one.template for one in arrived(tmp_path)] == ["SMS_1"]


async def test_after_closing_nothing_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        await run.adapter.close()
        outcomes = await run.adapter.send([message(1)])
    assert isinstance(outcomes["message-1"], TransientFailure)
    assert arrived(tmp_path) == []


def test_a_reply_window_means_that_it_never_writes_first(tmp_path: Path) -> None:
    shared: dict[str, object] = {}
    free = sandbox.build(settings("qq"), context(tmp_path, "qq", shared))
    tied = sandbox.build(
        settings("email", reply_window_minutes=30), context(tmp_path, "email", shared)
    )
    assert free.capabilities.proactive
    assert free.capabilities.reply_window is None
    assert not tied.capabilities.proactive
    assert tied.capabilities.reply_window is not None
    world_of(context(tmp_path, shared=shared)).history.close()


def test_one_channel_for_each_medium(tmp_path: Path) -> None:
    shared: dict[str, object] = {}
    sandbox.build(settings(), context(tmp_path, "one", shared))
    with pytest.raises(
        SettingsError, match=r"channels\.two\.medium: \[channels\.one\]"
    ):
        sandbox.build(settings(), context(tmp_path, "two", shared))
    world_of(context(tmp_path, shared=shared)).history.close()


# What people write.


async def test_a_person_is_heard_once(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        said = run.world.write(
            Medium.SMS, "138 0013-8000", " 党费怎么交？ ", display_name="张三"
        )
        [[event]] = await run.gateway.pushed(1)
    assert isinstance(event, InboundMessage)
    assert event.key == f"said:{said.provider_id}"
    assert event.sender == place(PHONE)
    assert (event.text, event.display_name) == ("党费怎么交？", "张三")
    assert event.raw


async def test_a_repeated_push_carries_the_same_key(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.set_faults(Medium.SMS, Faults(repeat=True))
        run.world.write(Medium.SMS, PHONE, "参加")
        pushes = await run.gateway.pushed(3)
    assert pushes[0] == pushes[1] == pushes[2]


async def test_a_push_waits_until_it_is_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.gateway.refusals.append(StorageUnavailable("not_stored"))
        said = run.world.write(Medium.SMS, PHONE, "参加")
        [[event]] = await run.gateway.pushed(1)
        assert event.key == f"said:{said.provider_id}"


async def test_an_accident_of_the_gateway_stops_no_later_push(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.gateway.refusals.append(ZeroDivisionError())
        run.world.write(Medium.SMS, PHONE, "第一句")
        run.world.write(Medium.SMS, PHONE, "第二句")
        [[event]] = await run.gateway.pushed(1)
    assert isinstance(event, InboundMessage)
    assert event.text == "第二句"


async def test_what_was_not_acknowledged_is_pushed_after_a_restart(
    tmp_path: Path,
) -> None:
    given = context(tmp_path)
    adapter = sandbox.build(settings(), given)
    said = world_of(given).write(Medium.SMS, PHONE, "停电前写的")
    await adapter.close()
    async with running(tmp_path) as run:
        [[event]] = await run.gateway.pushed(1)
        assert event.key == f"said:{said.provider_id}"
        assert run.world.history.at(Medium.SMS, place(PHONE)) == (said,)


async def test_in_a_group_only_a_call_is_heard(tmp_path: Path) -> None:
    async with running(tmp_path, "qq") as run:
        run.world.write(Medium.QQ, "10001", "今天天气好", group="800100", calling=False)
        run.world.write(Medium.QQ, "10002", "几点开会", group="800100")
        [[event]] = await run.gateway.pushed(1)
        group = place("800100", AddressKind.GROUP)
        shown = run.world.history.at(Medium.QQ, group)
    assert isinstance(event, InboundMessage)
    assert event.text == "几点开会"
    assert event.conversation == group
    assert [one.text for one in shown] == ["今天天气好", "几点开会"]


async def test_an_answered_mail_keeps_its_thread(tmp_path: Path) -> None:
    async with running(tmp_path, "email") as run:
        outcomes = await run.adapter.send([mail()])
        [sent] = arrived(tmp_path)
        assert outcomes["7"] == Accepted((sent.provider_id,))
        run.world.write(
            Medium.EMAIL, "zhang@example.org", "好的", in_reply_to=sent.provider_id
        )
        [[event]] = await run.gateway.pushed(1)
    assert isinstance(event, InboundMessage)
    assert event.subject == "回复：您的咨询"
    assert event.text == "好的"
    assert event.quoted.endswith("> 请带身份证。\n> 周一办理。")
    assert event.answers_to == (sent.provider_id,)
    assert event.reply_token == "tok2345"


@pytest.mark.parametrize(
    ("sender", "text", "group", "field"),
    [
        ("12345", "您好", "", "sender"),
        ("+8613800138000", " \0 ", "", "text"),
        ("+8613800138000", "党" * 22_000, "", "text"),
        ("+8613800138000", "您好", "x", "group"),
    ],
)
async def test_bad_input_names_its_field(
    tmp_path: Path, sender: str, text: str, group: str, field: str
) -> None:
    async with running(tmp_path) as run:
        with pytest.raises(RequestError) as caught:
            run.world.write(Medium.SMS, sender, text, group=group)
        assert list(caught.value.fields) == [field]
        assert run.world.history.places(Medium.SMS, 9) == ()


async def test_without_its_channel_nobody_can_write(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        with pytest.raises(RequestError, match="no_channel"):
            run.world.write(Medium.QQ, "10001", "您好")


async def test_lone_surrogates_and_controls_do_no_harm(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        run.world.write(Medium.SMS, PHONE, "a\ud83db\0c")
        [[event]] = await run.gateway.pushed(1)
        outcomes = await run.adapter.send([message(1, "x\udc00y")])
    assert isinstance(event, InboundMessage)
    assert event.text == "a\ufffdbc"
    assert isinstance(outcomes["message-1"], Accepted)


async def test_changes_are_told_in_bursts(tmp_path: Path) -> None:
    told: list[Medium] = []
    first = asyncio.Event()

    def tell(medium: Medium) -> None:
        told.append(medium)
        first.set()

    async with running(tmp_path) as run:
        run.world.on_change(tell)
        for index in range(50):
            await run.adapter.send([message(index)])
        async with asyncio.timeout(SECONDS):
            await first.wait()
        assert len(told) < 10
    assert set(told) == {Medium.SMS}
