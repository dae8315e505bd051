"""What staff do with one inquiry: each act, its words, and what was refused."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import NotFound, RequestError
from gateway.inquiries import closing, filing, work
from gateway.inquiries.stream_pages import ONE, is_htmx, show
from gateway.inquiries.view import Refused
from gateway.web import forms
from gateway.web.forms import Form
from gateway.web.keys import CORE
from gateway.web.pages import redirect, text, toast_header
from gateway.web.routes import page

UNDO = timedelta(seconds=6)  # an answer may be taken back so long after "send"

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
            return await show(request, actor, _refused(request, name, form, error))
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
    if is_htmx(request):
        return await show(request, actor, headers=toast_header(said, undo=undo))
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
        return await show(request, actor, _refused(request, "reply", form, error))
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
    if not is_htmx(request):
        return redirect(request, f"/inquiries/{number}", toast)
    refused = Refused(typed={"text": said})
    return await show(request, actor, refused, toast_header(toast))


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
        return await show(request, actor, _refused(request, "move", form, error))
    undo = f"/inquiries/{to.strip()}/messages/{id}/move?to={number}"
    said = text(request, "已移到 {number}", number=to.strip())
    return await _done(request, actor, number, said, undo)


async def split_message(request: web.Request, actor: Actor) -> web.StreamResponse:
    number = request.match_info["number"]
    core = request.app[CORE]
    new = await filing.split(core, actor, number, forms.path_id(request))
    said = text(request, "已另立新单 {number}", number=new)
    return redirect(request, f"/inquiries/{new}", said)


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
    page("POST", f"{ONE}/replies", reply, Action.WORK),
    page("POST", f"{ONE}/replies/{{id}}/undo", undo_reply, Action.WORK),
    page("POST", f"{ONE}/messages/{{id}}/move", move_message, Action.WORK),
    page("POST", f"{ONE}/messages/{{id}}/split", split_message, Action.WORK),
    *(
        page("POST", f"{ONE}/{path}", _acting(path, act), action)
        for path, (act, action) in _ACTS.items()
    ),
)
