import time

import pytest

from gateway.bots.frames import MAX_DEPTH, BadFrame, read_frame


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\x00\xff\xfe", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": -Infinity}', "not_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not_json"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"a":' * 20000 + b"1" + b"}" * 20000, "too_deep"),
        (b"[" * 20000 + b"]" * 20000, "too_deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
    ],
)
def test_a_bad_frame_is_refused_with_a_code(frame: bytes, code: str) -> None:
    with pytest.raises(BadFrame, match=code):
        read_frame(frame)


def test_the_deepest_frame_allowed() -> None:
    frame = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert read_frame(frame)["a"]


def test_invalid_utf8_is_read_with_replacement() -> None:
    assert read_frame(b'{"a": "\xff\xfe"}') == {"a": "��"}


def test_a_deep_frame_costs_little() -> None:
    started = time.perf_counter()
    with pytest.raises(BadFrame):
        read_frame('{"a":' * 20000 + "1" + "}" * 20000)
    assert time.perf_counter() - started < 0.05
