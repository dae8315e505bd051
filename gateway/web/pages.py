"""Rendering of pages: Jinja, languages, and what the frame of every page needs."""

import asyncio
import json
import time
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import CodeType
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from babel.messages.pofile import read_po
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket, BytecodeCache

from gateway.actors import Action, Actor, Role
from gateway.core import Core
from gateway.errors import RequestError
from gateway.phrases import Phrase, phrase, translated
from gateway.staff.sessions import SignedIn
from gateway.web import access
from gateway.web.filters import filters
from gateway.web.keys import BACKGROUND, CORE, COUNTS, PAGES, ROUTES, SIGNED_IN

ROLE_LABELS = {
    Role.CLERK: "办事员",
    Role.DIRECTOR: "主任",
    Role.APPROVER: "审批人",
    Role.ADMINISTRATOR: "管理员",
}
# Key of a navigation entry, and the page it leads to.
NAVIGATION = {
    "inquiries": "/inquiries",
    "new": "/inquiries/new",
    "review": "/review",
    "broadcasts": "/broadcasts",
    "daily": "/daily",
    "members": "/members",
    "organisations": "/organisations",
    "canned": "/canned",
    "calendar": "/calendar",
    "channels": "/channels",
    "staff": "/staff",
    "audit": "/audit",
    "system": "/system",
    "sandbox": "/sandbox",
    "account": "/account",
}
SLICE_SECONDS = 0.005  # of rendering, before others have their turn
_TOAST_SECONDS = 60


