"""Typed keys under which the application and a request carry things."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from gateway.actors import Actor
from gateway.contract import Event, Receives
from gateway.core import Core
from gateway.nodes import LeaseView, NodeView
from gateway.roles import Role
from gateway.staff.sessions import SignedIn

if TYPE_CHECKING:
    from gateway.staff.passwords import Hasher
    from gateway.staff.throttle import Throttle
    from gateway.web.events import Streams
    from gateway.web.forms import Form
    from gateway.web.pages import Pages
    from gateway.web.routes import Route

Check = Callable[[], Awaitable[bool]]
"""Says whether one part of the gateway is alive."""

Count = Callable[[Actor], Awaitable[Mapping[str, int | str]]]
"""Numbers for the navigation: inquiries, review, approvals."""


class Tells(Protocol):
    """The background of this process, as health output and its page need it."""

    @property
    def roles(self) -> frozenset[Role]: ...
    def parts(self) -> Mapping[str, bool]: ...
    def report(self) -> Mapping[str, Mapping[str, Any]]: ...
    def troubles(self) -> frozenset[str]: ...
    async def cluster(self) -> tuple[list[NodeView], list[LeaseView]]: ...


Door = tuple[bytes, Receives]
"""The secret part of a channel's push address, and who reads what comes by it."""


Told = Callable[[Exception | None], None]
"""Hears once, later in the event loop, that events are durable, or what hindered it."""


class Accepts(Protocol):
    """The inbox, as provider pushes need it."""

    async def accept(self, channel: str, events: Sequence[Event], /) -> None: ...
    def take(self, channel: str, events: Sequence[Event], told: Told, /) -> None: ...


CORE = web.AppKey("core", Core)
INBOX: web.AppKey[Accepts] = web.AppKey("inbox")
DOORS: web.AppKey[Mapping[str, Door]] = web.AppKey("doors")
BACKGROUND: web.AppKey[Tells] = web.AppKey("background")
HEALTH: web.AppKey[dict[str, Check]] = web.AppKey("health")
COUNTS: web.AppKey[list[Count]] = web.AppKey("counts")
ROUTES: web.AppKey[list["Route"]] = web.AppKey("routes")
PAGES: web.AppKey["Pages"] = web.AppKey("pages")
HASHER: web.AppKey["Hasher"] = web.AppKey("hasher")
THROTTLE: web.AppKey["Throttle"] = web.AppKey("throttle")
STREAMS: web.AppKey["Streams"] = web.AppKey("streams")

SIGNED_IN = web.RequestKey("signed_in", SignedIn)
REQUEST_ID = web.RequestKey("request_id", str)
LANGUAGE = web.RequestKey("language", str)
FORM: web.RequestKey["Form"] = web.RequestKey("form")
