"""Whatever bytes are pushed: events or RequestError, at once, nothing else."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from adapters import aliyun, tencent
from adapters._push import key, read_array
from gateway.contract import ChannelTrouble, Event, RawRequest, Received, Receives
from gateway.errors import RequestError
from tests.labs import aliyun_lab, tencent_lab
from tests.labs.sms import context

NOBODY = "http://127.0.0.1:1"
ADAPTERS: dict[str, Callable[[], Receives]] = {
    "aliyun": lambda: aliyun.build(aliyun_lab.settings(NOBODY), context()),
    "tencent": lambda: tencent.build(tencent_lab.settings(NOBODY), context()),
}
ENTRIES = [(name, path) for name in ADAPTERS for path in ("report", "reply")]
GOOD: dict[tuple[str, str], dict[str, object]] = {
    ("aliyun", "report"): dict(aliyun_lab.RECEIPT),
    ("aliyun", "reply"): dict(aliyun_lab.SAID),
    ("tencent", "report"): dict(tencent_lab.RECEIPT),
    ("tencent", "reply"): dict(tencent_lab.SAID),
}
scalars = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(strategies.characters(), max_size=40)
)
values = strategies.recursive(
    scalars,
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
every_entry = pytest.mark.parametrize(("name", "path"), ENTRIES)
# The adapters are stateless in `receive`; a fixture per test is no shared state.
hard = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def receive(name: str, path: str, body: bytes) -> Received | RequestError:
    try:
        return ADAPTERS[name]().receive(RawRequest(path=path, body=body))
    except RequestError as error:
        return error


def check(name: str, path: str, body: bytes) -> None:
    found = receive(name, path, body)
    if isinstance(found, RequestError):
        assert 400 <= found.status < 500
        assert found.detail
        return
    again = receive(name, path, body)
    assert found == again
    for event in found.events:
        assert event.raw in body
        # What is stored must be storable.
        repr(event).encode()
        assert "\0" not in getattr(event, "text", "")


@every_entry
@hard
@given(body=strategies.binary(max_size=200))
def test_any_bytes(name: str, path: str, body: bytes) -> None:
    check(name, path, body)


@every_entry
@hard
@given(value=values)
def test_any_json(name: str, path: str, value: object) -> None:
    check(name, path, json.dumps(value).encode())


@every_entry
@hard
@given(data=strategies.data())
def test_a_good_row_with_any_field_spoilt(
    name: str, path: str, data: strategies.DataObject
) -> None:
    good = GOOD[name, path]
    field = data.draw(strategies.sampled_from(sorted(good)))
    row = good | {field: data.draw(values)}
    single = (name, path) == ("tencent", "reply")
    check(name, path, json.dumps(row if single else [good, row]).encode())


@every_entry
@hard
@given(data=strategies.data())
def test_a_good_push_with_bytes_changed(
    name: str, path: str, data: strategies.DataObject
) -> None:
    good = GOOD[name, path]
    single = (name, path) == ("tencent", "reply")
    body = bytearray(json.dumps(good if single else [good], ensure_ascii=False), "utf8")
    for _ in range(data.draw(strategies.integers(1, 4))):
        at = data.draw(strategies.integers(0, len(body) - 1))
        body[at] = data.draw(strategies.integers(0, 255))
    check(name, path, bytes(body))


HOSTILE = {
    "deep objects": b'{"a":' * 20000 + b"1" + b"}" * 20000,
    "deep arrays": b"[" * 200000,
    "deep in a row": b'[{"biz_id":' + b"[" * 50000 + b"]" * 50000 + b"}]",
    "not a number": b'[{"biz_id":NaN}]',
    "infinite": b'[{"biz_id":-Infinity}]',
    "huge integer": b'[{"biz_id":' + b"9" * 5000 + b"}]",
    "double key": b'[{"biz_id":"1","biz_id":"2"}]',
    "lone surrogate": b'[{"biz_id":"\\ud800","phone_number":"\\udfff"}]',
    "object for an id": b'[{"biz_id":{"1=1 --":1},"sid":{"1=1 --":1}}]',
    "bad UTF-8": b'[{"biz_id":"\xff\xfe"}]',
    "overlong UTF-8": b'[{"biz_id":"\xc0\x80"}]',
    "encoded surrogate": b'[{"biz_id":"\xed\xa0\x80"}]',
    "GBK": '[{"biz_id":"党员"}]'.encode("gbk"),
    "byte order mark": b'\xef\xbb\xbf[{"biz_id":"1"}]',
    "UTF-16": '[{"biz_id":"1"}]'.encode("utf-16"),
    "long id": b'[{"biz_id":"' + b"1" * 300 + b'"}]',
    "nothing": b"",
    "blank": b"  \n ",
    "null": b"null",
    "word": b'"push"',
    "form": b"biz_id=1&success=true",
    "many commas": b"[" + b"," * 100000,
}


@every_entry
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bodies_are_refused_at_once(name: str, path: str, body: bytes) -> None:
    began = time.monotonic()
    found = receive(name, path, body)
    assert isinstance(found, RequestError)
    assert found.status == 400
    assert found.detail
    assert time.monotonic() - began < 1


def test_a_thousand_bad_rows_do_not_hide_one_good_row() -> None:
    good = dict(aliyun_lab.RECEIPT)
    body = json.dumps([{"biz_id": [n]} for n in range(1000)] + [good]).encode()
    found = receive("aliyun", "report", body)
    assert isinstance(found, Received)
    troubles = [event for event in found.events if isinstance(event, ChannelTrouble)]
    assert len(troubles) == 1000
    assert len({trouble.key for trouble in troubles}) == 1000


def test_a_row_keeps_its_own_bytes_to_the_last_blank() -> None:
    def read(_: object, raw: bytes) -> Event:
        return ChannelTrouble(key="k", code="c", raw=raw)

    body = ' [ {"a" : "\\u515a 党"} ,\n{ } ] '.encode()
    assert [event.raw for event in read_array(body, read)] == [
        '{"a" : "\\u515a 党"}'.encode(),
        b"{ }",
    ]


def test_a_text_over_64_ki_characters_is_refused_and_one_below_is_kept() -> None:
    for length, kept in [(65536, True), (65537, False)]:
        body = json.dumps(aliyun_lab.SAID | {"content": "x" * length})
        found = receive("aliyun", "reply", f"[{body}]".encode())
        assert isinstance(found, Received) == kept


def test_a_key_begins_with_its_time_and_is_the_same_for_ever() -> None:
    """Stored keys are compared with those of later versions: never change them."""
    at = "2026-11-22 10:00:01"
    assert key("reply", "a", "b", at=at) == (
        "reply:20261122100001:16275ef0f5d0eb9dd9e0a53277549fda5c886358"
    )
    assert key("reply", "ab", "", at=at) != key("reply", "a", "b", at=at)
    assert key("row", b"raw").startswith("row::")
