"""Knowledge entries: found, written, switched off, and vouched for by a person.

An entry goes out only once it was checked. Changing what members read voids the check.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway import audit
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import Row, rows, transaction
from gateway.errors import NotFound, RequestError
from gateway.inquiries.matters import Matter
from gateway.phrases import phrase, together
from gateway.tables import Entry

PAGE = 40  # rows
STANDINGS = ("checked", "unchecked", "off")
LONGEST_QUESTION = 200  # characters
LONGEST_ANSWER = 2000
LONGEST_BASIS = 200
LONGEST_KEYWORD = 20
MOST_KEYWORDS = 20
_LONGEST_SEARCH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What staff enter; `matter` is a code of the seven kinds."""

    question: str
    answer: str
    basis: str = ""
    matter: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is looked for; empty values filter nothing, but what is off stays out."""

    q: str = ""
    matter: str = ""
    standing: str = ""  # one of STANDINGS

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.matter or self.standing)


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    total: int


def keywords(text: str) -> tuple[str, ...]:
    """Words as typed in one line, between blanks, commas or the like; each once."""
    return tuple(
        dict.fromkeys(word for word in re.split(r"[\s,，、;；]+", text) if word)
    )


async def listing(wanted: Filter, start: int = 0) -> Page:
    """One page of entries from the `start`th on, those to be checked first."""
    where, values = _where(wanted)
    found = await rows(
        "SELECT id, question, answer, basis, matter, sample, active FROM entries "
        f"WHERE {where} ORDER BY sample DESC, id LIMIT ? OFFSET ?",
        *values,
        PAGE,
        start,
    )
    total = await rows(f"SELECT COUNT(*) AS n FROM entries WHERE {where}", *values)
    return Page(found, int(total[0]["n"]))


def _where(wanted: Filter) -> tuple[str, list[object]]:
    conditions = ["NOT active" if wanted.standing == "off" else "active"]
    values: list[object] = []
    if wanted.standing in ("checked", "unchecked"):
        conditions.append("NOT sample" if wanted.standing == "checked" else "sample")
    if wanted.matter:
        conditions.append("matter = ?")
        values.append(wanted.matter)
    for word in wanted.q[:_LONGEST_SEARCH].lower().split():
        columns = ("question", "answer", "keywords", "basis")
        each = (f"LOWER({column}) LIKE ? ESCAPE '!'" for column in columns)
        conditions.append(f"({' OR '.join(each)})")
        escaped = re.sub("([!%_])", r"!\1", word)
        values += [f"%{escaped}%"] * len(columns)
    return " AND ".join(conditions), values


async def counts() -> Mapping[str, int]:
    """Entries in use, and how many of them wait for a check."""
    found = await rows(
        "SELECT COUNT(*) AS total, COUNT(CASE WHEN sample THEN 1 END) AS unchecked "
        "FROM entries WHERE active"
    )
    return {name: int(number) for name, number in found[0].items()}


async def find(id: int) -> Entry:
    found = await Entry.get_or_none(id=id)
    if found is None:
        raise NotFound(f"entry {id}")
    return found


def digest(entry: Entry) -> str:
    """Of all that staff may change: what a person saw when they acted."""
    shown = [entry.question, entry.answer, entry.basis, entry.matter, entry.keywords]
    line = json.dumps([*shown, entry.sample, entry.active], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()[:16]


async def add(core: Core, actor: Actor, draft: Draft) -> Entry:
    """A new entry, to be checked before it goes out."""
    actor.require(Action.BROADCAST)
    async with transaction():
        await _check(draft, None)
        entry = await Entry.create(
            **_columns(draft), sample=True, created_at=core.clock.now()
        )
        await audit.record(core.clock, actor, "entry.add", f"entry:{entry.id}")
    core.hub.publish("daily", "")
    return entry


async def change(
    core: Core, actor: Actor, id: int, draft: Draft, seen: str = ""
) -> Entry:
    """Correct an entry; other words need another check. `seen` is the `digest` of what
    was corrected: RequestError(changed) where somebody else was quicker."""
    actor.require(Action.BROADCAST)
    async with transaction():
        entry = await _locked(id)
        await _check(draft, id)
        _refuse_unseen(entry, seen)
        new = _columns(draft)
        changed = [name for name, value in new.items() if getattr(entry, name) != value]
        if not changed:
            return entry
        entry.update_from_dict(new)
        entry.sample = entry.sample or bool(
            {"question", "answer", "basis"} & {*changed}
        )
        entry.updated_at = core.clock.now()
        await entry.save()
        await audit.record(
            core.clock,
            actor,
            "entry.change",
            f"entry:{id}",
            fields=changed,
            to_be_checked=entry.sample,
        )
    core.hub.publish("daily", "")
    return entry


async def switch(core: Core, actor: Actor, id: int, *, active: bool) -> None:
    """Take an entry out of use, or back; what is off is passed over by the queue."""
    actor.require(Action.BROADCAST)
    async with transaction():
        entry = await _locked(id)
        if entry.active == active:
            return
        entry.active, entry.updated_at = active, core.clock.now()
        await entry.save(update_fields=["active", "updated_at"])
        act = "entry.activate" if active else "entry.deactivate"
        await audit.record(core.clock, actor, act, f"entry:{id}")
    core.hub.publish("daily", "")


async def check(core: Core, actor: Actor, id: int, seen: str = "") -> None:
    """A director or approver vouches for an entry: now it may be pushed.

    `seen` is the `digest` of what they read; RequestError(changed) where it has changed
    since. Raises NotFound where there is nothing to check.
    """
    actor.require(Action.APPROVE)
    async with transaction():
        entry = await _locked(id)
        _refuse_unseen(entry, seen)
        if not entry.sample:
            raise NotFound(f"entry {id}")
        entry.sample, entry.updated_at = False, core.clock.now()
        await entry.save(update_fields=["sample", "updated_at"])
        await audit.record(core.clock, actor, "entry.check", f"entry:{id}")
    core.hub.publish("daily", "")


async def _locked(id: int) -> Entry:
    found = await Entry.select_for_update().get_or_none(id=id)
    if found is None:
        raise NotFound(f"entry {id}")
    return found


def _refuse_unseen(entry: Entry, seen: str) -> None:
    if seen and seen != digest(entry):
        words = "这一条刚被别人改过，请刷新后再看一遍"
        raise RequestError("changed", words, status=409, fields={"seen": words})


def _columns(draft: Draft) -> dict[str, Any]:
    return asdict(draft) | {"keywords": list(draft.keywords)}


async def _check(draft: Draft, id: int | None) -> None:
    faults: dict[str, str] = {}
    if not draft.question:
        faults["question"] = "请写上问题"
    elif len(draft.question) > LONGEST_QUESTION:
        faults["question"] = _too_long("问题", LONGEST_QUESTION)
    elif await _is_taken(draft.question, id):
        faults["question"] = "已有同样的问题，请直接修改那一条"
    if not draft.answer:
        faults["answer"] = "请写上解答"
    elif len(draft.answer) > LONGEST_ANSWER:
        faults["answer"] = _too_long("解答", LONGEST_ANSWER)
    if len(draft.basis) > LONGEST_BASIS:
        faults["basis"] = _too_long("依据", LONGEST_BASIS)
    if draft.matter not in set(Matter):
        faults["matter"] = "请选择类别"
    if len(draft.keywords) > MOST_KEYWORDS:
        faults["keywords"] = phrase("关键词最多{n}个", n=MOST_KEYWORDS)
    elif any(len(word) > LONGEST_KEYWORD for word in draft.keywords):
        faults["keywords"] = phrase(
            "每个关键词最多{n}个字，用空格或逗号隔开", n=LONGEST_KEYWORD
        )
    if faults:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )


def _too_long(name: str, limit: int) -> str:
    return phrase("{name}最多{n}个字", name=phrase(name), n=limit)


async def _is_taken(question: str, id: int | None) -> bool:
    same = Entry.filter(question=question, active=True)
    return await same.exclude(id=id or 0).exists()
