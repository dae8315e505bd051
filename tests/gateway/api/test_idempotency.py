"""The same key: one effect, one answer, whatever happens in between."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.api.idempotency import Answer, Once, Prepare, Work, claim
from gateway.database import is_postgres, rows, transaction
from gateway.errors import RequestError
from gateway.inquiries import work
from gateway.tables import IdempotencyKey, InquiryEvent, Outbound
from tests.gateway.api.callers import Callers
from tests.labs.recorder import Recorder, drain


async def test_a_repeated_post_gets_the_stored_answer(callers: Callers) -> None:
    clerk = await callers.caller()
    path = f"/inquiries/{(await callers.inquiry()).number}/replies"
    first = await clerk.post(path, {"text": "好的", "asks": False}, key="k1")
    assert (first.status, first.headers.get("Idempotent-Replayed")) == (201, None)
    # The order of the members and the blanks don't make another request.
    second = await clerk.send(
        "POST",
        path,
        '{ "asks":false,"text":"好的" }'.encode(),
        Content_Type="application/json",
        Idempotency_Key="k1",
    )
    assert (second.status, second.body) == (201, first.body)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert await Outbound.all().count() == 1


async def test_a_stored_answer_outlives_a_change_of_state(callers: Callers) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    path = f"/inquiries/{number}/close"
    first = await clerk.post(path, {"outcome": "好了"}, key="k")
    again = await clerk.post(path, {"outcome": "好了"}, key="k")
    assert (first.status, first.body) == (again.status, again.body)
    assert (await clerk.post(path, {"outcome": "好了"}, key="k2")).status == 409


async def test_another_request_under_the_same_key_is_refused(callers: Callers) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    path = f"/inquiries/{number}/replies"
    await clerk.post(path, {"text": "好的"}, key="k")
    for where, body in (
        (path, {"text": "不同"}),
        (f"/inquiries/{number}/close", {"outcome": "好的"}),
    ):
        answer = await clerk.post(where, body, key="k")
        assert (answer.status, answer.code) == (422, "key_reused")
    assert await Outbound.all().count() == 1


async def test_a_key_belongs_to_its_token(callers: Callers) -> None:
    one, other = await callers.caller(), await callers.caller()
    path = f"/inquiries/{(await callers.inquiry()).number}/replies"
    for caller in (one, other):
        answer = await caller.post(path, {"text": "好的"}, key="k")
        assert answer.headers.get("Idempotent-Replayed") is None
    assert await Outbound.all().count() == 2


async def test_a_refusal_is_not_kept(callers: Callers) -> None:
    clerk = await callers.caller()
    path = f"/inquiries/{(await callers.inquiry()).number}/replies"
    assert (await clerk.post(path, {"text": "{{nothing}}"}, key="k")).status == 422
    assert not await IdempotencyKey.exists()
    assert (await clerk.post(path, {"text": "好的"}, key="k")).status == 201


@pytest.mark.parametrize("key", ["a b", "x" * 201, "é"])
async def test_a_bad_key_is_a_400(callers: Callers, key: str) -> None:
    clerk = await callers.caller()
    answer = await clerk.post("/inquiries", {"text": "x"}, key=key)
    assert answer.status in (400, 422)
    contact = {"kind": "qq", "value": "12345678"}
    answer = await clerk.post("/inquiries", {"text": "x", "contact": contact}, key=key)
    assert (answer.status, answer.code) == (400, "idempotency_key")


async def test_fifty_at_once_have_one_effect(callers: Callers, sms: Recorder) -> None:
    clerk = await callers.caller()
    path = f"/inquiries/{(await callers.inquiry()).number}/replies"
    answers = await asyncio.gather(
        *(clerk.post(path, {"text": "好的"}, key="k") for _ in range(50))
    )
    assert {answer.status for answer in answers} <= {201, 409}
    good = [answer.body for answer in answers if answer.status == 201]
    assert good
    assert all(body == good[0] for body in good)
    assert {a.code for a in answers if a.status == 409} <= {"in_flight"}
    await drain(callers.core)
    assert len(sms.sent) == 1
    assert await InquiryEvent.filter(kind="answer").count() == 1
    assert (await clerk.post(path, {"text": "好的"}, key="k")).body == good[0]


@dataclass
class Slow:
    """Work that waits to be let go on, and counts."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    done: int = 0

    async def __call__(self) -> Work:
        return self.work

    async def work(self, core: object) -> Answer:
        self.begun.set()
        await self.go_on.wait()
        self.done += 1
        return Answer(200, "{}")


