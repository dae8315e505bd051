"""The desk: the stream, one inquiry with its acts, a new matter, the printed form."""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import NotFound, RequestError
from gateway.inquiries import closing, counter, filing, print_form, queries, view, work
from gateway.inquiries.history import Say
from gateway.inquiries.queries import Filter
from gateway.inquiries.register import deadline_from
from gateway.inquiries.view import NOTHING_REFUSED, Refused
from gateway.tables import AttachmentRow, Inbound, Member
from gateway.web import forms
from gateway.web.forms import Form
from gateway.web.keys import CORE
from gateway.web.pages import counts, redirect, render, text, toast_header
from gateway.web.routes import page

UNDO = timedelta(seconds=6)  # an answer may be taken back so long after "send"
TABS = {
    "open": "在办",
    "mine": "我的",
    "overdue": "超期",
    "attention": "督办",
    "waiting": "待补充",
    "closed": "已办结",
    "all": "全部",
}
_SHOWN_WHEN_NEEDED = frozenset({"attention"})


def words(request: web.Request) -> Say:
    return partial(text, request)


def _is_htmx(request: web.Request) -> bool:
    """Asked for by htmx, and not by its way of going back to a page."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


async def count(actor: Actor) -> Mapping[str, int | str]:
    """For the navigation (`app[COUNTS]`): what waits for an answer."""
    return {"inquiries": shown(await queries.open_count(actor))}


# --- The stream ---------------------------------------------------------------------


def _filter(query: Mapping[str, str]) -> Filter:
    tab = query.get("tab", "open")
    names = ("state", "channel", "matter", "urgency", "organisation")
    chosen = {name: query.get(name, "")[:32] for name in names}
    return Filter(
        tab=tab if tab in TABS else "open", q=query.get("q", "").strip(), **chosen
    )


def _query(wanted: Filter, **more: str) -> str:
    """The query string that leads to the same list."""
    parts = {
        "tab": wanted.tab,
        "q": wanted.q,
        "state": wanted.state,
        "channel": wanted.channel,
        "matter": wanted.matter,
        "urgency": wanted.urgency,
        "organisation": wanted.organisation,
    }
    return urlencode({k: v for k, v in (parts | more).items() if v})


async def show_stream(request: web.Request, actor: Actor) -> web.StreamResponse:
    if _is_htmx(request):
        wanted = _filter(request.query)
        return await render(
            request, "partials/_stream.html", **await _rows(request, actor, wanted)
        )
    return await _stream_page(request, actor, None)


async def _stream_page(
    request: web.Request,
    actor: Actor,
    matter: dict[str, Any] | None,
    status: int = 200,
) -> web.StreamResponse:
    wanted = _filter(request.query)
    say = words(request)
    number = matter["number"] if matter else ""
    return await render(
        request,
        "inquiries.html",
        status=status,
        active="inquiries",
        tabs=await _tabs(request, actor, wanted),
        tab=wanted.tab,
        q=wanted.q,
        filters={
            "channel": wanted.channel,
            "matter": wanted.matter,
            "state": wanted.state,
        },
        channels=_channel_choices(request),
        matters=view.matters(say),
        matter=matter,
        **await _rows(request, actor, wanted, number),
    )


async def _rows(
    request: web.Request, actor: Actor, wanted: Filter, selected: str = ""
) -> dict[str, Any]:
    core = request.app[CORE]
    cursor = request.query.get("cursor", "")
    found = await queries.listing(actor, wanted, core.clock.now(), cursor)
    more = f"/inquiries?{_query(wanted, cursor=found.cursor)}" if found.cursor else ""
    say = words(request)
    return {
        "rows": [view.row(core, one, say) for one in found.rows],
        "more": more,
        "filtered": wanted.narrowed,
        "selected_number": selected or request.query.get("selected", ""),
    }


def shown(number: int) -> int | str:
    """Nobody reads a number of four digits on a tab, and counting it would cost."""
    return number if number < queries.MOST else f"{queries.MOST - 1}+"


async def _tabs(
    request: web.Request, actor: Actor, wanted: Filter
) -> list[dict[str, Any]]:
    numbers = await queries.counts(actor, request.app[CORE].clock.now())
    return [
        {
            "key": key,
            "label": text(request, label),
            "number": shown(numbers[key]),
            "path": f"/inquiries?tab={key}",
            "current": key == wanted.tab,
            "alert": key in ("overdue", "attention") and numbers[key] > 0,
        }
        for key, label in TABS.items()
        if key not in _SHOWN_WHEN_NEEDED or numbers[key] or key == wanted.tab
    ]


def _channel_choices(request: web.Request) -> list[dict[str, str]]:
    configured = [
        {"value": one.name, "label": one.label} for one in request.app[CORE].channels
    ]
    by_hand = [
        {"value": "counter", "label": text(request, "来访")},
        {"value": "phone", "label": text(request, "来电")},
    ]
    return configured + by_hand


async def show_row(request: web.Request, actor: Actor) -> web.StreamResponse:
    """One row, renewed; 204 where the list in the query string leaves it out."""
    core = request.app[CORE]
    wanted = _filter(request.query)
    id = forms.path_id(request)
    found = await queries.one_row(actor, wanted, core.clock.now(), id)
    if found is None:
        return web.Response(status=204)
    return await render(
        request,
        "partials/_inquiry_row.html",
        row=view.row(core, found, words(request)),
        selected_number=request.query.get("selected", ""),
    )


async def show_counts(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await render(
        request,
        "partials/_counts.html",
        counts=await counts(request.app, actor),
        tabs=await _tabs(request, actor, _filter(request.query)),
    )


# --- One inquiry --------------------------------------------------------------------


async def show_inquiry(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _show(request, actor)


async def _show(
    request: web.Request,
    actor: Actor,
    refused: Refused = NOTHING_REFUSED,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    core, number = request.app[CORE], request.match_info["number"]
    matter = await view.matter(core, actor, number, words(request), refused)
    status = 422 if refused.errors else 200
    if _is_htmx(request):
        return await render(
            request,
            "partials/_inquiry.html",
            status=status,
            headers=headers,
            matter=matter,
        )
    if "alone" in request.query:
        return await render(
            request, "inquiry.html", status=status, active="inquiries", matter=matter
        )
    return await _stream_page(request, actor, matter, status)


async def show_live(request: web.Request, actor: Actor) -> web.StreamResponse:
    """What a live update replaces; the answer box is never part of it."""
    core = request.app[CORE]
    number = await queries.number_of(forms.path_id(request))
    matter = await view.matter(core, actor, number, words(request))
    return await render(request, "partials/_inquiry_live.html", matter=matter)


async def show_places(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Whom the matter may be handed to, once somebody wants to."""
    number = request.match_info["number"]
    places = await view.places(actor, number, words(request))
    return await render(request, "partials/_places.html", places=places)


