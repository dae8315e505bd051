"""Writing an imported sheet: who is new, who changed, and all of it in one go."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway import audit
from gateway.actors import Action, Actor
from gateway.addresses import mask_name
from gateway.contract import Address, AddressKind
from gateway.core import Core
from gateway.database import execute_many, marks, rows, to_micros, transaction
from gateway.members import consent, importing
from gateway.members.importing import EMAIL, PHONE, QQ, Fault, Record, RowResult
from gateway.organisations import tree
from gateway.phrases import phrase

T = TypeVar("T")
_CHUNK = 400
_FIELDS = {AddressKind.PHONE: PHONE, AddressKind.EMAIL: EMAIL, AddressKind.QQ: QQ}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one good row. `member_id` None: a new member."""

    record: Record
    member_id: int | None
    what: str  # new, changed, same


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    results: Sequence[RowResult]  # every row, with the faults found on second sight
    steps: Sequence[Step]

    def count(self, what: str) -> int:
        return sum(step.what == what for step in self.steps)

    @property
    def bad(self) -> Sequence[RowResult]:
        return [result for result in self.results if result.faults]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An address that is known already."""

    member_id: int | None
    name: str
    path: str


async def plan(actor: Actor, sheet: Sequence[Sequence[str]]) -> Plan:
    """Compare a sheet with what is there. Changes nothing.

    Raises RequestError where the sheet as a whole can't be used.
    """
    actor.require(Action.MEMBERS)
    return await _compared(actor, await _parsed(actor, sheet))


async def _parsed(actor: Actor, sheet: Sequence[Sequence[str]]) -> list[RowResult]:
    visible = await tree.visible(actor)
    known = importing.places((o.id, o.code, o.name) for o in visible)
    # Seconds for tens of thousands of rows.
    return await asyncio.to_thread(importing.parse_rows, sheet, known)


async def _compared(actor: Actor, results: Sequence[RowResult]) -> Plan:
    records = [result.record for result in results if result.record]
    held = await _held(address for record in records for address in record.contacts)
    namesakes = await _namesakes(records)
    current = await _current(
        {h.member_id for h in held.values() if h.member_id}
        | {id for ids in namesakes.values() for id in ids}
    )
    checked, steps = [], []
    for result in results:
        record = result.record
        if record is not None:
            faults, member_id = _whose(actor, record, held, namesakes, current)
            if faults:
                result = replace(result, record=None, faults=faults)
            else:
                steps.append(_step(record, member_id, current))
        checked.append(result)
    return Plan(results=checked, steps=_refuse_doubles(steps, checked))


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    found = list(items)
    for start in range(0, len(found), _CHUNK):
        yield found[start : start + _CHUNK]


def _by_kind(addresses: Iterable[Address]) -> Iterator[tuple[str, list[str]]]:
    """Kind and values in chunks: the indexes begin with the kind."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for address in addresses:
        values[address.kind.value].append(address.value)
    for kind, found in values.items():
        for chunk in _chunks(found):
            yield kind, chunk


async def _held(addresses: Iterable[Address]) -> dict[Address, _Held]:
    held = {}
    for kind, chunk in _by_kind(addresses):
        found = await rows(
            "SELECT a.value, a.member_id, m.name, o.path FROM addresses a "
            "LEFT JOIN members m ON m.id = a.member_id "
            "LEFT JOIN organisations o ON o.id = m.organisation_id "
            f"WHERE a.kind = ? AND a.value IN ({marks(len(chunk))})",
            kind,
            *chunk,
        )
        for row in found:
            held[Address(AddressKind(kind), row["value"])] = _Held(
                member_id=row["member_id"],
                name=row["name"] or "",
                path=row["path"] or "",
            )
    return held


async def _namesakes(records: Iterable[Record]) -> dict[tuple[str, int], list[int]]:
    """Members of the same name in the same organisation."""
    wanted = {(record.name, record.organisation_id) for record in records}
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for chunk in _chunks({organisation_id for _, organisation_id in wanted}):
        for row in await rows(
            "SELECT id, name, organisation_id FROM members "
            f"WHERE organisation_id IN ({marks(len(chunk))})",
            *chunk,
        ):
            person = (row["name"], row["organisation_id"])
            if person in wanted:
                found[person].append(row["id"])
    return found


@dataclass(slots=True, kw_only=True)
class _Current:
    """A member as stored, as far as a sheet can change it."""

    name: str
    organisation_id: int
    joined_on: str
    mobile: bool
    daily: bool
    tags: set[str]
    contacts: set[Address]


