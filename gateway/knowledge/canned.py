"""Canned answers: short texts that clerks insert while they write."""

from dataclasses import dataclass
from typing import Any

from gateway import audit, wording
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import transaction
from gateway.errors import NotFound, RequestError
from gateway.phrases import phrase, together
from gateway.tables import Canned
from gateway.texts import FIELDS

LONGEST_TITLE = 80  # characters
LONGEST_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    title: str
    text: str  # with placeholders of `gateway.texts.FIELDS`


async def listing() -> list[Canned]:
    """In the order in which the answer box offers them."""
    return await Canned.all().order_by("position", "id")


async def find(id: int) -> Canned:
    found = await Canned.get_or_none(id=id)
    if found is None:
        raise NotFound(f"canned answer {id}")
    return found


async def add(core: Core, actor: Actor, draft: Draft) -> Canned:
    """At the end of the list."""
    actor.require(Action.WORK)
    async with transaction():
        await _check(draft, None)
        last = await Canned.all().order_by("-position").first()
        position = 0 if last is None else last.position + 1
        new = await Canned.create(title=draft.title, text=draft.text, position=position)
        await _record(core, actor, "add", new.id)
    return new


async def change(core: Core, actor: Actor, id: int, draft: Draft) -> None:
    actor.require(Action.WORK)
    async with transaction():
        found = await find(id)
        await _check(draft, id)
        found.title, found.text = draft.title, draft.text
        await found.save(update_fields=["title", "text"])
        await _record(core, actor, "change", id)


async def delete(core: Core, actor: Actor, id: int) -> None:
    """Gone for good; the audit keeps its title."""
    actor.require(Action.WORK)
    async with transaction():
        found = await find(id)
        await found.delete()
        await _record(core, actor, "delete", id, title=found.title)


async def shift(core: Core, actor: Actor, id: int, *, up: bool) -> None:
    """Change places with the neighbour; the first stays first, the last last."""
    actor.require(Action.WORK)
    async with transaction():
        found = await Canned.select_for_update().order_by("position", "id")
        ids = [one.id for one in found]
        if id not in ids:
            raise NotFound(f"canned answer {id}")
        place = ids.index(id)
        other = place - 1 if up else place + 1
        if not 0 <= other < len(ids):
            return
        ids[place], ids[other] = ids[other], ids[place]
        # Positions may repeat, so that all are numbered anew.
        for position, one in enumerate(ids):
            await Canned.filter(id=one).update(position=position)
        await _record(core, actor, "move", id, up=up)


async def _record(core: Core, actor: Actor, act: str, id: int, **detail: Any) -> None:
    await audit.record(core.clock, actor, f"canned.{act}", f"canned:{id}", **detail)


async def _check(draft: Draft, id: int | None) -> None:
    faults: dict[str, str] = {}
    if not draft.title:
        faults["title"] = "请写上标题"
    elif len(draft.title) > LONGEST_TITLE:
        faults["title"] = phrase("标题最多{n}个字", n=LONGEST_TITLE)
    elif await Canned.filter(title=draft.title).exclude(id=id or 0).exists():
        faults["title"] = "已有同名的常用语"
    if fault := _fault_of_text(draft.text):
        faults["text"] = fault
    if faults:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )


def _fault_of_text(text: str) -> str:
    """What is wrong with it and exactly where; empty if nothing."""
    if not text:
        return "请写上正文"
    if len(text) > LONGEST_TEXT:
        return phrase("正文最多{n}个字", n=LONGEST_TEXT)
    try:
        wording.parse(text, FIELDS)
    except wording.WordingError as error:
        return str(error)
    return ""
