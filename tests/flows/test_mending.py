"""A sender whose commit failed: nothing is sent again, nothing stays half done."""

from gateway.errors import PermanentFailure
from gateway.outbox.sender import Sender
from gateway.tables import Outbound
from tests.flows.conftest import Centre
from tests.labs.outgoing import queued

JIANGUO = "+8619900000001"


async def to_jianguo(centre: Centre, **different: object) -> Outbound:
    return await queued(centre.core.clock.now(), value=JIANGUO, **different)


async def state_of(row: Outbound) -> tuple[str, str]:
    found = await Outbound.get(id=row.id)
    return found.state, found.reason


async def test_words_no_database_takes_are_settled_all_the_same(
    centre: Centre,
) -> None:
    row = await to_jianguo(centre)
    centre.phones.answers[JIANGUO] = PermanentFailure("bad\0code", "x\0y\ud800")
    await centre.work()
    assert await state_of(row) == ("failed", "badcode")


async def test_what_a_lost_commit_journalled_is_unknown(centre: Centre) -> None:
    sender = Sender(centre.core, next(iter(centre.core.channels)))
    lost = await to_jianguo(centre, state="sending", node_id=centre.core.node_id)
    theirs = await to_jianguo(centre, state="sending", node_id=centre.core.node_id + 1)
    await sender.mend()
    assert await state_of(lost) == ("unknown", "not_settled")
    assert await state_of(theirs) == ("sending", "")
    assert centre.phones.sent == []


async def test_a_text_outside_the_language_stops_no_other(centre: Centre) -> None:
    bad = await to_jianguo(centre, text=None, content_id=12345)
    good = await to_jianguo(centre)
    await centre.work()
    assert await state_of(bad) == ("suppressed", "bad_text")
    assert (await state_of(good))[0] == "accepted"