async def _current(ids: Iterable[int]) -> dict[int, _Current]:
    found: dict[int, _Current] = {}
    for chunk in _chunks(ids):
        within = f"({marks(len(chunk))})"
        for row in await rows(
            "SELECT id, name, organisation_id, joined_on, mobile_member "
            f"FROM members WHERE id IN {within}",
            *chunk,
        ):
            found[row["id"]] = _Current(
                name=row["name"],
                organisation_id=row["organisation_id"],
                joined_on=row["joined_on"],
                mobile=bool(row["mobile_member"]),
                daily=False,
                tags=set(),
                contacts=set(),
            )
        for row in await rows(
            f"SELECT member_id, tag FROM member_tags WHERE member_id IN {within}",
            *chunk,
        ):
            found[row["member_id"]].tags.add(row["tag"])
        for row in await rows(
            f"SELECT member_id, kind, value FROM addresses WHERE member_id IN {within}",
            *chunk,
        ):
            address = Address(AddressKind(row["kind"]), row["value"])
            found[row["member_id"]].contacts.add(address)
        for row in await rows(
            "SELECT member_id FROM subscriptions WHERE topic = 'daily' "
            f"AND ended_at IS NULL AND member_id IN {within}",
            *chunk,
        ):
            found[row["member_id"]].daily = True
    return found


def _whose(
    actor: Actor,
    record: Record,
    held: dict[Address, _Held],
    namesakes: dict[tuple[str, int], list[int]],
    current: dict[int, _Current],
) -> tuple[tuple[Fault, ...], int | None]:
    """The member a row is about: by address, else by name where nothing contradicts."""
    faults, owners = [], set()
    for address in record.contacts:
        known = held.get(address)
        if known is None or known.member_id is None:
            continue
        field = _FIELDS[address.kind]
        if not actor.sees(known.path):
            # The same words whoever holds it: a sheet is no way to look people up.
            faults.append(Fault(field, address.value, "这里不能用，请联系上级中心核对"))
        elif known.name != record.name:
            words = "已登记在{name}名下，姓名不一致，请核对"
            text = phrase(words, name=mask_name(known.name))
            faults.append(Fault(field, address.value, text))
        else:
            owners.add(known.member_id)
    if len(owners) > 1:
        faults.append(Fault(PHONE, "", "这一行的联系方式属于两位同名党员，请分开填写"))
    if faults:
        return tuple(faults), None
    if owners:
        return (), owners.pop()
    same = namesakes.get((record.name, record.organisation_id), [])
    if len(same) == 1 and not _contradicts(record, current[same[0]]):
        return (), same[0]
    return (), None


def _contradicts(record: Record, stored: _Current) -> bool:
    """Both have an address of one kind, and they differ: a namesake."""
    kinds = {address.kind for address in stored.contacts}
    return any(address.kind in kinds for address in record.contacts)


def _step(record: Record, member_id: int | None, current: dict[int, _Current]) -> Step:
    if member_id is None:
        return Step(record=record, member_id=None, what="new")
    stored = current[member_id]
    same = (
        stored.organisation_id == record.organisation_id
        and record.joined_on in ("", stored.joined_on)
        and record.mobile in (None, stored.mobile)
        and stored.tags.issuperset(record.tags)
        and stored.contacts.issuperset(record.contacts)
        and record.daily in (None, stored.daily)
    )
    return Step(record=record, member_id=member_id, what="same" if same else "changed")


def _refuse_doubles(steps: Sequence[Step], results: list[RowResult]) -> list[Step]:
    """Two rows about one stored member: the second one is told so."""
    rows_of: dict[int, int] = {}
    kept = []
    for step in steps:
        first = step.member_id and rows_of.setdefault(step.member_id, step.record.row)
        if not first or first == step.record.row:
            kept.append(step)
            continue
        same = phrase("和第{row}行是同一位党员", row=first)
        fault = Fault(importing.NAME, step.record.name, same)
        index = next(n for n, r in enumerate(results) if r.row == step.record.row)
        results[index] = replace(results[index], record=None, faults=(fault,))
    return kept


async def write(core: Core, actor: Actor, sheet: Sequence[Sequence[str]]) -> Plan:
    """Import the good rows: all of them or, where the database fails, none."""
    actor.require(Action.MEMBERS)
    results = await _parsed(actor, sheet)
    async with transaction():
        await consent.hold_members()
        made = await _compared(actor, results)
        new = [step.record for step in made.steps if step.member_id is None]
        ids = await _insert(core, new)
        changed = [
            (step.record, step.member_id)
            for step in made.steps
            if step.member_id is not None and step.what == "changed"
        ]
        await _update(core, changed)
        written = [*zip(new, ids, strict=True), *changed]
        await _bind(core, written)
        await _tag(written)
        await _subscribe(core, written)
        await audit.record(
            core.clock,
            actor,
            "members.imported",
            "members",
            new=len(new),
            changed=len(changed),
            left_out=len(made.bad),
        )
    core.hub.publish("member", "", actor.path)
    return made


