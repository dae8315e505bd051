"""What there is time for is routed in the transaction that stores it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from structlog.testing import capture_logs

from gateway import database as db
from gateway.contract import Address, AddressKind, Attachment, InboundMessage
from gateway.inbox import Inbox
from gateway.inbox.intake import CROWD, MOST_ROUTED
from gateway.inbox.store import store
from gateway.tables import AttachmentRow, Inbound, Inquiry, InquiryEvent
from tests.labs.centre import PHONE, Centre
from tests.labs.locking import locked
from tests.labs.process import until

QUESTION = "请问党费怎么交？"


def says(
    text: str,
    key: str,
    value: str = PHONE,
    earlier_key: str = "",
    attachments: Sequence[Attachment] = (),
) -> InboundMessage:
    return InboundMessage(
        key=key,
        sender=Address(AddressKind.PHONE, value),
        text=text,
        raw=b"",
        earlier_key=earlier_key,
        attachments=attachments,
    )


@asynccontextmanager
async def working(centre: Centre, patience: float = 30.0) -> AsyncIterator[Inbox]:
    """An inbox that knows the router, which itself stands still."""
    inbox = Inbox(centre.core, patience)
    inbox.routed_by(centre.router)
    running = asyncio.create_task(inbox.run())
    try:
        yield inbox
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def states() -> list[str]:
    found = await db.rows("SELECT state FROM inbound ORDER BY id")
    return [row["state"] for row in found]


async def test_an_acknowledged_message_is_filed_already(centre: Centre) -> None:
    """On PostgreSQL, where storing needs no writer's turn, the router does it."""
    async with working(centre) as inbox:
        await inbox.accept("短信", [says(QUESTION, "k")])
        expected = "stored" if db.is_postgres() else "filed"
        assert await states() == [expected]
        assert await centre.router.step() == (1 if db.is_postgres() else 0)
    inquiry = await centre.inquiry()
    assert (await Inbound.get(key="k")).inquiry_id == inquiry.id


async def test_what_is_known_changes_nothing(centre: Centre) -> None:
    """B-1: within a delivery, across deliveries, and under an earlier key."""
    with capture_logs() as logs:
        await knows(centre)
    assert logs == []
    found = await db.rows("SELECT channel, key FROM inbound ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        ("短信", "k"),
        ("短信", "other"),
        ("彩信", "k"),
    ]
    assert await Inquiry.all().count() == 1


async def knows(centre: Centre) -> None:
    async with working(centre) as inbox:
        await inbox.accept("短信", [says(QUESTION, "k"), says(QUESTION, "k")])
        await inbox.accept("短信", [says(QUESTION, "k"), says("补充", "other")])
        await inbox.accept("短信", [says(QUESTION, "later", earlier_key="k")])
        await inbox.accept("彩信", [says("再补充", "k")])  # another channel's own
        await centre.router.step()


async def test_attachments_are_kept_with_their_message(centre: Centre) -> None:
    photo = Attachment(name="a.png", content_type="image/png", content=b"png")
    async with working(centre) as inbox:
        await inbox.accept(
            "短信", [says("一", "k1"), says("二", "k2", attachments=[photo])]
        )
    (kept,) = await AttachmentRow.all()
    assert (kept.inbound_id, kept.content) == ((await Inbound.get(key="k2")).id, b"png")


async def test_who_waits_already_comes_first(centre: Centre) -> None:
    """In the order of their arrival: the question, then what was added to it."""
    given = [("短信", says(QUESTION, "first"))]
    await centre.core.commits.run(lambda: store(centre.core, given))
    async with working(centre) as inbox:
        await inbox.accept("短信", [says("再补充一点", "second")])
        assert await states() == ["stored", "stored"]
        assert await centre.router.step() == 2
        await inbox.accept("短信", [says("再补充两点", "third")])
        await centre.router.step()
    lines = await InquiryEvent.filter(inbound_id__isnull=False).order_by("id")
    assert [one.text for one in lines] == [QUESTION, "再补充一点", "再补充两点"]
    assert await Inquiry.all().count() == 1


async def test_what_cannot_be_routed_is_stored_all_the_same(centre: Centre) -> None:
    """There is nobody whose matter it could be; it waits for the router's tries."""
    await db.execute("UPDATE organisations SET parent_id = id")
    with capture_logs() as logs:
        async with working(centre) as inbox:
            await inbox.accept("短信", [says(QUESTION, "k", "+8613900139000")])
            assert await states() == ["stored"]
    if not db.is_postgres():
        assert [one["event"] for one in logs] == ["inbox.not_routed"]


@pytest.mark.parametrize("count", [MOST_ROUTED, MOST_ROUTED + 1])
async def test_a_delivery_of_very_many_is_only_stored(
    centre: Centre, count: int
) -> None:
    async with working(centre) as inbox:
        await inbox.accept("短信", [says("谢谢", f"k{n}") for n in range(count)])
        routed = count == MOST_ROUTED and not db.is_postgres()
        assert (set(await states()) == {"stored"}) is not routed


async def test_a_crowd_is_acknowledged_first(centre: Centre) -> None:
    async with working(centre) as inbox:
        pushes = (inbox.accept("短信", [says("您好", f"k{n}")]) for n in range(CROWD))
        await asyncio.gather(*pushes)
        assert set(await states()) == {"stored"}


async def test_what_comes_while_one_is_written_is_written_next(centre: Centre) -> None:
    """All of it is filed, each once, whoever was in which transaction."""
    async with working(centre) as inbox:

        async def writes(who: int) -> None:
            for n in range(10):
                key, value = f"{who}-{n}", f"+861390013900{who}"
                await inbox.accept("短信", [says(QUESTION, key, value)])

        await asyncio.gather(*map(writes, range(5)))
        while await centre.router.step():
            pass
    assert await Inbound.filter(state="filed").count() == 50
    assert await Inquiry.all().count() == 5
    assert await InquiryEvent.filter(inbound_id__isnull=False).count() == 50


async def test_a_locked_database_spools_and_drains(
    centre: Centre, database_url: str
) -> None:
    """B-5, D-4: also those that would have been routed at once."""
    if db.is_postgres():
        pytest.skip("there each writes beside the others")
    async with working(centre, patience=0.1) as inbox:
        with locked(database_url):
            await inbox.accept("短信", [says(QUESTION, "k1")])
            await inbox.accept("短信", [says("补充", "k2")])
            assert inbox.spooled
        await until(lambda: _drained(inbox), 30)
        while await centre.router.step():
            pass
    assert await states() == ["filed", "filed"]


async def _drained(inbox: Inbox) -> bool:
    return not inbox.spooled
