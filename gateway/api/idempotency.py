"""`Idempotency-Key`: a repeated POST gets the first one's answer, and no second effect.

Effect and answer are committed together, so a crash leaves both or neither: a key is
never stuck, and the caller may always try again. Refusals change nothing and are not
kept; keys never expire. The key belongs to the token that sent it.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gateway.api.after_commit import Held
from gateway.api.strict_json import canonical
from gateway.core import Core
from gateway.database import is_postgres, rows, transaction
from gateway.errors import RequestError
from gateway.tables import IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 200
_FORM = re.compile(r"[\x21-\x7e]{1,200}")
Work = Callable[[Core], Awaitable["Answer"]]
Prepare = Callable[[], Awaitable[Work]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str  # JSON
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One request under one key. `digest` tells another request with the same key."""

    owner: str
    key: str
    digest: str


def claim(owner: str, key: str, method: str, target: str, body: Any) -> Claim:
    """RequestError where `key` can't be one. `target`: path and query."""
    if not _FORM.fullmatch(key):
        detail = f"{HEADER}: 1 to {LONGEST_KEY} visible ASCII characters"
        raise RequestError("idempotency_key", detail, fields={HEADER: detail})
    text = f"{method} {target}\n{canonical(body)}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Claim(owner=owner, key=key, digest=digest)


class Once:
    """What is at work in this process now."""

    def __init__(self) -> None:
        self._busy: set[tuple[str, str]] = set()

    async def together(self, core: Core, claim: Claim, prepare: Prepare) -> Answer:
        """Run a work and keep its answer in one transaction.

        `prepare` makes the work: it takes its time, changes nothing, and doesn't run
        for a key that is known.
        """
        with self._alone(claim):
            known = await _stored(claim)
            if known is not None:
                return known
            try:
                work = await prepare()
            except RequestError:
                if (known := await _stored(claim)) is None:
                    raise
                return known  # another process was quicker: that is why it is refused
            held = Held(core)
            async with transaction():
                await _lock(claim)
                answer = await _stored(claim)
                if answer is None:
                    answer = await work(held.core)
                    await _store(core, claim, answer)
            held.release()
        return answer

    async def after(self, core: Core, claim: Claim, prepare: Prepare) -> Answer:
        """Run a work which by itself takes effect once, then keep its answer.

        For long work that must not hold the database.
        """
        with self._alone(claim):
            answer = await _stored(claim)
            if answer is not None:
                return answer
            fresh = await (await prepare())(core)
            async with transaction():
                await _lock(claim)
                answer = await _stored(claim)
                if answer is None:
                    answer = fresh
                    await _store(core, claim, fresh)
        return answer

    @contextmanager
    def _alone(self, claim: Claim) -> Iterator[None]:
        lane = (claim.owner, claim.key)
        if lane in self._busy:
            raise _in_flight()
        self._busy.add(lane)
        try:
            yield
        finally:
            self._busy.discard(lane)


async def _lock(claim: Claim) -> None:
    """Between processes; SQLite has one process, and one writer."""
    if not is_postgres():
        return
    name = hashlib.sha256(f"{claim.owner}\n{claim.key}".encode()).digest()
    number = int.from_bytes(name[:8], "big", signed=True)
    found = await rows("SELECT pg_try_advisory_xact_lock(?) AS got", number)
    if not found[0]["got"]:
        raise _in_flight()


async def _stored(claim: Claim) -> Answer | None:
    known = await IdempotencyKey.get_or_none(owner=claim.owner, key=claim.key)
    if known is None:
        return None
    if known.request_hash != claim.digest:
        detail = "this key was used for another request; take a new key"
        raise RequestError("key_reused", detail, status=422, fields={HEADER: detail})
    return Answer(known.status, known.response, replayed=True)


async def _store(core: Core, claim: Claim, answer: Answer) -> None:
    await IdempotencyKey.create(
        owner=claim.owner,
        key=claim.key,
        request_hash=claim.digest,
        status=answer.status,
        response=answer.body,
        created_at=core.clock.now(),
    )


def _in_flight() -> RequestError:
    detail = "the first request with this key is still at work; ask again later"
    return RequestError("in_flight", detail, status=409)
