"""Pages of activity notices: list, draft with live preview, progress, recipients."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from broadcasts import (
    approval,
    content,
    forms,
    notices,
    preview,
    recipients,
    running,
    view,
)
from broadcasts.recipients import Recipient
from broadcasts.tables import Broadcast
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import RequestError
from gateway.organisations import tree
from gateway.outbox import unknown
from gateway.outbox.unknown import Decided
from gateway.phrases import phrase
from gateway.status import BroadcastState, Bucket
from gateway.web.forms import Form, path_id, whole_number
from gateway.web.forms import read as read_form
from gateway.web.keys import CORE
from gateway.web.pages import redirect, refresh, render, text
from gateway.web.paging import pager
from gateway.web.routes import page

_PIECE = 256 * 1024  # bytes
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_LIST = "#people"  # where the list begins, on the page of a notice
_APPROVED = (BroadcastState.APPROVED, BroadcastState.SCHEDULED)


def _start(request: web.Request) -> int:
    return whole_number(request.query.get("from", ""), 10**6) or 0


async def counts(actor: Actor) -> Mapping[str, int]:
    """For the navigation (`app[COUNTS]`): notices that wait for this person."""
    return {"approvals": await approval.approvals(actor)}


async def show_list(request: web.Request, actor: Actor) -> web.StreamResponse:
    core = request.app[CORE]
    tab = request.query.get("tab", "")
    tab = tab if tab in view.TABS else ""
    numbers = await view.tab_numbers(actor)
    shown = await view.notice_list(core, actor, tab, _start(request))
    return await render(
        request,
        "broadcasts.html",
        active="broadcasts",
        tabs=[
            {
                "key": key,
                "label": text(request, label),
                "number": numbers[key],
                "path": f"/broadcasts?tab={key}" if key else "/broadcasts",
                "current": key == tab,
            }
            for key, (label, _) in view.TABS.items()
        ],
        broadcasts=shown,
        may_draft=actor.may(Action.BROADCAST),
        pager=pager(request, _start(request), len(shown), numbers[tab], view.PAGE),
    )


async def show_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    own = await tree.own(actor, actor.organisation_id)
    draft = forms.empty()
    draft["audience"]["code"] = own.code
    return await _edit_page(request, actor, draft, None)


async def show_edit(request: web.Request, actor: Actor) -> web.StreamResponse:
    broadcast = await notices.find(actor, path_id(request))
    if "edit" not in view.acts(broadcast, actor):
        raise notices.not_now(broadcast, "修改")
    zone = request.app[CORE].settings.centre.timezone
    return await _edit_page(request, actor, forms.shown(broadcast, zone), broadcast)


async def _edit_page(
    request: web.Request,
    actor: Actor,
    draft: dict[str, Any],
    broadcast: Broadcast | None,
    errors: Mapping[str, str] | None = None,
    typed: Form | None = None,
    *,
    saved: bool = False,
) -> web.Response:
    core = request.app[CORE]
    if typed is None and broadcast is None:
        found = view.preview_of(preview.Preview(), ())
    elif typed is None and broadcast is not None:
        stored = await preview.of_plan(core, await notices.plan_of(core, broadcast))
        found = view.preview_of(stored, ())
    else:
        assert typed is not None
        found = await _preview(core, actor, typed, broadcast)
    visible = await tree.visible(actor)
    codes = {one.id: one.code for one in visible}
    return await render(
        request,
        "broadcast_edit.html",
        status=422 if errors else 200,
        active="broadcasts",
        draft=draft,
        organisations=[
            {"value": codes[int(str(c["value"]))], "label": c["label"]}
            for c in tree.choices(visible)
        ],
        tags=await view.tags(actor),
        placeholders=[
            {"code": f"{{{{{name}}}}}", "label": text(request, label)}
            for name, label in content.PLACEHOLDERS.items()
        ],
        segments=_segments(core),
        preview=found,
        errors={name: phrase(fault) for name, fault in (errors or {}).items()},
        saved=saved,
        approved=broadcast is not None and broadcast.state in _APPROVED,
    )


def _segments(core: Core) -> tuple[int, int]:
    """Of the first channel that is billed so, less its signature."""
    for channel in core.channels:
        if (limits := channel.capabilities.segments) is not None:
            return max(1, limits[0] - len(channel.common.signature)), limits[1]
    return 70, 67


async def show_preview(request: web.Request, actor: Actor) -> web.StreamResponse:
    """What is being typed, as its recipients will read it."""
    core = request.app[CORE]
    form = await read_form(request)
    id = form.number("id", 2**63 - 1)
    broadcast = None if id is None else await notices.find(actor, id)
    found = await _preview(core, actor, form, broadcast)
    return await render(request, "partials/_broadcast_preview.html", preview=found)


async def _preview(
    core: Core, actor: Actor, form: Form, broadcast: Broadcast | None
) -> dict[str, Any]:
    draft, faults = forms.read(form, core.settings.centre.timezone, broadcast)
    id = None if broadcast is None else broadcast.id
    found, wrong = await preview.of_draft(core, actor, draft, id)
    return view.preview_of(found, list((faults | wrong).values()))


async def save_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _save(request, actor, None)


async def save_edit(request: web.Request, actor: Actor) -> web.StreamResponse:
    broadcast = await notices.find(actor, path_id(request))
    return await _save(request, actor, broadcast)


async def _save(
    request: web.Request, actor: Actor, broadcast: Broadcast | None
) -> web.StreamResponse:
    """Save, then ask for approval if wanted. What was typed is never lost."""
    core = request.app[CORE]
    form = await read_form(request)
    draft, faults = forms.read(form, core.settings.centre.timezone, broadcast)
    saved = False
    try:
        if faults:
            raise RequestError("draft", fields=faults | content.faults(draft))
        if broadcast is None:
            broadcast = await notices.create(core, actor, draft)
        else:
            broadcast = await notices.edit(core, actor, broadcast.id, draft)
        saved = True
        if form.get("act") == "submit":
            await approval.submit(
                core, actor, broadcast.id, confirmed=form.flag("confirmed")
            )
    except RequestError as error:
        if not error.fields:
            raise
        id = None if broadcast is None else broadcast.id
        typed = forms.typed(form, id)
        return await _edit_page(
            request, actor, typed, broadcast, error.fields, form, saved=saved
        )
    said = "已提请批准" if form.get("act") == "submit" else "草稿已保存"
    return redirect(request, f"/broadcasts/{broadcast.id}", text(request, said))


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    core = request.app[CORE]
    id = path_id(request)
    found = await recipients.overview(actor, id)
    state, words = _filter(request)
    after = whole_number(request.query.get("after", ""), 2**63 - 1) or 0
    listed = await recipients.recipients(
        actor,
        id,
        state=state,
        q=words,
        after=after,
        offset=_start(request),
        limit=_size(state),
    )
    total = await recipients.total(actor, id, state=state, q=words)
    card, missed = await view.approval(core, actor, found.broadcast)
    return await render(
        request,
        "broadcast.html",
        active="daily" if found.broadcast.kind == "daily" else "broadcasts",
        broadcast=await view.head(core, found),
        acts=view.acts(found.broadcast, actor),
        again=await view.again(found, actor),
        approval=card,
        left_out=missed,
        progress=await view.progress(core, found),
        recipients=[view.recipient(core, one) for one in listed],
        filter={"state": state, "q": words},
        states=view.filters(),
        pager=_pager(request, listed, total, after),
        decidable=await _decidable(actor, state, listed),
        attendance=actor.may(Action.BROADCAST)
        and recipients.attendance_open(found.broadcast, core.clock.now()),
    )


async def _decidable(
    actor: Actor, state: str, listed: Sequence[Recipient]
) -> frozenset[int]:
    """Whom the person may decide on together; on the list of the unknown only."""
    if state != Bucket.UNKNOWN:
        return frozenset()
    return await unknown.open_to(actor, [one.id for one in listed])


def _size(state: str) -> int:
    return view.PAGE_UNKNOWN if state == Bucket.UNKNOWN else view.PAGE


_NUMBERED = 20_000  # rows up to which pages have numbers; beyond, only a next one


def _pager(
    request: web.Request, listed: Sequence[Recipient], total: int, after: int
) -> dict[str, Any] | None:
    """A long list goes on from the last row: counting up to it would take long."""
    size = _size(_filter(request)[0])
    if total <= _NUMBERED:
        return pager(request, _start(request), len(listed), total, size, _LIST)
    kept = [(k, v) for k, v in request.query.items() if k in ("state", "q")]
    path = f"{request.path}?{urlencode(kept)}"
    last = listed[-1].id if len(listed) == size else None
    return {
        "total": total,
        "start": f"{path}{_LIST}" if after else None,
        "next": f"{path}&after={last}{_LIST}" if last else None,
    }


async def show_report(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The run on paper: its numbers, its course, whom it did not reach."""
    core = request.app[CORE]
    found = await recipients.overview(actor, path_id(request))
    return await render(
        request,
        "broadcast_print.html",
        active="broadcasts",
        broadcast=await view.head(core, found),
        approved={"by": found.broadcast.approved_by, "at": found.broadcast.approved_at},
        started_at=found.broadcast.started_at,
        finished_at=found.broadcast.finished_at,
        progress=await view.progress(core, found),
        shortfalls=await view.shortfalls(found.broadcast.id),
        left_out=await view.left_out(found.broadcast.left_out),
        printed={"at": core.clock.now(), "by": actor.name},
    )


