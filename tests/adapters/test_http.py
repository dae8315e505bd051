"""One table: how an HTTP conversation ended, and what that says about the message."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import unused_port
from yarl import URL

from adapters._http import LONGEST_ANSWER_BYTES, Answer, Http, authority, failure
from gateway.clock import ManualClock
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)
from tests.labs.sms import NOW

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECRET_PART = "13800138000"
SOMEWHERE = ConnectionKey("host", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("end", "expected", "code"),
    [
        (Answer(200), type(None), ""),
        (Answer(204), type(None), ""),
        (Answer(302), OutcomeUnknown, "http_302"),
        (Answer(400), PermanentFailure, "http_400"),
        (Answer(403), PermanentFailure, "http_403"),
        (Answer(408), OutcomeUnknown, "http_408"),
        (Answer(429), TransientFailure, "http_429"),
        (Answer(500), OutcomeUnknown, "http_500"),
        (Answer(502), OutcomeUnknown, "http_502"),
        (Answer(503), OutcomeUnknown, "http_503"),
        (
            aiohttp.ClientConnectorDNSError(SOMEWHERE, OSError()),
            TransientFailure,
            "unreachable",
        ),
        (
            aiohttp.ClientConnectorError(SOMEWHERE, OSError()),
            TransientFailure,
            "unreachable",
        ),
        (aiohttp.ConnectionTimeoutError(), TransientFailure, "unreachable"),
        (aiohttp.InvalidURL("x"), TransientFailure, "unreachable"),
        (aiohttp.SocketTimeoutError(), OutcomeUnknown, "no_answer"),
        (aiohttp.ServerDisconnectedError(), OutcomeUnknown, "no_answer"),
        (aiohttp.ClientOSError(104, "reset"), OutcomeUnknown, "no_answer"),
        (aiohttp.ClientPayloadError("cut"), OutcomeUnknown, "no_answer"),
        (TimeoutError(), OutcomeUnknown, "no_answer"),
        (ValueError("anything"), OutcomeUnknown, "no_answer"),
    ],
    ids=repr,
)
def test_every_end_has_one_meaning(
    end: Answer | Exception, expected: type, code: str
) -> None:
    found = failure(end)
    assert type(found) is expected
    assert found is None or found.code == code


def test_a_rate_refusal_keeps_the_delay_and_uses_no_attempt() -> None:
    found = failure(Answer(429, retry_after=timedelta(seconds=3)))
    assert isinstance(found, TransientFailure)
    assert (found.throttled, found.retry_after) == (True, timedelta(seconds=3))


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[URL]:
    """A bare TCP server: it can be ruder than any HTTP server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield URL(f"http://127.0.0.1:{port}/?to={SECRET_PART}")


async def ended(url: URL, *, within: float = 5) -> Answer | DeliveryError:
    http = Http(ManualClock(NOW), answer_within=timedelta(seconds=within))
    try:
        return await http.post(url, headers={}, body=b"text")
    except DeliveryError as error:
        return error
    finally:
        await http.close()


async def read_all(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\ntext")


def answering(response: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_all(reader)
        writer.write(response)
        await writer.drain()

    return talk


async def test_a_refused_connection_is_certainly_not_sent() -> None:
    found = await ended(URL(f"http://127.0.0.1:{unused_port()}/"))
    assert isinstance(found, TransientFailure)


async def test_a_failed_tls_handshake_is_certainly_not_sent() -> None:
    async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with talking(no_tls) as url:
        found = await ended(url.with_scheme("https"))
    assert isinstance(found, TransientFailure)


async def test_a_connection_lost_after_the_request_is_unknown() -> None:
    async def hang_up(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await read_all(reader)
        writer.transport.abort()

    async with talking(hang_up) as url:
        found = await ended(url)
    assert isinstance(found, OutcomeUnknown)
    assert SECRET_PART not in repr(found) + str(found)


async def test_silence_after_the_request_is_unknown() -> None:
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_all(reader)
        await over.wait()

    async with talking(silent) as url:
        found = await ended(url, within=0.1)
        over.set()
    assert isinstance(found, OutcomeUnknown)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut",
        b"HTTP/9 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        + b"x" * (LONGEST_ANSWER_BYTES + 1),
    ],
    ids=["cut short", "not HTTP", "endless"],
)
async def test_an_answer_that_can_not_be_read_whole_is_unknown(response: bytes) -> None:
    async with talking(answering(response)) as url:
        assert isinstance(await ended(url), OutcomeUnknown)


async def test_no_redirect_is_followed() -> None:
    moved = b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n"
    async with talking(answering(moved + b"\r\n")) as url:
        found = await ended(url)
    assert found == Answer(307)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", timedelta(seconds=7)),
        ("Sat, 21 Nov 2026 01:31:00 GMT", timedelta(minutes=1)),
        ("Sat, 21 Nov 2026 01:00:00 GMT", timedelta()),
        ("99999999999999999999", timedelta(days=1)),
        ("Sat, 21 Nov 9026 01:00:00 GMT", timedelta(days=1)),
        ("soon", None),
        ("-5", None),
    ],
)
async def test_retry_after_in_seconds_or_as_a_date(
    value: str, expected: timedelta | None
) -> None:
    head = f"HTTP/1.1 429 x\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    async with talking(answering(head.encode())) as url:
        found = await ended(url)
    assert isinstance(found, Answer)
    assert found.retry_after == expected


async def test_connections_are_kept_and_close_is_final() -> None:
    ports: list[int] = []

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        for _ in range(2):
            await read_all(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with talking(twice) as url:
        http = Http(ManualClock(NOW), answer_within=timedelta(seconds=5))
        for _ in range(2):
            assert await http.post(url, headers={}, body=b"text") == Answer(200)
        await http.close()
        await http.close()
        with pytest.raises(TransientFailure):
            await http.post(url, headers={})
    assert len(ports) == 1


async def test_a_kept_connection_that_dies_is_unknown_and_nothing_is_repeated() -> None:
    requests = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_all(reader)
        requests += 1
        if requests == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await read_all(reader)
            requests += 1
        writer.transport.abort()

    async with talking(once) as url:
        http = Http(ManualClock(NOW), answer_within=timedelta(seconds=5))
        assert await http.post(url, headers={}, body=b"text") == Answer(200)
        with pytest.raises(OutcomeUnknown):
            await http.post(url, headers={}, body=b"text")
        await http.close()
    assert requests == 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://sms.example", "sms.example"),
        ("https://sms.example:443", "sms.example"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_authority_is_what_the_host_header_says(url: str, expected: str) -> None:
    assert authority(URL(url)) == expected