class _Compiled(BytecodeCache):
    """Pages run the same code in every language and application: it is compiled once
    in a process, and before a drill forks its gateways."""

    def __init__(self) -> None:
        self._codes: dict[str, CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._codes[bucket.key] = bucket.code


@cache
def _compiled() -> _Compiled:
    return _Compiled()


class Pages:
    """One Jinja environment for each language, and the words of that language."""

    def __init__(self, core: Core) -> None:
        self._catalogues: Mapping[str, Mapping[str, str]] = {
            "zh": {},
            "en": _catalogue("en"),
        }
        self._environments = {
            language: self._environment(core, language) for language in self._catalogues
        }

    def translate(self, text: str, language: str) -> str:
        """The staff-facing `text` (Chinese in our sources) in `language`."""
        words = self._catalogues[language]
        return translated(text, lambda text: words.get(text, text))

    async def render(self, name: str, language: str, context: Mapping[str, Any]) -> str:
        """The page, in slices: a long one must not keep everybody else waiting."""
        template = self._environments[language].get_template(name)
        parts, until = list[str](), time.perf_counter() + SLICE_SECONDS
        for part in template.generate(context):
            parts.append(part)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_SECONDS
        return "".join(parts)

    def compile(self) -> None:
        """All pages, some hundred milliseconds in all. Else each is compiled when it is
        first asked for, while everybody waits. May run in a thread of its own."""
        for environment in self._environments.values():
            for name in environment.list_templates():
                environment.get_template(name)

    def _environment(self, core: Core, language: str) -> Environment:
        def translate(text: str) -> str:
            return self.translate(text, language)

        def translate_count(one: str, many: str, n: int) -> str:
            return translate(one if n == 1 else many)

        environment = Environment(
            loader=PackageLoader("templates", "pages"),
            extensions=["jinja2.ext.i18n"],
            autoescape=True,
            undefined=StrictUndefined,
            finalize=lambda shown: (
                translate(shown) if isinstance(shown, Phrase) else shown
            ),
            # Else each of fifty rows asks the disk whether its template has changed.
            auto_reload=False,
            bytecode_cache=_compiled(),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.install_gettext_callables(  # type: ignore[attr-defined]
            translate, translate_count, newstyle=True
        )
        timezone = core.settings.centre.timezone
        environment.filters.update(filters(timezone, core.clock.now, translate))
        return environment


@cache
def _catalogue(language: str) -> Mapping[str, str]:
    source = files("templates") / "locale" / f"{language}.po"
    if not source.is_file():
        return {}
    with source.open("rb") as file:
        messages = read_po(file, locale=language)
    return {
        str(message.id): str(message.string)
        for message in messages
        if message.id and message.string and not message.fuzzy
    }


def text(request: web.Request, words: str, **values: object) -> str:
    """Staff-facing words that don't stand on a page, in the reader's language."""
    return request.app[PAGES].translate(
        phrase(words, **values), access.language(request)
    )


async def render(
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> web.Response:
    """A page with its frame, or a bare partial (`partials/...`)."""
    toasts = _toasts(request)
    frame: dict[str, Any] = {
        "lang": access.language(request),
        "csrf": "",
        "active": "",
        "sandbox": request.app[CORE].settings.sandbox,
        "toasts": toasts,
        "status": status,
        "troubles": frozenset(),
    }
    signed_in = request.get(SIGNED_IN)
    if signed_in is not None:
        frame |= await _frame(request, signed_in, template)
    body = await request.app[PAGES].render(template, frame["lang"], frame | context)
    response = web.Response(
        text=body, status=status, content_type="text/html", headers=headers
    )
    if toasts:
        access.drop_cookie(request, response, "toast")
    return response


async def _frame(
    request: web.Request, signed_in: SignedIn, template: str
) -> dict[str, Any]:
    actor = signed_in.actor
    partial = template.startswith("partials/")
    return {
        "csrf": signed_in.csrf,
        "user": {
            "name": actor.name,
            "username": signed_in.username,
            "role_label": role_label(request, actor.role),
            "centre": signed_in.centre,
        },
        "may": _may(request.app, actor),
        "counts": {} if partial else await counts(request.app, actor),
        "troubles": troubles(request.app),
    }


def troubles(app: web.Application) -> frozenset[str]:
    """What there is no room for (`gateway.space.Storage`): people are warned of it."""
    background = app.get(BACKGROUND)
    return frozenset() if background is None else background.troubles()


def role_label(request: web.Request, role: str) -> str:
    return text(request, ROLE_LABELS[Role(role)])


def role_choices(request: web.Request) -> list[dict[str, str]]:
    """All roles, for a form."""
    return [{"value": role, "label": role_label(request, role)} for role in Role]


def faults(request: web.Request, error: RequestError) -> dict[str, str]:
    """What is wrong with each field of a form, in the reader's language."""
    return {name: text(request, words) for name, words in error.fields.items()}


async def counts(app: web.Application, actor: Actor) -> dict[str, int | str]:
    """The numbers beside the navigation entries."""
    numbers: dict[str, int | str] = dict.fromkeys(
        ("inquiries", "review", "approvals", "channels"), 0
    )
    for count in app[COUNTS]:
        numbers |= await count(actor)
    return numbers


def _may(app: web.Application, actor: Actor) -> set[str]:
    """The navigation entries whose page is there and open to this role."""
    needs: dict[str, Action | None] = {
        route.path: route.action for route in app[ROUTES] if route.method == "GET"
    }
    return {
        key
        for key, path in NAVIGATION.items()
        if (action := needs.get(path)) is not None and actor.may(action)
    }


def redirect(
    request: web.Request, path: str, toast: str = "", tone: str = "good"
) -> web.StreamResponse:
    """See other: `path`, which then shows `toast` (translated already)."""
    response = web.Response(status=303, headers={"Location": path})
    if request.headers.get("HX-Request") == "true":
        response = web.Response(headers={"HX-Redirect": path})
    _leave_toast(request, response, toast, tone)
    return response


def refresh(request: web.Request, toast: str = "") -> web.StreamResponse:
    """For htmx: the page that asked loads anew, and then shows `toast` (translated)."""
    response = web.Response(status=204, headers={"HX-Refresh": "true"})
    _leave_toast(request, response, toast, "bad")
    return response


def _leave_toast(
    request: web.Request, response: web.Response, toast: str, tone: str
) -> None:
    if toast:
        value = quote(json.dumps({"text": toast, "tone": tone}, ensure_ascii=False))
        access.set_cookie(request, response, "toast", value[:3000], _TOAST_SECONDS)


def toast_header(text: str, tone: str = "good", undo: str = "") -> dict[str, str]:
    """The header by which an answer to htmx shows a toast."""
    return {
        "HX-Trigger": json.dumps(
            {"toast": {"text": text, "tone": tone, "undo": undo}}, ensure_ascii=True
        )
    }


def _toasts(request: web.Request) -> list[dict[str, str]]:
    value = access.cookie(request, "toast")
    try:
        found = json.loads(unquote(value)) if value else None
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict):
        return []
    tone = "bad" if found.get("tone") == "bad" else "good"
    return [{"text": str(found.get("text", ""))[:300], "tone": tone, "undo": ""}]