def _filter(request: web.Request) -> tuple[str, str]:
    """A filter that means nothing filters nothing."""
    state = request.query.get("state", "")
    known = {one["value"] for one in view.filters()}
    return state if state in known else "", request.query.get("q", "").strip()[:60]


async def show_progress(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The numbers; the whole page anew once its state or its draft is over."""
    found = await recipients.overview(actor, path_id(request))
    here = found.broadcast
    if request.query.get("revision", str(here.revision)) != str(here.revision):
        # Whoever was about to approve must not take the new text for the one they read.
        said = phrase(
            "这份通知刚刚改过，现在是第 {n} 稿，请从头看一遍", n=here.revision
        )
        return refresh(request, text(request, said))
    if request.query.get("state", found.standing) != found.standing:
        return refresh(request)
    progress = await view.progress(request.app[CORE], found)
    return await render(request, "partials/_broadcast_progress.html", progress=progress)


async def submit(request: web.Request, actor: Actor) -> web.StreamResponse:
    core = request.app[CORE]
    broadcast = await notices.find(actor, path_id(request))
    form = await read_form(request)
    try:
        await approval.submit(
            core, actor, broadcast.id, confirmed=form.flag("confirmed")
        )
    except RequestError as error:
        if not error.fields:
            raise
        draft = forms.shown(broadcast, core.settings.centre.timezone)
        return await _edit_page(
            request, actor, draft, broadcast, error.fields, saved=True
        )
    return _back(request, broadcast.id, "已提请批准")


async def approve(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await read_form(request)

    async def act(core: Core, actor: Actor, id: int) -> Broadcast:
        return await approval.approve(
            core, actor, id, form.get("hash"), confirmed=form.flag("confirmed")
        )

    return await _act(request, actor, act, "已批准")


async def reject(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await read_form(request)

    async def act(core: Core, actor: Actor, id: int) -> Broadcast:
        return await approval.reject(core, actor, id, form.get("reason"))

    return await _act(request, actor, act, "已退回修改")


async def start(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _act(request, actor, running.start, "开始发送了")


async def pause(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _act(request, actor, running.pause, "已暂停")


async def resume(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _act(request, actor, running.resume, "继续发送")


async def cancel(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _act(request, actor, running.cancel, "已取消")


async def again(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await read_form(request)

    async def act(core: Core, actor: Actor, id: int) -> Broadcast:
        found, _ = await running.resend(
            core,
            actor,
            id,
            unknown=form.flag("unknown"),
            in_part=form.flag("in_part"),
            reason=form.get("reason"),
        )
        return found

    return await _act(request, actor, act, "正在再发给失败的人")


async def _act(
    request: web.Request,
    actor: Actor,
    act: Callable[[Core, Actor, int], Awaitable[Broadcast]],
    said: str,
) -> web.StreamResponse:
    """Back to the page, which says what happened or why not."""
    id = path_id(request)
    try:
        await act(request.app[CORE], actor, id)
    except RequestError as error:
        if error.status not in (403, 409, 422) or not error.detail:
            raise
        return redirect(
            request, f"/broadcasts/{id}", text(request, error.detail), "bad"
        )
    return _back(request, id, said)


def _back(request: web.Request, id: int, said: str) -> web.StreamResponse:
    return redirect(request, f"/broadcasts/{id}", text(request, said))


def _ids(form: Form, name: str) -> list[int]:
    found = [whole_number(value, 2**63 - 1) for value in form.all(name)]
    return [number for number in found if number is not None]


async def save_attendance(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await read_form(request)
    shown, attended = _ids(form, "shown"), _ids(form, "attended")

    async def act(core: Core, actor: Actor, id: int) -> Broadcast:
        await recipients.record_attendance(core, actor, id, shown, attended)
        return await notices.find(actor, id)

    return await _act(request, actor, act, "到场情况已保存")


async def all_attended(request: web.Request, actor: Actor) -> web.StreamResponse:
    async def act(core: Core, actor: Actor, id: int) -> Broadcast:
        await recipients.record_all_who_said_yes(core, actor, id)
        return await notices.find(actor, id)

    return await _act(request, actor, act, "回复参加的都记为到场")


async def decide(request: web.Request, actor: Actor) -> web.StreamResponse:
    """On those who are ticked, or on all the page showed (also without a script)."""
    form = await read_form(request)
    broadcast = await notices.find(actor, path_id(request))
    path = f"/broadcasts/{broadcast.id}?state={Bucket.UNKNOWN}#people"
    try:
        found = await unknown.decide_all(
            request.app[CORE],
            actor,
            broadcast.id,
            _ids(form, "shown" if form.flag("all") else "chosen"),
            form.get("decision"),
            form.get("reason"),
        )
    except RequestError as error:
        if error.status not in (409, 422):
            raise
        return redirect(request, path, text(request, error.detail), "bad")
    return redirect(request, path, text(request, _said(found)))


def _said(found: Decided) -> str:
    if not found.settled:
        return phrase("已按您的决定处理 {n} 人", n=found.decided)
    return phrase(
        "已按您的决定处理 {n} 人，另有 {settled} 人这期间有了结果，没有再动",
        n=found.decided,
        settled=found.settled,
    )


async def export(request: web.Request, actor: Actor) -> web.StreamResponse:
    """All of the list, or what its filter shows."""
    id = path_id(request)
    state, words = _filter(request)
    with TemporaryDirectory(prefix="lianxin-") as folder:
        file = Path(folder) / "notice.xlsx"
        core = request.app[CORE]
        await recipients.export(core, actor, id, file, state=state, q=words)
        disposition = f'attachment; filename="notice-{id}.xlsx"'
        response = web.StreamResponse(headers={"Content-Disposition": disposition})
        response.content_type = _XLSX
        response.content_length = file.stat().st_size
        await response.prepare(request)
        with file.open("rb") as source:
            while piece := source.read(_PIECE):
                await response.write(piece)
        return response


ROUTES = (
    page("GET", "/broadcasts", show_list, Action.READ),
    page("GET", "/broadcasts/new", show_new, Action.BROADCAST),
    page("POST", "/broadcasts/new", save_new, Action.BROADCAST),
    page("POST", "/broadcasts/preview", show_preview, Action.BROADCAST),
    page("GET", "/broadcasts/{id}", show, Action.READ),
    page("GET", "/broadcasts/{id}/edit", show_edit, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/edit", save_edit, Action.BROADCAST),
    page(
        "GET", "/broadcasts/{id}/progress", show_progress, Action.READ, background=True
    ),
    page("GET", "/broadcasts/{id}/export", export, Action.READ),
    page("POST", "/broadcasts/{id}/submit", submit, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/approve", approve, Action.APPROVE),
    page("POST", "/broadcasts/{id}/reject", reject, Action.APPROVE),
    page("POST", "/broadcasts/{id}/start", start, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/pause", pause, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/resume", resume, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/cancel", cancel, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/again", again, Action.BROADCAST),
    page("GET", "/broadcasts/{id}/print", show_report, Action.READ),
    page("POST", "/broadcasts/{id}/decide", decide, Action.WORK),
    page("POST", "/broadcasts/{id}/attendance", save_attendance, Action.BROADCAST),
    page("POST", "/broadcasts/{id}/attendance/all", all_attended, Action.BROADCAST),
)