def ready(work: Work) -> Prepare:
    async def prepare() -> Work:
        return work

    return prepare


CLAIM = claim("api:x", "k", "POST", "/x", {})


async def test_while_the_first_is_at_work_the_second_is_told_so(
    callers: Callers,
) -> None:
    once, slow = Once(), Slow()
    first = asyncio.create_task(once.together(callers.core, CLAIM, slow))
    await slow.begun.wait()
    with pytest.raises(RequestError) as refused:
        await once.together(callers.core, CLAIM, slow)
    assert (refused.value.code, refused.value.status) == ("in_flight", 409)
    slow.go_on.set()
    assert not (await first).replayed
    assert (await once.together(callers.core, CLAIM, slow)).replayed
    assert slow.done == 1


async def test_another_process_waits_or_is_told_so(callers: Callers) -> None:
    """SQLite has one writer, so the second waits; PostgreSQL says 409."""
    slow, other = Slow(), Slow()
    other.go_on.set()
    first = asyncio.create_task(Once().together(callers.core, CLAIM, slow))
    await slow.begun.wait()
    second = asyncio.create_task(Once().together(callers.core, CLAIM, other))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.2, slow.go_on.set)
    if is_postgres():
        with pytest.raises(RequestError, match="in_flight"):
            await second
    else:
        assert (await second).replayed
    await first
    assert slow.done + other.done == 1


async def test_preparing_holds_no_database_and_is_not_done_again(
    callers: Callers,
) -> None:
    prepared = 0

    async def prepare() -> Work:
        nonlocal prepared
        prepared += 1
        async with transaction():  # somebody else's: SQLite has one writer
            return Slow(go_on=gone).work

    (gone := asyncio.Event()).set()
    async with asyncio.timeout(10):
        assert not (await Once().together(callers.core, CLAIM, prepare)).replayed
        assert (await Once().together(callers.core, CLAIM, prepare)).replayed
    assert prepared == 1


async def test_who_is_refused_because_another_process_did_it_gets_its_answer(
    callers: Callers,
) -> None:
    slow = Slow()
    slow.go_on.set()

    async def overtaken() -> Work:
        await Once().together(callers.core, CLAIM, slow)
        raise RequestError("wrong_state")

    assert (await Once().together(callers.core, CLAIM, overtaken)).replayed
    assert slow.done == 1


async def test_a_crash_leaves_neither_effect_nor_key(
    callers: Callers, sms: Recorder
) -> None:
    """The process ends after the effect, before the commit."""
    number = (await callers.inquiry()).number
    actor = callers.actor("clerk_a")

    async def crash(core: object) -> Answer:
        await work.answer(callers.core, actor, number, "好的")
        raise KeyboardInterrupt

    async def go_on(core: object) -> Answer:
        await work.answer(callers.core, actor, number, "好的")
        return Answer(201, "{}")

    with pytest.raises(KeyboardInterrupt):
        await Once().together(callers.core, CLAIM, ready(crash))
    assert not await Outbound.exists()
    assert not await rows("SELECT 1 AS x FROM idempotency_keys")
    assert not (await Once().together(callers.core, CLAIM, ready(go_on))).replayed
    assert await Outbound.all().count() == 1


async def test_pages_and_sender_hear_of_it_after_the_commit(callers: Callers) -> None:
    clerk = await callers.caller()
    number = (await callers.inquiry()).number
    sender = asyncio.create_task(callers.core.wakeups.wait("sender", 60))
    async with callers.core.hub.subscribed() as page:
        listening = asyncio.create_task(page.get())
        await clerk.post(f"/inquiries/{number}/replies", {"text": "好"}, key="k")
        async with asyncio.timeout(5):
            change = await listening
            await sender
        assert change.topic == "inquiry"
        assert await Outbound.exists()


async def test_what_was_rolled_back_is_not_announced(callers: Callers) -> None:
    async def fail(core: object) -> Answer:
        core.hub.publish("inquiry", 1)  # type: ignore[attr-defined]
        raise RequestError("no")

    async with callers.core.hub.subscribed() as page:
        with pytest.raises(RequestError):
            await Once().together(callers.core, CLAIM, ready(fail))
        callers.core.hub.publish("last", 2)
        assert (await page.get()).topic == "last"
