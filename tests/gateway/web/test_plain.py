"""Heads of pushes: read strictly and as aiohttp reads them, or left to it."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import plain

REQUEST = b"POST /hooks/sms/0123abcd/reply HTTP/1.1"
PLAIN = b"\r\n".join(
    (
        *(REQUEST, b"Host: gateway.example:8080", b"User-Agent: provider/1.0 (x; y)"),
        *(b"Content-Type: application/json", b"Content-Length: 5"),
        *(b"X-Signature:\tabc=  ", b"connection: Keep-Alive", b"Empty:"),
    )
)
HEADS = {
    "another method": PLAIN.replace(b"POST", b"PUT"),
    "another path": PLAIN.replace(b"/hooks", b"/books"),
    "a query": PLAIN.replace(b"reply", b"reply?x=1"),
    "a fragment": PLAIN.replace(b"reply", b"reply#x"),
    "an escape": PLAIN.replace(b"reply", b"repl%79"),
    "an absolute address": PLAIN.replace(b"/hooks", b"http://x/hooks"),
    "HTTP/1.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/2.0": PLAIN.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "no version": PLAIN.replace(b" HTTP/1.1", b""),
    "two blanks": PLAIN.replace(b" HTTP", b"  HTTP"),
    "no host": PLAIN.replace(b"Host:", b"Hosts:"),
    "no length": PLAIN.replace(b"Content-Length: 5\r\n", b""),
    "two lengths": PLAIN + b"\r\nContent-Length: 5",
    "two other lengths": PLAIN + b"\r\ncontent-length: 6",
    "a list of lengths": PLAIN.replace(b"Length: 5", b"Length: 5, 5"),
    "a negative length": PLAIN.replace(b"Length: 5", b"Length: -5"),
    "a signed length": PLAIN.replace(b"Length: 5", b"Length: +5"),
    "a hexadecimal length": PLAIN.replace(b"Length: 5", b"Length: 0x5"),
    "a length with a mark": PLAIN.replace(b"Length: 5", b"Length: 1_0"),
    "a long body": PLAIN.replace(b"Length: 5", b"Length: 65537"),
    "a huge length": PLAIN.replace(b"Length: 5", b"Length: 99999999999999999999"),
    "chunks": PLAIN + b"\r\nTransfer-Encoding: chunked",
    "another case of chunks": PLAIN + b"\r\ntransfer-ENCODING: x",
    "a compressed body": PLAIN + b"\r\nContent-Encoding: gzip",
    "an expectation": PLAIN + b"\r\nExpect: 100-continue",
    "an upgrade": PLAIN + b"\r\nUpgrade: websocket",
    "a last request": PLAIN.replace(b"Keep-Alive", b"close"),
    "two wishes": PLAIN.replace(b"Keep-Alive", b"keep-alive, upgrade"),
    "a name twice": PLAIN + b"\r\nhost: other.example",
    "a blank before the colon": PLAIN.replace(b"Host:", b"Host :"),
    "a blank before the name": PLAIN.replace(b"Host:", b" Host:"),
    "a folded line": PLAIN.replace(b"Empty:", b"Empty: a\r\n b"),
    "no colon": PLAIN.replace(b"Empty:", b"Empty"),
    "no name": PLAIN.replace(b"Empty:", b":x"),
    "a long header": PLAIN.replace(b"Empty:", b"Full: " + b"a" * plain.LONGEST_HEAD),
    "a bare line feed": PLAIN.replace(b"Empty:", b"Empty: a\nX: b"),
    "a bare carriage return": PLAIN.replace(b"Empty:", b"Empty: a\rX: b"),
    "a NUL": PLAIN.replace(b"Empty:", b"Empty: \0"),
    "a letter beyond ASCII": PLAIN.replace(b"Empty:", "Empty: 中".encode()),
    "a name beyond ASCII": PLAIN.replace(b"Empty:", "É: x".encode("latin-1")),
}


def test_a_plain_head_is_read() -> None:
    head = plain.read(PLAIN)
    assert head is not None
    assert (head.channel, head.token, head.path) == ("sms", b"0123abcd", "reply")
    assert head.length == 5
    assert head.headers["x-SIGNATURE"] == "abc="
    assert head.headers["Empty"] == ""


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_what_is_not_plain_is_left_alone(head: bytes) -> None:
    assert plain.read(head) is None


PIECES = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\r",
            b"\n",
            b" ",
            b"\t",
            b":",
            b",",
            b"\0",
            b"\x7f",
            b"\x80",
            b"_",
        ),
        *(
            b"Content-Length: 7\r\n",
            b"Content-Length",
            b"Transfer-Encoding: chunked\r\n",
        ),
        *(
            b"Connection: close\r\n",
            b"Host: x\r\n",
            b"0",
            b"-",
            b"%2e",
            b"/../",
            b"\xc3",
        ),
        *(b"HTTP/1.0", b"GET ", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n"),
    ]
)
CHANGES = st.lists(
    st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 12), PIECES | st.binary()),
    max_size=3,
)


@given(CHANGES)
def test_what_is_plain_is_read_as_aiohttp_reads_it(
    changes: list[tuple[int, int, bytes]],
) -> None:
    """Two that read one connection must agree where a request ends."""
    data = PLAIN
    for at, taken, put in changes:
        data = data[:at] + put + data[at + taken :]
    data, end, _ = (data + plain.END).partition(plain.END)
    head = plain.read(data)
    if head is None:
        return
    message, body = asyncio.run(_by_aiohttp(data + end + b"x" * head.length))
    assert message.method == "POST"
    assert message.path == f"/hooks/{head.channel}/{head.token.decode()}/{head.path}"
    assert message.headers == head.headers
    asks = (message.should_close, message.upgrade, message.chunked, message.compression)
    assert not any(asks)
    assert len(body) == head.length


async def _by_aiohttp(data: bytes) -> tuple[RawRequestMessage, bytes]:
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
    [(message, payload)], _, rest = parser.feed_data(data)
    assert rest == b""
    assert payload.is_eof()
    return message, await payload.read()


@given(
    st.integers(0, len(PLAIN) + 3), st.integers(0, len(PLAIN)), st.binary(max_size=3)
)
def test_a_piece_of_a_head_may_begin_one(end: int, at: int, hostile: bytes) -> None:
    whole = PLAIN + plain.END
    assert plain.may_begin(whole[:end])
    odd = whole[:at] + hostile + whole[at:]
    if plain.may_begin(odd[: at + len(hostile)]):
        assert not set(hostile) - {9, 10, 13, *range(32, 127)}


@pytest.mark.parametrize(
    "data",
    [
        *(b"G", b"PO ", b"\r\nPOST", b"POST /login", b"PRI * HTTP/2.0\r\n\r\n"),
        *(b"POST /hooks/a\n", b"POST /hooks/a\r\r", b"\x16\x03\x01"),
        b"POST /hooks/" + b"a" * plain.LONGEST_HEAD,
    ],
)
def test_other_beginnings_wait_for_nothing(data: bytes) -> None:
    assert not plain.may_begin(data)
