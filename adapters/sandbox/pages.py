"""The page /sandbox, where somebody plays members. Mounted only where settings say so.

On a machine where the gateway is tried out nobody has to sign in for it; everywhere
else it is a page for staff.
"""

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from pydantic import ValidationError

from adapters.sandbox.devices import Device, DeviceKind, Devices, members
from adapters.sandbox.faults import Faults
from adapters.sandbox.records import Arrived, Medium, Message, Said
from adapters.sandbox.world import World
from gateway.actors import Action
from gateway.channels import Channel
from gateway.core import Core
from gateway.errors import RequestError
from gateway.hub import Subscriber
from gateway.text import segment_count
from gateway.web import access, forms
from gateway.web.keys import CORE, SIGNED_IN, STREAMS
from gateway.web.pages import redirect, render, text
from gateway.web.routes import Entry, PublicHandler, Route

SHOWN_MESSAGES = 60  # on one device
MAX_BODY = 256 * 2**10
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
MEDIA = {Medium.SMS: "短信", Medium.QQ: "QQ", Medium.EMAIL: "邮件"}
PLACEHOLDERS = {
    DeviceKind.SMS: "发短信给服务中心…",
    DeviceKind.QQ: "对机器人说…",
    DeviceKind.GROUP: "在群里说…",
    DeviceKind.EMAIL: "写一封信…",
}


def routes(core: Core, shared: Mapping[str, object]) -> tuple[Route, ...]:
    """The page, which from now on hears of changes. `shared` is what the channels were
    given; without a sandbox channel there is no page."""
    world = shared.get("sandbox")
    if not isinstance(world, World):
        return ()
    world.on_change(lambda medium: core.hub.publish("sandbox", medium.value))
    page = SandboxPage(world)
    return (
        _route("GET", "/sandbox", page.show),
        _route("GET", "/sandbox/events", page.events),
        _route("GET", "/sandbox/{device}", page.show_device),
        _route("POST", "/sandbox/{device}/say", page.say),
        _route("POST", "/sandbox/{device}/remove", page.remove),
        _route("POST", "/sandbox/faults", page.set_faults),
        _route("POST", "/sandbox/devices", page.add_device),
    )


def _route(method: str, path: str, handler: PublicHandler) -> Route:
    """Open to everybody for the routes' guard: `_enter` decides. The action only
    puts the page into the navigation of staff."""
    return Route(
        method=method,
        path=path,
        entry=Entry.PUBLIC,
        action=Action.READ,
        handler=handler,
        max_body=MAX_BODY,
    )


