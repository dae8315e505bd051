"""Drafts, approvals by another person, and what voids them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broadcasts import approval, notices, recipients, running
from broadcasts.tables import Broadcast
from gateway.actors import Role
from gateway.clock import ManualClock
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.status import Bucket
from gateway.tables import Audit, Outbound
from tests.broadcasts.county import County, phone
from tests.labs.recorder import Recorder, drain


async def submitted(county: County, **changes: Any) -> Broadcast:
    found = await notices.create(county.core, county.clerk, county.draft(**changes))
    return await approval.submit(county.core, county.clerk, found.id, confirmed=True)


async def refusal(call: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        await call
    return refused.value


async def test_who_wrote_it_does_not_approve_it(core: Core, county: County) -> None:
    await county.crowd(2)
    draft = await notices.create(core, county.director, county.draft())
    changed = county.draft(title="改过的")
    await notices.edit(core, county.second, draft.id, changed)
    found = await approval.submit(core, county.clerk, draft.id)
    hash = notices.digest(found)
    for author in (county.director, county.second):
        error = await refusal(approval.approve(core, author, draft.id, hash))
        assert (error.code, error.status) == ("own_draft", 403)
    error = await refusal(approval.approve(core, county.clerk, draft.id, hash))
    assert error.code == "forbidden"
    approved = await approval.approve(core, county.head, draft.id, hash[:12])
    assert (approved.state, approved.approved_by) == ("approved", "曲主任")


async def test_an_api_token_is_a_person_by_its_name(core: Core, county: County) -> None:
    await county.crowd(1)
    token = replace(
        county.director, name="接口", staff_id=None, role=Role.ADMINISTRATOR
    )
    found = await notices.create(core, token, county.draft())
    found = await approval.submit(core, token, found.id)
    error = await refusal(
        approval.approve(core, token, found.id, notices.digest(found))
    )
    assert error.code == "own_draft"


async def test_a_stale_page_approves_nothing(core: Core, county: County) -> None:
    await county.crowd(2)
    found = await submitted(county)
    seen = notices.digest(found)
    await notices.edit(core, county.clerk, found.id, county.draft(title="另一个"))
    await approval.submit(core, county.clerk, found.id)
    for hash in (seen, seen[:12], "", "0" * 12):
        error = await refusal(approval.approve(core, county.director, found.id, hash))
        assert (error.code, error.status) == ("revision_changed", 409)


CHANGES: list[Callable[[County], dict[str, Any]]] = [
    lambda c: {"title": "新主题"},
    lambda c: {"texts": {"sms": "新正文，拒收请回复R"}},
    lambda c: {"audience": {"type": "tag", "tag": "别的"}},
    lambda c: {"rsvp": False},
    lambda c: {"place": "三楼"},
    lambda c: {"send_at": c.core.clock.now() + timedelta(days=1)},
    lambda c: {"expires_at": c.core.clock.now() + timedelta(days=2)},
    lambda c: {"exclude_bad": True},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_any_edit_voids_the_approval(
    core: Core, county: County, change: Callable[[County], dict[str, Any]]
) -> None:
    await county.crowd(1)
    approved = await county.approved()
    draft = county.draft(event_at=approved.event_at, **change(county))
    found = await notices.edit(core, county.clerk, approved.id, draft)
    assert (found.state, found.revision) == ("draft", 2)
    assert (found.approved_hash, found.approved_by_id) == ("", None)
    error = await refusal(running.start(core, county.clerk, approved.id))
    assert error.code == "wrong_state"
    line = await Audit.get(action="broadcast.edit")
    assert line.detail == {"revision": 2, "approval_voided": True}


async def test_saving_the_same_voids_nothing(core: Core, county: County) -> None:
    await county.crowd(1)
    approved = await county.approved()
    draft = county.draft(event_at=approved.event_at)
    found = await notices.edit(core, county.clerk, approved.id, draft)
    assert (found.state, found.revision) == ("approved", 1)


async def test_a_change_behind_our_back_does_not_start(
    core: Core, county: County
) -> None:
    await county.crowd(1)
    approved = await county.approved()
    await Broadcast.filter(id=approved.id).update(title="偷改")
    error = await refusal(running.start(core, county.clerk, approved.id))
    assert error.code == "revision_changed"


async def test_a_list_that_grew_needs_a_new_approval(
    core: Core, county: County
) -> None:
    await county.crowd(3)
    approved = await county.approved()
    await county.crowd(30, first=100)
    error = await refusal(running.start(core, county.clerk, approved.id))
    assert error.code == "audience_grown"
    assert (await Broadcast.get(id=approved.id)).state == "approved"
    assert await Outbound.all().count() == 0


async def test_a_large_audience_is_confirmed(core: Core, county: County) -> None:
    await county.crowd(1)
    first = await county.approved()
    await running.start(core, county.clerk, first.id)
    await county.crowd(11, first=100)
    found = await notices.create(core, county.clerk, county.draft())
    error = await refusal(approval.submit(core, county.clerk, found.id))
    assert (error.code, error.status) == ("large_audience", 409)
    assert "这次发给12人，平时约1人" in error.detail
    found = await approval.submit(core, county.clerk, found.id, confirmed=True)
    assert found.state == "submitted"
    assert not approval.is_large(1000, 0)
    assert approval.is_large(1001, 900)


async def test_the_number_is_confirmed_last(core: Core, county: County) -> None:
    """Else what was ticked would have to be ticked again after the next refusal."""
    await county.crowd(1)
    first = await county.approved()
    await running.start(core, county.clerk, first.id)
    await county.crowd(11, first=100)
    await county.member("看不见\u202e", ("phone", phone(50)))
    found = await notices.create(core, county.clerk, county.draft())
    error = await refusal(approval.submit(core, county.clerk, found.id))
    assert error.code == "bad_texts"


async def test_nobody_to_write_to_is_said(core: Core, county: County) -> None:
    await county.member("没有地址")
    found = await notices.create(core, county.clerk, county.draft())
    error = await refusal(approval.submit(core, county.clerk, found.id))
    assert error.code == "nobody"


async def test_a_returned_draft_says_why(core: Core, county: County) -> None:
    await county.crowd(1)
    found = await submitted(county)
    for reason in (" ", "长" * 501):
        error = await refusal(approval.reject(core, county.head, found.id, reason))
        assert "reason" in error.fields
    found = await approval.reject(core, county.head, found.id, "写明地点")
    assert (found.state, found.note) == ("draft", "写明地点")
    error = await refusal(approval.reject(core, county.head, found.id, "再退一次"))
    assert error.status == 409


async def test_another_branch_sees_nothing(core: Core, county: County) -> None:
    await county.crowd(1)
    found = await submitted(county)
    hash = notices.digest(found)
    for call in (
        approval.approve(core, county.stranger, found.id, hash),
        notices.edit(core, county.stranger, found.id, county.draft()),
        approval.submit(core, county.stranger, found.id),
        running.start(core, county.stranger, found.id),
        running.cancel(core, county.stranger, found.id),
        recipients.overview(county.stranger, found.id),
        recipients.recipients(county.stranger, found.id),
        recipients.export(core, county.stranger, found.id, Path("never")),
        notices.find(county.clerk, 2**70),
    ):
        with pytest.raises(NotFound):
            await call
    foreign = county.draft(audience={"type": "organisation", "code": "0802"})
    error = await refusal(notices.create(core, county.clerk, foreign))
    assert "不在您的范围内" in error.fields["audience"]


async def test_every_wrong_field_is_named_at_once(
    core: Core, county: County, clock: ManualClock
) -> None:
    past = clock.now() - timedelta(hours=1)
    draft = county.draft(
        title="",
        texts={"sms": "{{姓}}"},
        audience={"type": "organisation", "code": "9999"},
        send_at=past,
        event_at=past,
        expires_at=past,
    )
    error = await refusal(notices.create(core, county.clerk, draft))
    assert set(error.fields) == {
        *("title", "sms", "audience", "send_at", "event_at", "expires_at")
    }
    daily = county.draft(audience={"type": "subscribers"})
    error = await refusal(notices.create(core, county.clerk, daily))
    assert "audience" in error.fields
    far = county.draft(send_at=clock.now() + timedelta(days=500), event_at=None)
    error = await refusal(notices.create(core, county.clerk, far))
    assert "年份" in error.fields["send_at"]


async def test_approvals_are_counted_for_who_may_give_them(
    core: Core, county: County
) -> None:
    await county.crowd(1)
    await submitted(county)
    draft = await notices.create(core, county.director, county.draft())
    await approval.submit(core, county.director, draft.id)
    assert await approval.approvals(county.clerk) == 0
    assert await approval.approvals(county.director) == 1
    assert await approval.approvals(county.head) == 2
    assert await approval.approvals(county.stranger) == 0


async def test_bad_texts_stop_the_start_or_are_left_out_and_counted(
    core: Core, county: County, sms: Recorder
) -> None:
    await county.crowd(3)
    odd = await county.member("看不见\u202e", ("phone", phone(50)))
    long = await county.member("长" * 64, ("phone", phone(51)))
    nameless = await county.member("", ("phone", phone(52)))
    text = "字" * 440 + "{{姓名}}"
    found = await notices.create(core, county.clerk, county.draft(texts={"sms": text}))
    error = await refusal(approval.submit(core, county.clerk, found.id))
    assert error.code == "bad_texts"
    assert f"编号 {odd.id} 的党员（sms）：有看不见的控制字符" in error.detail
    assert f"编号 {long.id} 的党员（sms）：正文太长" in error.detail
    assert f"编号 {nameless.id} 的党员（sms）：缺少资料" in error.detail
    draft = county.draft(texts={"sms": text}, exclude_bad=True)
    await notices.edit(core, county.clerk, found.id, draft)
    found = await approval.submit(core, county.clerk, found.id)
    await approval.approve(core, county.director, found.id, notices.digest(found))
    await running.start(core, county.clerk, found.id)
    await drain(core)
    counts = await recipients.counts(found.id)
    assert (counts[Bucket.ACCEPTED], counts[Bucket.SUPPRESSED]) == (3, 3)
    rows = await recipients.recipients(county.clerk, found.id, state="suppressed")
    assert [row.reason for row in rows] == ["bad_text"] * 3
    assert rows[0].reason_text == "正文发不出"


async def test_a_name_that_turned_bad_after_the_approval_stops_the_start(
    core: Core, county: County
) -> None:
    await county.crowd(2)
    approved = await county.approved()
    member = county.members[0]
    member.name = "\u202e"
    await member.save()
    error = await refusal(running.start(core, county.clerk, approved.id))
    assert error.code == "bad_texts"
    assert (await Broadcast.get(id=approved.id)).state == "approved"