async def show_preview(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The answer as the member will read it, with segments and price."""
    form = await forms.read(request)
    found = await view.preview(
        request.app[CORE],
        actor,
        request.match_info["number"],
        form.get("text", limit=work.LONGEST_ANSWER),
        words(request),
    )
    return await render(request, "partials/_answer_preview.html", preview=found)


async def show_print(request: web.Request, actor: Actor) -> web.StreamResponse:
    number = request.match_info["number"]
    form = await print_form.form(request.app[CORE], actor, number)
    return await render(request, "inquiry_print.html", form=form, active="inquiries")


async def show_attachment(request: web.Request, actor: Actor) -> web.StreamResponse:
    """A file that a member sent: always saved, never shown by the browser."""
    inquiry = await work.find(actor, request.match_info["number"])
    file = await AttachmentRow.get_or_none(id=forms.path_id(request))
    if file is None or not await Inbound.exists(
        id=file.inbound_id, inquiry_id=inquiry.id
    ):
        raise NotFound("attachment")
    name = re.sub(r'[\x00-\x1f"\\/:*?<>|]', "_", file.name) or "file"
    quoted = quote(name, safe="")
    return web.Response(
        body=file.content,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quoted}",
            "Content-Security-Policy": "sandbox",
        },
    )


# --- Acts ---------------------------------------------------------------------------

Act = Callable[[web.Request, Actor, str, Form], Awaitable[str]]
"""Does it; returns the words of the toast."""


def _acting(
    name: str, act: Act
) -> Callable[[web.Request, Actor], Awaitable[web.StreamResponse]]:
    """A handler: what was refused comes back with its errors and what was typed."""

    async def handle(request: web.Request, actor: Actor) -> web.StreamResponse:
        number, form = request.match_info["number"], await forms.read(request)
        try:
            said = await act(request, actor, number, form)
        except RequestError as error:
            if not error.fields:
                raise
            return await _show(request, actor, _refused(request, name, form, error))
        return await _done(request, actor, number, text(request, said))

    return handle


def _refused(
    request: web.Request, name: str, form: Form, error: RequestError
) -> Refused:
    errors = {field: text(request, said) for field, said in error.fields.items()}
    typed = {field: form.get(field) for field in form.fields if field != "csrf"}
    return Refused(act=name, errors=errors, typed=typed)


async def _done(
    request: web.Request, actor: Actor, number: str, said: str, undo: str = ""
) -> web.StreamResponse:
    """The inquiry as it is now; the stream where it has left the actor's sight."""
    try:
        await work.find(actor, number)
    except NotFound:
        return redirect(request, "/inquiries", said)
    if _is_htmx(request):
        return await _show(request, actor, headers=toast_header(said, undo=undo))
    return redirect(request, f"/inquiries/{number}", said)


async def reply(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Send an answer; it leaves a few seconds later and may be taken back."""
    number, form = request.match_info["number"], await forms.read(request)
    if form.flag("spoken"):
        return await _acting("reply", _tell)(request, actor)
    try:
        sent = await work.answer(
            request.app[CORE],
            actor,
            number,
            form.get("text"),
            asks=form.flag("asks"),
            dedupe_key=_once(number, form),
            hold=UNDO,
        )
    except RequestError as error:
        if not error.fields:
            raise
        return await _show(request, actor, _refused(request, "reply", form, error))
    undo = f"/inquiries/{number}/replies/{sent.id}/undo"
    return await _done(request, actor, number, text(request, "答复已交出"), undo)


def _once(number: str, form: Form) -> str | None:
    """One key for one form with one text: a second click sends nothing more."""
    token = form.get("form")
    if not re.fullmatch("[0-9a-f]{16,64}", token):
        return None
    digest = hashlib.sha256(form.get("text").encode()).hexdigest()[:32]
    return f"answer:{number}:{token}:{digest}"


async def undo_reply(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Take an answer back; its words stand in the box again."""
    number = request.match_info["number"]
    core = request.app[CORE]
    said = await work.take_back(core, actor, number, forms.path_id(request))
    toast = text(request, "已撤回，没有发出")
    if not _is_htmx(request):
        return redirect(request, f"/inquiries/{number}", toast)
    refused = Refused(typed={"text": said})
    return await _show(request, actor, refused, toast_header(toast))


async def _note(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await work.remark(request.app[CORE], actor, number, form.get("text"))
    return "已存为内部备注"


async def _tell(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await work.tell_by_hand(request.app[CORE], actor, number, form.get("text"))
    return "已记下当面或电话答复"


async def _claim(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await work.claim(request.app[CORE], actor, number)
    return "已由您承办"


async def _assign(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await work.assign(request.app[CORE], actor, number, form.get("staff"))
    return "已换承办人"


async def _transfer(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    to = form.get("organisation")
    person = to.removeprefix("staff:") if to.startswith("staff:") else ""
    try:
        await work.transfer(
            request.app[CORE],
            actor,
            number,
            organisation_code="" if person else to,
            staff_username=person,
            reason=form.get("reason"),
        )
    except RequestError as error:
        if "to" in error.fields:
            error.fields["organisation"] = error.fields.pop("to")
        raise
    return "已转办"


async def _extend(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    try:
        await work.extend(
            request.app[CORE],
            actor,
            number,
            working_days=form.number("days", 1000) or 0,
            reason=form.get("reason"),
        )
    except RequestError as error:
        if "working_days" in error.fields:
            error.fields["days"] = error.fields.pop("working_days")
        raise
    return "已延期，并告诉党员新的期限"


async def _classify(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await work.classify(
        request.app[CORE],
        actor,
        number,
        matter=form.get("matter") or None,
        urgency=form.get("urgency") or None,
    )
    return "已更正"


async def _bind(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    member = form.number("member", 2**63 - 1)
    if member is None:
        raise RequestError("empty", fields={"member": "请选择党员"}, status=422)
    await work.identify(request.app[CORE], actor, number, member)
    return "已确认来信人"


async def _close(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    call_back = form.flag("call_back")
    await closing.close(
        request.app[CORE], actor, number, form.get("outcome"), call_back=call_back
    )
    return "已办结，并请党员评价" if call_back else "已办结"


async def _reopen(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await closing.reopen(request.app[CORE], actor, number, form.get("reason"))
    return "已重新办理"


async def _rate(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    rating = form.number("rating", 3) or 0
    await closing.rate_by_hand(request.app[CORE], actor, number, rating)
    return "已记下评价"


async def _seen(request: web.Request, actor: Actor, number: str, form: Form) -> str:
    await closing.dismiss_attention(request.app[CORE], actor, number)
    return "已阅"


async def move_message(request: web.Request, actor: Actor) -> web.StreamResponse:
    """File a message under another inquiry; `to` comes by form or query."""
    number, form = request.match_info["number"], await forms.read(request)
    to, id = form.get("to") or request.query.get("to", ""), forms.path_id(request)
    try:
        await filing.move(request.app[CORE], actor, number, id, to)
    except RequestError as error:
        if not error.fields:
            raise
        return await _show(request, actor, _refused(request, "move", form, error))
    undo = f"/inquiries/{to.strip()}/messages/{id}/move?to={number}"
    said = text(request, "已移到 {number}", number=to.strip())
    return await _done(request, actor, number, said, undo)


async def split_message(request: web.Request, actor: Actor) -> web.StreamResponse:
    number = request.match_info["number"]
    core = request.app[CORE]
    new = await filing.split(core, actor, number, forms.path_id(request))
    said = text(request, "已另立新单 {number}", number=new)
    return redirect(request, f"/inquiries/{new}", said)


# --- A new matter -------------------------------------------------------------------


async def show_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _new_page(request, actor, counter.Entered())


async def enter_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    form = await forms.read(request)
    entered = counter.Entered(
        source=form.get("source"),
        member_id=form.number("member_id", 2**63 - 1),
        contact_name=form.get("contact_name", limit=64),
        phone=form.get("phone", limit=64),
        matter=form.get("matter"),
        urgency=form.get("urgency"),
        text=form.get("text"),
        answer=form.get("answer"),
        form=form.get("form"),
    )
    try:
        number = await counter.enter(request.app[CORE], actor, entered)
    except RequestError as error:
        if not error.fields:
            raise
        errors = {field: text(request, said) for field, said in error.fields.items()}
        return await _new_page(request, actor, entered, errors)
    said = text(request, "已登记，单号 {number}", number=number)
    return redirect(request, f"/inquiries/{number}", said)


async def _new_page(
    request: web.Request,
    actor: Actor,
    entered: counter.Entered,
    errors: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    core, say = request.app[CORE], words(request)
    due = deadline_from(core, core.clock.now())
    return await render(
        request,
        "new_inquiry.html",
        status=422 if errors else 200,
        active="new",
        matters=view.matters(say),
        urgencies=view.urgencies(say),
        form={
            "source": entered.source or "counter",
            "contact_name": entered.contact_name,
            "phone": entered.phone,
            "member_id": entered.member_id or "",
            "matter": entered.matter,
            "urgency": entered.urgency or "normal",
            "text": entered.text,
            "answer": entered.answer,
            "form": entered.form or secrets.token_hex(16),
        },
        member=await _chosen(actor, entered.member_id),
        errors=errors or {},
        deadline={"at": due.at - due.at.resolution, "provisional": due.provisional},
    )


async def _chosen(actor: Actor, member_id: int | None) -> dict[str, Any] | None:
    member = await Member.get_or_none(id=member_id).prefetch_related("organisation")
    if member is None or not actor.sees(member.organisation.path):
        return None
    return {
        "id": member.id,
        "name": member.name,
        "organisation": member.organisation.name,
    }


_ONE = "/inquiries/{number}"
_ACTS: Mapping[str, tuple[Act, Action]] = {
    "notes": (_note, Action.WORK),
    "told": (_tell, Action.WORK),
    "claim": (_claim, Action.WORK),
    "assign": (_assign, Action.WORK),
    "transfer": (_transfer, Action.WORK),
    "extend": (_extend, Action.EXTEND),
    "classify": (_classify, Action.WORK),
    "bind": (_bind, Action.WORK),
    "close": (_close, Action.WORK),
    "reopen": (_reopen, Action.WORK),
    "rate": (_rate, Action.WORK),
    "seen": (_seen, Action.WORK),
}
ROUTES = (
    page("GET", "/inquiries", show_stream, Action.READ),
    page("GET", "/inquiries/new", show_new, Action.WORK),
    page("POST", "/inquiries/new", enter_new, Action.WORK),
    page("GET", "/inquiries/counts", show_counts, Action.READ, background=True),
    page("GET", _ONE, show_inquiry, Action.READ),
    page("GET", "/inquiries/{id}/row", show_row, Action.READ, background=True),
    page("GET", "/inquiries/{id}/live", show_live, Action.READ, background=True),
    page("GET", f"{_ONE}/print", show_print, Action.READ),
    page("GET", f"{_ONE}/places", show_places, Action.WORK),
    page("GET", f"{_ONE}/attachments/{{id}}", show_attachment, Action.READ),
    page("POST", f"{_ONE}/preview", show_preview, Action.WORK),
    page("POST", f"{_ONE}/replies", reply, Action.WORK),
    page("POST", f"{_ONE}/replies/{{id}}/undo", undo_reply, Action.WORK),
    page("POST", f"{_ONE}/messages/{{id}}/move", move_message, Action.WORK),
    page("POST", f"{_ONE}/messages/{{id}}/split", split_message, Action.WORK),
    *(
        page("POST", f"{_ONE}/{path}", _acting(path, act), action)
        for path, (act, action) in _ACTS.items()
    ),
)
