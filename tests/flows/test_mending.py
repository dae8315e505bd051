"""A sender whose commit failed: nothing is sent again, nothing stays half done."""

from gateway.errors import PermanentFailure
from gateway.outbox.sender import Sender
from gateway.tables import Outbound
from tests.flows.conftest import Centre

JIANGUO = "+8619900000001"


async def queued(centre: Centre, **values: object) -> Outbound:
    now = centre.core.clock.now()
    return await Outbound.create(
        **{
            "message_kind": "system",
            "priority": 0,
            "channel": "sms",
            "kind": "phone",
            "value": JIANGUO,
            "text": "您好",
            "state": "queued",
            "due_at": now,
            "created_at": now,
            "changed_at": now,
        }
        | values
    )


async def state_of(row: Outbound) -> tuple[str, str]:
    found = await Outbound.get(id=row.id)
    return found.state, found.reason


async def test_words_no_database_takes_are_settled_all_the_same(
    centre: Centre,
) -> None:
    row = await queued(centre)
    centre.phones.answers[JIANGUO] = PermanentFailure("bad\0code", "x\0y\ud800")
    await centre.work()
    assert await state_of(row) == ("failed", "badcode")


async def test_what_a_lost_commit_journalled_is_unknown(centre: Centre) -> None:
    sender = Sender(centre.core, next(iter(centre.core.channels)))
    lost = await queued(centre, state="sending", node_id=centre.core.node_id)
    theirs = await queued(centre, state="sending", node_id=centre.core.node_id + 1)
    await sender.mend()
    assert await state_of(lost) == ("unknown", "not_settled")
    assert await state_of(theirs) == ("sending", "")
    assert centre.phones.sent == []


async def test_a_text_outside_the_language_stops_no_other(centre: Centre) -> None:
    bad = await queued(centre, text=None, content_id=12345)
    good = await queued(centre)
    await centre.work()
    assert await state_of(bad) == ("suppressed", "bad_text")
    assert (await state_of(good))[0] == "accepted"