class SandboxPage:
    """The world and its devices."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._devices = Devices(world.folder / "devices.json")

    async def show(self, request: web.Request) -> web.StreamResponse:
        await enter(request)
        people = await members()
        if not self._devices:
            self._devices.furnish(people)
        return await render(
            request,
            "sandbox.html",
            **frame(request),
            devices=[self._view(request, device) for device in self._devices.all()],
            media=[self._switches(request, medium) for medium in self._open()],
            speakers=self._speakers(),
            people=[
                {"name": person.name, "address": address}
                for person in people
                for address in person.addresses.values()
            ],
        )

    async def show_device(self, request: web.Request) -> web.StreamResponse:
        await enter(request, background=True)
        return await self._device(request, self._named(request))

    async def say(self, request: web.Request) -> web.StreamResponse:
        await enter(request)
        device = self._named(request)
        form = await forms.read(request)
        speaker = device
        if device.kind is DeviceKind.GROUP:
            speaker = self._devices.get(form.get("speaker"))
        self._world.write(
            device.kind.medium,
            speaker.address,
            form.get("text"),
            group=device.address if device.kind is DeviceKind.GROUP else "",
            calling=form.flag("calling"),
            subject=form.get("subject"),
            in_reply_to=form.get("in_reply_to"),
            display_name=speaker.name,
        )
        if request.headers.get("HX-Request") != "true":
            return redirect(request, f"/sandbox#device-{device.id}")
        return await self._device(request, device)

    async def set_faults(self, request: web.Request) -> web.StreamResponse:
        await enter(request)
        form = await forms.read(request)
        try:
            medium = Medium(form.get("medium"))
            faults = Faults.model_validate(
                {
                    "refuse_every": form.get("refuse_every", "0"),
                    "delay_seconds": form.get("delay_seconds", "0"),
                    "lose_answers": form.flag("lose_answers"),
                    "repeat": form.flag("repeat"),
                    "withhold_receipts": form.flag("withhold_receipts"),
                }
            )
        except ValidationError as error:
            fields = {str(one["loc"][0]): one["msg"] for one in error.errors()}
            raise RequestError("bad_faults", "开关的取值不对", fields=fields) from error
        except ValueError as error:
            raise RequestError("bad_medium", "没有这种渠道") from error
        self._world.set_faults(medium, faults)
        if request.headers.get("HX-Request") == "true":
            return web.Response(status=204)
        return redirect(request, "/sandbox", text(request, "已保存"))

    async def add_device(self, request: web.Request) -> web.StreamResponse:
        await enter(request)
        form = await forms.read(request)
        try:
            kind = DeviceKind(form.get("kind"))
        except ValueError as error:
            raise RequestError("bad_kind", "没有这种设备") from error
        address, name = form.get("address"), form.get("name")
        if address:
            device = self._devices.add(kind, address, name, await members())
        else:
            device = self._devices.add_next(kind, await members())
        return redirect(request, f"/sandbox#device-{device.id}")

    async def remove(self, request: web.Request) -> web.StreamResponse:
        await enter(request)
        self._devices.remove(request.match_info["device"])
        return redirect(request, "/sandbox")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """For people who have not signed in: only what happens in the sandbox."""
        await enter(request, background=True)
        hub = request.app[CORE].hub
        if request.transport is None:
            return web.Response(status=204)  # the reader went away before we began
        async with hub.subscribed() as subscriber, sse_response(request) as response:
            task = asyncio.create_task(_forward(response, subscriber))
            await request.app[STREAMS].run(task)
        return response

    def _named(self, request: web.Request) -> Device:
        return self._devices.get(request.match_info["device"])

    def _open(self) -> Sequence[Medium]:
        return [medium for medium in Medium if self._world.channel(medium)]

    def _speakers(self) -> Sequence[Device]:
        return [d for d in self._devices.all() if d.kind is DeviceKind.QQ]

    async def _device(self, request: web.Request, device: Device) -> web.StreamResponse:
        return await render(
            request,
            "partials/_sandbox_device.html",
            **frame(request),
            device=self._view(request, device),
        )

    def _view(self, request: web.Request, device: Device) -> dict[str, object]:
        medium = device.kind.medium
        said = self._world.history.at(medium, device.place)[-SHOWN_MESSAGES:]
        return {
            "id": device.id,
            "kind": device.kind.value,
            "medium": medium.value,
            "open": bool(self._world.channel(medium)),
            "label": device.name or device.address,
            "address": device.address,
            "placeholder": text(request, PLACEHOLDERS[device.kind]),
            "messages": [self._bubble(request, one) for one in said],
        }

    def _switches(self, request: web.Request, medium: Medium) -> dict[str, object]:
        faults = self._world.faults(medium)
        return {
            "medium": medium.value,
            "label": text(request, MEDIA[medium]),
            "faults": faults,
            "any": faults.any,
            "receipts": self._world.has_receipts(medium),
        }

    def _bubble(self, request: web.Request, message: Message) -> "Bubble":
        settled = self._world.history.is_settled(message)
        if isinstance(message, Said):
            return _said(request, message, settled)
        owed = self._world.has_receipts(message.medium) and not settled
        held = owed and self._world.faults(message.medium).withhold_receipts
        names = {one.address: one.name or one.address for one in self._speakers()}
        mention = names.get(message.mention, message.mention)
        return _arrived(request, message, settled, held, mention)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """One message as a person sees it on a screen."""

    id: str  # may be answered by it; else empty
    mine: bool
    name: str
    subject: str
    text: str
    quoted: str
    at: datetime
    note: str

    @property
    def key(self) -> str:
        """The id as the page's selectors can bear it."""
        return "".join(filter(str.isalnum, self.id))


