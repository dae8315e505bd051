"""Short signed tokens and codes that people type.

A token names one row for one purpose (a reply address, an opt-out page). It is no
secret against its holder and doesn't expire by itself; what it opens decides that.
"""

import base64
import hmac
import re
from random import Random

_MAC_BYTES = 10
_MAX_ID = 2**63 - 1
_TOKEN = re.compile(r"[a-z2-7]{18,29}")
# Without look-alikes (B8 D0 G6 I1 L1 O0 Q0 S5 U/V Z2) and without the letters that
# answer or refuse on their own: N, R, T, X, Y.
_LETTERS = "ACEFHJKMPVW"
_DIGITS = "123456789"


def sign(key: bytes, purpose: str, id: int) -> str:
    """A token of 18 to 29 characters a-z, 2-7: safe in mail addresses and paths."""
    if not 0 <= id <= _MAX_ID:
        raise ValueError("a token names an id of 0 to 2**63 - 1")
    body = id.to_bytes(max(1, (id.bit_length() + 7) // 8), "big")
    token = base64.b32encode(body + _mac(key, purpose, body)).decode("ascii")
    return token.rstrip("=").lower()


def verify(key: bytes, purpose: str, token: str) -> int | None:
    """The id that was signed for `purpose`; None for anything else, never raises.

    Case doesn't matter: mail systems change it. Compared in constant time, as a
    whole, so that each id has exactly one token.
    """
    token = token.lower() if token.isascii() else ""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        raw = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
    except ValueError:
        return None
    id = int.from_bytes(raw[:-_MAC_BYTES], "big")
    if id > _MAX_ID:
        return None
    return id if hmac.compare_digest(sign(key, purpose, id), token) else None


def _mac(key: bytes, purpose: str, body: bytes) -> bytes:
    message = purpose.encode() + b"\0" + body
    return hmac.digest(key, message, "sha256")[:_MAC_BYTES]


def one_time_code(random: Random) -> str:
    """Six digits; hand in `random.SystemRandom()` outside of tests."""
    return f"{random.randrange(1_000_000):06d}"


def short_code(n: int) -> str:
    """Code number `n` (from 0): letters, then one digit: A1, C1, … W9, AA1.

    No code begins another, so that "A12" is code A1 and the answer 2.
    """
    if n < 0:
        raise ValueError("codes are numbered from 0")
    n, digit = divmod(n, len(_DIGITS))
    letters = ""
    n += 1
    while n:
        n, index = divmod(n - 1, len(_LETTERS))
        letters = _LETTERS[index] + letters
    return letters + _DIGITS[digit]
