"""The form for what somebody says at the counter or on the telephone."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.actors import Action, Actor
from gateway.errors import RequestError
from gateway.inquiries import counter, view
from gateway.inquiries.register import deadline_from
from gateway.inquiries.stream_pages import words
from gateway.tables import Member
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import redirect, render, text
from gateway.web.routes import page


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


ROUTES = (
    page("GET", "/inquiries/new", show_new, Action.WORK),
    page("POST", "/inquiries/new", enter_new, Action.WORK),
)
