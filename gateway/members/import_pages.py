"""Pages of the import: upload, look, confirm."""

import asyncio
from typing import Any

from aiohttp import web

from gateway import addresses
from gateway.actors import Action, Actor
from gateway.contract import AddressKind
from gateway.errors import RequestError
from gateway.members import importing, load, sheets, uploads
from gateway.members.load import Plan
from gateway.members.uploads import Upload
from gateway.organisations import tree
from gateway.web import forms
from gateway.web.keys import CORE
from gateway.web.pages import render, text
from gateway.web.routes import page

_SHOWN = 200  # faults on the page; the workbook holds all
_SAMPLE = 10
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def show(request: web.Request, actor: Actor) -> web.StreamResponse:
    return await _page(request, step="upload")


async def _page(
    request: web.Request, *, step: str, status: int = 200, **more: Any
) -> web.Response:
    values: dict[str, Any] = {
        "error": "",
        "columns": importing.COLUMNS,
        "faults": [],
        "sample": [],
        "file": None,
        "result": None,
    }
    return await render(
        request,
        "member_import.html",
        active="members",
        status=status,
        step=step,
        **(values | more),
    )


async def upload(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Reads and checks a sheet; nothing is written yet."""
    core = request.app[CORE]
    given = (await forms.read(request)).files.get("file")
    try:
        if given is None:
            raise RequestError("no_file", "请先选一个文件", fields={"file": ""})
        rows = await sheets.read(given.content)
        plan = await load.plan(actor, rows)
    except RequestError as error:
        if not error.fields and error.status != 413:
            raise
        words = text(request, error.detail)
        return await _page(request, step="upload", status=422, error=words)
    kept = await uploads.keep(core, actor, given.name, rows)
    return await _page(
        request,
        step="preview",
        file=_summary(kept, plan),
        faults=[
            {
                "row": result.row,
                "field": fault.field,
                "value": fault.value,
                "message": text(request, fault.message),
            }
            for result in plan.bad
            for fault in result.faults
        ][:_SHOWN],
        sample=await _sample(actor, plan),
    )


def _summary(upload: Upload, plan: Plan) -> dict[str, Any]:
    return {
        "name": upload.name,
        "token": upload.token,
        "total": len(plan.results),
        "good": len(plan.steps),
        "new": plan.count("new"),
        "changed": plan.count("changed"),
        "bad": len(plan.bad),
    }


async def _sample(actor: Actor, plan: Plan) -> list[dict[str, Any]]:
    names = {o.id: o.name for o in await tree.visible(actor)}
    return [
        {
            "row": step.record.row,
            "name": step.record.name,
            "organisation": names[step.record.organisation_id],
            "phone": next(
                (
                    addresses.mask(address)
                    for address in step.record.contacts
                    if address.kind is AddressKind.PHONE
                ),
                "",
            ),
            "what": step.what,
        }
        for step in plan.steps[:_SAMPLE]
    ]


async def confirm(request: web.Request, actor: Actor) -> web.StreamResponse:
    """Writes the good rows, checked once more against what is there by now."""
    core = request.app[CORE]
    token = (await forms.read(request)).get("token", limit=100)
    kept = await uploads.find(core, actor, token)
    plan = await load.write(core, actor, kept.rows)
    if not plan.bad:
        uploads.drop(core, token)
    return await _page(
        request,
        step="done",
        result={
            "new": plan.count("new"),
            "changed": plan.count("changed"),
            "left_out": len(plan.bad),
        },
    )


async def blank(request: web.Request, actor: Actor) -> web.StreamResponse:
    return _workbook(await asyncio.to_thread(sheets.blank), "members.xlsx")


async def faulty(request: web.Request, actor: Actor) -> web.StreamResponse:
    """The rows left out, to be mended and uploaded again."""
    kept = await uploads.find(request.app[CORE], actor, request.match_info["token"])
    plan = await load.plan(actor, kept.rows)
    header = next(row for row in kept.rows if any(row))
    content = await asyncio.to_thread(sheets.faulty, header, plan.bad)
    return _workbook(content, "faults.xlsx")


def _workbook(content: bytes, name: str) -> web.Response:
    return web.Response(
        body=content,
        content_type=_XLSX,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


# Room for the form's own fields beside the largest sheet.
_BODY = sheets.MAX_UPLOAD + 64 * 1024
ROUTES = (
    page("GET", "/members/import", show, Action.MEMBERS),
    page("POST", "/members/import", upload, Action.MEMBERS, max_body=_BODY),
    page("POST", "/members/import/confirm", confirm, Action.MEMBERS),
    page("GET", "/members/import/template.xlsx", blank, Action.MEMBERS),
    page("GET", "/members/import/{token}/faults.xlsx", faulty, Action.MEMBERS),
)
