"""nonebot's driver on our own aiohttp application: sockets in both directions.

nonebot sees a socket only after the peer has proved who it is. HTTP entries of bot
adapters do not exist here: OneBot's takes events from anybody when no signature
secret is set, and answers 204 before the handler ran.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from nonebot.config import Config, Env
from nonebot.drivers import (
    ASGIMixin,
    HTTPServerSetup,
    Request,
    WebSocket,
    WebSocketClientMixin,
    WebSocketServerSetup,
)
from nonebot.drivers import Driver as BaseDriver
from nonebot.exception import WebSocketClosed
from nonebot.log import logger as nonebot_logger

PREFIX = "/onebot/"

# A text of several megabytes is taken (the inbox cuts it); only what is bigger than
# this costs the connection (close code 1009).
MAX_FRAME_BYTES = 16 * 2**20
HEARTBEAT_SECONDS = 20.0  # a peer that answers no ping for half as long is gone
# How long a peer may take to say goodbye; the gateway has to stop within seconds.
CLOSE_SECONDS = 0.3
CONNECT_SECONDS = 10.0

RawSocket = web.WebSocketResponse[bool] | aiohttp.ClientWebSocketResponse[bool]
Admit = Callable[[Mapping[str, str]], None]


class Socket(WebSocket):
    """An aiohttp WebSocket, of either side, behind nonebot's interface."""

    def __init__(
        self, *, request: Request, raw: RawSocket, serving: web.Request | None = None
    ) -> None:
        super().__init__(request=request)
        self._raw = raw
        self._serving = serving
        self.refused = ""

    @property
    def accepted(self) -> bool:
        if isinstance(self._raw, web.WebSocketResponse):
            return self._raw.prepared
        return True

    @property
    def closed(self) -> bool:
        return bool(self.refused) or not self.accepted or self._raw.closed

    async def accept(self) -> None:
        if isinstance(self._raw, web.WebSocketResponse) and self._serving is not None:
            await self._raw.prepare(self._serving)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Before `accept` this refuses the handshake; a second call is harmless."""
        if not self.accepted:
            self.refused = reason or "refused"
        elif not self._raw.closed:
            with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._raw.close(code=code, message=reason.encode()[:120])

    async def receive(self) -> str | bytes:
        """The next frame. Text comes as bytes: aiohttp would drop the line where it is
        not UTF-8. Raises WebSocketClosed when there will be no more."""
        if self.closed:
            raise WebSocketClosed(self._raw.close_code or 1006)
        message = await self._raw.receive()
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            raise WebSocketClosed(self._raw.close_code or 1006, message.type.name)
        data: str | bytes = message.data
        return data

    async def receive_text(self) -> str:
        data = await self.receive()
        return data if isinstance(data, str) else data.decode("utf-8", "replace")

    async def receive_bytes(self) -> bytes:
        data = await self.receive()
        return data.encode() if isinstance(data, str) else data

    async def send_text(self, data: str) -> None:
        await self._write(self._raw.send_str, data)

    async def send_bytes(self, data: bytes) -> None:
        await self._write(self._raw.send_bytes, data)

    async def _write(self, send: Callable[[Any], Any], data: str | bytes) -> None:
        try:
            await send(data)
        except (ConnectionError, RuntimeError, aiohttp.ClientError) as error:
            raise WebSocketClosed(self._raw.close_code or 1006) from error


class Driver(BaseDriver, ASGIMixin, WebSocketClientMixin):
    """Both halves; `attach` puts it into an application that somebody else runs."""

    def __init__(self, env: Env, config: Config) -> None:
        super().__init__(env, config)
        self._entries: dict[str, WebSocketServerSetup] = {}
        self._open: set[Socket] = set()
        self._app: web.Application | None = None
        self._admit: Admit | None = None

    @property
    def type(self) -> str:
        return "aiohttp"

    @property
    def logger(self) -> Any:
        return nonebot_logger

    @property
    def server_app(self) -> web.Application:
        if self._app is None:
            raise RuntimeError("the driver is not attached to an application")
        return self._app

    @property
    def asgi(self) -> Any:
        raise RuntimeError("aiohttp is not an ASGI server")

    def run(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the application runs the bots, never nonebot itself")

    def setup_http_server(self, setup: HTTPServerSetup) -> None:
        raise RuntimeError(f"HTTP entries of bots are closed: {setup.path}")

    def setup_websocket_server(self, setup: WebSocketServerSetup) -> None:
        self._entries[setup.path.path.rstrip("/")] = setup

    def attach(self, app: web.Application, admit: Admit) -> None:
        """Serve `PREFIX` in `app`; to be called before it starts.

        `admit` gets the headers of each handshake and raises aiohttp's HTTP errors for
        what nonebot shall never see.
        """
        self._app, self._admit = app, admit
        # aiohttp freezes its router at start while an adapter may add its entries
        # later: one route here, our own table behind it.
        app.router.add_route("*", PREFIX + "{entry:.*}", self._dispatch)
        app.on_shutdown.append(self._close_sockets)
        app.cleanup_ctx.append(self._run_lifespan)

    async def _run_lifespan(self, app: web.Application) -> AsyncIterator[None]:
        # An anyio task group has to be left by the task that entered it; aiohttp
        # promises no such thing for a cleanup context.
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stopping = asyncio.Event()
        task = asyncio.create_task(self._live(started, stopping), name="bots")
        try:
            await started
            yield
        finally:
            stopping.set()
            await task

    async def _live(
        self, started: asyncio.Future[None], stopping: asyncio.Event
    ) -> None:
        try:
            await self._lifespan.startup()
        except Exception as error:
            started.set_exception(error)
        else:
            started.set_result(None)
            await stopping.wait()
        await self._lifespan.shutdown()

    async def _close_sockets(self, app: web.Application) -> None:
        # Without this aiohttp waits a minute for handlers that read for ever.
        goodbyes = [
            socket.close(WSCloseCode.GOING_AWAY, "shutdown") for socket in self._open
        ]
        await asyncio.gather(*goodbyes, return_exceptions=True)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        setup = self._entries.get(request.path.rstrip("/"))
        if setup is None:
            raise web.HTTPNotFound
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise web.HTTPMethodNotAllowed(request.method, ["GET"])
        if self._admit is not None:
            self._admit(request.headers)
        return await self._serve(request, setup)

    async def _serve(
        self, request: web.Request, setup: WebSocketServerSetup
    ) -> web.StreamResponse:
        raw: web.WebSocketResponse[bool] = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            max_msg_size=MAX_FRAME_BYTES,
            timeout=CLOSE_SECONDS,
            decode_text=False,
        )
        asked = Request(request.method, str(request.url), headers=dict(request.headers))
        socket = Socket(request=asked, raw=raw, serving=request)
        with self._kept(socket):
            await setup.handle_func(socket)
        if not socket.accepted:
            # aiohttp has no reject frame: a refused handshake is an HTTP answer.
            return web.Response(status=409, text=socket.refused or "refused")
        await socket.close()
        return raw

    @contextlib.contextmanager
    def _kept(self, socket: Socket) -> Iterator[None]:
        self._open.add(socket)
        try:
            yield
        finally:
            self._open.discard(socket)

    @asynccontextmanager
    async def websocket(self, setup: Request) -> AsyncGenerator[WebSocket, None]:
        """Dial a peer. Raises aiohttp.ClientError, OSError or TimeoutError."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.ws_connect(
                setup.url,
                headers=setup.headers,
                heartbeat=HEARTBEAT_SECONDS,
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                decode_text=False,
            ) as raw,
        ):
            socket = Socket(request=setup, raw=raw)
            with self._kept(socket):
                yield socket
