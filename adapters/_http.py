"""One HTTP conversation with a provider, and what its end means for the message.

What a provider's own words mean is the adapter's business; here are the endings that
are alike everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import overload

import aiohttp
from yarl import URL

from gateway.clock import Clock
from gateway.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentFailure,
    TransientFailure,
)

CONNECT_WITHIN = timedelta(seconds=5)
LONGEST_ANSWER_BYTES = 1024 * 1024
LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    body: bytes = b""
    retry_after: timedelta | None = None


# Raised by aiohttp before a byte of the request is written: refused connection, DNS,
# TLS, time-out while connecting.
_NOT_WRITTEN = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)


@overload
def failure(end: Exception) -> DeliveryError: ...
@overload
def failure(end: Answer) -> DeliveryError | None: ...
def failure(end: Answer | Exception) -> DeliveryError | None:
    """Decide what an HTTP answer or exception says about the message; None: taken.

    Codes name the class of the end only: texts of exceptions may hold addresses.
    """
    if isinstance(end, _NOT_WRITTEN):
        return TransientFailure("unreachable", type(end).__name__)
    if isinstance(end, Exception):
        return OutcomeUnknown("no_answer", type(end).__name__)
    if end.status == 429:
        return TransientFailure("http_429", retry_after=end.retry_after, throttled=True)
    if 200 <= end.status < 300:
        return None
    # 408 may come from a proxy that has already passed the request on.
    if 400 <= end.status < 500 and end.status != 408:
        return PermanentFailure(f"http_{end.status}")
    return OutcomeUnknown(f"http_{end.status}")


def authority(url: URL) -> str:
    """Host as it stands in the Host header: with the port where it isn't the usual."""
    return str(url.host_port_subcomponent)


class Http:
    """Keep-alive connections of one channel, opened by its first call.

    No redirects, no cookies, no proxy variables: the request goes where settings say,
    or nowhere.
    """

    def __init__(self, clock: Clock, *, answer_within: timedelta) -> None:
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(
            connect=CONNECT_WITHIN.total_seconds(),
            sock_read=answer_within.total_seconds(),
            total=(CONNECT_WITHIN + answer_within).total_seconds(),
        )
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self, url: URL, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Send one POST, once. Raises DeliveryError where no whole answer came."""
        try:
            async with self._opened().post(
                url, headers=headers, data=body, allow_redirects=False
            ) as response:
                return Answer(
                    response.status,
                    await _read(response),
                    self._retry_after(response.headers.get("Retry-After", "")),
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise failure(error) from None

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise TransientFailure("channel_closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "lianxin"},
            )
        return self._session

    def _retry_after(self, value: str) -> timedelta | None:
        """RFC 9110 10.2.3: seconds or a date; capped, None where unreadable."""
        if value.isascii() and value.isdigit():
            pause = timedelta(seconds=min(int(value[:9]), 10**6))
        else:
            try:
                until = parsedate_to_datetime(value)
            except ValueError:
                return None
            pause = until.replace(tzinfo=until.tzinfo or UTC) - self._clock.now()
        return min(max(pause, timedelta()), LONGEST_PAUSE)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_ANSWER_BYTES:
            raise ValueError("answer too long")
    return bytes(body)