def _said(request: web.Request, said: Said, settled: bool) -> Bubble:
    note = "网关已收下" if settled else "正在送往网关"
    if not said.heard:
        note = "没有@机器人，网关没有收到"
    calls = bool(said.conversation) and said.heard
    bot = text(request, "机器人")
    return Bubble(
        id="",
        mine=True,
        name=said.display_name if said.conversation else "",
        subject=said.subject,
        text=f"@{bot} {said.text}" if calls else said.text,
        quoted=said.quoted,
        at=said.at,
        note=text(request, note),
    )


def _arrived(
    request: web.Request, arrived: Arrived, settled: bool, held: bool, mention: str
) -> Bubble:
    channel = request.app[CORE].channels.get(arrived.channel)
    body = signed(arrived, channel)
    notes = []
    if channel is not None and channel.capabilities.segments:
        count = segment_count(body, channel.capabilities.segments)
        notes.append(text(request, "计 {n} 条", n=count))
    if arrived.template:
        notes.append(text(request, "模板 {code}", code=arrived.template))
    if arrived.answer_lost:
        notes.append(text(request, "应答丢失"))
    if settled:
        notes.append(text(request, "已回执"))
    if held:
        notes.append(text(request, "回执扣留"))
    return Bubble(
        id="" if arrived.medium is Medium.SMS else arrived.provider_id,
        mine=False,
        name="",
        subject=arrived.subject,
        text=f"@{mention} {body}" if mention else body,
        quoted="",
        at=arrived.at,
        note=" · ".join(notes),
    )


def signed(arrived: Arrived, channel: Channel | None) -> str:
    """The text with the signature that an SMS platform puts in front."""
    if channel is None or arrived.medium is not Medium.SMS:
        return arrived.text
    signature = channel.common.signature
    if arrived.text.startswith(signature):
        return arrived.text
    return signature + arrived.text


async def _forward(response: EventSourceResponse, subscriber: Subscriber) -> None:
    while response.is_connected():
        change = await subscriber.get()
        if change.topic in ("sandbox", "refresh"):
            await response.send(change.id or "*", event="sandbox")


# Who may come in.


async def enter(request: web.Request, *, background: bool = False) -> None:
    """Somebody signed in, or somebody at the very machine where it is tried out.

    `background` requests, which the open page makes by itself, keep no session alive.
    Raises what sends others to sign in, and 403 for a form without its token.
    """
    try:
        signed_in = await access.by_session(request, background)
    except web.HTTPException:
        if not is_tried_out_here(request):
            raise
        await _check_token(request)
        return
    if not is_tried_out_here(request):
        access.refuse_one_time_password(request, signed_in)
    signed_in.actor.require(Action.READ)
    if request.method != "GET":
        await access.refuse_cross_site(request, signed_in)


def is_tried_out_here(request: web.Request) -> bool:
    """Asked from this machine, by a name of this machine, of a gateway that is not
    published anywhere. A proxy, however silent, is met by its public address."""
    server = request.app[CORE].settings.server
    return (
        _is_loopback(_host(server.public_url))
        and not server.trusted_proxies
        and _is_loopback(request.remote or "")
        # Otherwise any page could read this one through a name of its own (rebinding).
        and _is_loopback(_host(f"//{request.host}"))
        and not any(name in request.headers for name in FORWARDED)
    )


def _host(url: str) -> str:
    """The host of a URL without its port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _check_token(request: web.Request) -> None:
    if request.method == "GET":
        return
    given = request.headers.get("X-CSRF-Token")
    if given is None:
        given = (await forms.read(request)).get("csrf")
    if not hmac.compare_digest(given.encode(), guest_token(request.app[CORE]).encode()):
        raise RequestError("cross_site", "the form's token is missing", status=403)


def guest_token(core: Core) -> str:
    """For forms of people without a session; only who may open the page learns it."""
    return core.keys.derive("sandbox-form").hex()


def frame(request: web.Request) -> dict[str, Any]:
    """What a page needs beside its own, for guests too."""
    if SIGNED_IN in request:
        return {"active": "sandbox", "guest": False}
    token = guest_token(request.app[CORE])
    return {"active": "sandbox", "guest": True, "csrf": token}
