"""Pages of the knowledge entries: list, one entry, how it will be read."""

from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.contract import AddressKind
from gateway.core import Core
from gateway.database import Row
from gateway.errors import RequestError
from gateway.inquiries.matters import NAMES, Matter
from gateway.knowledge import entries, message
from gateway.knowledge.entries import Draft, Filter
from gateway.tables import Entry
from gateway.text import excerpt
from gateway.web import forms, paging
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page

_FIELDS = ("question", "answer", "basis", "matter", "keywords")
_LONGEST_LINE = 90  # characters of an answer in the list
_STANDINGS = {"checked": "已核对", "unchecked": "未核对", "off": "已停用"}


async def show_list(request: web.Request, actor: Actor) -> web.StreamResponse:
    wanted = _filter(request)
    start = forms.whole_number(request.query.get("from", "")) or 0
    found = await entries.listing(wanted, start)
    shown = len(found.rows)
    return await render(
        request,
        "entries.html",
        active="daily",
        q=wanted.q,
        matter=wanted.matter,
        standing=wanted.standing,
        matters=_matters(request),
        standings=[
            {"value": code, "label": text(request, label)}
            for code, label in _STANDINGS.items()
        ],
        entries=[_row(request, row) for row in found.rows],
        counts_of=await entries.counts(),
        pager=paging.pager(request, start, shown, found.total, entries.PAGE),
        may_edit=actor.may(Action.BROADCAST),
    )


def _filter(request: web.Request) -> Filter:
    query = request.query
    matter, standing = query.get("matter", ""), query.get("standing", "")
    return Filter(
        q=query.get("q", "").strip(),
        matter=matter if matter in set(Matter) else "",
        standing=standing if standing in entries.STANDINGS else "",
    )


def _matters(request: web.Request) -> list[dict[str, str]]:
    return [{"value": code, "label": text(request, n)} for code, n in NAMES.items()]


def _row(request: web.Request, row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "question": row["question"],
        "answer": excerpt(row["answer"], _LONGEST_LINE),
        "basis": row["basis"],
        "matter_label": _matter_label(request, row["matter"]),
        "sample": bool(row["sample"]),
        "active": bool(row["active"]),
    }


def _matter_label(request: web.Request, matter: str) -> str:
    known = matter in set(Matter)
    return text(request, NAMES[Matter(matter)]) if known else matter


async def show_new(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _form_page(request, actor, None, dict.fromkeys(_FIELDS, ""))


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    entry = await entries.find(forms.path_id(request))
    return await _form_page(request, actor, entry, _typed(entry))


def _typed(entry: Entry) -> dict[str, str]:
    return {
        "question": entry.question,
        "answer": entry.answer,
        "basis": entry.basis,
        "matter": entry.matter,
        "keywords": " ".join(entry.keywords),
    }


async def _form_page(
    request: web.Request,
    actor: Actor,
    entry: Entry | None,
    form: dict[str, str],
    error: RequestError | None = None,
) -> web.Response:
    faults = error.fields if error else {}
    return await render(
        request,
        "entry.html",
        active="daily",
        status=error.status if error else 200,
        entry=None if entry is None else _entry(request, entry),
        form=form,
        matters=_matters(request),
        errors={name: text(request, words) for name, words in faults.items()},
        looks=_looks(request, form),
        longest_question=entries.LONGEST_QUESTION,
        may_edit=actor.may(Action.BROADCAST),
        may_check=actor.may(Action.APPROVE),
    )


def _entry(request: web.Request, entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "matter_label": _matter_label(request, entry.matter),
        "sample": entry.sample,
        "active": entry.active,
        "seen": entries.digest(entry),
        "updated_at": entry.updated_at or entry.created_at,
    }


def _looks(request: web.Request, form: dict[str, str]) -> list[dict[str, Any]]:
    """How the message reads; nothing while question or answer are missing."""
    if not form["question"] or not form["answer"]:
        return []
    core: Core = request.app[CORE]
    found = message.looks(core, form["question"], form["answer"], form["basis"])
    names = {AddressKind.PHONE: "短信", AddressKind.QQ: "QQ"}
    return [
        {
            "kind": one.kind,
            "label": one.label or text(request, names[one.kind]),
            "missing": not one.label,
            "text": one.text,
            "units": one.units,
            "segments": one.segments,
            "price_fen": one.price_fen,
            "cut": one.cut,
            "problem": text(request, one.problem) if one.problem else "",
        }
        for one in found
    ]


async def _draft(request: web.Request) -> tuple[dict[str, str], Draft]:
    form = await forms.read(request)
    given = {name: form.get(name) for name in _FIELDS}
    return given, Draft(
        question=given["question"],
        answer=given["answer"],
        basis=given["basis"],
        matter=given["matter"],
        keywords=entries.keywords(given["keywords"]),
    )


async def show_preview(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, _ = await _draft(request)
    short = {name: words[: entries.LONGEST_ANSWER] for name, words in given.items()}
    return await render(
        request, "partials/_entry_preview.html", looks=_looks(request, short)
    )


async def create(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    try:
        new = await entries.add(request.app[CORE], actor, draft)
    except RequestError as error:
        if not error.fields:
            raise
        return await _form_page(request, actor, None, given, error)
    said = text(request, "条目已保存，核对后才会发出")
    return redirect(request, f"/entries/{new.id}", said)


async def change(request: web.Request, actor: Actor) -> web.StreamResponse:
    given, draft = await _draft(request)
    id = forms.path_id(request)
    seen = (await forms.read(request)).get("seen")
    try:
        entry = await entries.change(request.app[CORE], actor, id, draft, seen)
    except RequestError as error:
        if not error.fields:
            raise
        entry = await entries.find(id)
        return await _form_page(request, actor, entry, given, error)
    said = "条目已保存，核对后才会发出" if entry.sample else "条目已保存"
    return redirect(request, f"/entries/{id}", text(request, said))


async def check(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request)
    seen = (await forms.read(request)).get("seen")
    try:
        await entries.check(request.app[CORE], actor, id, seen)
    except RequestError as error:
        if error.status != 409:
            raise
        return redirect(request, f"/entries/{id}", text(request, error.detail), "bad")
    return redirect(request, f"/entries/{id}", text(request, "已核对，可以发出"))


async def deactivate(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request)
    await entries.switch(request.app[CORE], actor, id, active=False)
    return redirect(request, f"/entries/{id}", text(request, "条目已停用"))


async def activate(request: web.Request, actor: Actor) -> web.StreamResponse:
    id = forms.path_id(request)
    await entries.switch(request.app[CORE], actor, id, active=True)
    return redirect(request, f"/entries/{id}", text(request, "条目已恢复使用"))


_EDIT = Action.BROADCAST
ROUTES = (
    page("GET", "/entries", show_list, Action.READ),
    page("GET", "/entries/new", show_new, _EDIT),
    page("POST", "/entries/new", create, _EDIT),
    page("POST", "/entries/preview", show_preview, _EDIT),
    page("GET", "/entries/{id}", show, Action.READ),
    page("POST", "/entries/{id}", change, _EDIT),
    page("POST", "/entries/{id}/check", check, Action.APPROVE),
    page("POST", "/entries/{id}/deactivate", deactivate, _EDIT),
    page("POST", "/entries/{id}/activate", activate, _EDIT),
)
