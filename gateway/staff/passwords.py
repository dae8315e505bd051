"""Passwords: rules, one-time passwords, and hashing that can't fill the machine."""

import asyncio
import base64
import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION, Type

from gateway.errors import RequestError
from gateway.phrases import phrase

MIN_LENGTH = 12  # characters
MAX_LENGTH = 128
_AT_ONCE = 2
_QUEUE = 40  # callers that may wait; the next ones are refused
_EASY = (
    *("password", "qwerty", "123456", "111111", "abc123", "admin", "lianxin"),
    *("iloveyou", "letmein", "woaini", "5201314", "zhongguo", "88888888"),
)
# Without look-alikes: people read it from a terminal and type it.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def argon2() -> PasswordHasher:
    """argon2id, 19 MiB, 2 passes, 1 lane (OWASP's minimum for small machines)."""
    return PasswordHasher(
        time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID
    )


def hash_of_nothing(hasher: PasswordHasher) -> str:
    """A hash that no password makes, which takes as long to check as any other: its
    two parts are dice. So it costs a start nothing."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(n)).decode().rstrip("=")
        for n in (hasher.salt_len, hasher.hash_len)
    )
    memory, passes, lanes = hasher.memory_cost, hasher.time_cost, hasher.parallelism
    costs = f"m={memory},t={passes},p={lanes}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


def normal(password: str) -> str:
    """One form for the ways in which input methods compose the same characters."""
    return unicodedata.normalize("NFC", password)


def one_time() -> str:
    """About 79 bits, in groups of four."""
    word = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join(word[i : i + 4] for i in range(0, 16, 4))


def refuse_weak(password: str, username: str) -> None:
    """RequestError (field `password`) where the rules aren't met."""
    fault = _fault(normal(password), username)
    if fault:
        raise RequestError(
            "weak_password", fault, status=422, fields={"password": fault}
        )


def _fault(password: str, username: str) -> str:
    if len(password) < MIN_LENGTH:
        return phrase("密码太短，至少 {n} 个字符", n=MIN_LENGTH)
    if len(password) > MAX_LENGTH:
        return phrase("密码太长，最多 {n} 个字符", n=MAX_LENGTH)
    rest = password.lower()
    for word in (username.lower(), *_EASY):
        rest = rest.replace(word, "")
    if len(set(rest)) < 5:
        return "密码太容易猜到，请换一句只有自己知道的话"
    return ""


class Hasher:
    """Hashes in threads, two at a time, behind a short queue."""

    def __init__(self) -> None:
        self._argon2 = argon2()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._nobody = hash_of_nothing(self._argon2)

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._argon2.hash, normal(password))

    async def verify(self, password: str, hash: str | None) -> bool:
        """Whether `password` made `hash`; None takes as long and is never right.

        Raises RequestError with status 429 where too many wait already.
        """
        if self._waiting >= _QUEUE:
            raise RequestError("busy", "同时登录的人太多，请稍后再试", status=429)
        self._waiting += 1
        try:
            async with self._slots:
                right = await asyncio.to_thread(
                    self._check, normal(password), hash or self._nobody
                )
        finally:
            self._waiting -= 1
        return right and hash is not None

    def outdated(self, hash: str) -> bool:
        """Made with other parameters than today's."""
        return self._argon2.check_needs_rehash(hash)

    def _check(self, password: str, hash: str) -> bool:
        try:
            return self._argon2.verify(hash, password)
        except (VerificationError, InvalidHashError):
            return False
