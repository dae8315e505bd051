"""Pages of the daily Q&A: next push, queue, subscribers, history."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aiohttp import web

from broadcasts import daily, preview, view
from broadcasts.daily import Item
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.inquiries.matters import NAMES, Matter
from gateway.knowledge import entries
from gateway.phrases import phrase
from gateway.web.forms import path_id, whole_number
from gateway.web.forms import read as read_form
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text, toast_header
from gateway.web.routes import page


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    subscribers = await daily.subscribers()
    history = await daily.history()
    return await render(
        request,
        "daily.html",
        active="daily",
        **await _queue(request, actor),
        subscribers=[
            {"channel": view.kind_label(kind), "number": number}
            for kind, number in subscribers.items()
        ],
        total=sum(subscribers.values()),
        history=[
            {
                "broadcast_id": past.broadcast_id,
                "day": past.day,
                "question": past.question,
                "sent": past.planned,
                "delivered": past.delivered,
            }
            for past in history
        ],
    )


async def show_queue(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _queue_partial(request, actor)


async def _queue_partial(
    request: web.Request, actor: Actor, toast: dict[str, str] | None = None
) -> web.Response:
    return await render(
        request,
        "partials/_daily_queue.html",
        headers=toast,
        **await _queue(request, actor),
    )


async def _queue(request: web.Request, actor: Actor) -> dict[str, Any]:
    core = request.app[CORE]
    items = await daily.queue()
    first = next((item for item in items if not item.sample), None)
    state = await daily.state_of_today(core)
    problem = daily.PROBLEMS.get(state, "")
    if not problem and first is None:
        problem = daily.PROBLEMS["unchecked" if items else "empty"]
    return {
        "next": None if first is None else await _next(core, first),
        "queue": _days(core, items),
        "entries": [
            {"value": e["id"], "label": _label(e)} for e in await daily.entries_to_add()
        ],
        "may_edit": actor.may(Action.BROADCAST),
        "may_check": actor.may(Action.APPROVE),
        "problem": text(request, problem) if problem else "",
        "may_push": actor.may(Action.BROADCAST)
        and state in daily.MISSED
        and first is not None,
    }


def _label(entry: Any) -> str:
    times = int(entry["times"])
    if not times:
        return str(entry["question"])
    return phrase("{question}（发过 {n} 次）", question=entry["question"], n=times)


async def _next(core: Core, item: Item) -> dict[str, Any]:
    planned = await daily.preview(core, item)
    found = await preview.of_plan(core, planned)
    texts = [sample.text for way in found.ways for sample in way.samples]
    return {
        "at": daily.next_instant(core),
        "question": item.question,
        "answer": item.answer,
        "basis": item.basis,
        "sample": item.sample,
        "item_id": item.id,
        "people": found.people,
        "text": texts[0] if texts else f"{item.question}\n{item.answer}",
    }


def _days(core: Core, items: list[Item]) -> list[dict[str, Any]]:
    """The queue with the day of each; what is not checked has none."""
    at = daily.next_instant(core)
    shown = []
    for item in items:
        shown.append(
            {
                "id": item.id,
                "entry_id": item.entry_id,
                "question": item.question,
                "matter_label": phrase(NAMES[Matter(item.matter)])
                if item.matter in set(Matter)
                else item.matter,
                "basis": item.basis,
                "sample": item.sample,
                "day": phrase("未核对") if item.sample else view.month_day(at),
            }
        )
        if not item.sample:
            at += timedelta(days=1)
    return shown


Act = Callable[[Core, Actor, int], Awaitable[object]]


async def _up(core: Core, actor: Actor, id: int) -> None:
    await daily.shift(core, actor, id, up=True)


async def _down(core: Core, actor: Actor, id: int) -> None:
    await daily.shift(core, actor, id, up=False)


async def _check(core: Core, actor: Actor, id: int) -> None:
    item = next((item for item in await daily.queue() if item.id == id), None)
    if item is None:
        raise NotFound(f"daily item {id}")
    await entries.check(core, actor, item.entry_id)


def _handler(
    act: Act, said: str = ""
) -> Callable[[web.Request, Actor], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request, actor: Actor) -> web.StreamResponse:
        await act(request.app[CORE], actor, path_id(request))
        return await _answer(request, actor, said)

    return handle


async def _answer(
    request: web.Request, actor: Actor, said: str, tone: str = "good"
) -> web.StreamResponse:
    words = text(request, said) if said else ""
    if request.headers.get("HX-Request") == "true":
        toast = toast_header(words, tone) if words else None
        return await _queue_partial(request, actor, toast)
    return redirect(request, "/daily", words, tone)


async def add(request: web.Request, actor: Actor) -> web.StreamResponse:
    entry = whole_number((await read_form(request)).get("entry"), 2**63 - 1)
    if entry is None:
        return await _answer(request, actor, "请选择一个知识条目", "bad")
    try:
        await daily.add(request.app[CORE], actor, entry)
    except RequestError as error:
        if error.status != 409:
            raise
        return await _answer(request, actor, error.detail, "bad")
    return await _answer(request, actor, "已加入队列")


async def push(request: web.Request, actor: Actor) -> web.StreamResponse:
    try:
        await daily.push_now(request.app[CORE], actor)
    except RequestError as error:
        if error.status != 409:
            raise
        return await _answer(request, actor, error.detail, "bad")
    return await _answer(request, actor, "今天的每日一答开始发送")


_EDIT = Action.BROADCAST
ROUTES = (
    page("GET", "/daily", show, Action.READ),
    page("GET", "/daily/queue", show_queue, Action.READ, background=True),
    page("POST", "/daily/add", add, _EDIT),
    page("POST", "/daily/push", push, _EDIT),
    page("POST", "/daily/{id}/up", _handler(_up), _EDIT),
    page("POST", "/daily/{id}/down", _handler(_down), _EDIT),
    page("POST", "/daily/{id}/skip", _handler(daily.skip, "已跳过"), _EDIT),
    page("POST", "/daily/{id}/remove", _handler(daily.remove, "已移出队列"), _EDIT),
    page("POST", "/daily/{id}/check", _handler(_check, "已核对"), Action.APPROVE),
)
