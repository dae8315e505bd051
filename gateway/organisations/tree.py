"""Organisations and their paths. Every query is bound to what the actor may see."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway import audit
from gateway.actors import Action, Actor
from gateway.core import Core
from gateway.database import rows, transaction
from gateway.errors import NotFound, RequestError
from gateway.phrases import together
from gateway.tables import Organisation

KINDS = {
    "county": "县（市、区）",
    "centre": "服务中心",
    "branch": "党支部",
    "office": "业务单位",
}
_DEEPEST = 180  # characters of a path; the column holds 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One organisation with its numbers and those below it."""

    id: int
    code: str
    name: str
    kind: str
    contact: str
    phone: str
    members: int
    open_inquiries: int
    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What staff enter; `parent_id` None is a top organisation."""

    name: str
    code: str
    kind: str
    parent_id: int | None
    contact: str = ""
    phone: str = ""


async def own(actor: Actor, organisation_id: int) -> Organisation:
    """The organisation, if it is the actor's or below; else NotFound."""
    found = await Organisation.get_or_none(
        id=organisation_id, path__startswith=actor.path
    )
    if found is None:
        raise NotFound
    return found


async def visible(actor: Actor) -> Sequence[Organisation]:
    """The actor's subtree in the order of area codes."""
    return await Organisation.filter(path__startswith=actor.path).order_by("code")


def choices(organisations: Iterable[Organisation]) -> list[dict[str, object]]:
    """For a select: indented by depth."""
    found = list(organisations)
    top = min((o.path.count("/") for o in found), default=0)
    return [
        {"value": o.id, "label": "　" * (o.path.count("/") - top) + o.name}
        for o in sorted(found, key=lambda o: o.code)
    ]


async def tree(actor: Actor) -> tuple[Node, ...]:
    members = await _numbers(
        "SELECT organisation_id AS id, COUNT(*) AS n FROM members "
        "GROUP BY organisation_id"
    )
    waiting = await _numbers(
        "SELECT organisation_id AS id, COUNT(*) AS n FROM inquiries "
        "WHERE closed_at IS NULL GROUP BY organisation_id"
    )
    return _nest(await visible(actor), members, waiting)


async def _numbers(sql: str) -> Counter[int]:
    return Counter({row["id"]: row["n"] for row in await rows(sql)})


def _nest(
    organisations: Sequence[Organisation],
    members: Mapping[int, int],
    waiting: Mapping[int, int],
) -> tuple[Node, ...]:
    below: defaultdict[str, list[Organisation]] = defaultdict(list)
    paths = {o.path for o in organisations}
    for o in organisations:
        parent = _above(o.path)
        below[parent if parent in paths else ""].append(o)

    def node(o: Organisation) -> Node:
        children = tuple(map(node, below[o.path]))
        return Node(
            id=o.id,
            code=o.code,
            name=o.name,
            kind=o.kind,
            contact=o.contact,
            phone=o.phone,
            members=members.get(o.id, 0) + sum(c.members for c in children),
            open_inquiries=waiting.get(o.id, 0)
            + sum(c.open_inquiries for c in children),
            children=children,
        )

    return tuple(map(node, below[""]))


def _above(path: str) -> str:
    """`/1/4/` for `/1/4/9/`; empty for a top organisation."""
    parent = path[: path.rstrip("/").rfind("/") + 1]
    return "" if parent == "/" else parent


async def add(core: Core, actor: Actor, draft: Draft) -> Organisation:
    actor.require(Action.ADMINISTER)
    async with transaction():
        parent = await _parent(actor, draft.parent_id)
        await _check(draft, None)
        new = await Organisation.create(
            name=draft.name,
            code=draft.code,
            kind=draft.kind,
            parent=parent,
            contact=draft.contact,
            phone=draft.phone,
        )
        new.path = f"{parent.path if parent else '/'}{new.id}/"
        _refuse_too_deep(new.path)
        await new.save(update_fields=["path"])
        await audit.record(
            core.clock,
            actor,
            "organisation.added",
            f"organisation:{new.id}",
            path=new.path,
        )
    return new


async def change(core: Core, actor: Actor, id: int, draft: Draft) -> None:
    """Rename, correct, or move with everything below. Nobody moves anything out of or
    into what they can't see, nor below itself."""
    actor.require(Action.ADMINISTER)
    async with transaction():
        found = await own(actor, id)
        await _check(draft, id)
        # The parent of one's own organisation is out of sight, so it reads as none.
        unseen = found.path == actor.path and draft.parent_id is None
        moved = draft.parent_id != found.parent_id and not unseen
        found.name, found.code, found.kind = draft.name, draft.code, draft.kind
        found.contact, found.phone = draft.contact, draft.phone
        await found.save()
        if moved:
            await _move(actor, found, draft.parent_id)
        await audit.record(
            core.clock,
            actor,
            "organisation.moved" if moved else "organisation.changed",
            f"organisation:{id}",
            path=found.path,
        )


async def _move(actor: Actor, found: Organisation, parent_id: int | None) -> None:
    if found.path == actor.path:
        raise _fault("parent", "不能移动自己所在的组织")
    parent = await _parent(actor, parent_id)
    if parent is not None and parent.path.startswith(found.path):
        raise _fault("parent", "不能移到自己或自己的下级之下")
    old, new = found.path, f"{parent.path if parent else '/'}{found.id}/"
    for below in await Organisation.filter(path__startswith=old):
        below.path = new + below.path.removeprefix(old)
        _refuse_too_deep(below.path)
        await below.save(update_fields=["path"])
    found.path = new
    found.parent = parent
    await found.save(update_fields=["parent_id"])


async def _parent(actor: Actor, parent_id: int | None) -> Organisation | None:
    if parent_id is not None:
        return await own(actor, parent_id)
    if actor.path != "/" and await Organisation.exists():
        raise _fault("parent", "请选择上级组织")
    return None


async def _check(draft: Draft, id: int | None) -> None:
    faults = {}
    if not 1 <= len(draft.name) <= 120:
        faults["name"] = "名称为1到120个字"
    if not (draft.code.isascii() and draft.code.isalnum() and len(draft.code) <= 32):
        faults["code"] = "区号只能用数字和字母，最多32位"
    elif await Organisation.filter(code=draft.code).exclude(id=id or 0).exists():
        faults["code"] = "已有组织使用这个区号"
    if draft.kind not in KINDS:
        faults["kind"] = "请选择类型"
    if len(draft.contact) > 80:
        faults["contact"] = "联系人最多80个字"
    if len(draft.phone) > 32:
        faults["phone"] = "电话最多32个字符"
    if faults:
        raise RequestError(
            "invalid", together(faults.values()), status=422, fields=faults
        )


def _refuse_too_deep(path: str) -> None:
    if len(path) > _DEEPEST:
        raise _fault("parent", "层级太深")


def _fault(field: str, text: str) -> RequestError:
    return RequestError("invalid", text, status=422, fields={field: text})