async def _insert(core: Core, records: Sequence[Record]) -> list[int]:
    """Ids in the order of `records`: within one statement they rise with the rows."""
    now = to_micros(core.clock.now())
    ids: list[int] = []
    for chunk in _chunks(records):
        values: list[Any] = []
        for record in chunk:
            values += (record.name, record.organisation_id, record.joined_on)
            values += (bool(record.mobile), "", "", now)
        made = await rows(
            "INSERT INTO members (name, organisation_id, joined_on, mobile_member, "
            "preferred_kind, note, created_at) VALUES "
            + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(chunk))
            + " RETURNING id",
            *values,
        )
        ids += sorted(row["id"] for row in made)
    return ids


async def _update(core: Core, changed: Sequence[tuple[Record, int]]) -> None:
    now = to_micros(core.clock.now())
    for mobile in (None, True, False):
        part = [(r, id) for r, id in changed if r.mobile is mobile]
        column = "" if mobile is None else ", mobile_member = ?"
        await execute_many(
            "UPDATE members SET organisation_id = ?, updated_at = ?, "
            f"joined_on = COALESCE(NULLIF(?, ''), joined_on){column} WHERE id = ?",
            [
                (
                    *(record.organisation_id, now, record.joined_on),
                    *(() if mobile is None else (mobile,)),
                    id,
                )
                for record, id in part
            ],
        )


async def _bind(core: Core, written: Sequence[tuple[Record, int]]) -> None:
    now = to_micros(core.clock.now())
    bound = {a: id for record, id in written for a in record.contacts}
    await execute_many(
        "INSERT INTO addresses (kind, value, member_id, verified_at, verified_how, "
        "display_name, created_at) VALUES (?, ?, ?, ?, 'import', '', ?) "
        "ON CONFLICT (kind, value) DO UPDATE SET member_id = excluded.member_id, "
        "verified_at = COALESCE(addresses.verified_at, excluded.verified_at), "
        "verified_how = CASE WHEN addresses.verified_at IS NULL THEN 'import' "
        "ELSE addresses.verified_how END",
        [(a.kind.value, a.value, id, now, now) for a, id in bound.items()],
    )
    for address in await _with_choices(bound):
        await consent.adopt(address, bound[address])


async def _with_choices(addresses: Iterable[Address]) -> set[Address]:
    """Those at which somebody refused or subscribed before they were anybody's."""
    found = set()
    for kind, chunk in _by_kind(addresses):
        for table in ("opt_outs", "subscriptions"):
            for row in await rows(
                f"SELECT value FROM {table} "
                f"WHERE kind = ? AND value IN ({marks(len(chunk))})",
                kind,
                *chunk,
            ):
                found.add(Address(AddressKind(kind), row["value"]))
    return found


async def _tag(written: Sequence[tuple[Record, int]]) -> None:
    await execute_many(
        "INSERT INTO member_tags (member_id, tag) VALUES (?, ?) "
        "ON CONFLICT (member_id, tag) DO NOTHING",
        [(id, tag) for record, id in written for tag in record.tags],
    )


async def _subscribe(core: Core, written: Sequence[tuple[Record, int]]) -> None:
    """Yes: at the contact that comes first in `policy.fallback_order`, unless the
    person ended that subscription before; no: nowhere."""
    now = to_micros(core.clock.now())
    order = core.settings.policy.fallback_order
    wishes, ends = [], []
    for record, id in written:
        ranked = sorted(
            record.contacts,
            key=lambda a: order.index(a.kind) if a.kind in order else len(order),
        )
        if record.daily and ranked:
            wishes.append((ranked[0].kind.value, ranked[0].value, id, now))
        elif record.daily is False:
            ends.append((now, id))
    await execute_many(
        "INSERT INTO subscriptions (topic, kind, value, member_id, how, at) "
        "VALUES ('daily', ?, ?, ?, 'import', ?) "
        "ON CONFLICT (topic, kind, value) DO NOTHING",
        wishes,
    )
    await execute_many(
        "UPDATE subscriptions SET ended_at = ? "
        "WHERE topic = 'daily' AND member_id = ? AND ended_at IS NULL",
        ends,
    )
