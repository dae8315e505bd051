"""Many events at once: each key once, whole, on both engines."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway import database as db
from gateway.contract import (
    Address,
    AddressKind,
    Attachment,
    ChannelTrouble,
    DeliveryReceipt,
    Event,
    InboundMessage,
    OptOut,
    ReceiptState,
)
from gateway.core import Core
from gateway.inbox.rows import key_of
from gateway.inbox.store import store
from gateway.tables import (
    AddressRow,
    AttachmentRow,
    ChannelEvent,
    Inbound,
    Member,
    OptOutRow,
    Organisation,
    Receipt,
)

WANG = Address(AddressKind.PHONE, "+8619900000001")
LI = Address(AddressKind.PHONE, "+8619900000002")
GROUP = Address(AddressKind.GROUP, "12345")
SENT = datetime(2026, 11, 20, 1, 30, tzinfo=UTC)


def message(key: str, text: str = "您好", **more: object) -> InboundMessage:
    return InboundMessage(
        key=key,
        sender=WANG,
        text=text,
        raw=text.encode("utf-8", "replace"),
        **more,  # type: ignore[arg-type]
    )


def receipt(key: str) -> DeliveryReceipt:
    return DeliveryReceipt(
        key=key, provider_id=f"p-{key}", state=ReceiptState.DELIVERED, raw=b"{}"
    )


async def stored(core: Core, *events: Event, channel: str = "短信") -> dict[str, int]:
    async with db.transaction():
        stored = await store(core, [(channel, event) for event in events])
        return dict(stored.new)


async def test_a_message_comes_back_as_it_was(core: Core) -> None:
    scan = Attachment("a\0b.pdf", "application/pdf", b"\0\1\2")
    await stored(
        core,
        message(
            "k",
            "党费\0 怎么交\r\n\ud800",
            sent_at=SENT,
            provider_id="<1@x>",
            conversation=GROUP,
            subject="问",
            display_name="王",
            quoted="前文",
            answers_to=("<0@x>", "<9@x>"),
            reply_token="t",
            attachments=(scan, scan),
            automatic=True,
            notes=("truncated",),
        ),
    )
    row = await Inbound.get(key="k")
    assert (row.text, row.sent_at) == ("党费 怎么交\n\ufffd", SENT)
    assert (row.kind, row.value) == ("phone", WANG.value)
    assert (row.conversation_kind, row.conversation_value) == ("group", "12345")
    assert (row.answers_to, row.notes) == (["<0@x>", "<9@x>"], ["truncated"])
    assert (row.automatic, row.state, row.tries) == (True, "stored", 0)
    assert row.received_at == core.clock.now()
    assert bytes(row.payload) == "党费\0 怎么交\r\n?".encode()
    files = await AttachmentRow.filter(inbound_id=row.id)
    assert [(f.name, f.size, bytes(f.content)) for f in files] == [
        ("ab.pdf", 3, b"\0\1\2")
    ] * 2


async def test_known_keys_change_nothing(core: Core) -> None:
    """B-1, in one batch and in the next, beside what is new."""
    first = message("a", attachments=(Attachment("1", "text/plain", b"1"),))
    again = message("a", "另一份", attachments=(Attachment("2", "text/plain", b"2"),))
    assert await stored(core, first, again, message("b")) == {"短信": 2}
    assert await stored(core, again, message("c"), receipt("r")) == {"短信": 1}
    assert await stored(core, message("a"), receipt("r"), channel="邮件") == {"邮件": 1}
    kept = await Inbound.get(key="a", channel="短信")
    assert kept.text == "您好"
    assert [f.name for f in await AttachmentRow.all()] == ["1"]
    assert await Receipt.filter(key="r").count() == 2


async def test_what_an_earlier_key_is_stored_under_is_the_same(core: Core) -> None:
    """B-4: carriers give no ids, and a process names what it stores by the time."""
    await stored(core, message("a:1"), message("b:1"))
    again = [message("a:2", earlier_key="a:1"), message("c:2", earlier_key="c:1")]
    assert await stored(core, *again) == {"短信": 1}
    assert await stored(core, *again, channel="又一") == {"又一": 2}
    assert {one.key async for one in Inbound.filter(channel="短信")} == {
        *("a:1", "b:1", "c:2")
    }


async def test_a_receipt_waits_for_its_message(core: Core) -> None:
    await stored(core, receipt("r1"), receipt("r1"), receipt("r2"))
    rows = await Receipt.all().order_by("key")
    assert [(r.key, r.provider_id, r.state, r.effect) for r in rows] == [
        ("r1", "p-r1", "delivered", ""),
        ("r2", "p-r2", "delivered", ""),
    ]
    assert rows[0].outbound_id is None


async def test_refusals_are_in_force_and_kept_once(core: Core) -> None:
    county = await Organisation.create(code="0", name="县", kind="county", path="/1/")
    now = core.clock.now()
    wang = await Member.create(name="王", organisation=county, created_at=now)
    await AddressRow.create(
        kind="phone", value=WANG.value, member=wang, verified_at=now, created_at=now
    )
    refusals = [
        OptOut(key="o1", address=WANG, raw=b"", code="TD"),
        OptOut(key="o2", address=WANG, raw=b"", code="TD again"),
        OptOut(key="o3", address=LI, raw=b"", code="T"),
    ]
    await stored(core, *refusals)
    await stored(core, *refusals, OptOut(key="o4", address=LI, raw=b"", code="N"))
    rows = await OptOutRow.all().order_by("value")
    assert [(r.value, r.member_id, r.evidence, r.how) for r in rows] == [
        (WANG.value, wang.id, "TD", "provider"),
        (LI.value, None, "T", "provider"),
    ]
    assert [r.ended_at for r in rows] == [None, None]
    assert await ChannelEvent.all().count() == 4


async def test_trouble_of_an_account_is_noted(core: Core) -> None:
    kicked = ChannelTrouble(key="k", code="kicked", raw=b"x", address=GROUP)
    await stored(core, kicked, kicked)
    row = await ChannelEvent.get(key="k")
    assert (row.code, row.payload) == ("kicked", b"x")
    assert await OptOutRow.all().count() == 0


async def test_a_storm_needs_no_more_than_its_cells(core: Core) -> None:
    """More than one statement takes: 5,000 receipts and 3,000 messages."""
    storm: list[Event] = [receipt(f"r{n}") for n in range(5000)]
    storm += [message(f"m{n}") for n in range(3000)]
    assert await stored(core, *storm) == {"短信": 3000}
    assert await Receipt.all().count() == 5000
    assert await Inbound.all().count() == 3000


@pytest.mark.parametrize("key", ["k" * 255, "k" * 256, "k" * 5000, "长" * 300])
def test_a_key_of_any_length_fits_and_stays_itself(key: str) -> None:
    """B-2: two long keys that differ at their end only are two."""
    assert len(key_of(message(key))) <= 255
    assert key_of(message(key)) != key_of(message(key + "!"))
    assert "\0" not in key_of(message(key + "\0"))


@pytest.mark.parametrize("odd", ["9" * 255, "9" * 70_000, "9\0" + "长" * 300])
async def test_who_has_an_impossible_address_takes_nobody_along(
    core: Core, odd: str
) -> None:
    """What comes with it in one batch is stored, and so is it."""
    strange = Address(AddressKind.PHONE, odd)
    message_of = replace(message("m1"), sender=strange, conversation=strange)
    receipt_of = replace(receipt("r1"), address=strange)
    assert await stored(core, message_of, receipt_of, message("m2")) == {"短信": 2}
    row = await Inbound.get(key="m1")
    assert len(row.value) == len(row.conversation_value) == 254
    assert (await Receipt.get(key="r1")).value == row.value
