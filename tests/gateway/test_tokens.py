from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.consent import opt_out_strength
from gateway.tokens import one_time_code, short_code, sign, verify

KEY = bytes(range(32))
ids = st.integers(0, 2**63 - 1)


@given(ids, st.text())
def test_a_token_comes_back(id: int, purpose: str) -> None:
    token = sign(KEY, purpose, id)
    assert verify(KEY, purpose, token) == id
    assert verify(KEY, purpose, token.upper()) == id


@given(ids)
def test_a_token_is_short_and_safe_anywhere(id: int) -> None:
    token = sign(KEY, "reply", id)
    assert 18 <= len(token) <= 29
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyz234567")


@given(ids, st.data())
def test_one_changed_character_is_enough(id: int, data: st.DataObject) -> None:
    token = sign(KEY, "reply", id)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
    forged = token[:place] + other + token[place + 1 :]
    assert forged == token or verify(KEY, "reply", forged) is None


@given(ids)
def test_another_key_or_purpose_is_refused(id: int) -> None:
    token = sign(KEY, "reply", id)
    assert verify(bytes(32), "reply", token) is None
    assert verify(KEY, "unsubscribe", token) is None
    assert verify(KEY, "", token) is None


@given(st.text())
def test_any_text_is_refused_quietly(token: str) -> None:
    assert verify(KEY, "reply", token) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a" * 17,
        "a" * 18,
        "a" * 29,
        "a" * 30,
        "7" * 29,
        "ａ" * 18,
        "a" * 17 + "=",
        "0" * 18,
    ],
)
def test_malformed_tokens(token: str) -> None:
    assert verify(KEY, "reply", token) is None


def test_cut_or_padded_tokens() -> None:
    token = sign(KEY, "reply", 77)
    for forged in (token[:-1], token + "a", "a" + token, token + "\n", f" {token}"):
        assert verify(KEY, "reply", forged) is None


@pytest.mark.parametrize("id", [-1, 2**63])
def test_ids_that_no_table_holds(id: int) -> None:
    with pytest.raises(ValueError, match="id"):
        sign(KEY, "reply", id)


def test_one_time_codes_are_six_digits() -> None:
    random = Random(1)
    codes = [one_time_code(random) for _ in range(2000)]
    assert all(len(code) == 6 and code.isdecimal() for code in codes)
    assert any(code.startswith("0") for code in codes)
    assert len(set(codes)) > 1900


def test_short_codes_differ_and_none_begins_another() -> None:
    codes = [short_code(n) for n in range(1500)]
    assert codes[:3] == ["A1", "A2", "A3"]
    assert codes[99] == "AA1"
    assert len(set(codes)) == len(codes)
    ordered = sorted(codes)
    assert not any(b.startswith(a) for a, b in pairwise(ordered))


def test_short_codes_have_no_look_alikes_and_no_meaning() -> None:
    codes = {short_code(n) for n in range(1500)}
    letters = set("".join(codes))
    for pair in ("O0", "I1", "L1", "S5", "B8", "Z2", "G6", "Q0", "D0", "UV"):
        assert len(letters & set(pair)) <= 1
    assert not letters & set("YNTRX")
    assert not any(opt_out_strength(code) for code in codes)


def test_a_code_has_to_be_numbered() -> None:
    with pytest.raises(ValueError, match="from 0"):
        short_code(-1)
