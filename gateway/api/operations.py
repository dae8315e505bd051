"""One operation of the API: what it takes and answers, checked before its handler.

A folder lists its own operations as a tuple; `mount` puts them on the application and
describes them at /api/v1/openapi.json.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from email.message import Message
from functools import cache, partial
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.actors import Action, Actor
from gateway.addresses import mask
from gateway.api import cursors, idempotency, openapi, strict_json
from gateway.api.idempotency import Answer, Claim, Once
from gateway.api.schemas import Body, Query, Reached
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.errors import NotFound, RequestError
from gateway.web.forms import whole_number
from gateway.web.keys import CORE
from gateway.web.routes import Route, add_routes, api, public

PREFIX = "/api/v1"
DOCUMENT = f"{PREFIX}/openapi.json"
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One checked request. `core` announces only what has been committed."""

    core: Core
    actor: Actor
    request: web.Request
    ahead: Any = None  # what the operation's `ahead` found

    def id(self, name: str = "id") -> int:
        """The number in the path; NotFound where it can't be one."""
        number = whole_number(self.request.match_info[name], 2**63 - 1)
        if number is None:
            raise NotFound
        return number

    def place(self, resource: str, cursor: str) -> str:
        return cursors.decode(self.core.keys.derive("cursor"), resource, cursor)

    def next(self, resource: str, place: object) -> str | None:
        """The cursor of the next page; None where `place` is None or empty."""
        text = "" if place is None else str(place)
        key = self.core.keys.derive("cursor")
        return cursors.encode(key, resource, text) or None

    def reached(self, kind: str, value: str) -> Reached:
        """Whole for those who work inquiries, masked for everybody else."""
        if not self.actor.may(Action.WORK):
            value = mask(Address(AddressKind(kind), value))
        return Reached(kind=kind, value=value)


Handler = Callable[..., Awaitable[BaseModel]]
"""`handler(call)`, or `handler(call, query)`, or `handler(call, body)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Part of the API's contract; everything here is written into the document."""

    method: str
    path: str  # below PREFIX
    action: Action
    summary: str
    handler: Handler
    ahead: Callable[..., Awaitable[Any]] | None = None  # long, and changes nothing
    answer: type[BaseModel]
    status: int = 200
    query: type[Query] | None = None
    body: type[Body] | None = None
    conflicts: tuple[str, ...] = ()  # codes with which it answers 409
    uploads: tuple[str, ...] = ()  # media types it reads itself instead of JSON
    keyed: bool = False  # honours Idempotency-Key
    repeatable: bool = False  # keyed, and takes effect once even without a key
    max_body: int = field(default=strict_json.LARGEST_BODY)

    @property
    def full_path(self) -> str:
        return PREFIX + self.path

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{([a-z_]+)}", self.path)


def mount(app: web.Application, operations: Iterable[Operation]) -> None:
    """Add the operations and their document; call it once, with all of them."""
    wanted = tuple(operations)
    once = Once()
    add_routes(app, (_route(one, once) for one in wanted))
    # Made when it is asked for: a start has better things to do.
    text = cache(partial(openapi.document, wanted))

    async def document(_: web.Request) -> web.Response:
        return web.Response(text=text(), content_type="application/json")

    add_routes(app, (public("GET", DOCUMENT, document),))


def _route(operation: Operation, once: Once) -> Route:
    async def handle(request: web.Request, actor: Actor) -> web.Response:
        return await _answer(operation, once, request, actor)

    return api(
        operation.method,
        operation.full_path,
        handle,
        operation.action,
        max_body=operation.max_body,
    )


async def _answer(
    operation: Operation, once: Once, request: web.Request, actor: Actor
) -> web.Response:
    arguments: list[BaseModel] = []
    query = _query(operation.query or Query, request)
    if operation.query is not None:
        arguments.append(query)
    sent: Any = None
    if operation.method != "GET" and not operation.uploads:
        sent = await _json(request)
        body = _checked(operation.body or Body, sent)
        if operation.body is not None:
            arguments.append(body)
    core = request.app[CORE]
    call = Call(core=core, actor=actor, request=request)
    prepare = partial(_prepare, operation, call, arguments)
    key = request.headers.get(idempotency.HEADER)
    if key is None or not operation.keyed:
        return _response(await (await prepare())(core))
    claim = _claim(actor, request, key, sent)
    run = once.after if operation.repeatable else once.together
    return _response(await run(core, claim, prepare))


async def _prepare(
    operation: Operation, call: Call, arguments: list[BaseModel]
) -> idempotency.Work:
    if operation.ahead is not None:
        call = replace(call, ahead=await operation.ahead(call, *arguments))

    async def work(core: Core) -> Answer:
        found = await operation.handler(replace(call, core=core), *arguments)
        return Answer(operation.status, found.model_dump_json())

    return work


def _claim(actor: Actor, request: web.Request, key: str, sent: Any) -> Claim:
    # `request.path` is decoded, so two spellings of one path are one request.
    return idempotency.claim(actor.name, key, request.method, request.path, sent)


def _response(answer: Answer) -> web.Response:
    response = web.Response(
        text=answer.body, status=answer.status, content_type="application/json"
    )
    if answer.replayed:
        response.headers[idempotency.REPLAYED] = "true"
    return response


def _query(model: type[Query], request: web.Request) -> Query:
    values = dict(request.query)
    if len(values) < len(request.query):
        raise RequestError("repeated", "a query parameter is given twice")
    return _validated(model, lambda: model.model_validate(values))


async def read(request: web.Request) -> bytes:
    """The body; RequestError(too_large) beyond the operation's limit."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise RequestError("too_large", "the body is too large", status=413) from None


async def _json(request: web.Request) -> Any:
    raw = await read(request)
    if not raw:
        return {}
    _refuse_other_media(request.headers.get("Content-Type", ""))
    return strict_json.parse(raw)


def _refuse_other_media(content_type: str) -> None:
    header = Message()
    header["Content-Type"] = content_type
    charset = str(header.get_param("charset", "utf-8")).lower()
    # A missing or broken header reads as text/plain.
    if header.get_content_type() != "application/json" or charset != "utf-8":
        detail = "send JSON in UTF-8 with Content-Type: application/json"
        raise RequestError("media_type", detail, status=415)


def _checked(model: type[M], value: Any) -> M:
    # As JSON text: strict models take instants and words of an enumeration from there.
    text = strict_json.canonical(value)
    return _validated(model, lambda: model.model_validate_json(text))


def _validated(model: type[M], validate: Callable[[], M]) -> M:
    try:
        return validate()
    except ValidationError as error:
        fields = dict(
            _fault(one["loc"], one["type"], one["msg"])
            for one in error.errors(include_input=False, include_url=False)
        )
        names = ", ".join(list(fields)[:5])
        raise RequestError(
            "invalid", f"mend these fields: {names}", status=422, fields=fields
        ) from None


def _fault(path: tuple[int | str, ...], kind: str, message: str) -> tuple[str, str]:
    where = ".".join(str(step)[:64] for step in path)[:200] or "body"
    if kind == "extra_forbidden":
        message = "there is no such field here; remove it"
    return where, message.removeprefix("Value error, ")
